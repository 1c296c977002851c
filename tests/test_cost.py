"""Cost is counted: against what each method's definition says it does, and against storage sizes added up by hand."""

import pytest
import torch
from torch import nn

from unfooled import cost, models
from unfooled.types import Part

IMAGES, TARGETS = torch.rand(4, 3, 32, 32), torch.arange(4)


@pytest.fixture(scope="module")
def net():
    made = models.vgg().eval()
    return made.requires_grad_(False)


@pytest.mark.parametrize(
    ("named", "forward", "backward"),
    [
        (Part("simple_grad"), 1, 1),
        (Part("integrated_gradients", {"steps": 32}), 32, 32),
        (Part("integrated_gradients", {"steps": 32, "chunk": 3}), 32, 32),
        (Part("smoothgrad", {"samples": 5}), 5, 5),
        (Part("grad_cam"), 1, 1),  # stops at T, and counts as a whole pass
        (Part("lrp"), 1, 1),  # relevance starts at the logits and goes back beside the gradient
        (Part("occlusion"), 7 * 7 + 1, 0),  # patches of 8 every 4 pixels of 32, and the image itself
        (Part("occlusion", {"patch": 16, "stride": 16}), 2 * 2 + 1, 0),
        (Part("rise", {"masks": 9}), 9, 0),
        (Part("score_cam"), 64 + 1, 0),  # a pass for each of T's channels
        (Part("brightness"), 0, 0),
    ],
    ids=lambda value: value.label if isinstance(value, Part) else str(value),
)
def test_passes_are_those_of_the_method(net, named, forward, backward):
    counted = cost.measure(named, net, IMAGES, TARGETS)
    assert (counted["forward"], counted["backward"]) == (forward, backward)


def test_memory_is_what_the_way_back_needs_added_up_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 30 * 30, 10))
    counted = cost.measure(Part("simple_grad"), model.requires_grad_(False), IMAGES, TARGETS)
    # The convolution keeps its input, ReLU its output, the choice of a logit the logits and an index.
    by_hand = 4 * (3 * 32 * 32) + 4 * (5 * 30 * 30) + 4 * 10 + 8
    assert counted["memory"] * cost.MIB == pytest.approx(by_hand)


def test_weights_and_no_way_back_cost_no_memory(net):
    assert cost.measure(Part("occlusion"), net, IMAGES, TARGETS)["memory"] == 0
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).requires_grad_(False)
    counted = cost.measure(Part("simple_grad"), plain, IMAGES, TARGETS)
    assert counted["memory"] * cost.MIB == pytest.approx(4 * 10 + 8)  # logits and index; not 122,880 bytes of weights


def test_memory_does_not_depend_on_batch_or_chunk(net):
    gradient = cost.measure(Part("simple_grad"), net, IMAGES, TARGETS)["memory"]
    path = {c: cost.measure(Part("integrated_gradients", {"chunk": c}), net, IMAGES, TARGETS) for c in (8, 64)}
    alone = cost.measure(Part("simple_grad"), net, IMAGES[:1].clone(), TARGETS[:1].clone())["memory"]
    assert gradient == pytest.approx(alone)
    # A path of 32 points saves what one gradient does, and beside it a few numbers for the choice of points.
    assert [p["memory"] for p in path.values()] == pytest.approx([gradient, gradient], rel=1e-3)


def test_graphs_that_live_side_by_side_add_up(net):
    def held() -> float:
        with cost.counting(net) as count:
            outputs = [net(IMAGES.clone().requires_grad_()) for _ in range(3)]
            peak = count.saved.peak
            outputs.clear()
            assert count.saved.held == 0
            one = net(IMAGES.clone().requires_grad_())
            assert count.saved.held == pytest.approx(peak / 3)
            del one
        return peak

    assert held() > 0


def test_nothing_stays_on_the_model_even_after_a_failure(net):
    with pytest.raises(RuntimeError), cost.counting(net):
        net(torch.rand(1, 5, 2, 2))
    assert not net._forward_hooks
