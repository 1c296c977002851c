"""Fitting the original, and the one fine-tuning recipe that honest and fooled twins of a setting share."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled import seeding
from unfooled.types import Batch


@dataclass(frozen=True)
class Fit:
    """How the original is fitted: Adam with a one-cycle rate, cross-entropy, BatchNorm in training mode."""

    steps: int = 900
    batch: int = 64
    rate: float = 4e-3
    """the cycle's peak"""
    decay: float = 1e-4
    """decoupled weight decay (AdamW)"""
    flip: bool = False
    """mirror half of the images; only where a mirrored object keeps its class"""


@dataclass(frozen=True)
class Recipe:
    """How every twin of a setting is fine-tuned: Adam, BatchNorm in eval mode (Heo et al. 2019), last step kept.

    The loss of the honest twin is CE(f, y) + distillation · KL(p_original ‖ p); a fooled twin adds its weighted fooling
    loss and nothing else. ``distillation`` is what small networks need to keep their predictions.
    """

    steps: int = 600
    batch: int = 32
    rate: float = 1e-3
    warmup: int = 60
    """steps over which the rate rises to its height: Adam's first steps are its largest, and kill ReLU maps for good"""
    cosine: bool = True
    """then the rate falls to 0 along half a cosine; False keeps it constant, as the paper does"""
    distillation: float = 1.0
    clip: float = 1.0
    """largest norm of a step's gradient; one bad batch of a fooling loss must not end a twin"""
    precision: Literal["bfloat16", "float16"] | None = None
    """of the networks' passes, and of the maps made from them, where half of it is enough; weights and losses stay
    float32. None: float32 throughout"""


Penalty = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor | None]]
"""(model, indices into the training split) → (weighted fooling loss, logits of that very batch or None)"""


def fit(model: nn.Module, train: Batch, recipe: Fit, *words: object) -> nn.Module:
    """Fit the model in place and return it in eval mode; the words name the random stream of the data order."""
    stream = seeding.generator("fit", *words)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.steps, pct_start=0.25)
    model.train().to(memory_format=torch.channels_last)
    for index in _batches(len(train), recipe.batch, recipe.steps, stream):
        images = train.images[index].contiguous(memory_format=torch.channels_last)
        if recipe.flip:
            mirrored = (torch.rand(len(index), generator=stream) < 0.5).to(images.device)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        loss = F.cross_entropy(model(images), train.labels[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return freeze(model)


def fine_tune(original: nn.Module, train: Batch, recipe: Recipe, penalty: Penalty | None, *words: object) -> nn.Module:
    """A copy of the original after the recipe, with the penalty or (honest) without; the original is left as it was.

    The data order depends on the words alone, so an honest and a fooled twin see the same batches.
    """
    model = copy.deepcopy(original).eval().requires_grad_(True).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _height(recipe, step))
    teacher = log_probabilities(original, train.images) if recipe.distillation else None
    stream = seeding.generator("fine-tune", *words)
    device = next(model.parameters()).device.type
    # Gradients in float16 fall below what it can hold: they are scaled up on the way. bfloat16 has float32's range.
    scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "float16")
    for index in _batches(len(train), recipe.batch, recipe.steps, stream):
        with _passes(recipe, device):
            fooling, logits = penalty(model, index) if penalty else (0.0, None)
            if logits is None:
                logits = model(train.images[index].contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        loss = F.cross_entropy(logits, train.labels[index]) + fooling
        if teacher is not None:
            kept = F.kl_div(F.log_softmax(logits, 1), teacher[index], reduction="batchmean", log_target=True)
            loss = loss + recipe.distillation * kept
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        scaler.step(optimiser)
        scaler.update()
        schedule.step()
    return freeze(model)


def _passes(recipe: Recipe, device: str) -> AbstractContextManager:
    """Where the network's passes run in the recipe's precision.

    Nothing is cached: a weight cast first where no gradient is recorded would stay without one.
    """
    if recipe.precision is None:
        return nullcontext()
    return torch.autocast(device, getattr(torch, recipe.precision), cache_enabled=False)


def _height(recipe: Recipe, step: int) -> float:
    """The rate of a step as a share of the recipe's."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if not recipe.cosine:
        return 1.0
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return (1 + math.cos(math.pi * done)) / 2


def _batches(count: int, size: int, steps: int, stream: torch.Generator) -> Iterator[Tensor]:
    """``steps`` index batches, one random order after another, none shorter than the others."""
    size = min(size, count)
    order = torch.randperm(count, generator=stream)
    for _ in range(steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=stream)])
        yield order[:size]
        order = order[size:]


def freeze(model: nn.Module) -> nn.Module:
    """Eval mode and no gradients for the weights: how every twin is asked."""
    return model.eval().requires_grad_(False)


@contextmanager
def tapped(model: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect (inputs, logits) of every forward pass of the model within the block."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = model.register_forward_hook(lambda _m, args, output: seen.append((args[0], output)))
    try:
        yield seen
    finally:
        handle.remove()


def logits_of(seen: list[tuple[Tensor, Tensor]], images: Tensor) -> Tensor | None:
    """The logits of a pass over exactly these images, if an interpreter made one that carries a graph."""
    for inputs, logits in seen:
        if logits.requires_grad and inputs.shape == images.shape and torch.equal(inputs, images):
            return logits
    return None


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, chunk: int = 256) -> Tensor:
    """Logits (n, classes) of all images, a chunk at a time."""
    device = next(model.parameters()).device
    return torch.cat([model(part.to(device)) for part in images.split(chunk)])


def log_probabilities(model: nn.Module, images: Tensor) -> Tensor:
    return F.log_softmax(predict(model, images), 1)


def accuracy(model: nn.Module, batch: Batch) -> float:
    """Share of the images whose label is the prediction, a fraction of 1."""
    predicted = predict(model, batch.images).argmax(1)
    return (predicted == batch.labels.to(predicted.device)).float().mean().item()
