"""What gradient-like interpreters need of a model: target logits and the activation at T. Nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unfooled.models import target_module
from unfooled.types import UnfooledError

Place = Literal["input", "T"]
"""what a map explains: the input, or the activation at T"""


class declared:
    """A trait that follows from an interpreter's fields; on the class itself it is the trait of the defaults."""

    def __init__(self, of: Callable[[object], object]):
        self.of = of

    def __get__(self, instance: object | None, owner: type) -> object:
        return self.of(owner() if instance is None else instance)


def leaf(inputs: Tensor, create_graph: bool) -> tuple[Tensor, Tensor | None]:
    """The inputs as something to differentiate by, and the same again if nothing but the explanation needs that.

    A detached copy that requires grad; inputs that already do are kept as they are under ``create_graph``, so that the
    map's graph reaches them too.
    """
    if create_graph and inputs.requires_grad:
        return inputs, None
    x = inputs.detach().requires_grad_()
    return x, x


def target_logits(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """(n,): the logit of each image's target, from one ordinary call of the model."""
    return model(inputs).gather(1, targets[:, None])[:, 0]


@dataclass(slots=True)
class Captured:
    """The activation at T of the last forward pass."""

    at: Tensor | None = None

    @property
    def activation(self) -> Tensor:
        """(n, k, s, s). Raises UnfooledError where the forward pass never reached T."""
        if self.at is None:
            raise UnfooledError("target layer: the forward pass never called it; name a module that the model uses")
        return self.at


@contextmanager
def activation_at_target(model: nn.Module, keep_graph: bool = False) -> Iterator[Captured]:
    """Within the block every forward pass leaves the activation at T (the input of ``model.target_layer``) behind.

    Without ``keep_graph`` the activation is cut from what lies below it, so that no backward pass goes deeper.
    A list of tensors, as torchvision's dense layers take it, becomes its concatenation. Raises UnfooledError where the
    model has no such layer.
    """
    captured = Captured()

    def capture(module: nn.Module, arguments: tuple) -> tuple:
        (given, *others) = arguments
        whole = torch.cat(given, 1) if isinstance(given, list) else given
        keep = keep_graph and whole.requires_grad
        captured.at = whole if keep else whole.detach().requires_grad_()
        passed_on = captured.at.clone()  # a module that works in place must not write into what was captured
        if isinstance(given, list):
            # The dense block goes on to concatenate this very list: with T in it, the way around the layer leads
            # through T as well.
            given[:] = [passed_on]
            passed_on = given
        return passed_on, *others

    handle = target_module(model).register_forward_pre_hook(capture)
    try:
        yield captured
    finally:
        handle.remove()
