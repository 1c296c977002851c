"""Runs and entries made of synthetic rows, for the tests of the leaderboard."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import synthetic_rows as synthetic

from unfooled.leaderboard import submission
from unfooled.leaderboard.entry import Entry, as_json
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
        images=world.images,
        chunk=32,
    )


def entry(made: Run, label: str, known: Reference, name: str | None = None) -> Entry:
    return submission.from_run(made, label, known, name=name or label, code=CODE)


def plain(one: Entry) -> dict:
    """The entry as a file's values, to be spoilt."""
    return json.loads(as_json(one))
