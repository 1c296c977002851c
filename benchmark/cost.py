"""What a map costs, counted and not timed: passes through the network and memory of what is alive meanwhile."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from unfooled import plugins, seeding
from unfooled.types import Part

MIB = 2**20


def measure(part: Part, model: nn.Module, images: Tensor, targets: Tensor, device: str = "cpu") -> dict[str, float]:
    """Passes and memory of one map of an interpreter.

    ``forward``: images sent through the network per map. ``backward``: images whose logits got a gradient, per map; the
    pass counts as a whole one wherever it ends, so Grad-CAM, which stops at T, has 1 as the gradient of the input has.
    ``memory``: MiB per image that was in the network at once (a batch, a ``chunk``: the caller's choice), at the peak,
    of all tensors alive: activations, what a backward pass waits for, the images and the interpreter's own tensors, but
    not the model's weights and buffers. See ``Live`` for what is counted. Where the model itself is never called, it is
    per image explained. Calls of the model's parts, past the model itself, are not seen as passes.
    """
    interpreter = plugins.build("interpreters", part)
    images, targets = images.to(device), targets.to(device)
    with counting(model) as count, living(model) as live, seeding.forked("cost"):
        interpreter(model, images, targets)
    n = len(images)
    memory = live.peak / (count.at_once or n) / MIB
    return {"forward": count.forward / n, "backward": count.backward / n, "memory": memory}


@dataclass
class Count:
    """What went through the network within a ``counting`` block, in images."""

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
    count = Count()
    handle = model.register_forward_hook(count.passed)
    try:
        yield count
    finally:
        handle.remove()


class Live(TorchDispatchMode):
    """Bytes of the tensors that torch's operations read and write, forward and backward.

    Each storage counts once and whole, however many tensors look into it, from the first operation that meets it until
    it is freed; autograd's hold on it counts like any other. An operation meets its inputs and its outputs together.
    What a kernel takes and frees within one operation is the machine's and is not seen, nor are numpy's arrays.
    """

    def __init__(self, ignored: frozenset[int]):
        """``ignored``: the addresses of storages that are there anyway."""
        super().__init__()
        self.held = 0
        self.peak = 0
        self._ignored = ignored
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, operation: Callable, types: tuple, args: tuple = (), kwargs: Mapping | None = None):
        answer = operation(*args, **(kwargs or {}))
        for tensor in _tensors((args, kwargs, answer)):
            self._meet(tensor)
        self.peak = max(self.peak, self.held)
        return answer

    def _meet(self, tensor: Tensor) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse and opaque tensors have none
            return
        place, size = storage._cdata, storage.nbytes()
        if place in self._ignored:
            return
        if place not in self._sizes:
            weakref.finalize(storage, self._free, place).atexit = False
        self.held += size - self._sizes.get(place, 0)  # an operation may have made it larger
        self._sizes[place] = size

    def _free(self, place: int) -> None:
        self.held -= self._sizes.pop(place)


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in an operation's arguments or answer."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@contextmanager
def living(model: nn.Module) -> Iterator[Live]:
    """Within the block live tensors are counted, all but the model's weights and buffers.

    Python's collector of cycles rests meanwhile: a tensor in a cycle counts until the end, instead of until whenever
    the collector would have come by.
    """
    own = frozenset(t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers()))
    was_on = gc.isenabled()
    gc.disable()
    try:
        with Live(own) as live:
            yield live
    finally:
        if was_on:
            gc.enable()
