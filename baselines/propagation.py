"""Interpreters that send the target's logit back through the network by rules of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unfooled.baselines.relevance import Composite, propagate
from unfooled.baselines.rules import Epsilon, Proportional, ZPlus, doubled, positive, whole


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation by the composite of Heo, Joo and Moon (2019, 1902.02041, appendix).

    z⁺ at convolutions (αβ with α = 1, β = 0, the whole bias in the denominator), ε at dense layers, everything to the
    winner at max-pooling, BatchNorm and ReLU passed through, sums and average pooling shared by positive parts. The
    relevance starts as the target's logit.

    At the input: signed, (n, c, h, w). At T: ReLU(Σ_k R^k) ≥ 0, (n, 1, s, s), the LRP_T of Heo et al. before scaling.
    Raises UnfooledError for an operation that has no rule (attention, a product of two activations).
    """

    at: Literal["input", "T"] = "input"
    epsilon: float = 0.01
    """added to every layer's denominator, by its sign"""
    bias_twice: bool = False
    """count the bias twice in convolutions' denominators, as the released code does and the paper does not"""
    create_graph: bool = False

    family: ClassVar[str] = "propagation"
    stochastic: ClassVar[bool] = False

    @property
    def signed(self) -> bool:
        return self.at == "input"

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        bias = doubled if self.bias_twice else whole
        composite = Composite(
            conv=ZPlus(self.epsilon, bias),
            dense=Epsilon(self.epsilon),
            proportional=Proportional(_TINY, positive),
            fold=False,
        )
        relevance = propagate(composite, model, inputs, targets, self.at == "T", self.create_graph)
        return relevance.sum(1, keepdim=True).relu() if self.at == "T" else relevance


_TINY = 1e-8
"""keeps 0 / 0 away where no term of a sum is positive"""
