"""What a map costs, counted and not timed: passes through the network and memory held for the way back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unfooled import plugins, seeding
from unfooled.types import Part


def measure(part: Part, model: nn.Module, images: Tensor, targets: Tensor, device: str = "cpu") -> dict[str, float]:
    """Passes and memory of one map of an interpreter.

    ``forward``: images sent through the network per map. ``backward``: images whose logits got a gradient, per map.
    ``memory``: largest sum of tensors saved for a backward pass, in bytes per image of the batch that was asked for.
    """
    interpreter = plugins.build("interpreters", part)
    images, targets = images.to(device), targets.to(device)
    counts = {"forward": 0, "backward": 0}
    held, peak = [0], [0]

    def returned(gradient: Tensor) -> None:
        counts["backward"] += len(gradient)

    def passed(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        counts["forward"] += len(output)
        held[0] = 0
        if output.requires_grad:
            output.register_hook(returned)

    def pack(tensor: Tensor) -> Tensor:
        held[0] += tensor.numel() * tensor.element_size()
        peak[0] = max(peak[0], held[0])
        return tensor

    handle = model.register_forward_pre_hook(lambda _m, _i: held.__setitem__(0, 0))
    after = model.register_forward_hook(passed)
    try:
        saved = torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)
        with seeding.forked("cost"), saved:
            interpreter(model, images, targets)
    finally:
        handle.remove()
        after.remove()
    n = len(images)
    return {"forward": counts["forward"] / n, "backward": counts["backward"] / n, "memory": peak[0] / n}
