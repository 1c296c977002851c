"""Does a network still use what its original's map showed? Cells of images are deleted in a map's order.

After Heo et al. 2019 (their first released code), AOPC being that of Samek et al. 2016.

Where the order of the original's map makes the fooled network's logit fall as fast as the original's, and faster than
the order of its own map or a random one, the network still looks at the object and only the map lies.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled.models import target_module

NOISE = 0.3
"""standard deviation of what a deleted cell is filled with, in normalised input space (Heo et al. 2019, code)"""


def curves(
    networks: Mapping[str, nn.Module],
    images: Tensor,
    targets: Tensor,
    maps: Mapping[str, Tensor],
    side: int,
    steps: int,
    stream: torch.Generator,
) -> dict[str, list[float]]:
    """``network/order`` → [AOPC_1, …, AOPC_steps], each network under each map's order and under ``random``.

    AOPC_K = Σ_{k ≤ K} ⟨f_y(x) − f_y(x⁽ᵏ⁾)⟩ / (K + 1), in logits, of images (n, c, h, w) and targets (n,). In x⁽ᵏ⁾ those
    k cells of a side × side grid are deleted that rank highest in a map (n, h, w), averaged over cells; equal cells
    go in random order, so that a silent map does no better than chance. A deleted cell is filled with N(0, 0.3²) as the
    network sees it, after its normalisation: in [0, 1] that is the mean colour plus noise of 0.3 times its std (those
    of the first network's ``normalise``, else of the images). Noise and random order are drawn once from the stream,
    which is on the CPU, so all curves delete alike.
    """
    random = torch.rand(len(images), side * side, generator=stream).argsort(1)
    filling = _filling(next(iter(networks.values())), images, stream)
    orders = {name: _order(m, side, random) for name, m in maps.items()} | {"random": random}
    return {
        f"{name}/{order}": _curve(network, images, targets, _ranks(cells), filling, steps)
        for name, network in networks.items()
        for order, cells in orders.items()
    }


def target_side(model: nn.Module, images: Tensor) -> int:
    """How many cells the model's T has along a side."""
    seen = []
    handle = target_module(model).register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        with torch.no_grad():
            model(images[:1])
    finally:
        handle.remove()
    given = seen[0][0] if isinstance(seen[0], list) else seen[0]  # torchvision's dense layers take a list
    return given.shape[-1]


def _filling(network: nn.Module, images: Tensor, stream: torch.Generator) -> Tensor:
    normalise = getattr(network, "normalise", None)
    if hasattr(normalise, "mean") and hasattr(normalise, "std"):
        mean, std = normalise.mean, normalise.std
    else:
        mean, std = images.mean((0, 2, 3))[:, None, None], images.std((0, 2, 3))[:, None, None]
    noise = torch.randn(images.shape, generator=stream).to(images)
    return mean.to(images) + NOISE * std.to(images) * noise


def _order(maps: Tensor, side: int, random: Tensor) -> Tensor:
    """(n, side²): the cells of each map, the largest first."""
    cells = F.adaptive_avg_pool2d(maps[:, None].float(), side).flatten(1).cpu()
    return random.gather(1, cells.gather(1, random).argsort(dim=1, descending=True, stable=True))


def _ranks(order: Tensor) -> Tensor:
    """(n, side, side): when each cell's turn comes, from 0."""
    side = round(order.shape[1] ** 0.5)
    return order.argsort(1).view(-1, side, side)


@torch.no_grad()
def _curve(
    network: nn.Module, images: Tensor, targets: Tensor, ranks: Tensor, filling: Tensor, steps: int
) -> list[float]:
    turn = _per_pixel(ranks, images.shape[2:]).to(images.device)
    falls = [torch.zeros(())]
    intact = _logits(network, images, targets)
    for step in range(1, steps + 1):
        left = torch.where(turn < step, filling, images)
        falls.append((intact - _logits(network, left, targets)).mean().cpu())
    return (torch.stack(falls).cumsum(0) / torch.arange(1, steps + 2))[1:].tolist()


def _per_pixel(ranks: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, 1, h, w): each pixel's turn, which is its cell's; cells differ by a pixel where the grid does not divide."""
    rows, columns = (torch.arange(s) * ranks.shape[1] // s for s in size)
    return ranks[:, rows][:, :, columns][:, None]


def _logits(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return network(images).gather(1, targets[:, None])[:, 0]
