"""What a map costs, counted and not timed: passes through the network and memory held for the way back."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unfooled import plugins, seeding
from unfooled.types import Part

MIB = 2**20


def measure(part: Part, model: nn.Module, images: Tensor, targets: Tensor, device: str = "cpu") -> dict[str, float]:
    """Passes and memory of one map of an interpreter.

    ``forward``: images sent through the network per map. ``backward``: images whose logits got a gradient, per map; the
    pass counts as a whole one wherever it ends, so Grad-CAM, which stops at T, has 1 as the gradient of the input has.
    ``memory``: MiB per image that was in the network at once, at the peak, of activations saved for a backward pass; 0
    without one. How many images are in the network at once is the caller's choice (a batch, a ``chunk``).
    Calls of the model's parts, past the model itself, are not seen.
    """
    interpreter = plugins.build("interpreters", part)
    images, targets = images.to(device), targets.to(device)
    with counting(model) as count, seeding.forked("cost"):
        interpreter(model, images, targets)
    n = len(images)
    memory = count.saved.peak / max(count.at_once, 1) / MIB
    return {"forward": count.forward / n, "backward": count.backward / n, "memory": memory}


@dataclass
class Saved:
    """Bytes of the tensors that autograd holds on to: each storage once, from its first use to its last."""

    ignored: frozenset[int]
    """storages that are there anyway: weights and buffers"""
    held: int = 0
    peak: int = 0
    uses: dict[int, int] = field(default_factory=dict)

    def pack(self, tensor: Tensor) -> _Held:
        storage = tensor.untyped_storage()
        holder = _Held(tensor.detach())  # with its graph on it, it would keep the graph that keeps it
        if storage.data_ptr() not in self.ignored:
            self._take(storage.data_ptr(), storage.nbytes())
            weakref.finalize(holder, self._release, storage.data_ptr(), storage.nbytes())
        return holder

    def _take(self, storage: int, size: int) -> None:
        self.held += 0 if self.uses.get(storage) else size
        self.uses[storage] = self.uses.get(storage, 0) + 1
        self.peak = max(self.peak, self.held)

    def _release(self, storage: int, size: int) -> None:
        self.uses[storage] -= 1
        self.held -= 0 if self.uses[storage] else size


class _Held:
    """A saved tensor; its end is the end of the graph's hold on it."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


@dataclass
class Count:
    """What went through the network within a ``counting`` block, in images."""

    saved: Saved
    forward: int = 0
    backward: int = 0
    at_once: int = 0
    """most images in one forward pass"""

    def passed(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        self.forward += len(output)
        self.at_once = max(self.at_once, len(output))
        if output.requires_grad:
            output.register_hook(self.returned)

    def returned(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@contextmanager
def counting(model: nn.Module) -> Iterator[Count]:
    """Within the block the passes through the model are counted; nothing stays on it."""
    own = [t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())]
    count = Count(Saved(frozenset(own)))
    handle = model.register_forward_hook(count.passed)
    try:
        with torch.autograd.graph.saved_tensors_hooks(count.saved.pack, lambda held: held.tensor):
            yield count
    finally:
        handle.remove()
