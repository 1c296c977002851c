"""The twins that calibrate: honest by the same recipe, randomised down to the last weight."""

import pytest
import small_data
import torch
from networks import ARCHITECTURES
from torch import nn

from unfooled import models, sentinel, training
from unfooled.manipulations import twins
from unfooled.training import Recipe


@pytest.fixture(scope="module")
def data():
    return small_data.splits()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def original(request, data):
    return small_data.fitted(data, request.param, steps=12)


def images(data):
    return data.test.images


def test_the_honest_twin_is_the_recipe_and_nothing_else(data):
    original = small_data.fitted(data)
    recipe = Recipe(steps=3, batch=8)
    with sentinel.untouched(original):
        twin = twins.honest(original, data, recipe, 4)
    assert small_data.same_weights(twin, training.fine_tune(original, data.train, recipe, None, 4))
    assert training.accuracy(twin, data.test) >= training.accuracy(original, data.test) - 0.1


def test_randomised_twins_share_no_weight_with_their_original(original, data):
    with sentinel.untouched(original):
        twin = twins.randomised(original, images(data), "a", 0)
    before = dict(original.named_parameters())
    fixed = {f"{n}.{p}" for n, m in twin.named_modules() if isinstance(m, nn.BatchNorm2d) for p in ("weight", "bias")}
    for name, weight in twin.named_parameters():
        if name in fixed:
            assert weight.unique().tolist() == [1.0 if name.endswith("weight") else 0.0]
        else:
            assert (weight != before[name]).float().mean() > 0.99, name
        assert not weight.requires_grad
    assert not twin.training


def test_statistics_are_those_of_the_images(original, data):
    """Each BatchNorm's running mean and variance, from its own inputs collected in evaluation."""
    twin = twins.randomised(original, images(data), "a", 0)
    seen = {}
    norms = {n: m for n, m in twin.named_modules() if isinstance(m, nn.BatchNorm2d)}
    handles = [
        m.register_forward_pre_hook(lambda _m, args, n=n: seen.__setitem__(n, args[0])) for n, m in norms.items()
    ]
    first = next(iter(norms))
    training.predict(twin, images(data))
    for handle in handles:
        handle.remove()
    # one chunk: its plain statistics. Deeper layers saw batch statistics on the way, which in eval mode are the running
    # ones, equal but for the biased variance that normalises a batch: (n − 1) / n with n ≥ 32 · 4 values
    for name, norm in norms.items():
        exact = 1e-5 if name == first else 0.05
        values = seen[name].transpose(0, 1).flatten(1)
        scale = values.std(1)
        assert ((norm.running_mean - values.mean(1)).abs() <= exact * (scale + 1e-3)).all(), name
        assert ((norm.running_var - values.var(1)).abs() <= 2 * exact * (values.var(1) + 1e-3)).all(), name
        assert norm.momentum == 0.1


def test_a_random_network_is_not_silent(original, data):
    logits = training.predict(twins.randomised(original, images(data), "a", 0), images(data))
    assert logits.isfinite().all()
    assert logits.std(0).min() > 1e-3, "its answers depend on the image"


def test_draws_differ_and_repeat_themselves(original, data):
    a, again, b = (twins.randomised(original, images(data), "a", draw) for draw in (0, 0, 1))
    assert small_data.same_weights(a, again)
    assert not small_data.same_weights(a, b)
    state = torch.get_rng_state()
    twins.randomised(original, images(data), "a", 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_top_alone_is_drawn_again(original, data):
    with sentinel.untouched(original):
        twin = twins.randomised_top(original, images(data), "top")
    target = models.target_layer(original)
    order = [name for name, _ in original.named_modules()]
    start = order.index(target)
    owner = {f"{n}.{p}": n for n, m in original.named_modules() for p, _ in m.named_parameters(recurse=False)}
    before = dict(original.named_parameters())
    changed = {name for name, w in twin.named_parameters() if not torch.equal(w, before[name])}
    top = {name for name in before if order.index(owner[name]) >= start}
    assert changed
    assert changed <= top
    norms = {n for n, m in original.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert top - changed <= {n for n in top if owner[n] in norms}, "a norm's first values may be its last"
    kept = [(n, m) for n, m in twin.named_modules() if n in norms and order.index(n) < start]
    assert all(torch.equal(m.running_mean, original.get_submodule(n).running_mean) for n, m in kept)


def test_what_reaches_the_top_is_as_it_was(original, data):
    """T itself, the input of the last block, is the original's: only what is made of it differs."""
    twin = twins.randomised_top(original, images(data), "top")
    seen = []
    for model in (original, twin):
        handle = models.target_module(model).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
        out = training.predict(model, images(data))
        handle.remove()
        seen.append(out)
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[1], seen[3])
