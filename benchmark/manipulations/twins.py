"""The twins that calibrate: honest (the recipe without fooling) and randomised (weights drawn again)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from unfooled import seeding, training
from unfooled.models import target_module
from unfooled.training import Recipe
from unfooled.types import Splits


def honest(model: nn.Module, data: Splits, recipe: Recipe, seed: int) -> nn.Module:
    """The ceiling: fine-tuned by the very recipe of the fooled twins, on the same batches, without a fooling term."""
    return training.fine_tune(model, data.train, recipe, None, seed)


def randomised(model: nn.Module, images: Tensor, *words: object) -> nn.Module:
    """The floor: every weight drawn again by its layer's own initialiser, BatchNorm reset and re-estimated."""
    return _redrawn(model, 0, images, *words)


def randomised_top(model: nn.Module, images: Tensor, *words: object) -> nn.Module:
    """Only the last convolutional block and the head drawn again: shows who ignores the top (Adebayo et al. 2018)."""
    return _redrawn(model, list(model.modules()).index(target_module(model)), images, *words)


def _redrawn(model: nn.Module, start: int, images: Tensor, *words: object) -> nn.Module:
    """A copy with every module from the start-th on (in the order of registration, which is the forward's) fresh.

    Drawn on the CPU, so that the twin is the same one on every device.
    """
    device = next(model.parameters()).device
    twin = copy.deepcopy(model).cpu()
    fresh = list(twin.modules())[start:]
    with seeding.forked("randomised", *words):
        for module in fresh:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    twin.to(device)
    _estimate_statistics(twin, [m for m in fresh if isinstance(m, nn.modules.batchnorm._BatchNorm)], images)
    return training.freeze(twin)


@torch.no_grad()
def _estimate_statistics(model: nn.Module, norms: list[nn.Module], images: Tensor) -> None:
    """Running statistics of these layers over the images. A trained net's statistics would silence a random one."""
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the chunks
        norm.train()
    for part in images.split(128):
        model(part.to(next(model.parameters()).device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
