"""Whom the doctor examines: an interpreter, with the networks and images that it is asked about."""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import maps, models, seeding, sentinel
from unfooled.types import Interpreter, Maps

CLASSES = 4
SAME = 1e-4
"""Maps whose difference is at most this share of their size are the same: float32 rounding over a few layers."""


@dataclass(frozen=True)
class Visit:
    """One call of the interpreter, and what it left behind. All of that is undone."""

    raw: object
    """the answer, as it came"""
    seconds: float
    changes: list[str]
    """what of the model, the inputs and torch's settings was changed"""
    next_draws: dict[str, object]
    """what each global stream would give next"""

    @property
    def maps(self) -> Maps:
        """Absolute maps (n, 32, 32)."""
        return maps.finish(torch.as_tensor(self.raw), "absolute", (32, 32))


@dataclass(frozen=True)
class Patient:
    """The interpreter; what several checks need is asked once."""

    interpreter: Interpreter
    label: str
    net: nn.Module = field(default_factory=lambda: network("original"))
    other_net: nn.Module = field(default_factory=lambda: network("other"))
    images: Tensor = field(default_factory=lambda: pictures("images"))
    targets: Tensor = field(default_factory=lambda: torch.arange(3))

    def visit(self, net: nn.Module, images: Tensor, targets: Tensor, seed: str = "first") -> Visit:
        """Ask under a stream of its own, take note of what was touched, and put everything back."""
        images, targets = images.clone(), targets.clone()
        before = sentinel.snapshot(net, inputs=images, targets=targets)
        try:
            with seeding.forked("doctor", seed):
                start = time.perf_counter()
                raw = self.interpreter(net, images, targets)
                seconds = time.perf_counter() - start
                draws = {
                    "torch": torch.rand(2).tolist(),
                    "numpy": np.random.rand(2).tolist(),
                    "random": random.random(),
                }
            return Visit(raw, seconds, before.changes(), draws)
        finally:
            before.restore()

    def ask(self, net: nn.Module, images: Tensor, targets: Tensor) -> Maps:
        return self.visit(net, images, targets).maps

    @cached_property
    def first(self) -> Visit:
        return self.visit(self.net, self.images, self.targets)

    @cached_property
    def reseeded(self) -> Visit:
        """The first question from another random stream."""
        return self.visit(self.net, self.images, self.targets, seed="second")

    @cached_property
    def elsewhere(self) -> Maps:
        """The other network's maps of images that are the same to anyone honest, and new to one who remembers."""
        return self.ask(self.other_net, self.images * (1 - 1e-6), self.targets)

    @cached_property
    def agreeing(self) -> tuple[Maps, Maps]:
        """The maps of two networks that both predict class 0, of that class; the other's images as ``elsewhere``."""
        targets, hardly = torch.zeros_like(self.targets), self.images * (1 - 1e-6)
        first = self.ask(predicting(self.net, self.images), self.images, targets)
        return first, self.ask(predicting(self.other_net, hardly), hardly, targets)

    @cached_property
    def stochastic(self) -> bool:
        """Whether another random stream gives other maps."""
        return not alike(self.first.maps, self.reseeded.maps)


def network(word: str) -> nn.Module:
    """A small untrained VGG, another one for another word."""
    with seeding.forked("doctor", word):
        return models.vgg(num_classes=CLASSES).eval().requires_grad_(False)


def predicting(net: nn.Module, images: Tensor) -> nn.Module:
    """A copy whose last bias makes it predict class 0 for all of these images, by a logit at least."""
    made = copy.deepcopy(net)
    with torch.no_grad():
        logits = made(images)
        head = [m for m in made.modules() if isinstance(m, nn.Linear)][-1]
        head.bias[0] += (logits.max(1).values - logits[:, 0]).max() + 1
    return made


def pictures(word: str, count: int = 3) -> Tensor:
    """Smooth coloured patches under a little noise, in [0, 1]."""
    stream = seeding.generator("doctor", word)
    coarse = torch.rand(count, 3, 5, 5, generator=stream)
    smooth = nn.functional.interpolate(coarse, (32, 32), mode="bicubic", align_corners=False)
    return (smooth + 0.05 * torch.randn(count, 3, 32, 32, generator=stream)).clamp(0, 1)


def alike(first: Maps, other: Maps) -> bool:
    """The same up to rounding, each pair of maps by its own size."""
    size = np.maximum(np.abs(first).max((1, 2)), np.abs(other).max((1, 2)))
    return bool((np.abs(first - other).max((1, 2)) <= SAME * size + 1e-12).all())


def difference(first: Maps, other: Maps) -> str:
    size = np.maximum(np.abs(first).max((1, 2)), np.abs(other).max((1, 2)))
    worst = (np.abs(first - other).max((1, 2)) / np.maximum(size, 1e-12)).max()
    return f"by up to {100 * worst:.2g} % of its largest value"


def similarity(first: Maps, other: Maps) -> float:
    """Mean cosine of the maps of each image."""
    a, b = (m.reshape(len(m), -1).astype(np.float64) for m in (first, other))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(norms, 1e-30)).mean())
