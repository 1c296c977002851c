"""DeepLIFT by the rescale rule: the slopes between an image and a reference in place of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled.baselines import settings
from unfooled.baselines.hooks import leaf, target_logits
from unfooled.baselines.redirect import ACTIVATIONS, Redirecting, out_of_place
from unfooled.types import Family, UnfooledError

_SMALL = 1e-10
"""differences below it count as none: there the slope is the gradient"""

_REFUSED = ("matmul", "bmm", "scaled_dot_product_attention", "softmax", "layer_norm", "group_norm", "instance_norm")


class _Reference(Redirecting):
    """Notes the input and output of every non-linearity of a pass over the reference, in order."""

    def __init__(self):
        super().__init__()
        self.noted: list[tuple[Tensor, Tensor]] = []

    def handlers(self) -> Mapping[str, Callable]:
        return dict.fromkeys((*ACTIVATIONS, "max_pool2d"), self._note)

    def _note(self, operation: Callable, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        output = out_of_place(operation, input, *args, **kwargs)
        self.noted.append((input, output))
        return output


class _Rescaling(Redirecting):
    """Sends multipliers back: Δoutput / Δinput at every non-linearity, the gradient anywhere else."""

    def __init__(self, noted: list[tuple[Tensor, Tensor]]):
        super().__init__()
        self._noted = iter(noted)

    def handlers(self) -> Mapping[str, Callable]:
        return {
            **dict.fromkeys(ACTIVATIONS, self._activation),
            **dict.fromkeys(_REFUSED, _refuse),
            "max_pool2d": self._max_pool,
        }

    def _activation(self, operation: Callable, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        def run(a: Tensor) -> Tensor:
            return out_of_place(operation, a, *args, **kwargs)

        def rescale(m: Tensor, z: Tensor, a: Tensor, a_0: Tensor, z_0: Tensor) -> tuple[Tensor, None, None]:
            return _slope(m * (z - z_0), a - a_0, lambda: _gradient(run, a, m)), None, None

        return self.redirect(rescale, run(input), input, *next(self._noted))

    def _max_pool(self, _: Callable, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        kwargs["return_indices"] = True

        def run(a: Tensor) -> tuple[Tensor, Tensor]:
            return F.max_pool2d(a, *args, **kwargs)

        def rescale(m: Tensor, z: Tensor, a: Tensor, a_0: Tensor, z_0: Tensor) -> tuple[Tensor, None, None]:
            # The step from one maximum to the other goes by the larger of the two: what the image adds to reach it
            # belongs to the image's winner, what the reference loses from it to the reference's.
            top = torch.maximum(z, z_0)
            lost_by = run(_without_rounding(a_0))[1]
            brought = _unpool(m * (top - z_0), run(a)[1], a) + _unpool(m * (z - top), lost_by, a)
            return _slope(brought, a - a_0, lambda: _unpool(m, run(a)[1], a)), None, None

        return self.redirect(rescale, run(input)[0], input, *next(self._noted))


def _slope(brought: Tensor, difference: Tensor, gradient: Callable[[], Tensor]) -> Tensor:
    """brought / difference, the gradient where there is no difference."""
    none = difference.detach().abs() < _SMALL
    if not none.any():
        return brought / difference
    return torch.where(none, gradient(), brought / torch.where(none, 1, difference))


def _without_rounding(a: Tensor) -> Tensor:
    """Values that differ by rounding only made equal.

    A plain reference ties wherever it is pooled, and which of the tied wins (the first) must not hang on the last bit.
    """
    finest = a.abs().amax().clamp(min=torch.finfo(a.dtype).tiny) * torch.finfo(a.dtype).eps ** 0.75
    return (a.detach() / finest).round()


def _unpool(values: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    flat = torch.zeros_like(like).flatten(2)
    return flat.scatter_add(2, indices.expand_as(values).flatten(2), values.flatten(2)).view_as(like)


def _gradient(operation: Callable[[Tensor], Tensor], at: Tensor, incoming: Tensor) -> Tensor:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        a = at if at.requires_grad else at.detach().requires_grad_()
        (answer,) = torch.autograd.grad(operation(a), a, incoming, create_graph=create_graph)
    return answer


def _refuse(operation: Callable, *_: object, **__: object) -> None:
    name = getattr(operation, "__name__", str(operation))
    raise UnfooledError(f"deeplift: no rule for {name!r}; use networks whose only non-linearities are elementwise "
                        "activations and max-pooling")  # fmt: skip


@dataclass(frozen=True)
class DeepLIFT:
    """DeepLIFT, rescale rule (Shrikumar et al. 2017, 1704.02685): contributions against an image of one grey.

    Signed, (n, c, h, w). They sum to f_y(x) − f_y(reference), up to rounding. The reference passes the network once,
    not once for every image. Raises UnfooledError for an operation that the rule does not cover.
    """

    baseline: float = 0.0
    """every pixel and channel of the reference, in [0, 1]; 0 is black"""
    create_graph: bool = False

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "propagation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settings.number(self, "baseline")

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.create_graph), _Reference() as reference:
            model(torch.full_like(inputs[:1], self.baseline))
        x, _ = leaf(inputs, self.create_graph)
        with _Rescaling(reference.noted) as rescaling:
            logits = target_logits(model, x, targets)
        multipliers = rescaling.pull(logits, torch.ones_like(logits), x, self.create_graph)
        maps = multipliers * (x - self.baseline)
        return maps if self.create_graph else maps.detach()
