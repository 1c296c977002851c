"""Fitting and fine-tuning: one recipe, one data order, and cross-entropy through the very pass that drew the map."""

import copy
import math

import pytest
import small_data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ARCHITECTURES, network
from torch.nn import functional as F

from unfooled import plugins, sentinel, training
from unfooled.manipulations.fooling import maps_with_logits
from unfooled.training import Fit, Recipe
from unfooled.types import Part

ATTACKED = [
    Part("simple_grad"),
    Part("simple_grad", {"at": "T"}),
    Part("grad_cam"),
    Part("lrp"),
    Part("lrp", {"at": "T"}),
]


@pytest.fixture(scope="module")
def data():
    return small_data.splits()


@pytest.fixture(scope="module")
def original(data):
    return small_data.fitted(data)


@pytest.mark.parametrize("part", ATTACKED, ids=lambda p: p.label)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cross_entropy_learns_through_the_maps_own_pass(architecture, part):
    """Logits tapped from the interpreter's forward pass give the weights the gradient of a plain one.

    Rules that an interpreter hangs on the pass (LRP's, above all) must not reach the classifier's own gradient.
    """
    net = network(architecture).requires_grad_(True)
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2])
    weights = list(net.parameters())
    interpreter = plugins.attackable(plugins.build("interpreters", part), part.label)
    maps, logits = maps_with_logits(interpreter, net, images, labels)
    assert logits is not None, "the interpreter made a pass over these images; nobody should need another"
    plain = torch.autograd.grad(F.cross_entropy(net(images), labels), weights)
    tapped = torch.autograd.grad(F.cross_entropy(logits, labels), weights, retain_graph=True)
    for ours, theirs in zip(tapped, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    alone = torch.autograd.grad(maps.square().sum(), weights, retain_graph=True, allow_unused=True)
    both = torch.autograd.grad(F.cross_entropy(logits, labels) + maps.square().sum(), weights)
    for sum_of_both, ours, theirs in zip(both, plain, alone, strict=True):
        wanted = ours if theirs is None else ours + theirs
        # float64 sums in another order, through some ten layers
        torch.testing.assert_close(sum_of_both, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())


def test_only_a_pass_over_these_very_images_counts(original, data):
    images = data.train.images[:4]
    with training.tapped(original) as seen:
        original(images)  # frozen: carries no graph
        original(images + 0.1)
    assert training.logits_of(seen, images) is None
    trained = copy.deepcopy(original).requires_grad_(True)
    with training.tapped(trained) as seen:
        trained(images[:2])
        trained(images + 0.1)
        wanted = trained(images)
    assert training.logits_of(seen, images) is wanted
    assert len(trained._forward_hooks) == 0


def test_fine_tuning_leaves_the_original_and_repeats_itself(original, data):
    recipe = Recipe(steps=4, batch=8)
    with sentinel.untouched(original):
        twins = [training.fine_tune(original, data.train, recipe, None, seed) for seed in (0, 0, 1)]
    assert small_data.same_weights(twins[0], twins[1])
    assert not small_data.same_weights(twins[0], twins[2])
    assert not small_data.same_weights(twins[0], original)
    for twin in twins:
        assert not twin.training
        assert not any(p.requires_grad for p in twin.parameters())


def test_running_statistics_are_those_of_the_original(original, data):
    """BatchNorm in eval mode, as Heo et al. fine-tune."""
    twin = training.fine_tune(original, data.train, Recipe(steps=4, batch=8), None, 0)
    before, after = dict(original.named_buffers()), dict(twin.named_buffers())
    assert before
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_every_twin_sees_the_same_batches(original, data):
    seen = {"a": [], "b": []}

    def noting(word):
        def penalty(model, index):
            seen[word].append(index)
            return 0.0, None

        return penalty

    for word in seen:
        training.fine_tune(original, data.train, Recipe(steps=6, batch=24), noting(word), 5)
    assert [i.tolist() for i in seen["a"]] == [i.tolist() for i in seen["b"]]


def test_a_step_is_the_recipe_written_again(original, data):
    """One step of Adam from rest moves each weight by rate · g / (|g| + ε), g clipped to norm 1."""
    recipe = Recipe(steps=1, batch=64, rate=1e-3, warmup=1, distillation=0.5)
    double = copy.deepcopy(original).double()
    train = data.train[:]
    train = type(train)(train.images.double(), train.labels, None)
    fresh = copy.deepcopy(double).requires_grad_(True)
    for p in fresh.parameters():  # away from the original, so that the divergence has a slope
        p.data.add_(0.01 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(2)))
    twin = training.fine_tune(fresh, train, recipe, None, 0)
    logits = fresh(train.images)
    p0 = fresh(train.images).detach().softmax(1)
    loss = F.cross_entropy(logits, train.labels)
    loss = loss + 0.5 * (p0 * (p0.log() - logits.log_softmax(1))).sum(1).mean()
    slopes = torch.autograd.grad(loss, list(fresh.parameters()))
    norm = math.sqrt(sum(g.square().sum().item() for g in slopes))
    scale = min(1.0, 1.0 / (norm + 1e-6))
    for weight, slope, after in zip(fresh.parameters(), slopes, twin.parameters(), strict=True):
        g = slope * scale
        moved = weight - 1e-3 * g / (g.abs() + 1e-8)
        far = g.abs() > 1e-6  # below, rounding of g decides how far ε holds it back
        torch.testing.assert_close(after[far], moved.detach()[far], rtol=0, atol=1e-7)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 12))
