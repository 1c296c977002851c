"""Class activation maps against Captum and the formulas written again, on the three architectures."""

import captum.attr
import pytest
import torch
from networks import (
    ARCHITECTURES,
    CLASSES,
    asked,
    check_attackable,
    check_batches,
    check_cleans_up,
    check_declares,
    images,
    network,
    same,
)
from torch import nn
from torch.nn import functional as F

from unfooled import models
from unfooled.baselines.activations import GradCAM, GradCAMPlusPlus, GuidedGradCAM, LayerCAM, ScoreCAM
from unfooled.types import UnfooledError

ALL = [GradCAM(), GradCAMPlusPlus(), LayerCAM(), ScoreCAM(), GuidedGradCAM()]
every = pytest.mark.parametrize("interpreter", ALL, ids=lambda i: type(i).__name__)
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


def nodes(tensor):
    """Names of the operations that a tensor was made by."""
    found, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [following for following, _ in node.next_functions]
    return {node.name() for node in found}


@everywhere
@pytest.mark.parametrize("cam", [GradCAM, GradCAMPlusPlus, LayerCAM])
def test_an_attack_computes_what_lies_below_t_as_ever(cam, architecture):
    """An attacked interpreter has a second way back; a CAM's ends at T."""
    net, (x, y) = network(architecture).requires_grad_(True), images(2)
    at_t, logits = [], []
    net.register_forward_hook(lambda _module, _inputs, output: logits.append(output))
    net.get_submodule(net.target_layer).register_forward_pre_hook(
        lambda _, args: at_t.extend(args[0] if isinstance(args[0], list) else args)
    )
    cam(create_graph=True)(net, x, y)
    assert at_t
    assert not any("_RedirectBackward" in nodes(tensor) for tensor in at_t)
    assert "_RedirectBackward" in nodes(logits[0])


@everywhere
def test_captum_agrees(architecture):
    net, (x, y) = network(architecture), images(3)
    layer = net.get_submodule(net.target_layer)
    options = {"target": y, "attribute_to_layer_input": True}
    cam = captum.attr.LayerGradCam(net, layer).attribute(x.clone(), relu_attributions=True, **options)
    same(asked(GradCAM(), net, x, y), cam.detach())
    guided = captum.attr.GuidedGradCam(net, layer).attribute(x.clone(), interpolate_mode="bilinear", **options)
    same(asked(GuidedGradCAM(), net, x, y), guided.detach())


def at_target(net, x, y):
    """A and ∂f_y/∂A, with the network cut in two by hand."""
    inputs = []
    handle = net.get_submodule(net.target_layer).register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    out = net(x.clone().requires_grad_()).gather(1, y[:, None])
    handle.remove()
    (activation,) = inputs
    return activation.detach(), torch.autograd.grad(out.sum(), activation)[0]


@everywhere
def test_plus_plus_is_its_formula_channel_by_channel(architecture):
    net, (x, y) = network(architecture), images(2)
    expected = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    for n, (a, g) in enumerate(zip(*at_target(net, x, y), strict=True)):
        for a_k, g_k in zip(a, g, strict=True):
            below = 2 * g_k**2 + a_k.sum() * g_k**3 + 1e-6
            alpha = torch.where(g_k != 0, g_k**2 / below, 0.0)
            expected[n, 0] += (alpha * g_k.clamp(min=0)).sum() * a_k
    same(asked(GradCAMPlusPlus(), net, x, y), expected.clamp(min=0), 1e-9)


@everywhere
def test_layer_cam_is_its_formula(architecture):
    net, (x, y) = network(architecture), images(2)
    a, g = at_target(net, x, y)
    same(asked(LayerCAM(), net, x, y), torch.einsum("nkij,nkij->nij", g.clamp(min=0), a)[:, None].clamp(min=0))


@everywhere
def test_score_cam_is_its_formula_mask_by_mask(architecture):
    net, (x, y) = network(architecture), images(1)
    (a,), _ = at_target(net, x, y)
    scores = []
    for channel in a:
        scaled = (channel - channel.min()) / (channel.max() - channel.min() + 1e-8)
        mask = F.interpolate(scaled[None, None], size=(16, 16), mode="bilinear", align_corners=False)
        scores.append(net(x * mask)[0, y[0]])
    alpha = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
    same(asked(ScoreCAM(chunk=5), net, x, y), torch.einsum("k,kij->ij", alpha, a).clamp(min=0)[None, None])


def test_score_cam_runs_a_chunk_at_a_time():
    net, (x, y) = network("vgg"), images(2)
    seen = []
    handle = net.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    ScoreCAM(chunk=50)(net, x, y)
    handle.remove()
    assert seen == [2, 50, 50, 28]  # the activation, then 2 images × 64 channels


def test_grad_cam_is_cam_where_the_head_is_pooling_and_a_dense_layer():
    """There ∂f_y/∂A^k = w_yk / s², so Grad-CAM is ReLU(Σ_k w_yk A^k) / s² (Zhou et al. 2016)."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)).double().eval()
    net.target_layer = "1"
    net.requires_grad_(False)
    x, y = images(3)
    cam = torch.einsum("nk,nkij->nij", net[3].weight[y], features(x)).clamp(min=0) / 14**2
    same(asked(GradCAM(), net, x, y), cam[:, None])


def test_a_dense_layer_of_torchvisions_own_gives_its_T_as_one_tensor():
    """There T comes as a list of tensors; taken apart, as unfooled's models are, as one. The map is the same."""
    from unfooled.vision import torchvision

    own = torchvision.models.DenseNet(8, (2, 3), 8, 2, num_classes=CLASSES).double().eval().requires_grad_(False)
    own.target_layer = "features.denseblock2.denselayer3"
    x, y = images(2, side=64)
    ours = asked(GradCAM(), own, x, y)
    from unfooled.blocks import taken_apart

    apart = taken_apart(own)
    apart.target_layer = own.target_layer
    same(asked(GradCAM(), apart, x, y), ours)


def test_a_target_layer_that_is_never_called_is_named():
    class Unused(nn.Module):
        target_layer = "spare"

        def __init__(self):
            super().__init__()
            self.used, self.spare = models.vgg(CLASSES), nn.Conv2d(1, 1, 1)

        def forward(self, x):
            return self.used(x)

    x, y = images(1)
    with pytest.raises(UnfooledError, match=r"target layer: .* never called"):
        GradCAM()(Unused().eval(), x.float(), y)


def test_a_network_without_a_target_layer_is_refused():
    x, y = images(1)
    with pytest.raises(UnfooledError, match="names no T"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(768, CLASSES)).double(), x, y)
