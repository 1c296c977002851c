"""Finished units of work gathered as one run: rows one below the other, a header that says what they are."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from unfooled import adaptive, asking, building, plugins, records, sources
from unfooled.adaptive import Extent
from unfooled.records import Run
from unfooled.store import Store, digest, plain, publish
from unfooled.suite import Setting, Suite
from unfooled.types import Part, UnfooledError


class NothingFinished(UnfooledError):
    """Every interpreter failed."""

    exit_code = 3


@dataclass(frozen=True)
class Outcome:
    """One unit of work, finished or failed."""

    setting: str
    interpreter: str
    path: Path | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """what a finished unit's files lie under"""
        return self.path.name.partition(".")[0] if self.path else ""


def unit_keys(settings: Iterable[Setting], parts: Iterable[Part], store: Store) -> dict[tuple[str, str], str]:
    """(setting, interpreter) → what names its rows: the twins' files, the interpreter's source, what is scored how."""
    code = [(p, sources.fingerprint(p)) for p in parts]
    found = {}
    for setting in settings:
        s, twins = setting.suite, building.twins_digest(setting, store)
        scored = (
            s.metrics, [sources.fingerprint(m, "metrics") for m in s.metrics], s.polarities, s.chunk, s.draws, s.seed,
            s.limit, torch.__version__.partition("+")[0],
        )  # fmt: skip
        for part, source in code:
            key = digest("unit", records.FORMAT, twins, setting.name, part, source, *scored)
            found[setting.name, part.label] = key
    return found


def unit_key(setting: Setting, part: Part, store: Store) -> str:
    """Names the rows of one interpreter in one setting."""
    return unit_keys([setting], [part], store)[setting.name, part.label]


def gather(suite: Suite, store: Store, out: Path, outcomes: list[Outcome], runs_made: int) -> Run:
    """Finished units as one run, saved in a folder of its own below ``out``. Raises NothingFinished."""
    finished = [o for o in outcomes if o.path]
    if not finished:
        reasons = "; ".join(dict.fromkeys(o.reason for o in outcomes))
        raise NothingFinished(f"{suite.name}: every interpreter failed: {reasons}")
    tables = [pq.ParquetFile(o.path) for o in finished]
    rows = records.joined([t.read() for t in tables])
    units = [json.loads(t.schema_arrow.metadata[records.KEY]) for t in tables]
    names = [f"{o.setting}/{o.interpreter}" for o in finished]
    header = {
        **describe(suite, store),
        "interpreters": _interpreters(suite, finished, units),
        "roots": {name: u["root"] for name, u in zip(names, units, strict=True)},
        "localisation": {name: u["localisation"] for name, u in zip(names, units, strict=True)},
        "failures": _failures(outcomes),
        "runs_made": runs_made,
    }
    folder = out / f"{suite.name}-{digest(header['suite'], list(header['interpreters']))[:8]}"
    made = Run(rows, header, folder)
    records.save(made)
    _save_gallery(suite, store, made, finished)
    return made


def extended(
    run: Run, suite: Suite, attacked: tuple[Part, ...], extent: Extent, store: Store, outcomes: list[Outcome]
) -> Run:
    """The run with the rows of its adaptive track, saved beside it; no row or number that it had is changed."""
    tables = [run.rows, *(pq.ParquetFile(o.path).read() for o in outcomes if o.path)]
    header = {
        **run.header,
        "cells": {**run.header["cells"], **adaptive.described(suite, attacked, extent, store)},
        "adaptive": {"extent": extent, "failures": _failures(outcomes)},
    }
    made = Run(records.joined(tables), header, run.folder.with_name(f"{run.folder.name}-{extent}"))
    records.save(made)
    publish(made.folder / "gallery.npz", lambda p: p.write_bytes((run.folder / "gallery.npz").read_bytes()))
    return made


def _failures(outcomes: list[Outcome]) -> list[dict[str, str]]:
    return [{"setting": o.setting, "interpreter": o.interpreter, "reason": o.reason} for o in outcomes if o.reason]


def describe(suite: Suite, store: Store) -> dict:
    """The header's part that does not depend on the interpreters."""
    families = {c.against.label: trait(c.against, "family", "other") for c in suite.cells}
    return {
        "suite": {"name": suite.name, "version": suite.version, "digest": suite.digest, "limit": suite.limit},
        "settings": {
            s.name: {
                "dataset": suite.dataset.label,
                "model": s.architecture.model.label,
                "seed": s.seed,
                "twins": building.twins_digest(s, store),
                "images": {i.split: len(i) for i in building.images(s, store)},
                "honest": building.certificate(s, store, s.honest_key),
            }
            for s in suite.settings()
        },
        "cells": {
            c.name: {
                "manipulation": c.manipulation.label,
                "against": c.against.label,
                "family": families[c.against.label],
                "certificates": {
                    s.name: building.certificate(s, store, s.fooled_key(c), s.certificate_key(c))
                    for s in suite.settings()
                },
            }
            for c in suite.cells
        },
        "metrics": [m.label for m in suite.metrics],
        "limit": suite.limit,
        "note": suite.note,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{n: importlib.metadata.version(n) for n in ("unfooled", "torch", "torchvision", "numpy", "scipy")},
        },
    }


def _interpreters(suite: Suite, finished: list[Outcome], units: list[dict]) -> dict[str, dict]:
    costs = _costs(finished, units)
    return {
        p.label: {
            "use": p.use,
            "arguments": plain(p)["arguments"],
            "family": trait(p, "family", "other"),
            "at": trait(p, "at", "input"),
            "signed": trait(p, "signed", False),
            "stochastic": trait(p, "stochastic", False),
            "canary": trait(p, "family", "other") == "canary",
            "source": sources.fingerprint(p),
            "cost": costs[p.label],
        }
        for p in suite.interpreters
        if p.label in costs
    }


def _costs(finished: list[Outcome], units: list[dict]) -> dict[str, dict[str, float]]:
    """Each interpreter's cost, the mean over its settings: memory and Score-CAM's passes hang on the architecture."""
    found: dict[str, list[dict[str, float]]] = {}
    for outcome, unit in zip(finished, units, strict=True):
        found.setdefault(outcome.interpreter, []).append(unit["cost"])
    return {name: {k: float(np.mean([c[k] for c in some])) for k in some[0]} for name, some in found.items()}


def trait(part: Part, name: str, default: object) -> object:
    """What the interpreter that a part names declares of itself, or the default."""
    return plugins.trait(plugins.build("interpreters", part), name, default)


def pictured(setting: Setting) -> bool:
    """One seed of each architecture shows its maps: a page has no room for more, nor has a package."""
    return setting.seed == setting.architecture.seeds[0]


def _save_gallery(suite: Suite, store: Store, made: Run, finished: list[Outcome]) -> None:
    """Maps and images of each split's first few images of each architecture's first seed, for the report."""
    content: dict[str, np.ndarray] = {}
    for s in filter(pictured, suite.settings()):
        for chosen in building.images(s, store):
            most = asking.SHOWN[chosen.split]
            some = {"image": chosen.images[:most], "target": chosen.targets[:most]}
            for what, tensor in some.items():
                content[f"{s.name}//{records.gallery_name(chosen.split, what)}"] = tensor.numpy()
        for o in finished:
            path = store.find("gallery", o.key) if o.setting == s.name else None
            if path:
                with np.load(path) as maps:
                    content |= {f"{s.name}/{o.interpreter}/{name}": maps[name] for name in maps.files}
    publish(made.folder / "gallery.npz", lambda p: np.savez_compressed(p, **content))
