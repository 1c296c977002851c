"""Occlusion, RISE and meaningful perturbation against Captum, formulas written again, and identities."""

import dataclasses

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from networks import ARCHITECTURES, network
from scipy import ndimage
from torch import nn

from unfooled import plugins, seeding, sentinel
from unfooled.baselines.masking import blur, filled, scores_under_masks, shared
from unfooled.baselines.perturbation import RISE, MeaningfulPerturbation, Occlusion
from unfooled.baselines.surrogates import LIME, KernelSHAP

LINEAR = [Occlusion(), RISE(masks=40), LIME(samples=40), KernelSHAP(samples=40)]
"""those whose map is linear in the model's outputs"""


def small_net(dtype=torch.float64):
    """Smooth, so that finite differences meet no kink."""
    with seeding.forked("perturbation", "net"):
        layers = nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3), nn.Softplus()
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 5))
    return net.to(dtype).eval().requires_grad_(False)


def linear_net(height, width):
    with seeding.forked("perturbation", "linear"):
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, 5)).double().eval().requires_grad_(False)


def raised(net, constant):
    last = nn.Linear(5, 5).double().requires_grad_(False)
    last.weight.copy_(torch.eye(5))
    last.bias.fill_(constant)
    return nn.Sequential(net, last).eval()


def images(count=4, height=16, width=16, dtype=torch.float64):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)


TARGETS = torch.tensor([0, 3, 1, 4])


def asked(interpreter, net, x, y, seed=0):
    with seeding.forked("asked", seed), sentinel.untouched(net, x, y):
        return interpreter(net, x, y)


