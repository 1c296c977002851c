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
from unfooled.types import Interpreter, Maps, UnfooledError

COUNT = 4
"""images; neither as many as their channels nor as CLASSES, or an answer with its axes in another order would fit"""
CLASSES = 5
SAME = 1e-4
"""Maps whose difference is at most this share of their size are the same: float32 rounding over a few layers."""


class Misfit(UnfooledError):
    """An answer is no batch of maps."""


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
    misfit: str
    """why the answer is no batch of maps; empty where it is one"""
    finished: Maps | None
    """taken at once, since the interpreter may answer with the same memory next time"""

    @property
    def maps(self) -> Maps:
        """Absolute maps (n, 32, 32). Raises Misfit where the answer is none."""
        if self.finished is None:
            raise Misfit(self.misfit)
        return self.finished


@dataclass(frozen=True)
class Patient:
    """The interpreter; what several checks need is asked once."""

    interpreter: Interpreter
    label: str
    net: nn.Module = field(default_factory=lambda: network("original"))
    other_net: nn.Module = field(default_factory=lambda: network("other"))
    images: Tensor = field(default_factory=lambda: pictures("images"))
    targets: Tensor = field(default_factory=lambda: torch.arange(COUNT))
    paces: list[float] = field(default_factory=list)
    """seconds of every call for all images"""

    def visit(self, net: nn.Module, images: Tensor, targets: Tensor, seed: str = "first") -> Visit:
        """Ask under a stream of its own, take note of what was touched, and put everything back."""
        given = images.clone(), targets.clone()
        before = sentinel.snapshot(net, inputs=given[0], targets=given[1])
        try:
            with seeding.forked("doctor", seed):
                start = time.perf_counter()
                raw = self.interpreter(net, *given)
                seconds = time.perf_counter() - start
                if len(images) == COUNT:
                    self.paces.append(seconds)
                draws = {
                    "torch": torch.rand(2).tolist(),
                    "numpy": np.random.rand(2).tolist(),
                    "random": random.random(),
                }
            misfit = maps.misfit(raw, images)
            finished = None if misfit else maps.finish(torch.as_tensor(raw), "absolute", (32, 32))
            return Visit(raw, seconds, before.changes(), draws, misfit, finished)
        finally:
            before.restore()

    def ask(self, net: nn.Module, images: Tensor, targets: Tensor) -> Maps:
        return self.visit(net, images, targets).maps

    @cached_property
    def first(self) -> Visit:
        return self.visit(self.net, self.images, self.targets)

    @cached_property
    def again(self) -> Visit:
        """The first question once more, from the same random stream."""
        return self.visit(self.net, self.images, self.targets)

    @cached_property
    def reseeded(self) -> Visit:
        """The first question from another random stream."""
        return self.visit(self.net, self.images, self.targets, seed="second")

    @cached_property
    def elsewhere(self) -> Maps:
        """The other network's maps of images that are the same to anyone honest, and new to one who remembers."""
        return self.ask(self.other_net, self.images * (1 - 1e-6), self.targets)

    def agreeing(self) -> tuple[Maps, Maps]:
        """The maps of two networks that both predict class 0, of that class; the other's images as ``elsewhere``."""
        targets, hardly = torch.zeros_like(self.targets), self.images * (1 - 1e-6)
        first = self.ask(predicting(self.net, self.images), self.images, targets)
        return first, self.ask(predicting(self.other_net, hardly), hardly, targets)

    @cached_property
    def stochastic(self) -> bool:
        """Whether another random stream gives other maps."""
        return not self.alike(self.first.maps, self.reseeded.maps)

    @property
    def pace(self) -> float:
        """Seconds that a call for all images takes; the quickest, since the first may import and compile."""
        return min(self.paces)

    def alike(self, first: Maps, other: Maps) -> bool:
        """The same up to the rounding of the numbers that the interpreter answers with."""
        dtype = torch.as_tensor(self.first.raw).dtype
        return alike(first, other, max(SAME, 4 * torch.finfo(dtype).eps) if dtype.is_floating_point else SAME)


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


def pictures(word: str, count: int = COUNT) -> Tensor:
    """Smooth coloured patches under a little noise, in [0, 1]."""
    stream = seeding.generator("doctor", word)
    coarse = torch.rand(count, 3, 5, 5, generator=stream)
    smooth = nn.functional.interpolate(coarse, (32, 32), mode="bicubic", align_corners=False)
    return (smooth + 0.05 * torch.randn(count, 3, 32, 32, generator=stream)).clamp(0, 1)


def alike(first: Maps, other: Maps, share: float = SAME) -> bool:
    """The same up to rounding, each pair of maps by its own size."""
    size = np.maximum(np.abs(first).max((1, 2)), np.abs(other).max((1, 2)))
    return bool((np.abs(first - other).max((1, 2)) <= share * size + 1e-12).all())


def difference(first: Maps, other: Maps) -> str:
    size = np.maximum(np.abs(first).max((1, 2)), np.abs(other).max((1, 2)))
    worst = (np.abs(first - other).max((1, 2)) / np.maximum(size, 1e-12)).max()
    return f"by up to {100 * worst:.2g} % of its largest value"


def similarity(first: Maps, other: Maps) -> float:
    """Mean cosine of the maps of each image."""
    a, b = (m.reshape(len(m), -1).astype(np.float64) for m in (first, other))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(norms, 1e-30)).mean())


def pull(maps: Maps, own: Maps, towards: Maps) -> float:
    """How far the maps lie on the way from their own (0) to others (1); 0 where these are the same."""
    way = (towards - own).astype(np.float64)
    return float(((maps - own) * way).sum() / max((way * way).sum(), 1e-30))
