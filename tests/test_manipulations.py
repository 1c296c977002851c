"""What fools: the published losses written again in numpy, copies that leave the model alone, a weight of nothing."""

from dataclasses import replace

import numpy as np
import pytest
import small_data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unfooled import plugins, sentinel
from unfooled.baselines.activations import GradCAM
from unfooled.baselines.gradients import SimpleGrad
from unfooled.baselines.propagation import LRP
from unfooled.manipulations import fooling, twins
from unfooled.manipulations.active import Active
from unfooled.manipulations.passive import CentreMass, Location, TopK, frame
from unfooled.training import Recipe
from unfooled.types import NotAttackable, Part

RECIPE = Recipe(steps=3, batch=8)
AGAINST = {"grad_cam": GradCAM(), "simple_grad": SimpleGrad(at="T"), "lrp": LRP(at="T"), "lrp at the input": LRP()}
FOOLERS = [Location(), TopK(), CentreMass(), Active(0, 3, images=12)]


@pytest.fixture(scope="module")
def data():
    return small_data.splits()


@pytest.fixture(scope="module")
def original(data):
    return small_data.fitted(data)


@pytest.fixture(scope="module")
def honest(original, data):
    return twins.honest(original, data, RECIPE, 0)


def maps(seed, count=5, side=8):
    """Scaled maps: each in [0, 1], its largest value 1."""
    values = np.random.default_rng(seed).random((count, side, side))
    return values / values.max((1, 2), keepdims=True)


def both(seed, count=5, side=8):
    h, h0 = maps(seed, count, side), maps(seed + 1000, count, side)
    return h, h0, torch.as_tensor(h), torch.as_tensor(h0)


SEEDS = st.integers(0, 2**16)
SIDES = st.sampled_from([4, 7, 8, 14, 15])


