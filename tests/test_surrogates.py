"""LIME and KernelSHAP against exact Shapley values, a second regression, Captum, and identities."""

import dataclasses
from itertools import permutations
from math import comb

import networks
import numpy as np
import pytest
import torch
from captum.attr import LimeBase, ShapleyValues
from captum.attr import Occlusion as CaptumOcclusion
from test_perturbation import TARGETS, asked, images, linear_net, small_net
from torch import nn

from unfooled import seeding
from unfooled.baselines import segments
from unfooled.baselines.perturbation import RISE, Occlusion
from unfooled.baselines.surrogates import LIME, KernelSHAP
from unfooled.types import DataError


def pieces_of(x, side):
    return segments.segment(x, "grid", side)[0]


def shapley_by_permutations(net, image, target, pieces, fill):
    """The mean over all orders of what a piece adds when it is shown, one model call a coalition."""
    count = int(pieces.max()) + 1
    worth = {}
    for code in range(2**count):
        keep = torch.tensor([bool(code >> k & 1) for k in range(count)])[pieces]
        worth[code] = float(net(torch.where(keep, image, fill)[None])[0, target])
    values = np.zeros(count)
    orders = list(permutations(range(count)))
    for order in orders:
        code = 0
        for k in order:
            values[k] += worth[code | 1 << k] - worth[code]
            code |= 1 << k
    return values / len(orders)


def test_kernel_shap_is_exact_when_it_may_ask_all_coalitions():
    net, x = small_net(), images(2)
    pieces = segments.segment(x, "grid", 2)[0]
    ours = asked(KernelSHAP(side=2, samples=16), net, x, TARGETS[:2])
    for i in range(2):
        expected = shapley_by_permutations(net, x[i], TARGETS[i], pieces, 0.5)
        np.testing.assert_allclose(ours[i, 0], expected[pieces], rtol=1e-8, atol=1e-11)


def test_kernel_shap_is_captums_shapley_values():
    net, x = small_net(), images(3)
    pieces = pieces_of(x, 2)[None, None]
    theirs = ShapleyValues(net).attribute(x, baselines=0.5, target=TARGETS[:3], feature_mask=pieces)
    ours = asked(KernelSHAP(side=2, samples=64), net, x, TARGETS[:3])
    # Captum sums in float32
    torch.testing.assert_close(ours, theirs[:, :1].double(), rtol=1e-5, atol=1e-6)


def coalitions(method, pieces, seed=0):
    return method.coalitions(pieces, torch.Generator().manual_seed(seed))


def test_kernel_weights_are_the_shapley_kernels():
    shown, weights = coalitions(KernelSHAP(samples=2**7), 7)
    assert len({tuple(z) for z in shown.tolist()}) == len(shown) == 128
    for z, weight in zip(shown[2:], weights[2:], strict=True):
        size = int(z.sum())
        assert float(weight) == pytest.approx(6 / (comb(7, size) * size * (7 - size)))


@pytest.mark.parametrize("pieces", [2, 5, 9, 16, 30])
@pytest.mark.parametrize("samples", [4, 17, 40, 128])
def test_coalitions_keep_the_budget_and_the_mass(pieces, samples):
    shown, weights = coalitions(KernelSHAP(samples=samples), pieces)
    assert len(shown) <= samples
    assert shown[0].sum() == 0
    assert shown[1].sum() == pieces
    proper = shown[2:].sum(1)
    assert (proper > 0).all()
    assert (proper < pieces).all()
    whole = sum((pieces - 1) / (s * (pieces - s)) for s in range(1, pieces))
    assert float(weights.sum()) == pytest.approx(whole)
    twins = {tuple(z) for z in (1 - shown).tolist()}
    assert {tuple(z) for z in shown.tolist()} == twins


def test_sampled_shapley_values_approach_the_exact_ones():
    net, x = small_net(), images(1)
    exact = asked(KernelSHAP(side=3, samples=2**9), net, x, TARGETS[:1]).flatten()
    sampled = [asked(KernelSHAP(side=3, samples=60), net, x, TARGETS[:1], seed=s).flatten() for s in range(8)]
    mean = torch.stack(sampled).mean(0)
    assert float((mean - exact).norm() / exact.norm()) < 0.1
    assert float((sampled[0] - exact).norm() / exact.norm()) > 1e-6  # the sampling branch did run


@pytest.mark.parametrize("how", ["grid", "slic"])
@pytest.mark.parametrize("samples", [6, 50])
def test_shapley_values_sum_to_the_fall(how, samples):
    net, x = small_net(), images()
    method = KernelSHAP(segments=how, samples=samples)
    drawn = asked(method, net, x, TARGETS)
    fall = (net(x) - net(torch.full_like(x, 0.5)))[range(4), TARGETS]
    for i, pieces in enumerate(segments.segment(x, how, 4)):
        values = [drawn[i, 0][pieces == k].mean() for k in range(int(pieces.max()) + 1)]
        assert float(sum(values)) == pytest.approx(float(fall[i]), rel=1e-8)


