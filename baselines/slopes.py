"""Gradients that can be differentiated again cheaply, and backward passes that differ from the gradient at ReLUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from unfooled.baselines.redirect import Redirecting, out_of_place
from unfooled.baselines.rules import Conv, Pair


class Slopes(Redirecting):
    """Within its block, a model's gradient may be drawn with ``create_graph`` at two thirds of the usual cost.

    The same numbers as autograd's: convolutions, BatchNorm in eval mode and ReLU get a way back whose own derivative is
    an ordinary convolution or product, where autograd's double backward takes slower paths. Without ``create_graph``
    it is autograd itself.
    """

    def __init__(self, create_graph: bool, source: Tensor | None = None):
        super().__init__(source)
        self.create_graph = create_graph

    def handlers(self) -> Mapping[str, Callable]:
        if not self.create_graph:
            return {}
        return {"conv2d": self._conv2d, "batch_norm": self._batch_norm, "relu": self._relu, "relu_": self._relu}

    def gradient(self, outputs: Tensor, wrt: Tensor, retain_graph: bool = False) -> Tensor:
        """∂ Σ outputs / ∂ wrt; without ``create_graph`` it carries no graph."""
        return self.pull(outputs, torch.ones_like(outputs), wrt, self.create_graph, retain_graph)

    def _conv2d(
        self, operation: Callable, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1,
        padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
        if isinstance(padding, str):
            return operation(input, weight, bias, stride, padding, dilation, groups)
        z = operation(self.without_source(input, weight), weight, bias, stride, padding, dilation, groups)
        layer = Conv.of(weight, stride, padding, dilation, groups)

        def back(r: Tensor, z: Tensor, a: Tensor, w: Tensor) -> tuple[Tensor, None]:
            return layer.transpose(r, w, a), None

        return self.redirect(back, z, input, weight)

    def _batch_norm(
        self, operation: Callable, input: Tensor, mean: Tensor | None, var: Tensor | None,
        weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        z = operation(input, mean, var, weight, bias, training, momentum, eps)
        if training or var is None:
            return z
        scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
        return self.redirect(_times_scale, z, input, scale.view(-1, *(1,) * (input.dim() - 2)))

    def _relu(self, _: Callable, input: Tensor, inplace: bool = False) -> Tensor:
        return self.redirect(_where_open, torch.relu(input), input)


def _times_scale(r: Tensor, z: Tensor, a: Tensor, scale: Tensor) -> tuple[Tensor, None]:
    return r * scale, None


def _where_open(r: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor]:
    return (r * (z > 0),)


class Guided(Slopes):
    """At ReLU only what is positive passes back, and only where the unit was on."""

    def handlers(self) -> Mapping[str, Callable]:
        at_relu = {"relu": self._relu, "relu_": self._relu, "softplus": self._softplus}
        return {**super().handlers(), **at_relu}

    def _relu(self, _: Callable, input: Tensor, inplace: bool = False) -> Tensor:
        return self.redirect(_positive_where_open, torch.relu(input), input)

    def _softplus(self, operation: Callable, input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
        def back(r: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor]:
            return (r.clamp(min=0) * torch.sigmoid(beta * a),)

        return self.redirect(back, operation(input, beta, threshold), input)


def _positive_where_open(r: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor]:
    return (torch.ops.aten.threshold_backward(r.clamp(min=0), z, 0),)  # times z > 0, in one pass


class Deconvolving(Slopes):
    """At ReLU only what is positive passes back, whether or not the unit was on."""

    def handlers(self) -> Mapping[str, Callable]:
        at_relu = dict.fromkeys(("relu", "relu_", "softplus"), self._rectifier)
        return {**super().handlers(), **at_relu}

    def _rectifier(self, operation: Callable, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.redirect(_positive, out_of_place(operation, input, *args, **kwargs), input)


def _positive(r: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor]:
    return (r.clamp(min=0),)
