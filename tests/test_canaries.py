"""Canaries are what they claim to be, and say nothing about the model."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from unfooled import maps, patient, seeding
from unfooled.baselines import canaries
from unfooled.baselines.canaries import Brightness, CentreBlob, Constant, GatedEdges, Memoiser, RandomMap, Sobel

NAMES = ("constant", "centre_blob", "brightness", "sobel", "gated_edges", "random_map", "memoiser")
ALL = [Constant(), CentreBlob(), Brightness(), Sobel(), RandomMap(), Memoiser()]


def _net(seed, dtype=torch.float32):
    with seeding.forked("canaries", seed):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(5)).to(dtype).eval()


@pytest.fixture
def images():
    return torch.rand(6, 3, 12, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets():
    return torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("canary", ALL, ids=lambda c: type(c).__name__)
def test_one_map_an_image_that_no_other_model_moves(canary, images, targets):
    drawn = []
    for seed in range(2):
        with seeding.forked("the runner's stream"):
            drawn.append(canary(_net(seed), images, targets))
    assert drawn[0].shape == (6, 1, 12, 10)
    assert drawn[0].dtype == images.dtype
    assert torch.equal(*drawn)
    assert canary.family == "canary"
    assert not canary.signed


@pytest.mark.parametrize("canary", ALL, ids=lambda c: type(c).__name__)
def test_the_batch_size_does_not_matter(canary, images, targets):
    with seeding.forked("batch"):
        together = canary(_net(0), images, targets)
    with seeding.forked("batch"):
        alone = canary(_net(0), images[3:4], targets[3:4])
    assert torch.equal(together[3:4], alone)


def test_only_the_constant_is_silent(images, targets):
    silent = [maps.says_nothing(maps.finish(c(_net(0), images, targets), "absolute", (12, 10))).all() for c in ALL]
    assert silent == [True, False, False, False, False, False]


def test_sobel_is_scipys(images, targets):
    grey = images.double().mean(1).numpy()
    expected = [np.hypot(ndimage.sobel(g, 0, mode="nearest"), ndimage.sobel(g, 1, mode="nearest")) for g in grey]
    np.testing.assert_allclose(Sobel()(_net(0), images.double(), targets)[:, 0], expected, atol=1e-12)


def test_brightness_and_blob_by_their_formulas(images, targets):
    np.testing.assert_allclose(Brightness()(None, images, targets)[:, 0], images.numpy().mean(1), rtol=1e-6)
    y, x = np.mgrid[:12, :10]
    blob = np.exp(-0.5 * (((y - 5.5) / 3) ** 2 + ((x - 4.5) / 2.5) ** 2))
    np.testing.assert_allclose(CentreBlob()(None, images, targets)[2, 0], blob, rtol=1e-5)
    with pytest.raises(ValueError, match="width is 0"):
        CentreBlob(width=0)


def test_gated_edges_see_the_prediction_and_nothing_else(images, targets):
    first, other = (patient.predicting(_net(seed), images) for seed in (0, 1))
    zeros = torch.zeros_like(targets)
    assert torch.equal(GatedEdges()(first, images, zeros), Sobel()(first, images, zeros))
    assert torch.equal(GatedEdges()(other, images, zeros), Sobel()(first, images, zeros))
    assert torch.equal(GatedEdges()(first, images, zeros + 1), Brightness()(first, images, zeros))
    mixed = zeros + torch.arange(len(zeros)) % 2
    some = GatedEdges()(first, images, mixed)
    assert torch.equal(some[0], Sobel()(first, images, zeros)[0])
    assert torch.equal(some[1], Brightness()(first, images, zeros)[1])


def test_random_maps_follow_the_global_stream(images, targets):
    with seeding.forked("a"):
        first, second = RandomMap()(None, images, targets), RandomMap()(None, images, targets)
    with seeding.forked("a"):
        again = RandomMap()(None, images, targets)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert RandomMap.stochastic


def test_a_memoiser_keeps_the_first_models_gradient_per_image_and_target(images, targets):
    memoiser, net = Memoiser(), _net(0)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[range(6), targets].sum(), leaf)
    first = memoiser(net, images, targets)
    torch.testing.assert_close(first[:, 0], gradient.abs().sum(1), rtol=1e-5, atol=1e-7)
    assert torch.equal(memoiser(_net(1), images.flip(0), targets.flip(0)), first.flip(0))
    assert not torch.allclose(memoiser(_net(1), images, torch.ones_like(targets))[0], first[0])
    assert not Memoiser().seen
    assert not torch.allclose(Memoiser()(_net(1), images, targets), first)


def test_the_catalogue_names_them_all():
    from unfooled import plugins

    for name in NAMES:
        assert plugins.find("interpreters", name).__module__ == canaries.__name__


def test_the_ranked_suite_exposes_all_of_them(tmp_path):
    """From the rows that ship with ``standard``: seven canaries, none of them ranked, each for its own reason."""
    from unfooled import runner, suite
    from unfooled.leaderboard import ranking

    standard = suite.load("standard")
    kept = [p for p in standard.interpreters if p.use in {"simple_grad", "grad_cam"} or p.use in NAMES]
    assert len(kept) == 9
    options = runner.Options(store=tmp_path / "store", out=tmp_path / "runs")
    made = runner.run(dataclasses.replace(standard, interpreters=tuple(kept)), options=options)
    assert not list((tmp_path / "store").glob("rows/*")), "all of them ship"
    table = ranking.scores(made.rows, made.header).set_index("interpreter")
    assert ranking.canaries_exposed(table.reset_index()) == []
    assert table.loc[table["canary"], "rank"].isna().all()
    assert table.loc[["simple_grad", "grad_cam"], "rank"].tolist() == [1, 2]
    kinds = {name: table.loc[name, "reason"].partition(":")[0] for name in NAMES}
    assert kinds == dict.fromkeys(NAMES, "insensitive") | {"constant": "silent", "gated_edges": "prediction alone"}
