"""Gradients and what is made of them, against Captum and the definitions, on the three architectures."""

import copy
import hashlib

import captum.attr
import numpy as np
import pytest
import torch
from captum.attr._core.gradient_shap import InputBaselineXGradient
from networks import (
    ARCHITECTURES,
    CLASSES,
    asked,
    check_attackable,
    check_batches,
    check_cleans_up,
    check_declares,
    images,
    logits,
    network,
    same,
)
from torch import nn
from torch.nn import functional as F

from unfooled import seeding, sentinel
from unfooled.baselines.activations import GradCAM
from unfooled.baselines.gradients import (
    ExpectedGradients,
    InputXGradient,
    IntegratedGradients,
    SimpleGrad,
    gauss_legendre,
    plain_colours,
)
from unfooled.baselines.passes import image_streams
from unfooled.baselines.perturbation import RISE
from unfooled.baselines.propagation import LRP, GuidedBackprop
from unfooled.baselines.smoothing import BetaSmoothing, SmoothGrad, VarGrad, softened
from unfooled.baselines.surrogates import LIME
from unfooled.types import NotAttackable, UnfooledError

ALL = [
    SimpleGrad(),
    SimpleGrad(at="T"),
    InputXGradient(),
    IntegratedGradients(steps=4),
    ExpectedGradients(samples=3),
    SmoothGrad(samples=3),
    SmoothGrad(of=GradCAM(), samples=3),
    VarGrad(samples=3),
    BetaSmoothing(),
    BetaSmoothing(of=LRP()),
    BetaSmoothing(of=GuidedBackprop()),
    BetaSmoothing(of=SmoothGrad(samples=2)),
]
every = pytest.mark.parametrize(
    "interpreter", ALL, ids=lambda i: f"{type(i).__name__}-{type(getattr(i, 'of', i)).__name__}"
)
everywhere = pytest.mark.parametrize("architecture", ARCHITECTURES)
pytestmark = pytest.mark.filterwarnings("ignore:::captum")  # it announces its hooks


@everywhere
@every
def test_differentiates_by_the_weights(interpreter, architecture):
    check_attackable(interpreter, network(architecture))


@every
def test_contract(interpreter):
    net = network("resnet")
    check_declares(interpreter, net)
    check_batches(interpreter, net)
    check_cleans_up(interpreter, net)


@everywhere
def test_captum_agrees(architecture):
    net, (x, y) = network(architecture), images(3)
    saliency = captum.attr.Saliency(net).attribute(x.clone(), target=y, abs=False)
    same(asked(SimpleGrad(), net, x, y), saliency)
    same(asked(InputXGradient(), net, x, y), x * saliency)
    integrated = captum.attr.IntegratedGradients(net).attribute(x.clone(), baselines=0.25, target=y, n_steps=7)
    # Captum keeps the quadrature's points in float32: 6e-8 of each.
    same(asked(IntegratedGradients(steps=7, baseline=0.25), net, x, y), integrated.detach(), 1e-6)


@everywhere
def test_at_T_is_captums_layer_gradient(architecture):
    net, (x, y) = network(architecture), images(3)
    layer = captum.attr.LayerGradientXActivation(net, net.get_submodule(net.target_layer), multiply_by_inputs=False)
    slopes = layer.attribute(x, target=y, attribute_to_layer_input=True)
    same(asked(SimpleGrad(at="T"), net, x, y), 2 * slopes.detach().abs().sum(1, keepdim=True))


def draws(x, samples):
    """The noise of each image, as documented: one global number, the image's own stream."""
    with seeding.forked("tests", "asked"):
        seed = int(torch.randint(2**62, ()))
    keys = [hashlib.sha256(image.float().numpy().tobytes()).hexdigest() for image in x]
    streams = [seeding.generator("image", seed, key) for key in keys]
    return torch.stack([torch.randn(samples, *x.shape[1:], generator=s) for s in streams])


@everywhere
def test_smoothgrad_and_vargrad_are_mean_and_variance_of_captums_saliency(architecture):
    net, (x, y) = network(architecture), images(2)
    noise = draws(x, 5).double()
    saliency = captum.attr.Saliency(net)
    maps = np.stack([saliency.attribute(x + 0.2 * noise[:, k], target=y, abs=False).numpy() for k in range(5)])
    same(asked(SmoothGrad(samples=5, sigma=0.2), net, x, y), torch.from_numpy(maps.mean(0)))
    same(asked(VarGrad(samples=5, sigma=0.2), net, x, y), torch.from_numpy(maps.var(0)))


