"""Interpreters that are the gradient of a logit, or averages of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unfooled.baselines.hooks import activation_at_target, gradient, leaf, target_logits


@dataclass(frozen=True)
class SimpleGrad:
    """The gradient of the target's logit (Simonyan et al. 2013, 1312.6034).

    At the input: ∂f_y/∂x, signed, (n, c, h, w). At T: Σ_k 2 |∂f_y/∂A^k| ≥ 0, (n, 1, s, s), the SimpleG_T of Heo et al.
    (2019), before their scaling to [0, 1].
    """

    at: Literal["input", "T"] = "input"
    create_graph: bool = False

    family: ClassVar[str] = "gradients"
    stochastic: ClassVar[bool] = False

    @property
    def signed(self) -> bool:
        return self.at == "input"

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        if self.at == "T":
            with activation_at_target(model, self.create_graph) as captured:
                logits = target_logits(model, inputs, targets)
            return 2 * gradient(logits, captured.activation, self.create_graph).abs().sum(1, keepdim=True)
        x = leaf(inputs, self.create_graph)
        return gradient(target_logits(model, x, targets), x, self.create_graph)
