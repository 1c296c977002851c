"""Layer-wise relevance propagation through any network of standard operations: which rule an operation gets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unfooled.baselines.derivatives import MaxPool, layout
from unfooled.baselines.hooks import activation_at_target, leaf, target_logits
from unfooled.baselines.redirect import ACTIVATIONS, Redirecting, Rule, names, out_of_place
from unfooled.baselines.rules import Affine, AffineRule, Conv, Dense, Pair, Proportional
from unfooled.types import UnfooledError

UNRULED = (
    *("matmul", "__matmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention", "softmax"),
    *("multi_head_attention_forward", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "bilinear"),
    *("conv1d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
"""Operations that relevance cannot simply follow the gradient through, and that have no rule here."""


@dataclass(frozen=True)
class Composite:
    """One rule for each kind of operation.

    Activations, dropout and BatchNorm pass relevance on unchanged, as does arithmetic with constants (an input's
    normalisation); max-pooling gives all to the winner; concatenation and reshaping give each its own.
    """

    conv: AffineRule
    dense: AffineRule
    proportional: Proportional
    """for sums of two activations, and for averages"""
    first: AffineRule | None = None
    """for the first convolution or dense layer; None: as the others"""
    fold: bool = True
    """treat a BatchNorm that directly follows a convolution as a part of it"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A convolution that has just run."""

    layer: Conv
    rule: AffineRule
    input: Tensor
    a: Tensor
    """the input, or its values alone"""
    w: Tensor
    b: Tensor | None
    z: Tensor
    """its output: held, so that its id stays its own"""


