"""LRP, DeepLIFT, guided backpropagation and Deconvnet against Zennit, Captum and the rules written layer by layer."""

import copy
import itertools

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
    logits,
    network,
    same,
)
from torch import nn
from torch.nn import functional as F

from unfooled import vision  # noqa: F401 - makes torchvision, and by that zennit, importable
from unfooled.baselines.deeplift import DeepLIFT
from unfooled.baselines.gradients import InputXGradient
from unfooled.baselines.propagation import (
    LRP,
    Deconvnet,
    EpsilonPlusFlat,
    GuidedBackprop,
    LRPAlphaBeta,
    LRPEpsilon,
    LRPZPlus,
)
from unfooled.blocks import Add, DenseLayer, Normalise, Residual
from unfooled.types import UnfooledError

ALL = [
    LRP(),
    LRP(at="T"),
    LRP(at="T", bias_twice=True),
    LRPEpsilon(),
    LRPAlphaBeta(),
    LRPZPlus(),
    EpsilonPlusFlat(),
    GuidedBackprop(),
    Deconvnet(),
    DeepLIFT(),
]
every = pytest.mark.parametrize("interpreter", ALL, ids=lambda i: f"{type(i).__name__}-{i.at}")
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
    guided = captum.attr.GuidedBackprop(net).attribute(x.clone(), target=y)
    same(asked(GuidedBackprop(), net, x, y), guided.detach())
    deconvolved = captum.attr.Deconvolution(net).attribute(x.clone(), target=y)
    same(asked(Deconvnet(), net, x, y), deconvolved.detach())


