"""What passive and active fooling share: the maps a manipulation sees, how they are scaled, and the fine-tuning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unfooled import plugins
from unfooled.maps import reduce_channels
from unfooled.training import logits_of, tapped
from unfooled.types import Interpreter

SMALL = 1e-8  # Heo et al.'s stabiliser of every normalisation


def min_max(maps: Tensor) -> Tensor:
    """(h − min h) / (max h − min h + 1e-8), a map at a time (Heo et al. 2019, code)."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + SMALL)


def by_max(maps: Tensor) -> Tensor:
    """h / (max h + 1e-8), as Heo et al. scale Grad-CAM."""
    return maps / (maps.amax((1, 2), keepdim=True) + SMALL)


def scaled(interpreter: Interpreter, raw: Tensor) -> Tensor:
    """An interpreter's raw maps as fooling losses take them: one channel, (n, s, s), at most 1.

    Min–max, but divided by the largest value alone where the interpreter declares ``scaling = "max"`` (Grad-CAM).
    """
    maps = reduce_channels(torch.as_tensor(raw), "absolute")
    return by_max(maps) if plugins.trait(interpreter, "scaling", "min_max") == "max" else min_max(maps)


def attacked_maps(
    interpreter: Interpreter, model: nn.Module, images: Tensor, targets: Tensor, chunk: int = 64
) -> Tensor:
    """The scaled maps (n, s, s) of all images, without a graph, a chunk at a time, on the model's device."""
    device = next(model.parameters()).device
    parts = [
        scaled(interpreter, interpreter(model, i.to(device), t.to(device))).detach()
        for i, t in zip(images.split(chunk), targets.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def maps_with_logits(
    interpreter: Interpreter, model: nn.Module, images: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Scaled maps that carry a graph, and the logits of the same forward pass where the interpreter made one.

    Maps made in half precision are scaled in float32, and so is what a loss makes of them.
    """
    with tapped(model) as seen:
        raw = interpreter(model, images, targets)
    return scaled(interpreter, torch.as_tensor(raw).float()), logits_of(seen, images)