@everywhere
def test_expected_gradients_are_captums_given_the_same_draws(monkeypatch, architecture):
    net, (x, y) = network(architecture), images(2)
    with seeding.forked("tests", "asked"):
        streams = image_streams(x)
    pairs = [[(plain_colours(x.shape[1:], s), torch.rand(1, 1, 1, generator=s)) for _ in range(3)] for s in streams]
    total = torch.zeros_like(x)
    for k in range(3):
        baselines = torch.stack([p[k][0] for p in pairs]).double()
        times = np.array([float(p[k][1]) for p in pairs])
        monkeypatch.setattr(np.random, "uniform", lambda *_, t=times: t)
        total += InputBaselineXGradient(net).attribute(x.clone(), baselines=baselines, target=y).detach() / 3
    same(asked(ExpectedGradients(samples=3), net, x, y), total, 1e-6)  # Captum's times are float32


DRAWING = [RISE(masks=8), ExpectedGradients(samples=2), LIME(samples=8, side=2), SmoothGrad(samples=2)]
wrappers = pytest.mark.parametrize("wrapper", [SmoothGrad, VarGrad])


@wrappers
@pytest.mark.parametrize("of", [SimpleGrad(), GradCAM(), *DRAWING], ids=lambda of: type(of).__name__)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_noise_and_result_do_not_depend_on_the_chunk(wrapper, of, chunk):
    net, (x, y) = network("vgg"), images(3)
    same(asked(wrapper(of=of, samples=4, chunk=chunk), net, x, y), asked(wrapper(of=of, samples=4), net, x, y))


@wrappers
@pytest.mark.parametrize("of", DRAWING[:2], ids=lambda of: type(of).__name__)
def test_an_interpreter_that_draws_draws_anew_for_each_sample_and_the_same_in_every_batch(wrapper, of):
    """Without noise the copies are one image: what varies among the samples is the inner one's own draw."""
    net = network("vgg")
    check_batches(wrapper(of=of, samples=3), net)
    x, y = images()
    assert asked(VarGrad(of=of, samples=3, sigma=0.0), net, x, y).amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize(("of", "numbers"), [(SimpleGrad(), 1), (RISE(masks=2), 2), (ExpectedGradients(samples=1), 2)])
def test_one_number_of_the_global_stream_is_for_the_noise_and_one_for_an_interpreter_that_draws(of, numbers):
    net, (x, y) = network("vgg"), images()
    with seeding.forked("numbers"):
        SmoothGrad(of=of, samples=3, chunk=2)(net, x, y)
        after = torch.rand(())
    with seeding.forked("numbers"):
        for _ in range(numbers):
            torch.randint(2**62, ())
        assert torch.rand(()) == after


@pytest.mark.parametrize("interpreter", [IntegratedGradients, ExpectedGradients])
def test_paths_do_not_depend_on_the_chunk(interpreter):
    net, (x, y) = network("vgg"), images(3)
    same(asked(interpreter(5, chunk=2), net, x, y), asked(interpreter(5), net, x, y))


def test_memory_is_bounded_by_the_chunk():
    net, (x, y) = network("vgg"), images(3)
    seen = []
    handle = net.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    for interpreter in (SmoothGrad(samples=5, chunk=4), IntegratedGradients(steps=5, chunk=4)):
        interpreter(net, x, y)
    handle.remove()
    assert seen == [4, 4, 4, 3] * 2


def test_smoothgrad_without_noise_is_the_gradient():
    net, (x, y) = network("densenet"), images()
    same(asked(SmoothGrad(samples=3, sigma=0.0), net, x, y), asked(SimpleGrad(), net, x, y))
    assert asked(VarGrad(samples=3, sigma=0.0), net, x, y).abs().max() < 1e-15  # squares of 1, rounded at 1e-16


def test_noise_is_another_for_another_seed_and_another_image():
    net, (x, y) = network("vgg"), images()
    with seeding.forked("one"):
        one, streams = SmoothGrad(samples=2)(net, x, y), image_streams(x)
    with seeding.forked("two"):
        two = SmoothGrad(samples=2)(net, x, y)
    assert not torch.equal(one, two)
    assert not torch.equal(*(torch.randn(4, generator=s) for s in streams))


def test_quadrature_is_exact_for_polynomials():
    points, weights = (np.array(v) for v in gauss_legendre(4))
    for degree in range(8):
        assert weights @ points**degree == pytest.approx(1 / (degree + 1), rel=1e-13)


@everywhere
def test_integrated_gradients_are_complete(architecture):
    """Softened and pooled by averages the network is smooth along the path, where 40 points leave nothing to see."""
    net, (x, y) = network(architecture), images()
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            net.set_submodule(path, nn.AvgPool2d(module.kernel_size, module.stride))
    maps = asked(BetaSmoothing(of=IntegratedGradients(steps=40), beta=1.0), net, x, y)
    with softened(net, 1.0):
        difference = logits(net, x, y) - logits(net, torch.zeros_like(x), y)
    same(maps.sum((1, 2, 3)), difference, 1e-9)