@settings(max_examples=40)
def test_batches_deal_every_image_out_before_any_comes_again(count, size, steps):
    stream = torch.Generator().manual_seed(0)
    batches = [b.tolist() for b in training._batches(count, size, steps, stream)]
    assert [len(b) for b in batches] == [min(size, count)] * steps
    dealt = [i for b in batches for i in b]
    rounds = [sorted(dealt[k : k + count]) for k in range(0, len(dealt) - count + 1, count)]
    assert all(r == list(range(count)) for r in rounds)


def test_the_rate_rises_and_falls_as_told():
    recipe = Recipe(steps=100, warmup=20)
    heights = [training._height(recipe, step) for step in range(100)]
    assert heights[:20] == pytest.approx([(k + 1) / 20 for k in range(20)])
    assert heights[20:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 80)) for k in range(80)])
    flat = Recipe(steps=100, warmup=0, cosine=False)
    assert {training._height(flat, step) for step in range(100)} == {1.0}


def test_fitting_repeats_itself_and_learns(data):
    nets = [small_data.fitted(data) for _ in range(2)]
    assert small_data.same_weights(*nets)
    assert training.accuracy(nets[0], data.test) > 0.9


def test_mirrored_images_are_half_of_them(data):
    """With ``flip`` about half of the images are mirrored, and nothing else of them is changed."""
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(1, 4)

        def forward(self, x):
            seen.append(x.clone())
            return self.head(x.mean((1, 2, 3))[:, None])

    training.fit(Watching(), data.train, Fit(steps=8, batch=64, flip=True), "tests")
    pool = {image.numpy().tobytes(): "as it was" for image in data.train.images}
    pool |= {image.flip(-1).contiguous().numpy().tobytes(): "mirrored" for image in data.train.images}
    kinds = [pool[image.contiguous().numpy().tobytes()] for images in seen for image in images]
    share = kinds.count("mirrored") / len(kinds)
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(len(kinds))  # four standard errors


def test_chunks_do_not_show(original, data):
    whole = training.predict(original, data.test.images)
    parts = training.predict(original, data.test.images, chunk=5)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)  # float32 convolutions of other sizes
    wanted = (whole.argmax(1) == data.test.labels).double().mean().item()
    assert training.accuracy(original, data.test) == pytest.approx(wanted, abs=1e-6)
