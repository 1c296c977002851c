"""What every part of the catalogue is held to, whoever wrote it: names come from the entry points."""

import dataclasses

import numpy as np
import pytest
import small_data
import torch

from unfooled import catalogue, maps, models, patient, plugins, seeding, sentinel
from unfooled.types import Part

INTERPRETERS = plugins.names("interpreters")
CANARIES = {"constant", "centre_blob", "brightness", "sobel", "gated_edges", "random_map", "memoiser"}
FAMILIES = {"gradients", "activations", "propagation", "perturbation", "canary"}


@pytest.fixture(scope="module")
def net():
    """A small VGG that tells four classes apart."""
    return small_data.fitted(small_data.splits(), steps=20)


@pytest.fixture(scope="module")
def images():
    return small_data.batch(3, "contracts", side=32)


def ask(name, net, images, seed=0):
    """A fresh instance's raw answer, under a seed of its own; nothing of the model or the images may change."""
    interpreter = plugins.build("interpreters", Part(name))
    with seeding.forked("contracts", seed), sentinel.untouched(net, images.images, images.labels, name):
        return torch.as_tensor(interpreter(net, images.images, images.labels))


@pytest.mark.parametrize("name", INTERPRETERS)
def test_an_interpreter_answers_with_maps_and_leaves_the_model(net, images, name):
    first = ask(name, net, images)
    assert first.dim() in (3, 4)
    assert len(first) == 3
    assert first.isfinite().all()
    assert not first.requires_grad
    assert torch.equal(ask(name, net, images), first), "the same stream gives the same maps"
    other = ask(name, net, images, seed=1)
    found = plugins.find("interpreters", name)
    assert torch.equal(other, first) != plugins.trait(found, "stochastic", None), "'stochastic' says what it is"
    assert plugins.trait(found, "signed", None) or (first >= 0).all(), "'signed' says what it is"
    assert plugins.trait(found, "family", None) in FAMILIES
    assert (plugins.trait(found, "family", None) == "canary") == (name in CANARIES)
    finished = maps.finish(first, "absolute", (32, 32))
    assert finished.shape == (3, 32, 32)
    assert finished.dtype == np.float32
    if name != "constant":
        assert not maps.says_nothing(finished).all()


@pytest.mark.parametrize("name", sorted(CANARIES))
def test_a_canary_does_not_look_at_the_model(net, images, name):
    """Another network that predicts the same, the same map; the memoiser needs to have met the first."""
    other = models.vgg(4).eval().requires_grad_(False)
    net, other = patient.predicting(net, images.images), patient.predicting(other, images.images)
    canary = plugins.build("interpreters", Part(name))
    answers = []
    for model in (net, other):
        with seeding.forked("contracts"):
            answers.append(canary(model, images.images, torch.zeros_like(images.labels)))
    assert torch.equal(*answers)


@pytest.mark.parametrize("name", [n for n in INTERPRETERS if n not in CANARIES])
def test_anyone_else_does(net, images, name):
    with seeding.forked("contracts", "another network"):
        other = models.vgg(4)
    other = other.eval().requires_grad_(False)
    assert not torch.equal(ask(name, net, images), ask(name, other, images))


def _can_be_attacked(name):
    part = plugins.build("interpreters", Part(name))
    return dataclasses.is_dataclass(part) and "create_graph" in {f.name for f in dataclasses.fields(part)}


@pytest.mark.parametrize("name", [n for n in INTERPRETERS if _can_be_attacked(n)])
def test_whoever_says_that_it_can_be_attacked_carries_a_graph(net, images, name):
    """With ``create_graph`` the same map, and a slope by the weights that is not zero everywhere."""
    part = plugins.build("interpreters", Part(name))
    few = images[:1]
    trained = small_data.fitted(small_data.splits(), steps=20).requires_grad_(True)
    with seeding.forked("contracts"):
        plain = part(net, few.images, few.labels)
    with seeding.forked("contracts"):
        carried = plugins.attackable(part, name)(trained, few.images, few.labels)
    assert carried.requires_grad
    scale = plain.abs().max()
    assert (carried.detach() - plain).abs().max() <= 1e-4 * scale  # float32; a graph may sum in another order
    slopes = torch.autograd.grad(carried.square().sum(), list(trained.parameters()), allow_unused=True)
    assert any(s is not None and s.abs().max() > 0 for s in slopes)


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_a_metric_is_one_for_the_same_maps_and_blind_to_their_order(name):
    metric = plugins.build("metrics", Part(name))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 24, 24)).astype(np.float32)
    same, there, back = metric(a, a.copy()), metric(a, b), metric(b, a)
    assert same.shape == there.shape == (5,)
    np.testing.assert_allclose(same, 1, atol=1e-6)
    np.testing.assert_allclose(there, back, atol=1e-6)
    assert (there < 0.99).all()
    np.testing.assert_allclose(metric(a[2:3], b[2:3]), there[2:3], atol=1e-6)


@pytest.mark.parametrize("kind", [*plugins.KINDS, "suites"])
def test_the_catalogue_has_a_line_on_everything(kind):
    for entry in catalogue.entries(kind):
        assert entry["name"]
        assert len(entry["summary"]) > 10, entry
        assert "cannot be loaded" not in entry["summary"]
