"""Deletion curves, against the protocol written again image by image and pixel by pixel."""

import numpy as np
import pytest
import torch
from torch import nn

from unfooled import aopc, models, seeding
from unfooled.blocks import Normalise


class Weighing(nn.Module):
    """Two logits: ± a weighted sum of the normalised pixels. So every fall is known."""

    def __init__(self, weight, mean=(0.25, 0.5, 0.75), std=(0.5, 0.25, 0.125)):
        super().__init__()
        self.normalise, self.weight = Normalise(mean, std), weight

    def forward(self, x):
        score = (self.normalise(x) * self.weight).sum((1, 2, 3))
        return torch.stack([score, -score], 1)


@pytest.fixture
def asked():
    stream = torch.Generator().manual_seed(0)
    images, maps = torch.rand(3, 3, 8, 8, generator=stream), torch.rand(3, 4, 4, generator=stream)
    return Weighing(torch.randn(3, 8, 8, generator=stream)), images, torch.tensor([0, 1, 0]), maps


def stream():
    return seeding.generator("tests", "aopc")


def by_hand(network, images, targets, maps, filling, steps):
    """AOPC_1..AOPC_steps: cells of 2 × 2 pixels, one after the other."""
    falls = np.zeros((len(images), steps + 1))
    for i, target in enumerate(targets):
        x = images[i].clone()
        start = network(x[None])[0, target].item()
        for k, cell in enumerate(np.argsort(-maps[i].numpy().ravel())[:steps], 1):
            row, column = divmod(int(cell), 4)
            window = (slice(None), slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
            x[window] = filling[i][window]
            falls[i, k] = start - network(x[None])[0, target].item()
    mean = falls.mean(0)
    return [mean[: k + 1].sum() / (k + 1) for k in range(1, steps + 1)]


def test_curves_are_the_protocol_written_again(asked):
    network, images, targets, maps = asked
    filling = aopc._filling(network, images, _after_order(3, 16))
    found = aopc.curves({"net": network}, images, targets, {"map": maps}, 4, 9, stream())
    wanted = by_hand(network, images, targets, maps, filling, 9)
    # float32 sums of 192 products of size 1 to 8: 200 · 6e-8 · 8
    np.testing.assert_allclose(found["net/map"], wanted, atol=1e-4)


def _after_order(count, cells):
    """The stream as it stands once the random order was drawn."""
    later = stream()
    torch.rand(count, cells, generator=later)
    return later


def test_all_orders_end_alike_where_nothing_is_left(asked):
    """With every cell gone the last fall is the same; it is (K + 1) AOPC_K − K AOPC_{K−1}."""
    network, images, targets, maps = asked
    found = aopc.curves({"a": network}, images, targets, {"m": maps, "n": -maps}, 4, 16, stream())
    last = [17 * c[15] - 16 * c[14] for c in found.values()]
    assert len(last) == 3
    np.testing.assert_allclose(last, last[0], atol=2e-3)  # rounding of float32, times 17


def test_a_map_of_the_logit_itself_makes_it_fall_fastest(asked):
    """For a linear network the best first cell is the one with the largest loss, exactly."""
    network, images, _, _ = asked
    filling = aopc._filling(network, images, _after_order(3, 16))
    lost = ((images - filling) / network.normalise.std * network.weight).sum(1)
    found = aopc.curves({"a": network}, images, torch.zeros(3, dtype=torch.long), {"best": lost}, 4, 8, stream())
    assert all(b > r for b, r in zip(found["a/best"], found["a/random"], strict=True))


def test_what_fills_a_cell_has_the_spread_of_the_paper_in_normalised_space(asked):
    network, *_ = asked
    seen = network.normalise(aopc._filling(network, torch.rand(40, 3, 32, 32), stream()))
    # 40 · 1024 draws a channel: standard errors 0.3 / √40960 = 0.0015, and that over √2; four of each
    assert seen.mean((0, 2, 3)).abs().max() < 0.006
    assert (seen.std((0, 2, 3)) - 0.3).abs().max() < 0.0042


def test_a_network_without_normalisation_is_filled_by_the_images_own_colours():
    images = torch.rand(64, 3, 16, 16, generator=stream()) * torch.tensor([1.0, 0.5, 0.1])[:, None, None]
    filling = aopc._filling(nn.Identity(), images, stream())
    for channel in range(3):
        spread = images[:, channel].std().item()
        assert filling[:, channel].mean().item() == pytest.approx(images[:, channel].mean().item(), abs=0.02 * spread)
        assert filling[:, channel].std().item() == pytest.approx(0.3 * spread, rel=0.05)


def test_a_silent_map_orders_at_random(asked):
    network, images, targets, _ = asked
    found = aopc.curves({"a": network}, images, targets, {"silent": torch.zeros(3, 4, 4)}, 4, 6, stream())
    assert found["a/silent"] == found["a/random"]


def test_larger_maps_are_averaged_over_cells_and_grids_need_not_divide(asked):
    network, images, targets, maps = asked
    fine = maps.repeat_interleave(2, 1).repeat_interleave(2, 2)
    coarse, large = (
        aopc.curves({"a": network}, images, targets, {"m": m}, 4, 6, stream())["a/m"] for m in (maps, fine)
    )
    assert coarse == large
    turn = aopc._per_pixel(torch.arange(9).view(1, 3, 3), (8, 8))
    assert turn.shape == (1, 1, 8, 8)
    assert sorted(turn.unique().tolist()) == list(range(9))
    assert torch.bincount(turn.ravel()).tolist() == [a * b for a in (3, 3, 2) for b in (3, 3, 2)]


@pytest.mark.parametrize(("architecture", "side"), [("vgg", 8), ("resnet", 8), ("densenet", 8)])
def test_the_grid_is_that_of_t(architecture, side):
    model = getattr(models, architecture)(4).eval()
    assert aopc.target_side(model, torch.rand(2, 3, 32, 32)) == side
