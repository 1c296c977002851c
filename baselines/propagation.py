"""Interpreters that send the target's logit back through the network by rules of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unfooled.baselines import settings
from unfooled.baselines.derivatives import rectified
from unfooled.baselines.hooks import Place, declared, leaf, target_logits
from unfooled.baselines.relevance import Composite, propagate
from unfooled.baselines.rules import AlphaBeta, Epsilon, Flat, Proportional, ZPlus, doubled, whole
from unfooled.baselines.slopes import Deconvolving, Guided, Slopes
from unfooled.types import Family

_TINY = 1e-8
"""keeps 0 / 0 away where no term of a sum is positive"""


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation by the composite of Heo, Joo and Moon (2019, 1902.02041, appendix).

    z⁺ at convolutions (αβ with α = 1, β = 0, the whole bias in the denominator), ε at dense layers, everything to the
    winner at max-pooling, BatchNorm and ReLU passed through, sums and average pooling shared by positive parts. The
    relevance starts as the target's logit.

    At the input: signed, (n, c, h, w). At T: ReLU(Σ_k R^k) ≥ 0, (n, 1, s, s), the LRP_T of Heo et al. before scaling.
    Raises UnfooledError for an operation that has no rule (attention, a product of two activations).
    """

    at: Place = "input"
    epsilon: float = 0.01
    """added to every layer's denominator, by its sign"""
    bias_twice: bool = False
    """count the bias twice in convolutions' denominators, as the released code does and the paper does not"""
    create_graph: bool = False

    family: ClassVar[Family] = "propagation"
    stochastic: ClassVar[bool] = False
    signed = declared(lambda self: self.at == "input")

    def __post_init__(self) -> None:
        settings.one_of(self, "at", Place)
        settings.number(self, "epsilon", above=0)

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        bias = doubled if self.bias_twice else whole
        composite = Composite(
            conv=ZPlus(self.epsilon, bias),
            dense=Epsilon(self.epsilon),
            proportional=Proportional(_TINY, rectified),
            fold=False,
        )
        relevance = propagate(composite, model, inputs, targets, self.at == "T", self.create_graph)
        return relevance.sum(1, keepdim=True).relu() if self.at == "T" else relevance


class _Family:
    """LRP with ε at dense layers, and sums and averages shared by the terms themselves.

    A BatchNorm that directly follows a convolution is treated as a part of it, any other is passed through.
    """

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "propagation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    epsilon: float
    create_graph: bool

    def __post_init__(self) -> None:
        settings.number(self, "epsilon", above=0)

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return propagate(self.composite(), model, inputs, targets, at_target=False, create_graph=self.create_graph)

    def composite(self) -> Composite:
        raise NotImplementedError


@dataclass(frozen=True)
class LRPEpsilon(_Family):
    """LRP-ε at every layer (Bach et al. 2015, eq. 58): signed, (n, c, h, w).

    Small ε: Input × Gradient for a ReLU network without biases. BatchNorm after a convolution is folded into it; other
    BatchNorms and activations pass relevance on. Raises UnfooledError for an operation that has no rule.
    """

    epsilon: float = 1e-6
    create_graph: bool = False

    def composite(self) -> Composite:
        rule = Epsilon(self.epsilon)
        return Composite(rule, rule, Proportional(self.epsilon))


@dataclass(frozen=True)
class LRPAlphaBeta(_Family):
    """LRP-αβ at convolutions (Bach et al. 2015, eq. 60), ε at dense layers: signed, (n, c, h, w).

    Raises ValueError unless α − β = 1 and β ≥ 0, else relevance would not be kept, and UnfooledError for an operation
    that has no rule. BatchNorm and activations as in LRPEpsilon.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6
    create_graph: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.number(self, "alpha")
        settings.number(self, "beta", least=0)
        if abs(self.alpha - self.beta - 1) > 1e-9:
            settings.refuse(self, "alpha", f"beta + 1, {self.beta + 1}")

    def composite(self) -> Composite:
        conv = AlphaBeta(self.alpha, self.beta, self.epsilon)
        return Composite(conv, Epsilon(self.epsilon), Proportional(self.epsilon))


@dataclass(frozen=True)
class LRPZPlus(_Family):
    """LRP-z⁺ at convolutions (Montavon et al. 2017, 1512.02479; αβ with α = 1, β = 0), ε at dense layers.

    Signed, (n, c, h, w). BatchNorm, activations and errors as in LRPEpsilon.
    """

    epsilon: float = 1e-6
    create_graph: bool = False

    def composite(self) -> Composite:
        return Composite(ZPlus(self.epsilon), Epsilon(self.epsilon), Proportional(self.epsilon))


@dataclass(frozen=True)
class EpsilonPlusFlat(_Family):
    """LRP with z⁺ at convolutions, ε at dense layers and the flat rule at the first layer (Lapuschkin et al. 2019).

    Signed, (n, c, h, w); the channels of a pixel are equal. BatchNorm, activations and errors as in LRPEpsilon.
    """

    epsilon: float = 1e-6
    create_graph: bool = False

    def composite(self) -> Composite:
        first = Flat(self.epsilon)
        return Composite(ZPlus(self.epsilon), Epsilon(self.epsilon), Proportional(self.epsilon), first)


class _Rectifying:
    """A gradient with another rule at ReLU."""

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "propagation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    way: ClassVar[type[Slopes]]
    create_graph: bool

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        x, source = leaf(inputs, self.create_graph)
        with self.way(self.create_graph, source) as way:
            logits = target_logits(model, x, targets)
        return way.gradient(logits, x)


@dataclass(frozen=True)
class GuidedBackprop(_Rectifying):
    """Guided backpropagation (Springenberg et al. 2015, 1412.6806): at ReLU R 1{R > 0} 1{z > 0}. Signed, (n, c, h, w).

    It looks at the first layers and hardly at the rest (Adebayo et al. 2018).
    """

    create_graph: bool = False

    way: ClassVar[type[Slopes]] = Guided


@dataclass(frozen=True)
class Deconvnet(_Rectifying):
    """Deconvnet (Zeiler and Fergus 2014, 1311.2901): at ReLU R 1{R > 0}, whatever z was. Signed, (n, c, h, w)."""

    create_graph: bool = False

    way: ClassVar[type[Slopes]] = Deconvolving
