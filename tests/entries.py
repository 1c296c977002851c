"""Runs and entries made of synthetic rows, for the tests of the leaderboard."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import synthetic_rows as synthetic

from unfooled import merkle
from unfooled.leaderboard import parts, submission
from unfooled.leaderboard.entry import INTERVALS, Block, Entry, Interval, as_json
from unfooled.leaderboard.reference import Reference
from unfooled.records import Run

WORLD = synthetic.World(
    synthetic.REAL + synthetic.CANARIES, manipulations=("location", "top_k"), images=12, active=True
)
SINGLE = replace(WORLD, settings=(("vgg-0", "vgg"),), active=False)
CODE = "https://example.org/method"


def digits(*words: object, length: int = 16) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:length]


def run(world: synthetic.World = WORLD, seed: int = 0) -> Run:
    """A run with the header that the runner writes."""
    header = synthetic.header(world)
    header["suite"] = {"name": "synthetic", "version": 1, "digest": digits("suite"), "limit": None}
    for name, facts in header["settings"].items():
        facts |= {"twins": digits("twins", name), "images": {"test": world.images}}
    for label, facts in header["interpreters"].items():
        facts |= {
            "use": f"mine:{label}", "arguments": {}, "signed": False, "stochastic": False, "source": digits(label),
            "cost": {"forward": 1.0, "backward": 1.0, "memory": 1000.0},
        }  # fmt: skip
    header |= {
        "roots": {
            f"{s}/{t.label}": digits(s, t.label, seed, length=64) for s, _ in world.settings for t in world.truths
        },
        "created": "2026-01-01T00:00:00+00:00",
        "runs_made": 3,
        "versions": {"python": "3.11.2", "unfooled": "0.1.0", "torch": "2.13.0+cpu"},
        "limit": None,
    }
    return Run(synthetic.rows(world, seed), header, Path("run"))


def reference(world: synthetic.World = WORLD) -> Reference:
    return Reference(
        name="synthetic",
        version=1,
        digest=digits("suite"),
        metrics=synthetic.SIX,
        settings=dict(world.settings),
        twins={name: digits("twins", name) for name, _ in world.settings},
        cells={name: (name.split(":")[0], f"of_{family}", family) for name, family, _ in world.cells()},
        splits={name: split for name, _, split in world.cells()},
        independent=len(world.settings) > 1,
        images=world.images,
        chunk=32,
    )


def entry(made: Run, label: str, known: Reference, name: str | None = None) -> Entry:
    return submission.from_run(made, label, known, name=name or label, code=CODE)


def plain(one: Entry) -> dict:
    """The entry as a file's values, to be spoilt."""
    return json.loads(as_json(one))


def many(count: int, world: synthetic.World = WORLD, seed: int = 0) -> list[Entry]:
    """Entries that differ in their parts, with the aggregates that follow from them: a full board, quickly."""
    base = entry(run(replace(world, images=4)), "gradient", reference(world))
    rng = np.random.default_rng(seed)
    bare = [_jittered(base, n, rng) for n in range(count)]
    found = parts.aggregates(bare)
    return [one.model_copy(update=aggregated(one, found, i)) for i, one in enumerate(bare)]


def _jittered(base: Entry, number: int, rng: np.random.Generator) -> Entry:
    """Fooled twins nearer to the floor or to the ceiling, each part with noise of its own."""
    level = rng.uniform(0, 1)

    def cell(block: Block) -> list[float]:
        honest, floor = np.array(block.honest), np.array(block.randomised)
        return np.round(floor + level * (honest - floor) + rng.normal(0, 0.01, len(floor)), 6).tolist()

    blocks = [b.model_copy(update={"cells": {name: cell(b) for name in b.cells}}) for b in base.parts]
    roots = {name: digits(name, number, length=64) for name in base.settings}
    settings = {name: facts.model_copy(update={"root": roots[name]}) for name, facts in base.settings.items()}
    root = merkle.root(bytes.fromhex(roots[name]) for name in sorted(roots))
    family = ("gradients", "activations", "propagation", "perturbation", "other")[number % 5]
    method = base.method.model_copy(update={"family": family, "reference": f"mine:Method{number}"})
    name = f"Method {number:03} of a name"
    return base.model_copy(update={"name": name, "parts": blocks, "settings": settings, "root": root, "method": method})


def aggregated(one: Entry, found: parts.Aggregates, i: int) -> dict:
    def number(value: float) -> float | None:
        return round(float(value), 6) if np.isfinite(value) else None

    ends = {
        name: Interval(value=number(s.value[i]), low=number(s.interval()[0][i]), high=number(s.interval()[1][i]))
        for name in INTERVALS
        for s in [getattr(found, name)]
    }
    words = {"worst": number(found.worst[i]), "worst_cell": found.worst_cell[i]}
    return {"scores": one.scores.model_copy(update={**ends, **words})}
