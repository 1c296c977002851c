"""A second backward pass beside the gradient's, over the same forward pass.

Propagation methods are backward passes with other local rules. A ``Redirecting`` block watches the operations of one
ordinary call of the model, whatever modules or functions they come from, and hangs a second way back beside each one
that has a rule. While the explanation is drawn, that way is open and the gradient's is shut; ever after it is the other
way round. So a map drawn with ``create_graph`` depends on the weights through the network's true derivative,
cross-entropy can share the very same forward pass, and nothing is hung on the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Rule = Callable[..., tuple[Tensor | None, ...]]
"""(relevance of the output, output, *tensors) → what each of the tensors receives. Differentiable operations only."""


@dataclass(slots=True)
class Way:
    """Which way back is open."""

    explaining: bool = False


class _Redirect(torch.autograd.Function):
    @staticmethod
    def forward(ctx, way: Way, rule: Rule, output: Tensor, *tensors: Tensor | None) -> Tensor:
        ctx.way, ctx.rule = way, rule
        ctx.save_for_backward(output, *tensors)
        ctx.set_materialize_grads(False)
        return output.view_as(output)

    @staticmethod
    def backward(ctx, incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        output, *tensors = ctx.saved_tensors
        if incoming is None:
            return (None,) * (3 + len(tensors))
        if not ctx.way.explaining:
            return None, None, incoming, *(None for _ in tensors)
        return None, None, None, *ctx.rule(incoming, output, *tensors)


class Redirecting(TorchFunctionMode):
    """Within the block, operations named in ``handlers`` are run by their handler, given operation and arguments.

    Operations are known by name (``conv2d``, ``relu``, ``add_``), so modules, functions and operators are all seen.
    """

    def __init__(self, source: Tensor | None = None):
        """``source``: the explained input, where no derivative but the explanation itself shall reach it."""
        super().__init__()
        self.way = Way()
        self.source = source
        self._any_weights = False

    def handlers(self) -> Mapping[str, Callable]:
        """Operation name → what runs instead of it."""
        raise NotImplementedError

    def __enter__(self):
        self._by_name = self.handlers()
        return super().__enter__()

    def __torch_function__(
        self, operation: Callable, types: object, args: tuple = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        name = getattr(operation, "__name__", "")
        handler = self._by_name.get(name)
        if handler is None:
            return operation(*args, **(kwargs or {}))
        return handler(operation, *args, **(kwargs or {}))

    def redirect(self, rule: Rule, output: Tensor, *tensors: Tensor | None) -> Tensor:
        """The output, with a second way back: the rule's answers go to the tensors, the first of which is explained."""
        if not (output.requires_grad and tensors[0].requires_grad):
            return output
        return _Redirect.apply(self.way, rule, output, *tensors)

    def without_source(self, a: Tensor, weight: Tensor) -> Tensor:
        """The input of a layer; cut from the graph if it is the first layer's and made of the source alone.

        The weights' derivative then spares the first layer the way back to the pixels, as in ordinary training.
        """
        first, self._any_weights = not self._any_weights, True
        return a.detach() if first and weight.requires_grad and _made_of(a, self.source) else a

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Within the block, backward passes take the second way."""
        self.way.explaining = True
        try:
            yield
        finally:
            self.way.explaining = False

    def pull(
        self, outputs: Tensor, start: Tensor, wrt: Tensor, create_graph: bool, retain_graph: bool = False
    ) -> Tensor:
        """What arrives at ``wrt`` when ``start`` is sent back from ``outputs`` along the second way."""
        start, retain = (start if create_graph else start.detach()), retain_graph or create_graph
        with self.explaining():
            (answer,) = torch.autograd.grad(outputs, wrt, start, retain_graph=retain, create_graph=create_graph)
        return answer if create_graph else answer.detach()


def _made_of(a: Tensor, source: Tensor | None) -> bool:
    if a is source or source is None:
        return source is not None
    nodes = [a.grad_fn]
    while nodes:
        for node, _ in nodes.pop().next_functions:
            if getattr(node, "variable", source) is not source:
                return False
            if node is not None:
                nodes.append(node)
    return True


def names(*words: str) -> tuple[str, ...]:
    """An operator's names in torch: ``add`` → add, add_, __add__, __iadd__, __radd__."""
    return tuple(n for w in words for n in (w, f"{w}_", f"__{w}__", f"__i{w}__", f"__r{w}__"))


ACTIVATIONS = (
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "hardtanh"),
    *("hardswish", "hardsigmoid", "sigmoid", "tanh", "softsign", "prelu", "rrelu", "threshold"),
)
"""Names of the elementwise non-linearities."""


def out_of_place(operation: Callable, *args, inplace: bool = False, **kwargs) -> Tensor:
    """The operation, run so that its input keeps its values."""
    if getattr(operation, "__name__", "") == "relu_":
        return torch.relu(*args)
    return operation(*args, **kwargs)
