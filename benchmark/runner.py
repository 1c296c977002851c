"""The loop: build what is missing, ask every interpreter in every setting, gather the rows.

Everything finished lies in the store under a key of all that it depends on, so the same command resumes, and adding an
interpreter computes that interpreter alone.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.resources
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pyarrow.parquet as pq
import torch

from unfooled import asking, building, cost, plugins, records, sources
from unfooled import suite as suites
from unfooled.records import Run
from unfooled.store import Store, digest, plain, publish
from unfooled.suite import Setting, Suite
from unfooled.types import Part, UnfooledError

Progress = Callable[[str, int, int], None]
"""(what was finished, how many are, of how many)"""


@dataclass(frozen=True)
class Options:
    """How a run is made; nothing here changes a number."""

    jobs: int = 1
    """processes, one thread each"""
    device: str = "cpu"
    store: Path | None = None
    """where finished work lies; None: $UNFOOLED_STORE, else .cache/unfooled in the home folder"""
    out: Path = Path("runs")
    refit: bool = False
    """make every network from nothing, frozen ones too"""


@dataclass(frozen=True)
class Outcome:
    """One unit of work, finished or failed."""

    setting: str
    interpreter: str
    path: Path | None = None
    reason: str = ""


def open_store(options: Options, suite: Suite) -> Store:
    """The user's store over the frozen one that ships with the package."""
    root = options.store or Path(os.environ.get("UNFOOLED_STORE") or Path.home() / ".cache" / "unfooled")
    if options.refit:
        return Store(root / f"refit-{suite.digest}")
    return Store(root, (frozen_folder(),))


def frozen_folder() -> Path:
    """Where the frozen twins of the shipped suites lie."""
    return Path(str(importlib.resources.files("unfooled.suites") / "frozen"))


def run(
    suite: Suite, interpreters: Iterable[Part] = (), options: Options = Options(), progress: Progress | None = None
) -> Run:
    """Run a suite, with further interpreters beside its own, and save the run in ``options.out``.

    A failing interpreter is recorded in the header's ``failures`` and ends nothing but itself.
    """
    suite = replace(suite, interpreters=tuple(dict.fromkeys([*suite.interpreters, *interpreters])))
    for part in suite.interpreters:
        plugins.build("interpreters", part)  # a name that is wrong should fail before an hour of work
    report = progress or (lambda what, done, total: None)
    store = open_store(options, suite)
    build(suite, store, options, report)
    outcomes = ask(suite, store, options, report)
    made = _gather(suite, store, options, outcomes)
    if options.refit:
        shutil.rmtree(store.root, ignore_errors=True)
    return made


def build(suite: Suite, store: Store, options: Options, report: Progress) -> None:
    """Every twin of every setting, on disk; settings side by side."""
    settings = suite.settings()
    work = [joblib.delayed(_build)(s, store, options.device) for s in settings]
    for done, name in enumerate(_in_parallel(work, options.jobs), 1):
        report(f"twins of {name}", done, len(settings))


def _build(setting: Setting, store: Store, device: str) -> str:
    torch.set_num_threads(1)
    building.Builder(setting, store, device, lambda text: print(f"  {text}", file=sys.stderr)).all()
    return setting.name


def ask(suite: Suite, store: Store, options: Options, report: Progress) -> list[Outcome]:
    """Every interpreter in every setting: a setting's twins are loaded once for several interpreters."""
    batches = [(s, part) for part in suite.interpreters for s in suite.settings()]
    work = [joblib.delayed(_ask)(s, part, store, options.device) for s, part in batches]
    outcomes = []
    for outcome in _in_parallel(work, options.jobs):
        outcomes.append(outcome)
        report(f"{outcome.interpreter} in {outcome.setting}", len(outcomes), len(work))
    return outcomes


def _in_parallel(work: list, jobs: int) -> Iterator:
    """Results as they come, in the order of the work. One job stays in this process."""
    if min(jobs, len(work)) <= 1:
        torch.set_num_threads(1)
        yield from (function(*arguments, **keywords) for function, arguments, keywords in work)
        return
    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        yield from joblib.Parallel(return_as="generator")(work)


def unit_key(setting: Setting, part: Part, store: Store) -> str:
    """Names the rows of an interpreter in a setting: the twins' files, the interpreter's source, what is scored how."""
    s = setting.suite
    return digest(
        "rows", records.FORMAT, building.twins_digest(setting, store), setting.name, part, sources.fingerprint(part),
        s.metrics, s.polarities, s.chunk, s.draws, s.seed, s.limit, torch.__version__,
    )  # fmt: skip


def _ask(setting: Setting, part: Part, store: Store, device: str) -> Outcome:
    """One unit of work. Whatever an interpreter raises is its own failure and recorded as such."""
    torch.set_num_threads(1)
    key = unit_key(setting, part, store)
    found = store.find("rows", key)
    if found is None:
        try:
            found = _interview(setting, part, store, device, key)
        except UnfooledError as error:
            return Outcome(setting.name, part.label, reason=str(error))
        except Exception as error:
            return Outcome(setting.name, part.label, reason=_told(part.label, error))
    return Outcome(setting.name, part.label, path=found)


def _interview(setting: Setting, part: Part, store: Store, device: str, key: str) -> Path:
    splits = building.images(setting, store)
    twins = building.load_twins(setting, store, splits[0], device)
    classes = twins[0].model(splits[0].images[:1].to(device)).shape[1]
    answer = asking.interview(part, setting, twins, splits, classes, device)
    header = {
        "root": answer.root,
        "cost": cost.measure(part, twins[0].model, splits[0].images[:4], splits[0].targets[:4], device),
    }
    store.put("gallery", key, ".npz", lambda p: np.savez_compressed(p.open("wb"), **answer.shown))
    return store.put("rows", key, ".parquet", lambda p: records.write_rows(p, answer.rows, header))


