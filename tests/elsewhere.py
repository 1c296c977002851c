"""A device that is not there, to find on any machine what would fail on a GPU.

Inside ``present()`` tensors can be made on, and moved to, ``DEVICE``. They say that they lie there, hold their numbers
in this machine's memory all the same, and are computed with by the very kernels of the CPU: a result that differs by a
bit was computed from something else. What CUDA refuses is refused: an operation that meets tensors of both sides, a
random stream of the other side, numpy on a tensor that was not brought home.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy")
"""The one type that is no CPU, needs no driver in backward passes, and is not taken for something else by torch."""

BOTH_SIDES = {"copy_", "index", "index_put", "index_put_", "_index_put_impl_"}
"""What CUDA, too, gives tensors of both sides: copies, and indices that lie on the CPU. The first decides the side."""

MAKERS = (torch.tensor, torch.as_tensor, torch.asarray)


class Mixed(RuntimeError):
    """What CUDA would refuse."""


class There(Tensor):
    """A tensor that says it lies on ``DEVICE``; ``inner`` holds its numbers."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "layout": inner.layout}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=DEVICE, **layout)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def tolist(self) -> list:
        return self.detach().inner.tolist()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: "There") -> None:
        """As modules do to their parameters when they change their dtype or the order of their memory."""
        Tensor.data.__set__(self, other)
        self.inner = other.inner

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()


def _is_there(device: object) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _run(operation, args, kwargs):
    """The operation on the numbers, refused where CUDA would refuse it; what comes out lies where CUDA would put it."""
    name = operation._schema.name.split("::")[1]
    given = tree_leaves((args, kwargs))
    there = [t for t in given if isinstance(t, There)]
    here = [t for t in given if isinstance(t, Tensor) and not isinstance(t, There)]
    if there and name not in BOTH_SIDES and any(t.dim() for t in here):
        raise Mixed(f"{name}: tensors on {DEVICE} and on the CPU")
    asked = kwargs.get("device")
    goes_there = _is_there(asked) if asked is not None else bool(there)
    if name in BOTH_SIDES:
        goes_there = isinstance(args[0], There)
    if goes_there and any(isinstance(g, torch.Generator) for g in given):
        raise Mixed(f"{name}: a random stream of the CPU for a tensor on {DEVICE}")
    if _is_there(asked):
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = operation(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    same = {id(t.inner): t for t in there}  # what is changed in place stays the same tensor

    def placed(one):
        if id(one) in same:
            return same[id(one)]
        return There(one) if goes_there and isinstance(one, Tensor) else one

    return tree_map(placed, made)


def _inner(one: object) -> object:
    return one.inner if isinstance(one, There) else one


class _Operations(TorchDispatchMode):
    """Sees to operations that get no tensor, such as ``torch.zeros(3, device=DEVICE)``."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


class _Python(TorchFunctionMode):
    """Python's numbers on their way to the device: torch makes them a tensor where no dispatch mode sees it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in MAKERS and _is_there(kwargs.get("device")):
            return function(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        if function is Tensor.new_tensor and "device" not in kwargs and isinstance(args[0], There):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        if function is Tensor.__getitem__ and isinstance(args[1], list):
            args = args[0], torch.tensor(args[1])
        return function(*args, **kwargs)


@contextmanager
def present() -> Iterator[None]:
    """Within the block the device is there."""
    torch.lazy = torch.cpu  # as torch.cuda is there beside CUDA: checkpointing looks for it
    try:
        with _Operations(), _Python():
            yield
    finally:
        del torch.lazy