def test_both_recover_a_linear_model():
    net, x = linear_net(8, 8), images(4, 8, 8)
    pieces = pieces_of(x, 4)
    contribution = ((x - 0.5) * net[1].weight[TARGETS].view(4, 3, 8, 8)).sum(1)
    truth = torch.stack([contribution[:, pieces == k].sum(1) for k in range(16)], 1)[:, pieces]
    for method in (KernelSHAP(samples=40), LIME(fill=0.5, alpha=0)):
        torch.testing.assert_close(asked(method, net, x, TARGETS)[:, 0], truth, rtol=1e-7, atol=1e-9)
    ridge = asked(LIME(fill=0.5), net, x, TARGETS)[:, 0]
    for ours, weights in zip(ridge.flatten(1), truth.flatten(1), strict=True):
        assert np.corrcoef(ours, weights)[0, 1] > 0.99


def ridge_written_again(shown, scores, width, alpha):
    """The penalty as extra rows of an ordinary least-squares problem, the intercept as an unpenalised column."""
    distance = 1 - (shown @ np.ones(shown.shape[1])) / np.maximum(
        np.linalg.norm(shown, axis=1) * np.sqrt(shown.shape[1]), 1e-300
    )
    root = np.sqrt(np.sqrt(np.exp(-(distance**2) / width**2)))
    rows = np.hstack([np.ones((len(shown), 1)), shown]) * root[:, None]
    penalty = np.hstack([np.zeros((shown.shape[1], 1)), np.sqrt(alpha) * np.eye(shown.shape[1])])
    right = np.concatenate([scores * root, np.zeros(shown.shape[1])])
    return np.linalg.lstsq(np.vstack([rows, penalty]), right, rcond=None)[0][1:]


@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_lime_is_ridge_written_again(alpha):
    method = LIME(samples=50, alpha=alpha, kernel_width=0.4)
    shown, weights = coalitions(method, 9)
    shown[7] = 0  # nothing shown: its cosine distance is 1
    weights[7] = np.exp(-0.5 / 0.4**2)
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)).double()
    ours = method.fit(shown, weights, scores)
    for i in range(3):
        expected = ridge_written_again(shown.numpy(), scores[i].numpy(), 0.4, alpha)
        np.testing.assert_allclose(ours[i], expected, rtol=1e-8, atol=1e-10)


