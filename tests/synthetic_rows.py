"""Rows with a known truth: what the runner would write if interpreters were as stable as we say."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd

SIX = ("spearman", "top_k", "ssim", "pearson", "hog", "mse")
FAMILIES = ("gradients", "activations", "propagation")
MISSED = 10
"""of so many images the independent network classifies one as another class"""


@dataclass(frozen=True)
class Truth:
    """An interpreter: its stability against its own family and against others."""

    label: str
    family: str
    transfer: float
    attacked: float = 0.1
    span: float = 0.5
    """honest − randomised"""
    floor: float = 0.3
    at: str = "input"
    silent: float = 0.0
    """share of images whose original map is silent"""
    silent_fooled: float = 0.0
    """share of fooled maps that are silent"""
    independent: float = 0.8
    """stability on the independent network"""


@dataclass(frozen=True)
class World:
    """Settings, cells, images and how much each moves a similarity; standard deviations in units of stability."""

    truths: tuple[Truth, ...]
    settings: tuple[tuple[str, str], ...] = tuple(
        (f"{m}-{s}", m) for m, s in product(("vgg", "resnet", "densenet"), range(3))
    )
    manipulations: tuple[str, ...] = ("location", "top_k", "centre_mass")
    against: tuple[str, ...] = FAMILIES
    active: bool = False
    images: int = 100
    metrics: tuple[str, ...] = SIX
    setting_sd: float = 0.05
    own_sd: float = 0.05
    """setting × interpreter"""
    model_sd: float = 0.0
    """architecture × interpreter: what the settings of one architecture have in common"""
    cell_sd: float = 0.05
    image_sd: float = 0.2
    noise_sd: float = 0.1
    draws: int = 3
    polarities: tuple[str, ...] = ("absolute",)
    adaptive: dict[str, float] = field(default_factory=dict)
    """cell name → true stability of ``adaptive_for`` = the label before the bar"""

    def cells(self) -> list[tuple[str, str, str]]:
        """(name, family, split)"""
        kinds = [*self.manipulations, *(["active"] if self.active else [])]
        return [(f"{k}:{a}", a, "pairs" if k == "active" else "test") for k, a in product(kinds, self.against)]


def header(world: World) -> dict:
    cells = {n: {"manipulation": n.split(":")[0], "against": f"of_{f}", "family": f} for n, f, _ in world.cells()}
    for name in world.adaptive:
        label = name.split("|")[0]
        cells[name] = {"manipulation": name.split("|")[1], "against": label, "family": "", "adaptive_for": label}
    return {
        "suite": {"name": "synthetic", "version": 1, "digest": "0123"},
        "settings": {s: {"dataset": "scenes", "model": m, "seed": 0} for s, m in world.settings},
        "cells": cells,
        "interpreters": {
            t.label: {"family": t.family, "at": t.at, "cost": {"forward": 1, "backward": 1, "memory": 2.5}}
            for t in world.truths
        },
        "metrics": list(world.metrics),
        "failures": [],
    }


def model_effects(world: World, seed: int = 0) -> dict[tuple[str, str], float]:
    """(architecture, label) → how far it moves the interpreter's stability in ``rows`` of the same seed."""
    rng = np.random.default_rng([seed, 1])  # a stream of its own, so that worlds without such effects keep their rows
    pairs = product(dict.fromkeys(m for _, m in world.settings), (t.label for t in world.truths))
    return {pair: world.model_sd * rng.standard_normal() for pair in pairs}


def rows(world: World, seed: int = 0) -> pd.DataFrame:
    """The run's rows; every similarity = floor + span × (stability + effects) + noise."""
    rng = np.random.default_rng(seed)
    parts, of_model = [], model_effects(world, seed)
    for (setting, model), polarity in product(world.settings, world.polarities):
        shared = world.setting_sd * rng.standard_normal()
        for split in sorted({s for _, _, s in world.cells()}):
            image_effect = world.image_sd * rng.standard_normal(world.images)
            for truth in world.truths:
                own = shared + world.own_sd * rng.standard_normal() + of_model[model, truth.label]
                words = {"setting": setting, "split": split, "interpreter": truth.label, "at": truth.at}
                parts.append(
                    (words | {"polarity": polarity}, *_similarities(world, truth, split, own, image_effect, rng))
                )
    return _frame(world, parts)


def _twins(world, truth, split, own, image_effect, rng):
    """(twin, cell, draw, level, share of silent maps) of every twin; a level is 0 for random and 1 for honest."""
    yield from (("randomised", "", d, 0.0, 0.0) for d in range(world.draws))
    yield from ((t, "", 0, v, 0.0) for t, v in (("honest", 1.0), ("wrong_class", 0.5), ("self", 1.1)))
    yield "randomised_top", "", 0, 0.4, 0.0
    if split == "test" and len(world.settings) > 1:
        yield "independent", "", 0, truth.independent + own, 0.0
    for name, family, where in world.cells():
        if where == split:
            level = truth.attacked if family == truth.family else truth.transfer
            effect = own + world.cell_sd * rng.standard_normal()
            yield "fooled", name, 0, level + effect + image_effect, truth.silent_fooled
    for name, level in world.adaptive.items():
        if split == "test" and name.split("|")[0] == truth.label:
            yield "fooled", name, 0, level + own + image_effect, 0.0


def _similarities(world, truth, split, own, image_effect, rng):
    """The twins, and (twins, metrics, images) arrays of values and silence, and (images,) silence of the original."""
    n, m = world.images, len(world.metrics)
    twins = list(_twins(world, truth, split, own, image_effect, rng))
    levels = np.stack([np.broadcast_to(level, n) for *_, level, _ in twins])[:, None]
    silent = np.stack([np.broadcast_to(rng.random(n) < share, (m, n)) for *_, share in twins])
    silent_original = rng.random(n) < truth.silent
    noise = world.noise_sd * rng.standard_normal((len(twins), m, n))
    value = np.where(silent_original | silent, np.nan, truth.floor + truth.span * (levels + noise))
    return twins, value, silent, np.broadcast_to(silent_original, value.shape)


def _frame(world, parts) -> pd.DataFrame:
    n, m, sizes = world.images, len(world.metrics), [value.size for _, _, value, _, _ in parts]
    twins = [twin for _, some, *_ in parts for twin in some]
    frame = {word: np.repeat([words[word] for words, *_ in parts], sizes) for word in parts[0][0]}
    frame |= {word: np.repeat([t[k] for t in twins], m * n) for k, word in enumerate(("twin", "cell", "draw"))}
    frame["metric"] = np.tile(np.repeat(world.metrics, n), len(twins))
    frame["image"] = np.tile(np.arange(n, dtype=np.int32), len(twins) * m)
    for k, word in enumerate(("value", "silent", "silent_original"), 2):
        frame[word] = np.concatenate([part[k].ravel() for part in parts])
    text = ["setting", "split", "cell", "twin", "interpreter", "at", "polarity", "metric"]
    made = pd.DataFrame(frame).astype(dict.fromkeys(text, "category") | {"draw": "int8", "value": "float32"})
    missed = (made["twin"] == "independent") & (made["image"] % MISSED == 0)
    return made[~missed].reset_index(drop=True)


REAL = (
    Truth("gradient", "gradients", 0.7),
    Truth("smooth", "gradients", 0.9, attacked=0.5),
    Truth("cam", "activations", 0.5),
    Truth("lrp", "propagation", 0.3),
)
CANARIES = (
    Truth("constant", "canary", 1.0, silent=1.0),
    Truth("sobel", "canary", 1.0, attacked=1.0, span=0.0),
)