@everywhere
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_deeplift_is_captums_and_complete(architecture, baseline):
    net, (x, y) = network(architecture), images(3)
    maps = asked(DeepLIFT(baseline), net, x, y)
    # Captum drops max-pooling's rule where a ReLU's output is the very tensor that is pooled: keep the two apart.
    apart = copy.deepcopy(net)
    for path, module in list(apart.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            apart.set_submodule(path, nn.Sequential(nn.AvgPool2d(1), module))
    theirs = captum.attr.DeepLift(apart).attribute(x.clone(), baselines=baseline, target=y)
    same(maps, theirs.detach())
    same(maps.sum((1, 2, 3)), logits(net, x, y) - logits(net, torch.full_like(x, baseline), y), 1e-12)


def test_deeplift_shares_no_position_of_overlapping_pools():
    """Two windows with one winner both count: torch's unpooling would keep one of them."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten())
    torch.manual_seed(0)
    net = nn.Sequential(net, nn.Linear(256, CLASSES)).double().eval().requires_grad_(False)
    x, y = images(3)
    difference = logits(net, x, y) - logits(net, torch.zeros_like(x), y)
    same(asked(DeepLIFT(), net, x, y).sum((1, 2, 3)), difference, 1e-12)


# Zennit


class StackedSum(nn.Module):
    """A residual sum as Zennit's rules see it."""

    def __init__(self):
        from zennit.layer import Sum

        super().__init__()
        self.sum = Sum()

    def forward(self, branch, skip):
        return self.sum(torch.stack([branch, skip], -1))


def zennits(net, x, y, composite):
    """Zennit's map, with BatchNorm merged into the convolution before it and its epsilon (which stays) taken away."""
    from zennit.attribution import Gradient
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.rules import Pass

    net = copy.deepcopy(net)
    for path, module in list(net.named_modules()):
        if isinstance(module, Add):
            net.set_submodule(path, StackedSum())
    leaves = [(path, m) for path, m in net.named_modules() if not list(m.children())]
    follows = itertools.pairwise(leaves)
    pairs = [([p], q) for (p, m), (q, n) in follows if isinstance(m, nn.Conv2d) and merges(q, n)]
    merged = composite(layer_map=[((Normalise,), Pass())], canonizers=[NamedMergeBatchNorm(pairs)])
    with Gradient(net, merged) as attributor:
        return attributor(x.clone(), lambda out: F.one_hot(y, CLASSES) * out.detach())[1].detach()


def merges(norm, module):
    # A DenseNet's conv2 is followed by a norm in the listing, but by a concatenation in the network.
    return isinstance(module, nn.BatchNorm2d) and norm.split(".")[-1] not in ("norm", "norm1", "norm5")


def epsilon_everywhere(layer_map, canonizers):
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    return LayerMapComposite([*layer_map, *layer_map_base(), ((Linear,), Epsilon())], canonizers=canonizers)


def composite(name):
    from zennit import composites

    return epsilon_everywhere if name == "epsilon" else getattr(composites, name)


@everywhere
@pytest.mark.parametrize(
    ("interpreter", "name"),
    [
        (LRPEpsilon(), "epsilon"),
        (LRPAlphaBeta(), "EpsilonAlpha2Beta1"),
        (LRPZPlus(), "EpsilonPlus"),
        (EpsilonPlusFlat(), "EpsilonPlusFlat"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_zennit_agrees(interpreter, name, architecture):
    net, (x, y) = network(architecture), images(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-14  # Zennit divides by √(1 + eps) once more after merging
    # Relevance of 1e3 and more cancels in DenseNet, whose pre-activation BatchNorm keeps none: hence 1e-7 there.
    same(asked(interpreter, net, x, y), zennits(net, x, y, composite(name)), 1e-7)


# The composite of Heo et al., written again: one function for each kind of module, no autograd


class Again:
    """Relevance of a module's input from that of its output, by the module's kind."""

    def __init__(self, epsilon, bias_count):
        self.epsilon, self.bias_count = epsilon, bias_count
        self.arrived = {}

    def steady(self, z):
        return z + self.epsilon * torch.where(z >= 0, 1.0, -1.0)

    def __call__(self, module, x, r):
        kind = type(module).__name__
        self.arrived[module] = getattr(self, kind.lower(), self.keep)(module, x, r)
        return self.arrived[module]

    def keep(self, module, x, r):
        assert isinstance(module, nn.ReLU | nn.BatchNorm2d | Normalise)
        return r

    def sequential(self, module, x, r):
        inputs = [x]
        for child in module:
            inputs.append(child(inputs[-1]))
        for child, x_in in zip(reversed(list(module)), reversed(inputs[:-1]), strict=True):
            r = self(child, x_in, r)
        return r

    network = _transition = sequential

    def vgg(self, net, x, r):
        return self.sequential(nn.Sequential(net.features, net.avgpool, nn.Flatten(), net.classifier), x, r)

    def resnet(self, net, x, r):
        stages = net.layer1, net.layer2, net.layer3, net.layer4
        stem = net.conv1, net.bn1, net.relu, net.maxpool
        return self.sequential(nn.Sequential(*stem, *stages, net.avgpool, nn.Flatten(), net.fc), x, r)

    def flatten(self, module, x, r):
        return r.view_as(x)

    def linear(self, module, x, r):
        share = r / self.steady(module(x))
        return torch.einsum("ni,oi,no->ni", x, module.weight, share)

    def conv2d(self, module, x, r):
        place = {"stride": module.stride, "padding": module.padding}
        up, down = module.weight.clamp(min=0), module.weight.clamp(max=0)
        z = F.conv2d(x.clamp(min=0), up, **place) + F.conv2d(x.clamp(max=0), down, **place)
        if module.bias is not None:
            z = z + self.bias_count * module.bias[:, None, None]
        share = r / self.steady(z)
        raised, lowered = (nn.grad.conv2d_input(x.shape, w, share, **place) for w in (up, down))
        return x.clamp(min=0) * raised + x.clamp(max=0) * lowered

    def maxpool2d(self, module, x, r):
        _, index = F.max_pool2d(x, module.kernel_size, module.stride, module.padding, return_indices=True)
        return torch.zeros_like(x).flatten(2).scatter_add(2, index.flatten(2), r.flatten(2)).view_as(x)

    def adaptiveavgpool2d(self, module, x, r):
        positive = x.clamp(min=0)
        return positive * r / (positive.sum((2, 3), keepdim=True) + 1e-300)

    def avgpool2d(self, module, x, r):
        positive = x.clamp(min=0)
        total = 4 * F.avg_pool2d(positive, 2) + 1e-300
        return positive * F.interpolate(r / total, scale_factor=2)

    def residual(self, block: Residual, x, r):
        branch = nn.Sequential(block.conv1, block.bn1, block.relu1, block.conv2, block.bn2)
        skip = block.downsample or nn.Sequential()
        out, past = branch(x).clamp(min=0), skip(x).clamp(min=0)
        total = out + past + 1e-300
        return self.sequential(branch, x, r * out / total) + self.sequential(skip, x, r * past / total)

    def denselayer(self, layer: DenseLayer, x, r):
        kept, new = r[:, : x.shape[1]], r[:, x.shape[1] :]
        return kept + self.sequential(layer, x, new)


@everywhere
@pytest.mark.parametrize("twice", [False, True])
def test_heos_composite_is_its_rules_written_layer_by_layer(architecture, twice):
    """To 1e-6: ours keeps 0 / 0 away by 1e-8 where a sum's positive parts are small."""
    net, (x, y) = network(architecture), images(2)
    start = F.one_hot(y, CLASSES) * net(x)
    expected = Again(0.01, 2 if twice else 1)(net, x, start)
    same(asked(LRP(bias_twice=twice), net, x, y), expected, 1e-6)


@everywhere
def test_at_T_is_the_positive_part_of_the_relevance_that_arrives_there(architecture):
    net, (x, y) = network(architecture), images(2)
    again = Again(0.01, 1)
    again(net, x, F.one_hot(y, CLASSES) * net(x))
    arrived = again.arrived[net.get_submodule(net.target_layer)]
    same(asked(LRP(at="T"), net, x, y), arrived.sum(1, keepdim=True).clamp(min=0), 1e-6)


# Identities


def plain_network():
    """ReLU, no biases, no BatchNorm, no padding: every rule keeps the relevance."""
    with seeded(0):
        layers = [nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, bias=False), nn.ReLU()]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES, bias=False))
    return net.double().eval().requires_grad_(False)


def seeded(seed):
    from unfooled import seeding

    return seeding.forked("tests", seed)


@pytest.mark.parametrize(
    "interpreter",
    [LRP(epsilon=1e-12), LRPEpsilon(1e-12), LRPAlphaBeta(epsilon=1e-12), LRPZPlus(1e-12), EpsilonPlusFlat(1e-12)],
    ids=lambda i: type(i).__name__,
)
def test_relevance_is_kept_without_biases(interpreter):
    net, (x, y) = plain_network(), images(4)
    same(asked(interpreter, net, x, y).sum((1, 2, 3)), logits(net, x, y), 1e-6)


def test_epsilon_is_input_times_gradient_without_biases():
    net, (x, y) = plain_network(), images(4)
    same(asked(LRPEpsilon(1e-13), net, x, y), asked(InputXGradient(), net, x, y), 1e-6)


def test_flat_gives_a_pixels_channels_the_same():
    maps = asked(EpsilonPlusFlat(), network("vgg"), *images(2))
    same(maps[:, :1].expand_as(maps), maps)


# Networks of other makes


def test_torchvisions_own_networks_need_no_taking_apart():
    """One ReLU for many uses, in place, sums and ReLU as functions: relevance as of the network taken apart."""
    from unfooled.blocks import taken_apart
    from unfooled.vision import torchvision

    x, y = images(2, side=32)
    for own in (
        torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], CLASSES),
        torchvision.models.DenseNet(8, (2, 2), 8, 2, num_classes=CLASSES),
    ):
        own.double().eval().requires_grad_(False)
        maps = [asked(i, own, x, y) for i in (LRP(), LRPAlphaBeta(), GuidedBackprop(), DeepLIFT())]
        apart = taken_apart(own)
        for interpreter, ours in zip((LRP(), LRPAlphaBeta(), GuidedBackprop(), DeepLIFT()), maps, strict=True):
            same(asked(interpreter, apart, x, y), ours)