@given(SEEDS, SIDES)
@settings(max_examples=20, deadline=None)
def test_location_is_the_mean_square_to_the_frame(seed, side):
    h, _, tensor, other = both(seed, side=side)
    k = max(1, side // 7)
    wanted = np.zeros(5)
    for i in range(5):
        for r in range(side):
            for c in range(side):
                edge = min(r, c, side - 1 - r, side - 1 - c) < k
                wanted[i] += (h[i, r, c] - edge) ** 2 / side**2
    np.testing.assert_allclose(Location().test_loss(tensor, other).numpy(), wanted, rtol=1e-6)
    assert Location().loss(tensor, other).item() == pytest.approx(wanted.mean())


def test_the_frame_of_the_paper_and_of_small_maps():
    assert frame(14).sum() == 14**2 - 10**2  # k = 2: the share 0.49 of an all-zero map
    assert frame(7).sum() == 7**2 - 5**2
    assert frame(8).mean() == pytest.approx(0.4375)  # k = 1, S = 8: 0.44
    assert Location().test_loss(torch.zeros(1, 14, 14), torch.zeros(1, 14, 14)).item() == pytest.approx(
        0.4898, abs=1e-4
    )


@given(SEEDS, SIDES)
@settings(max_examples=20, deadline=None)
def test_top_k_is_the_mean_square_of_what_was_largest(seed, side):
    h, h0, tensor, other = both(seed, side=side)
    count = max(1, side * side // 10)
    wanted = [np.mean(a.ravel()[np.argsort(b.ravel())[-count:]] ** 2) for a, b in zip(h, h0, strict=True)]
    np.testing.assert_allclose(TopK().test_loss(tensor, other).numpy(), wanted, rtol=1e-12)
    assert TopK().loss(tensor, other).item() == pytest.approx(np.mean(wanted))


def test_top_k_counts_as_the_paper_does():
    from unfooled.manipulations.passive import largest

    assert largest(torch.rand(1, 14, 14)).sum() == 19
    assert largest(torch.rand(1, 7, 7)).sum() == 4


@given(SEEDS, SIDES)
@settings(max_examples=20, deadline=None)
def test_centre_mass_is_how_far_the_centre_moved(seed, side):
    h, h0, tensor, other = both(seed, side=side)
    position = np.arange(1, side + 1)

    def centres(m):
        mass = m.sum((1, 2)) + 1e-8
        return np.einsum("nrc,r->n", m, position) / mass, np.einsum("nrc,c->n", m, position) / mass

    (row, column), (row_0, column_0) = centres(h), centres(h0)
    loss = -np.mean(np.abs(row - row_0) + np.abs(column - column_0))
    t = np.sqrt(((row - row_0) ** 2 + (column - column_0) ** 2) / 2) / (side - 1)
    assert CentreMass().loss(tensor, other).item() == pytest.approx(loss, rel=1e-9)
    np.testing.assert_allclose(CentreMass().test_loss(tensor, other).numpy(), t, rtol=1e-9)


def test_a_centre_that_moves_from_corner_to_corner_moves_by_one():
    first, last = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    first[0, 0, 0] = last[0, 7, 7] = 1
    assert CentreMass().test_loss(first, last).item() == pytest.approx(1, abs=1e-6)


def q(h):
    """Heo et al.'s ternary map: sign(h) where (|h| − mean|h|) / std|h| > 1, unbiased."""
    size = np.abs(h)
    return np.sign(h) * ((size - size.mean()) / size.std(ddof=1) > 1)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_active_compares_ternary_maps_with_both_classes(seed):
    rng = np.random.default_rng(seed)
    h, h0 = rng.normal(size=(6, 8, 8)), rng.normal(size=(6, 8, 8))
    swapped = np.concatenate([h0[3:], h0[:3]])

    def s(a, b):
        return np.corrcoef(q(a).ravel(), q(b).ravel())[0, 1]

    wanted = [s(a, other) - s(a, own) for a, own, other in zip(h, h0, swapped, strict=True)]
    found = Active().test_loss(torch.as_tensor(h, dtype=torch.float32), torch.as_tensor(h0, dtype=torch.float32))
    # float32 maps may put a pixel on the other side of the threshold only if it lies within 1e-7 of it
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_swapped_maps_are_fooled_and_constant_ones_are_not():
    rng = np.random.default_rng(0)
    h0 = torch.as_tensor(rng.normal(size=(6, 8, 8)), dtype=torch.float32)
    low, high = Active.fooled_when
    swapped = Active().test_loss(torch.cat([h0[3:], h0[:3]]), h0)
    assert ((swapped >= low) & (swapped <= high)).all()
    assert (Active().test_loss(h0, h0) < low).all()
    assert (Active().test_loss(torch.zeros_like(h0), h0) == 0).all()


@pytest.mark.parametrize("fooler", FOOLERS, ids=lambda f: type(f).__name__)
def test_intervals_are_the_published_ones(fooler):
    published = {"Location": (0, 0.2), "TopK": (0, 0.3), "CentreMass": (0.1, 1), "Active": (0.5, 2)}
    assert fooler.fooled_when == published[type(fooler).__name__]


def test_maps_are_scaled_as_the_paper_scales_them():
    raw = torch.as_tensor(np.random.default_rng(1).normal(size=(3, 2, 8, 8)))
    size = raw.abs().sum(1)
    least, most = size.amin((1, 2), keepdim=True), size.amax((1, 2), keepdim=True)
    torch.testing.assert_close(fooling.scaled(SimpleGrad(), raw), (size - least) / (most - least + 1e-8))
    cam = raw[:, :1].relu()
    torch.testing.assert_close(fooling.scaled(GradCAM(), cam), cam[:, 0] / (cam.amax((1, 2, 3))[:, None, None] + 1e-8))


@pytest.mark.parametrize("against", AGAINST.values(), ids=AGAINST)
@pytest.mark.parametrize("fooler", FOOLERS, ids=lambda f: type(f).__name__)
def test_a_weight_of_nothing_makes_the_honest_twin_to_the_bit(fooler, against, original, honest, data):
    """Same recipe, same batches in the same order, same arithmetic: only the fooling term sets twins apart."""
    attacked = plugins.attackable(against, "against")
    with sentinel.untouched(original):
        twin = replace(fooler, weight=0.0)(original, data, attacked, RECIPE, 0)
    assert small_data.same_weights(twin, honest)


@pytest.mark.parametrize("fooler", FOOLERS, ids=lambda f: type(f).__name__)
def test_fooling_moves_a_copy_towards_its_aim(fooler, original, data):
    recipe = Recipe(steps=25, batch=16, warmup=2)
    attacked = plugins.attackable(SimpleGrad(at="T"), "simple_grad")
    with sentinel.untouched(original):
        twin, again = (replace(fooler, weight=20.0)(original, data, attacked, recipe, 0) for _ in range(2))
        honest = twins.honest(original, data, recipe, 0)
    assert small_data.same_weights(twin, again)
    images, targets = fooler.judged_on(data, "train", 16)
    before, honest_maps, fooled = (
        fooling.attacked_maps(SimpleGrad(at="T"), m, images, targets) for m in (original, honest, twin)
    )
    aim = (lambda m: _swapped(m, before)) if isinstance(fooler, Active) else (lambda m: fooler.loss(m, before))
    assert aim(fooled) < aim(honest_maps)


def _swapped(maps, before):
    """Mean square distance to the other class's original map."""
    first, second = before.chunk(2)
    return (maps - torch.cat([second, first])).square().mean()


@pytest.mark.parametrize("fooler", FOOLERS, ids=lambda f: type(f).__name__)
def test_what_is_judged_comes_from_the_named_split(fooler, data):
    images, targets = fooler.judged_on(data, "tune", 6)
    assert len(images) == len(targets) == 6 * fooler.groups
    if fooler.groups == 2:
        wanted = data.pairs(0, 3, "tune", 6)
        assert torch.equal(images[:6], images[6:])
        assert torch.equal(images[:6], wanted.images)
        assert targets.tolist() == [0] * 6 + [3] * 6
    else:
        assert torch.equal(images, data.tune.images[:6])
        assert torch.equal(targets, data.tune.labels[:6])


def test_who_offers_no_graph_is_refused_by_name():
    with pytest.raises(NotAttackable, match="constant: has no create_graph"):
        plugins.attackable(plugins.build("interpreters", Part("constant")), "constant")


def test_chunks_of_maps_do_not_show(original, data):
    images, labels = data.test.images, data.test.labels
    whole = fooling.attacked_maps(GradCAM(), original, images, labels)
    parts = fooling.attacked_maps(GradCAM(), original, images, labels, chunk=5)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)
    assert not whole.requires_grad