def test_lime_is_captums_lime_with_the_same_coalitions():
    net, x, y = small_net(), images(1), TARGETS[:1]
    method = LIME(samples=30, fill=0.5)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ours = method(net, x, y)
    pieces = pieces_of(x, 4)
    drawn = iter(coalitions(method, 16, seed + 16)[0])

    class Ridge:
        def fit(self, loader):
            ((shown, scores, weights),) = loader
            self.weights = method.fit(shown.double(), weights.double(), scores.double()[None])[0]

        def representation(self):
            return self.weights

    def proximity(original, perturbed, sample, **unused):
        return float(np.exp(-0.5 * ((1 - float(sample.mean()) ** 0.5) / 0.25) ** 2))

    theirs = LimeBase(
        net,
        Ridge(),
        proximity,
        lambda image, **unused: next(drawn)[None],
        True,
        lambda z, image, **unused: torch.where(z[0].bool()[pieces], image, 0.5),
        None,
    ).attribute(x, target=y, n_samples=30)
    torch.testing.assert_close(ours[0, 0], theirs.flatten()[pieces].double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", [LIME(samples=30), KernelSHAP(samples=30)], ids=["lime", "kernel_shap"])
@pytest.mark.parametrize("how", ["slic", "quickshift"])
def test_superpixels_of_each_image_carry_one_value_and_batches_do_not_mix(method, how):
    net, x = small_net(), torch.cat([images(2, 24, 24), images(3, 24, 24).roll(5, 3) ** 3])[:4]
    method = dataclasses.replace(method, segments=how)
    drawn = asked(method, net, x, TARGETS)
    cut = segments.segment(x, how, 4)
    for i in range(4):
        for k in range(int(cut[i].max()) + 1):
            assert drawn[i, 0][cut[i] == k].unique().numel() == 1
        alone = asked(method, net, x[i : i + 1], TARGETS[i : i + 1])
        torch.testing.assert_close(drawn[i : i + 1], alone, rtol=1e-9, atol=1e-10)


def test_one_piece_takes_all():
    net, x = small_net(), images()
    fall = (net(x) - net(torch.full_like(x, 0.5)))[range(4), TARGETS]
    drawn = asked(KernelSHAP(side=1), net, x, TARGETS)
    torch.testing.assert_close(drawn, fall[:, None, None, None].expand_as(drawn))
    assert asked(LIME(side=1), net, x, TARGETS).isfinite().all()


def test_means_are_the_mean_colours():
    x = images(2, 9, 7)
    pieces = segments.segment(x, "slic", 3)
    hidden = segments.means(x, pieces)
    for i in range(2):
        for k in range(int(pieces[i].max()) + 1):
            inside = pieces[i] == k
            expected = x[i][:, inside].mean(1, keepdim=True)
            torch.testing.assert_close(hidden[i][:, inside], expected.expand(-1, int(inside.sum())))


@pytest.mark.parametrize(("size", "side", "count"), [((16, 16), 4, 16), ((5, 7), 3, 9), ((3, 2), 4, 6)])
def test_a_grid_has_even_pieces_without_gaps(size, side, count):
    cut = segments.segment(torch.zeros(2, 3, *size), "grid", side)
    assert cut.shape == (2, *size)
    numbers, sizes = cut[0].unique(return_counts=True)
    assert numbers.tolist() == list(range(count))
    assert sizes.max() <= 2 * sizes.min() or min(size) < 2 * side


def test_grey_images_are_cut_too():
    for how in ("slic", "quickshift"):
        assert segments.segment(images(1)[:, :1], how, 3).shape == (1, 16, 16)


def test_silent_models_give_silent_maps():
    class Same(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 5, dtype=x.dtype)

    for method in (LIME(), KernelSHAP()):
        drawn = asked(method, Same(), images(), TARGETS)
        assert float(drawn.abs().max()) < 1e-12


@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
def test_on_every_architecture_all_four_are_their_formulas(architecture):
    net = networks.network(architecture)
    x, y = networks.images()
    pieces = pieces_of(x, 2)

    def logit(shown, i):
        return float(net(shown[None])[0, y[i]])

    shap = networks.asked(KernelSHAP(side=2, samples=16), net, x, y)
    exact = [shapley_by_permutations(net, x[i], y[i], pieces, 0.5) for i in range(2)]
    networks.same(shap[:, 0], torch.tensor(np.array(exact))[:, pieces])

    method = LIME(side=2, samples=9, fill=0.5)
    with seeding.forked("tests", "asked"):
        shown, _ = coalitions(method, 4, int(torch.randint(2**62, ())) + 4)
    scores = [[logit(torch.where(z.bool()[pieces], x[i], 0.5), i) for z in shown] for i in range(2)]
    ridge = [ridge_written_again(shown.numpy(), np.array(s), 0.25, 1.0) for s in scores]
    networks.same(networks.asked(method, net, x, y)[:, 0], torch.tensor(np.array(ridge))[:, pieces])

    rise = RISE(masks=9, grid=3)
    with seeding.forked("tests", "asked"):
        masks = rise.draw(16, 16).double()
    weighted = [sum(logit(x[i] * m + 0.5 * (1 - m), i) * m for m in masks) / masks.sum(0) for i in range(2)]
    networks.same(networks.asked(rise, net, x, y)[:, 0], torch.stack(weighted))

    covered = CaptumOcclusion(net).attribute(x, (3, 6, 6), (3, 5, 5), baselines=0.5, target=y)
    ours = networks.asked(Occlusion(patch=6, stride=5), net, x, y)
    networks.same(ours, covered[:, :1].double(), 1e-5)  # Captum sums in float32


@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
@pytest.mark.parametrize(
    "method",
    [Occlusion(patch=8, stride=8), RISE(masks=5), LIME(samples=8, side=2), KernelSHAP(samples=8, side=2)],
    ids=lambda m: type(m).__name__,
)
def test_attackable_on_every_architecture(architecture, method):
    networks.check_attackable(method, networks.network(architecture))


def test_a_graph_reaches_inputs_that_ask_for_it():
    net, x = small_net(), images(2).requires_grad_()
    for method in (Occlusion(create_graph=True), LIME(samples=20, create_graph=True)):
        drawn = method(net, x, TARGETS[:2])
        slope = torch.autograd.grad(drawn[0].square().sum(), x)[0]
        assert slope[0].any()
        assert not slope[1].any()
        assert not dataclasses.replace(method, create_graph=False)(net, x, TARGETS[:2]).requires_grad


def test_superpixels_want_colours_or_grey():
    with pytest.raises(DataError, match="these have 2; use grid"):
        segments.segment(torch.zeros(1, 2, 8, 8), "slic", 2)
