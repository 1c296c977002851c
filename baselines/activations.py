"""Class activation maps: the activation at T, its channels weighed by what the target's logit says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unfooled.baselines.hooks import activation_at_target, gradient, target_logits


@dataclass(frozen=True)
class GradCAM:
    """Grad-CAM (Selvaraju et al. 2017, 1610.02391): ReLU(Σ_k α_k A^k), α_k the spatial mean of ∂f_y/∂A^k.

    A is the activation at T (the *input* of the model's target layer, as Heo et al. have it). Returns (n, 1, s, s) at
    T's resolution, ≥ 0, not scaled; zero where every weighted sum is negative.
    """

    create_graph: bool = False

    at: ClassVar[str] = "T"
    family: ClassVar[str] = "activations"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with activation_at_target(model, self.create_graph) as captured:
            logits = target_logits(model, inputs, targets)
        activation = captured.activation
        slopes = gradient(logits, activation, self.create_graph)
        cam = (slopes.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
        return cam if self.create_graph else cam.detach()