def _told(label: str, error: Exception) -> str:
    """An exception in one line, with the place it came from."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    place = f" ({Path(frames.tb_frame.f_code.co_filename).name}:{frames.tb_lineno})" if frames else ""
    text = " ".join(str(error).split())[:300]
    return f"{label}: raised {type(error).__name__}: {text}{place}; it must answer with maps for every twin"


def _gather(suite: Suite, store: Store, options: Options, outcomes: list[Outcome]) -> Run:
    """Finished units as one run in a folder of its own."""
    finished = [o for o in outcomes if o.path]
    if not finished:
        reasons = "; ".join(dict.fromkeys(o.reason for o in outcomes))
        raise UnfooledError(f"{suite.name}: every interpreter failed: {reasons}")
    tables = [pq.ParquetFile(o.path) for o in finished]
    rows = asking.joined([t.read().to_pandas() for t in tables])
    units = [json.loads(t.schema_arrow.metadata[records.KEY]) for t in tables]
    header = {
        **describe(suite, store),
        "interpreters": _interpreters(suite, finished, units),
        "roots": {f"{o.setting}/{o.interpreter}": u["root"] for o, u in zip(finished, units, strict=True)},
        "failures": [
            {"setting": o.setting, "interpreter": o.interpreter, "reason": o.reason} for o in outcomes if o.reason
        ],
        "runs_made": _count_run(suite, store),
    }
    folder = options.out / f"{suite.name}-{digest(header['suite'], list(header['interpreters']))[:8]}"
    made = Run(rows, header, folder)
    records.save(made)
    _save_gallery(suite, store, made)
    return made


def describe(suite: Suite, store: Store) -> dict:
    """The header's part that does not depend on the interpreters."""
    families = {c.against.label: _trait(c.against, "family", "other") for c in suite.cells}
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
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{n: importlib.metadata.version(n) for n in ("unfooled", "torch", "torchvision", "numpy", "scipy")},
        },
    }


def _interpreters(suite: Suite, finished: list[Outcome], units: list[dict]) -> dict[str, dict]:
    costs = {o.interpreter: u["cost"] for o, u in zip(finished, units, strict=True)}
    return {
        p.label: {
            "use": p.use,
            "arguments": plain(p)["arguments"],
            "family": _trait(p, "family", "other"),
            "at": _trait(p, "at", "input"),
            "signed": _trait(p, "signed", False),
            "stochastic": _trait(p, "stochastic", False),
            "canary": _trait(p, "family", "other") == "canary",
            "source": sources.fingerprint(p),
            "cost": costs[p.label],
        }
        for p in suite.interpreters
        if p.label in costs
    }


def _trait(part: Part, name: str, default: object) -> object:
    return plugins.trait(plugins.build("interpreters", part), name, default)


def _count_run(suite: Suite, store: Store) -> int:
    """How many runs of this suite the store has seen, this one included."""
    folder = store.root / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    (folder / f"{suite.digest}-{stamp}-{os.getpid()}").touch()
    return len(list(folder.glob(f"{suite.digest}-*")))


def _save_gallery(suite: Suite, store: Store, made: Run) -> None:
    """Maps and images of the first few test images of each architecture's first seed, for the report."""
    content: dict[str, np.ndarray] = {}
    seen: set[str] = set()
    for s in suite.settings():
        if s.architecture.name in seen:
            continue
        seen.add(s.architecture.name)
        chosen = building.images(s, store)[0]
        content[f"{s.name}//image"] = chosen.images[: asking.SHOWN].numpy()
        content[f"{s.name}//target"] = chosen.targets[: asking.SHOWN].numpy()
        for part in suite.interpreters:
            path = store.find("gallery", unit_key(s, part, store))
            if path:
                with np.load(path) as maps:
                    content |= {f"{s.name}/{part.label}/{name}": maps[name] for name in maps.files}
    publish(made.folder / "gallery.npz", lambda p: np.savez_compressed(p.open("wb"), **content))


def prepared(source: str, data: str | None = None, seed: int | None = None, limit: int | None = None) -> Suite:
    """A suite as a command asks for it."""
    suite = suites.load(source)
    changes = {"data_dir": data, "limit": limit} | ({} if seed is None else {"seed": seed})
    return replace(suite, **changes)


def narrowed(suite: Suite, interpreters: tuple[Part, ...]) -> Suite:
    """The suite asking these interpreters and its canaries alone."""
    if not interpreters:
        raise UnfooledError("run: --only needs an --interpreter to ask")
    canaries = tuple(p for p in suite.interpreters if _trait(p, "family", "other") == "canary")
    return replace(suite, interpreters=(*interpreters, *canaries))


def plan(suite: Suite, interpreters: Iterable[Part], options: Options) -> str:
    """What a run would find and what it would have to make, in words."""
    store = open_store(options, suite)
    lines = [f"{suite.name} version {suite.version}, digest {suite.digest}"]
    missing = 0
    for s in suite.settings():
        keys = [s.original_key, s.honest_key, *(s.fooled_key(c) for c in suite.cells)]
        found = sum(store.find("weights", key) is not None for key in keys)
        missing += len(keys) - found
        lines.append(f"{s.name}: {found} of {len(keys)} networks found, {len(keys) - found} to make")
    parts = dict.fromkeys([*suite.interpreters, *interpreters])
    lines.append(f"then {len(parts)} interpreters × {len(suite.settings())} settings, {options.jobs} processes")
    lines.append("nothing to make" if not missing else f"{missing} networks to make, which takes the most time")
    return "\n".join(lines)