@pytest.mark.parametrize(("patch", "stride"), [(4, 2), (5, 3), (3, 3), (13, 1), (1, 1), (None, None)])
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_occlusion_is_captums(patch, stride, size):
    net, x = small_net(), images(4, *size)
    ours = asked(Occlusion(patch, stride), net, x, TARGETS)
    windows = [patch or round(s / 4) for s in size]
    strides = [stride or w // 2 for w in windows]
    theirs = CaptumOcclusion(net).attribute(x, (3, *windows), (3, *strides), baselines=0.5, target=TARGETS)
    # Captum sums in float32: up to 169 falls of order 0.1 of logits of order 1, each rounded by 6e-8
    torch.testing.assert_close(ours, theirs[:, :1].double(), rtol=1e-5, atol=2e-6)
    assert torch.equal(theirs[:, 0], theirs[:, 2])


def test_occlusion_of_a_linear_model_is_input_times_weight():
    net, x = linear_net(8, 6), images(4, 8, 6)
    ours = asked(Occlusion(patch=1, stride=1, fill=0), net, x, TARGETS)
    weight = net[1].weight[TARGETS].view(4, 3, 8, 6)
    torch.testing.assert_close(ours, (x * weight).sum(1, keepdim=True), rtol=1e-9, atol=1e-12)


def test_pixels_under_no_patch_are_zero():
    drawn = asked(Occlusion(patch=2, stride=4), small_net(), images(), TARGETS)
    assert (drawn[:, :, 2:4] == 0).all()
    assert (drawn[:, :, :2, :2] != 0).all()


@pytest.mark.parametrize("estimator", ["ratio", "paper"])
def test_rise_is_its_formula(estimator):
    net, x = small_net(), images()
    rise = RISE(masks=30, grid=5, probability=0.3, fill=0, estimator=estimator)
    ours = asked(rise, net, x, TARGETS)
    with seeding.forked("asked", 0):
        masks = rise.draw(16, 16).double()
    shown = [float(net(x[i : i + 1] * m)[0, y]) for i, y in enumerate(TARGETS) for m in masks]
    total = np.einsum("ij,jhw->ihw", np.reshape(shown, (4, 30)), masks)
    expected = total / (30 * 0.3) if estimator == "paper" else total / masks.numpy().sum(0)
    np.testing.assert_allclose(ours[:, 0], expected, rtol=1e-6)  # masks are drawn in float32


def test_rise_masks_are_enlarged_cells_at_a_random_shift():
    rise = RISE(masks=4000, grid=4, probability=0.3)
    masks = rise.draw(16, 14)
    assert masks.shape == (4000, 16, 14)
    assert masks.min() >= 0
    assert masks.max() <= 1
    # 4,000 draws: standard error of a pixel's mean at most 0.46/√4000 = 0.007
    np.testing.assert_allclose(masks.mean(0), 0.3, atol=0.035)
    spread = masks.flatten(1)
    near, far = (np.corrcoef(spread[:, 0], spread[:, k])[0, 1] for k in (1, 8))
    assert near > 0.8  # neighbours share cells of 4 × 4 pixels,
    assert abs(far) < 0.1  # pixels eight apart do not


def test_rise_ratio_ignores_a_constant_in_the_logits():
    net, x = small_net(), images()
    moved = asked(RISE(masks=20), raised(net, 100.0), x, TARGETS)
    torch.testing.assert_close(moved - 100, asked(RISE(masks=20), net, x, TARGETS), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("interpreter", [*LINEAR, MeaningfulPerturbation(steps=3)], ids=lambda i: type(i).__name__)
def test_the_batch_and_the_chunk_do_not_matter(interpreter):
    net, x = small_net(), images()
    together = asked(interpreter, net, x, TARGETS)
    assert together.shape == (4, 1, 16, 16)
    assert together.std((1, 2, 3)).min() > 0
    alone = torch.cat([asked(interpreter, net, x[i : i + 1], TARGETS[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-10)
    if hasattr(interpreter, "chunk"):
        for chunk in (1, 7, 1000):
            other = asked(dataclasses.replace(interpreter, chunk=chunk), net, x, TARGETS)
            torch.testing.assert_close(other, together, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("interpreter", LINEAR, ids=lambda i: type(i).__name__)
def test_float32_chunks_agree_to_its_rounding(interpreter):
    net, x = small_net(torch.float32), images(dtype=torch.float32)
    some, other = (asked(dataclasses.replace(interpreter, chunk=c), net, x, TARGETS) for c in (3, 64))
    # logits of order 1 carry 1e-7; the least squares of 40 coalitions for 16 pieces enlarge that some ten times
    assert (some - other).abs().max() < 2e-6 * max(1, other.abs().max())


@pytest.mark.parametrize("interpreter", LINEAR, ids=lambda i: type(i).__name__)
def test_create_graph_carries_the_right_derivative_by_the_weights(interpreter):
    net, x = small_net(), images(2)
    weights = {n: p.clone().requires_grad_() for n, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    way = {n: torch.randn(p.shape, generator=generator).double() for n, p in weights.items()}
    probe = torch.randn(2, 1, 16, 16, generator=generator).double()
    graph = plugins.attackable(interpreter, "test")

    def value(parameters, method):
        def called(some):
            return torch.func.functional_call(net, parameters, some)

        with seeding.forked("derivative"):
            return (method(called, x, TARGETS[:2]) * probe).sum()

    gradients = torch.autograd.grad(value(weights, graph), list(weights.values()))
    slope = sum((g * way[n]).sum() for n, g in zip(weights, gradients, strict=True))
    step = 1e-6
    ends = [value({n: p.detach() + s * way[n] for n, p in weights.items()}, interpreter) for s in (step, -step)]
    # central differences err by step² · f''' ≈ 1e-12 and by rounding 1e-16 / step = 1e-10, of values up to 1e2
    assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)
    assert not ends[0].requires_grad


def test_no_more_images_at_once_than_the_chunk():
    seen = []

    def net(x):
        seen.append(len(x))
        return x.flatten(1)[:, :5]

    x = images(3)
    scores = scores_under_masks(net, x, TARGETS[:3], filled(x, 0), shared(torch.ones(11, 16, 16).double()), 11, 8)
    assert seen == [8, 8, 8, 8, 1]
    torch.testing.assert_close(scores, x.flatten(1)[range(3), TARGETS[:3], None].expand(-1, 11))


def test_blur_is_scipys():
    x = images(2)
    for deviation in (0.7, 2.0, 9.0):
        expected = ndimage.gaussian_filter(x.numpy(), (0, 0, deviation, deviation), mode="nearest", truncate=4)
        np.testing.assert_allclose(blur(x, deviation), expected, rtol=1e-10)
    assert torch.equal(blur(x, 0), x)


class BrightCorner(nn.Module):
    """The logit of class 1 is the contrast of the upper left quarter."""

    def forward(self, x):
        contrast = x[:, :, :8, :8].flatten(1).std(1)
        return torch.stack([torch.zeros_like(contrast), 20 * contrast], 1)


def test_meaningful_perturbation_finds_what_the_model_looks_at():
    x = images(3)
    drawn = asked(MeaningfulPerturbation(steps=60), BrightCorner(), x, torch.ones(3, dtype=torch.int64))
    assert drawn.min() >= 0
    assert drawn.max() <= 1 + 1e-9
    inside, outside = drawn[..., :7, :7].mean((1, 2, 3)), drawn[..., 9:, 9:].mean((1, 2, 3))
    assert (inside > 0.5).all()
    assert (outside < 0.1).all()


def test_meaningful_perturbation_lowers_what_it_minimises():
    net, x = small_net(), images()
    drawn = asked(MeaningfulPerturbation(steps=40, area=0.1, jitter=0), net, x, TARGETS)
    hidden = blur(x, 2.0)
    before, after = (net(torch.lerp(hidden, x, 1 - mask))[range(4), TARGETS] for mask in (0 * drawn, drawn))
    assert (after < before).all()
    assert (after <= net(hidden)[range(4), TARGETS] + 1e-9).all()


def blurring(side, deviation):
    """B, for which B x Bᵀ is the Gaussian blur of an image of this side: scipy's, of every unit vector."""
    return torch.from_numpy(ndimage.gaussian_filter1d(np.eye(side), deviation, axis=0, mode="nearest", truncate=4))


def enlarging(side, cells):
    """E, for which E m Eᵀ enlarges a grid of cells bilinearly: pixel p lies at (p + ½) cells / side − ½."""
    at = ((np.arange(side) + 0.5) * cells / side - 0.5).clip(0, cells - 1)
    return torch.from_numpy(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))))


def meaningful_again(net, image, target, shifts, grid=5, rate=0.1, area=0.7, smoothness=0.4, power=3.0):
    """The mask of one image by the documented formula, with Adam (Kingma & Ba 2015, algorithm 1) written out."""
    side = image.shape[1]
    wide, fine, enlarge = blurring(side, side / 8), blurring(side, 5 / 224 * side), enlarging(side, grid)
    hidden = wide @ image @ wide.T
    scale = (net(image[None])[0, target] - net(hidden[None])[0, target]).abs()
    mask, first, second = torch.ones(grid, grid).double(), 0.0, 0.0
    for step, (down, right) in enumerate(shifts, 1):
        m = mask.clone().requires_grad_()
        shown = fine @ (enlarge @ m @ enlarge.T) @ fine.T
        phi = shown * image.roll((down, right), (1, 2)) + (1 - shown) * hidden.roll((down, right), (1, 2))
        rough = (m[1:] - m[:-1]).abs().pow(power).mean() + (m[:, 1:] - m[:, :-1]).abs().pow(power).mean()
        loss = net(phi[None])[0, target] / scale + area * (1 - m).mean() + smoothness * rough
        (slope,) = torch.autograd.grad(loss, m)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        mask = mask - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        mask = mask.clamp(0, 1)
    return 1 - fine @ (enlarge @ mask @ enlarge.T) @ fine.T


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_meaningful_perturbation_is_its_formula_image_by_image(architecture):
    net, x = network(architecture), images(2)
    method = MeaningfulPerturbation(steps=6, grid=5, area=0.7, smoothness=0.4, jitter=0.15)
    drawn = asked(method, net, x, TARGETS[:2])
    with seeding.forked("asked", 0):
        shifts = torch.randint(-2, 3, (6, 2)).tolist()  # 0.15 of 16 pixels is 2
    expected = torch.stack([meaningful_again(net, *pair, shifts) for pair in zip(x, TARGETS[:2], strict=True)])
    assert expected.amax((1, 2)).min() > 0.1
    torch.testing.assert_close(drawn[:, 0], expected, rtol=1e-7, atol=1e-9)