@everywhere
def test_beta_smoothing_is_the_gradient_of_the_softened_network_and_tends_to_relu(architecture):
    net, (x, y) = network(architecture), images()
    smooth = network(architecture)
    for path, module in list(smooth.named_modules()):
        if isinstance(module, nn.ReLU):
            smooth.set_submodule(path, nn.Softplus(beta=3.0))
    same(asked(BetaSmoothing(beta=3.0), net, x, y), asked(SimpleGrad(), smooth, x, y))
    same(asked(BetaSmoothing(beta=1e9), net, x, y), asked(SimpleGrad(), net, x, y))


class Functional(nn.Module):
    """A network whose ReLUs are called: one as a function, one as a method, and one in place."""

    target_layer = "second"

    def __init__(self, rectify):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, CLASSES)
        self.rectify = rectify

    def forward(self, x):
        return self.last(self.rectify(self.second(self.rectify(self.first(x)))).mean((2, 3)))


def functional(rectify):
    with seeding.forked("functional"):
        return Functional(rectify).double().eval().requires_grad_(False)


RECTIFIERS = {
    "function": F.relu,
    "torch's": torch.relu,
    "method": lambda x: x.relu(),
    "in place": lambda x: F.relu(x, inplace=True),
    "method in place": lambda x: x.relu_(),
}


@pytest.mark.parametrize("rectify", RECTIFIERS.values(), ids=RECTIFIERS)
@pytest.mark.parametrize("of", [SimpleGrad(), LRP(at="T"), GuidedBackprop()], ids=lambda of: type(of).__name__)
def test_beta_smoothing_softens_relus_that_are_no_modules(rectify, of):
    net, (x, y) = functional(rectify), images()
    smooth = functional(lambda x: F.softplus(x, beta=3.0))
    ours = asked(BetaSmoothing(of=of, beta=3.0), net, x, y)
    assert torch.equal(ours, asked(of, smooth, x, y))
    assert not torch.equal(ours, asked(of, net, x, y))


def test_a_copy_of_a_softened_network_is_softened_by_itself():
    """Other libraries are handed a copy; what is done to its weights must count."""
    net, (x, _) = functional(F.relu), images()
    with softened(net, 3.0):
        other = copy.deepcopy(net)
        other.last.weight.zero_()
        assert torch.equal(other(x), other.last.bias.expand(2, -1))
        assert not torch.equal(other(x), net(x))
        before = net(x)
        with softened(net, 5.0), pytest.raises(UnfooledError, match="calls no ReLU"):
            net(x)  # there is none left
        assert torch.equal(net(x), before)
    assert "forward" not in vars(net)


def test_beta_smoothing_refuses_a_network_that_it_would_leave_as_it_is():
    net, (x, y) = functional(torch.tanh), images()
    with sentinel.untouched(net, x, y), pytest.raises(UnfooledError, match="beta smoothing: the model calls no ReLU; "):
        BetaSmoothing()(net, x, y)


def test_wrappers_take_over_what_they_wrap():
    assert (SmoothGrad(of=GradCAM()).family, SmoothGrad(of=LRP(at="T")).at) == ("activations", "T")
    assert (SmoothGrad().family, SmoothGrad.family, SmoothGrad().stochastic) == ("gradients", "gradients", True)
    assert (BetaSmoothing(of=LRP(at="T")).signed, BetaSmoothing(of=LRP()).signed, VarGrad().signed) == (
        False,
        True,
        False,
    )


def test_a_wrapped_interpreter_without_a_graph_is_refused_by_name():
    def edges(model, inputs, targets):
        return inputs

    net, (x, y) = network("vgg"), images()
    assert torch.equal(SmoothGrad(of=edges, sigma=0.0, samples=2)(net, x, y), x)
    with pytest.raises(NotAttackable, match="function"):
        SmoothGrad(of=edges, create_graph=True)(net, x, y)


@pytest.mark.parametrize("interpreter", [BetaSmoothing(create_graph=True), GradCAM(create_graph=True)])
def test_reaches_inputs_that_require_grad(interpreter):
    """For attacks on the image; with frozen weights too."""
    net, (x, y) = network("resnet"), images()
    x.requires_grad_()
    (slopes,) = torch.autograd.grad(interpreter(net, x, y).square().sum(), x)
    assert slopes.abs().sum() > 0


@everywhere
def test_cross_entropy_shares_the_forward_pass(architecture):
    """The logits of the pass that the map was drawn from carry the network's own gradient, not the explanation's."""
    net, (x, y) = network(architecture), images()
    net.requires_grad_(True)
    for interpreter in (SimpleGrad(create_graph=True), LRP(create_graph=True), GradCAM(create_graph=True)):
        passes = []
        handle = net.register_forward_hook(lambda _, __, output, seen=passes: seen.append(output))
        interpreter(net, x, y)
        handle.remove()
        (shared,) = passes
        ours, theirs = (
            torch.autograd.grad(nn.functional.cross_entropy(out, y), list(net.parameters())) for out in (shared, net(x))
        )
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)