@pytest.mark.parametrize("place", [{"stride": 2, "padding": 1}, {"padding": "same"}, {"dilation": 2, "groups": 3}])
def test_convolutions_of_every_kind(place):
    """Groups, dilation, strides that leave a rest: relevance is kept, and z⁺ is αβ with α = 1."""
    with seeded(1):
        convs = nn.Conv2d(3, 6, 3, bias=False, **place), nn.ReLU(), nn.Conv2d(6, 6, 3, bias=False, **place)
        net = nn.Sequential(nn.BatchNorm2d(3), *convs, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net = nn.Sequential(net, nn.Linear(6, CLASSES, bias=False)).double().eval().requires_grad_(False)
    x, y = images(3)
    z_plus = asked(LRPZPlus(1e-12), net, x, y)
    same(z_plus.sum((1, 2, 3)), logits(net, x, y), 1e-6)
    same(asked(LRPAlphaBeta(1.0, 0.0, 1e-12), net, x, y), z_plus)


class Gated(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


class Attending(nn.Module):
    def forward(self, x):
        return x @ x.transpose(2, 3)


@pytest.mark.parametrize(
    ("layer", "interpreter", "words"),
    [
        (Gated(), LRP(), "'mul' of activations"),
        (Attending(), LRPEpsilon(), "'matmul' of activations"),
        (nn.GroupNorm(1, 3), LRPZPlus(), "'group_norm' of activations"),
        (nn.Conv2d(3, 3, 4, padding="same"), LRP(), "even kernel"),
        (nn.Softmax(1), DeepLIFT(), "'softmax'"),
    ],
)
def test_an_operation_without_a_rule_is_refused_by_name(layer, interpreter, words):
    net = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(CLASSES))
    x, y = images(1)
    net(x.float())
    with pytest.raises(UnfooledError, match=words):
        interpreter(net.double().eval(), x, y)