class Propagating(Redirecting):
    """Hangs relevance beside the gradient within its block."""

    def __init__(self, composite: Composite, source: Tensor | None = None):
        super().__init__(source)
        self.composite = composite
        self._convolutions: dict[int, _Seen] = {}
        self._any_affine = False

    def __exit__(self, *error: object) -> None:
        self._convolutions.clear()
        super().__exit__(*error)

    def redirect(self, rule: Rule, output: Tensor, *tensors: Tensor | None) -> Tensor:
        return super().redirect(functools.partial(_laid_out, rule), output, *tensors)

    def handlers(self) -> Mapping[str, Callable]:
        return {
            **dict.fromkeys(names("add"), self._add),
            **dict.fromkeys((*names("sub", "mul", "div", "truediv"), "rsub", "true_divide"), self._with_constant),
            **dict.fromkeys(ACTIVATIONS, self._activation),
            **dict.fromkeys(("sum", "mean", "avg_pool2d", "adaptive_avg_pool2d"), self._average),
            "max_pool2d": self._max_pool,
            **dict.fromkeys(UNRULED, _refuse),
            "conv2d": self._conv2d,
            "linear": self._linear,
            "batch_norm": self._batch_norm,
        }

    def _linear(self, _: Callable, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        layer, rule = Dense(), self._affine_rule(self.composite.dense)
        a = self.without_source(input, weight)
        return self._affine(layer, rule, layer(a, weight, bias), input, a, weight, bias)

    def _conv2d(
        self, _: Callable, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1,
        padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
        layer = Conv.of(weight, stride, padding, dilation, groups)
        rule = self._affine_rule(self.composite.conv)
        a = self.without_source(input, weight)
        z = self._affine(layer, rule, layer(a, weight, bias), input, a, weight, bias)
        if self.composite.fold and input.requires_grad:
            self._convolutions[id(z)] = _Seen(layer, rule, input, a, weight, bias, z)
        return z

    def _affine_rule(self, usual: AffineRule) -> AffineRule:
        first, self._any_affine = not self._any_affine, True
        return self.composite.first if first and self.composite.first else usual

    def _affine(
        self, layer: Affine, rule: AffineRule, z: Tensor, to: Tensor, a: Tensor, w: Tensor, b: Tensor | None
    ) -> Tensor:
        def share(r: Tensor, z: Tensor, to: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> tuple:
            return rule(layer, r, z, a, w, b), None, None, None

        return self.redirect(share, z, to, a, w, b)

    def _batch_norm(
        self, operation: Callable, input: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        z = operation(input, mean, var, weight, bias, training, momentum, eps)
        seen = None if training else self._convolutions.get(id(input))
        if seen is None:
            return self.redirect(_pass_on, z, input)
        scale = (var + eps).rsqrt() * (1 if weight is None else weight)
        shift = -mean * scale + (0 if bias is None else bias)
        folded = seen.w * scale[:, None, None, None], shift if seen.b is None else shift + seen.b * scale
        return self._affine(seen.layer, seen.rule, z, seen.input, seen.a, *folded)

    def _activation(self, operation: Callable, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.redirect(_pass_on, out_of_place(operation, input, *args, **kwargs), input)

    def _max_pool(
        self, _: Callable, input: Tensor, *args: object, return_indices: bool = False, **kwargs: object
    ) -> Tensor | tuple[Tensor, Tensor]:
        pool = MaxPool(*args, **kwargs)
        largest, winners = pool(input)
        z = self.redirect(functools.partial(_to_winners, pool), largest, input, winners)
        return (z, winners) if return_indices else z

    def _average(self, operation: Callable, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        average = functools.partial(_applied, operation, args, kwargs)
        return self.redirect(functools.partial(self._share_average, average), average(input), input)

    def _share_average(self, average: Callable, r: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor]:
        return (self.composite.proportional.of_average(average, r, a),)

    def _add(self, _: Callable, a: Tensor, b: Tensor, *, alpha: float = 1) -> Tensor:
        if not (_is_activation(a) and _is_activation(b)):
            return self._with_constant(torch.add, a, b, alpha=alpha)
        if alpha != 1 or a.shape != b.shape:
            _refuse(torch.add)
        return self.redirect(self.composite.proportional.of_sum, torch.add(a, b), a, b)

    def _with_constant(self, operation: Callable, a: Tensor, b: object, *args: object, **kwargs: object) -> Tensor:
        if _is_activation(a) and _is_activation(b):
            _refuse(operation)
        operation = _NOT_IN_PLACE.get(getattr(operation, "__name__", ""), operation)
        z = operation(a, b, *args, **kwargs)
        return self.redirect(_pass_on, z, a if _is_activation(a) else b) if z.requires_grad else z


_NOT_IN_PLACE = {
    f"{before}{name}{after}": function
    for name, function in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}.items()
    for before, after in (("", "_"), ("__i", "__"))
} | {"__itruediv__": torch.div}


def _is_activation(x: object) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and not isinstance(x, nn.Parameter)


def _laid_out(rule: Rule, *given: Tensor) -> tuple[Tensor | None, ...]:
    """The rule's answers, each of whose derivative will lie in memory as it does itself.

    A derivative that comes back in another order than the activations it meets costs each product several times over.
    """
    answers = rule(*given)
    for answer in answers:
        if answer is not None and answer.requires_grad:
            answer.register_hook(functools.partial(torch.Tensor.contiguous, memory_format=layout(answer)))
    return answers


def _to_winners(pool: MaxPool, r: Tensor, z: Tensor, a: Tensor, winners: Tensor) -> tuple[Tensor, None]:
    return pool.transpose(r, a, winners), None


def _pass_on(r: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor]:
    return (r.sum_to_size(a.shape),)


def _applied(operation: Callable, args: tuple, kwargs: dict, a: Tensor) -> Tensor:
    return operation(a, *args, **kwargs)


def _refuse(operation: Callable, *_: object, **__: object) -> None:
    name = getattr(operation, "__name__", str(operation))
    raise UnfooledError(f"relevance: no rule for {name!r} of activations; use networks of convolutions, dense layers, "
                        "BatchNorm, elementwise activations, pooling, sums and concatenations")  # fmt: skip


def propagate(
    composite: Composite, model: nn.Module, inputs: Tensor, targets: Tensor, at_target: bool, create_graph: bool
) -> Tensor:
    """The relevance of the input, or of the activation at T: the target's logit, sent back by the composite's rules."""
    if at_target:
        with activation_at_target(model, create_graph) as captured, Propagating(composite) as rules:
            logits = target_logits(model, inputs, targets)
        return rules.pull(logits, logits, captured.activation, create_graph)
    x, source = leaf(inputs, create_graph)
    with Propagating(composite, source) as rules:
        logits = target_logits(model, x, targets)
    return rules.pull(logits, logits, x, create_graph)
