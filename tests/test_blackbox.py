"""The attack by queries: what it estimates is a gradient, what it spends is its budget, what it moves goes back."""

import dataclasses

import pytest
import torch
from torch import nn

from unfooled.baselines.gradients import InputXGradient
from unfooled.datasets.scenes import Scenes
from unfooled.manipulations import blackbox
from unfooled.manipulations.blackbox import Effort, Target
from unfooled.manipulations.passive import Location, TopK
from unfooled.models import vgg
from unfooled.training import Fit, Recipe, fit, freeze

RECIPE = Recipe(steps=12, batch=8, rate=5e-3)
EFFORT = Effort(images=6)


@pytest.fixture(scope="module")
def data():
    return Scenes(train=48, tune=0, test=0)()


@pytest.fixture(scope="module")
def original(data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = vgg(len(data.classes))
    return fit(model, data.train, Fit(steps=15, batch=16), "blackbox")


class Counting:
    """Input × Gradient that says nothing of create_graph, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, inputs, targets):
        self.calls += 1
        return InputXGradient()(model, inputs, targets).numpy()


def parabola(weights, centre):
    return sum((w - c).square().sum().item() for w, c in zip(weights, centre, strict=True))


def directions(count, shapes, stream):
    """``count`` orthonormal directions, each cut into tensors of these shapes."""
    sizes = [torch.Size(s).numel() for s in shapes]
    basis = torch.linalg.qr(torch.randn(sum(sizes), count, generator=stream, dtype=torch.float64))[0].T
    return [[part.view(s) for part, s in zip(way.split(sizes), shapes, strict=True)] for way in basis]


def test_estimate_is_the_projected_gradient_of_a_quadratic():
    """Central differences of a quadratic are exact, so only rounding (1e-16 / σ, σ ~ 1e-2) is left."""
    stream = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,)]
    weights = [torch.randn(s, generator=stream, dtype=torch.float64) for s in shapes]
    centre = [torch.randn(s, generator=stream, dtype=torch.float64) for s in shapes]
    before = [w.clone() for w in weights]
    ways = directions(4, shapes, stream)
    found = blackbox.estimate(lambda: parabola(weights, centre), weights, ways, 0.003)
    gradient = torch.cat([2 * (w - c).flatten() for w, c in zip(weights, centre, strict=True)])
    flat = torch.stack([torch.cat([part.flatten() for part in way]) for way in ways])
    assert torch.allclose(torch.cat([f.flatten() for f in found]), flat.T @ (flat @ gradient), atol=1e-10)
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))


def test_random_directions_alone_go_down_a_quadratic():
    """A step of ½ along a way takes the whole distance along it: 4 of 40 of the square on average, 0.9^40 ≈ 1.5 %."""
    stream = torch.Generator().manual_seed(1)
    weights, centre = [torch.ones(40, dtype=torch.float64)], [torch.zeros(40, dtype=torch.float64)]
    start = parabola(weights, centre)
    for _ in range(40):
        ways = directions(4, [(40,)], stream)
        weights[0] -= 0.5 * blackbox.estimate(lambda: parabola(weights, centre), weights, ways, 0.01)[0]
    assert parabola(weights, centre) < 0.1 * start


def test_a_loss_that_is_not_finite_is_flat_and_weights_come_back_from_an_error():
    weights = [torch.ones(3)]
    ways = [[torch.tensor([1.0, 0, 0])]]
    assert blackbox.estimate(lambda: float("nan"), weights, ways, 0.1)[0].abs().sum() == 0

    def broken():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        blackbox.estimate(broken, weights, ways, 0.1)
    assert torch.equal(weights[0], torch.ones(3))


def test_unit_has_norm_one_and_leaves_zeros():
    way = blackbox.unit([torch.full((2, 2), 3.0), torch.full((5,), -1.0)])
    assert torch.cat([w.flatten() for w in way]).norm().item() == pytest.approx(1, abs=1e-6)
    assert all((w == 0).all() for w in blackbox.unit([torch.zeros(3)]))


def fooled(manipulation, against, original, data, effort=EFFORT):
    target = Target.of(manipulation, against, data.train, original)
    against.calls = 0
    return blackbox.fool(target, original, data.train, RECIPE, 0, effort)


def test_the_budget_is_spent_exactly_and_the_original_stays(original, data):
    before = {k: v.clone() for k, v in original.state_dict().items()}
    against = Counting()
    twin = fooled(Location(weight=30.0), against, original, data)
    assert against.calls == EFFORT.queries(RECIPE.steps) == 8 * RECIPE.steps
    assert all(torch.equal(v, before[k]) for k, v in original.state_dict().items())
    again = fooled(Location(weight=30.0), Counting(), original, data)
    assert all(torch.equal(p, q) for p, q in zip(twin.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("manipulation", [Location(weight=30.0), TopK(weight=30.0)])
def test_it_lowers_its_objective_below_the_same_recipe_without_it(manipulation, original, data):
    against = Counting()
    target = Target.of(manipulation, against, data.train, original)
    losses = [
        target.loss(model, torch.arange(len(data.train))).item()
        for model in (
            fooled(manipulation, against, original, data),
            fooled(dataclasses.replace(manipulation, weight=0.0), against, original, data, Effort(random=0, images=2)),
        )
    ]
    assert losses[0] < losses[1]


def test_guides_whose_maps_do_not_depend_on_a_weight_have_no_slope_there(original, data):
    """The gain of nothing: a parameter that the network never uses gets zeros, not None."""
    twin = vgg(len(data.classes)).eval()
    twin.unused = nn.Parameter(torch.ones(2))
    guide = Target.of(Location(), InputXGradient(create_graph=True), data.train, freeze(original))
    slopes = guide.slope(twin, torch.arange(2))
    assert (slopes[[n for n, _ in twin.named_parameters()].index("unused")] == 0).all()
    assert any((s != 0).any() for s in slopes)


@pytest.mark.parametrize("side", [8, 32, 224])
def test_surrogates_are_attackable_and_cost_little_at_any_size(side):
    kinds = blackbox.surrogates(side)
    assert len(kinds) == len(blackbox.SURROGATES)
    assert all(kind.create_graph for kind in kinds)
    assert len(kinds[-1]._covers(side, side)) <= 16, "nine patches, and a few where the side does not divide"
