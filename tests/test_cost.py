"""Cost is counted: against what each method's definition says it does, and against storage sizes added up by hand."""

import gc

import pytest
import torch
from torch import nn

from unfooled import cost, models, plugins
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


@pytest.fixture
def two_layers():
    """On images of 32 × 32 its live tensors can be counted by hand."""
    layers = nn.Conv2d(3, 5, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 30 * 30, 10)
    return nn.Sequential(*layers).requires_grad_(False)


IMAGE, HIDDEN, LOGITS = 4 * 3 * 32 * 32, 4 * 5 * 30 * 30, 4 * 10
"""bytes per image"""


def test_a_forward_pass_holds_an_operations_input_and_output_added_up_by_hand(two_layers):
    with cost.living(two_layers) as live:
        two_layers(IMAGES)
    # While ReLU runs, the caller has the images, and the two hidden layers are ReLU's input and output.
    assert live.peak == len(IMAGES) * (IMAGE + 2 * HIDDEN)
    assert live.held == len(IMAGES) * IMAGE, "the images are the caller's; nothing else outlives the pass"


def test_a_graph_holds_what_the_way_back_needs_added_up_by_hand(two_layers):
    with cost.living(two_layers) as live:
        logits = two_layers(IMAGES.clone().requires_grad_())
        # IMAGES themselves and the clone that the convolution keeps, ReLU's output, the logits; no weights.
        assert live.held == len(IMAGES) * (2 * IMAGE + HIDDEN + LOGITS)
        del logits
        assert live.held == len(IMAGES) * IMAGE


@pytest.mark.parametrize(
    "named",
    [Part("occlusion"), Part("rise", {"masks": 9}), Part("lime", {"samples": 9}), Part("score_cam")],
    ids=lambda part: part.use,
)
def test_a_method_without_a_way_back_needs_the_networks_forward_pass(net, named):
    with cost.living(net) as live:
        net(IMAGES)
    one = live.peak / len(IMAGES) / cost.MIB
    measured = cost.measure(named, net, IMAGES, TARGETS)["memory"]
    assert one < measured < 1.5 * one


@pytest.mark.parametrize("use", ["simple_grad", "grad_cam", "guided_backprop", "lrp"])
def test_a_method_with_a_way_back_needs_no_less_than_what_autograd_saves(net, use):
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        plugins.build("interpreters", Part(use))(net, IMAGES, TARGETS)
    weights = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
    held = sum(t.untyped_storage().nbytes() for at, t in saved.items() if at not in weights)
    assert cost.measure(Part(use), net, IMAGES, TARGETS)["memory"] >= held / len(IMAGES) / cost.MIB > 0


def test_weights_and_buffers_cost_no_memory():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).requires_grad_(False)
    with cost.living(plain) as live:
        plain(IMAGES)
    assert live.peak == len(IMAGES) * (IMAGE + LOGITS)  # not 122,880 bytes of weights


def test_memory_is_the_same_again_and_for_any_batch_or_chunk(net):
    def memory(n: int, use: str, **arguments: int) -> float:
        return cost.measure(Part(use, arguments), net, IMAGES[:n].clone(), TARGETS[:n].clone())["memory"]

    gradient = memory(4, "simple_grad")
    assert memory(4, "simple_grad") == gradient
    assert memory(1, "simple_grad") == pytest.approx(gradient, rel=1e-3)
    # A path of 32 points holds what one gradient does, and beside it the images, their sums and the choice of points.
    assert memory(4, "integrated_gradients", chunk=64) == pytest.approx(gradient, rel=0.05)
    assert memory(4, "integrated_gradients", chunk=8) == pytest.approx(gradient, rel=0.1)
    assert memory(4, "occlusion", chunk=16) == pytest.approx(memory(4, "occlusion", chunk=64), rel=0.2)


def test_graphs_that_live_side_by_side_add_up(net):
    with cost.living(net) as live:
        net(IMAGES.clone().requires_grad_())
        own = live.held  # the images
        outputs = [net(IMAGES.clone().requires_grad_()) for _ in range(3)]
        three = live.held - own
        outputs.clear()
        assert live.held == own
        one = net(IMAGES.clone().requires_grad_())
        assert live.held - own == three / 3 > 0
        del one


def test_views_count_once_and_growth_counts():
    with cost.living(nn.Identity()) as live:
        x = torch.zeros(1000)
        views = [x[1:], x.view(10, 100), x.detach()]
        assert live.held == 4000
        x.resize_(2000)
        assert live.held == 8000
        del x, views
    assert (live.held, live.peak) == (0, 8000)


def test_a_tensor_in_a_cycle_counts_to_the_end_and_the_collector_goes_on_afterwards():
    with cost.living(nn.Identity()) as live:
        cycle = [torch.zeros(1000)]
        cycle.append(cycle)
        del cycle
        many = [[] for _ in range(5000)]  # would wake the collector
        assert live.held == 4000
        assert not gc.isenabled()
        del many
    assert gc.isenabled()


def test_nothing_stays_on_the_model_even_after_a_failure(net):
    with pytest.raises(RuntimeError), cost.counting(net), cost.living(net):
        net(torch.rand(1, 5, 2, 2))
    assert not net._forward_hooks
    assert gc.isenabled()
