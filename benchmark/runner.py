"""The loop: build what is missing, ask every interpreter in every setting, gather the rows.

Everything finished lies in the store under a key of all that it depends on, so the same command resumes, and adding an
interpreter computes that interpreter alone.
"""

from __future__ import annotations

import datetime
import fcntl
import importlib.resources
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import torch

from unfooled import adaptive, asking, building, cost, gathering, parallel, plugins, records
from unfooled import suite as suites
from unfooled.adaptive import Extent
from unfooled.gathering import Outcome
from unfooled.records import Run
from unfooled.store import Store, Unwritable
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


def store_root(options: Options) -> Path:
    """The folder of the user's store."""
    return options.store or Path(os.environ.get("UNFOOLED_STORE") or Path.home() / ".cache" / "unfooled")


def open_store(options: Options, suite: Suite) -> Store:
    """The user's store over the frozen one that ships with the package."""
    if options.refit:
        return Store(store_root(options) / f"refit-{suite.digest}")
    return Store(store_root(options), (frozen_folder(),))


def frozen_folder() -> Path:
    """Where the frozen twins of the shipped suites lie."""
    return Path(str(importlib.resources.files("unfooled.suites") / "frozen"))


def run(
    suite: Suite,
    interpreters: Iterable[Part] = (),
    options: Options = Options(),
    progress: Progress | None = None,
    extent: Extent | None = None,
) -> Run:
    """Run a suite, with further interpreters beside its own, and save the run in ``options.out``.

    A failing interpreter is recorded in the header's ``failures`` and ends nothing but itself. Raises NothingFinished
    where all of them failed, parallel.Killed where a worker process did not survive. With an ``extent``, models are
    also fooled against the further interpreters, or against the suite's own where there are none: the adaptive track.
    What is known of the suite's own stands beside.
    """
    interpreters = tuple(interpreters)
    suite = asking_too(suite, interpreters, options.device)
    report = progress or (lambda what, done, total: None)
    store = open_store(options, suite)
    with _alone(store) if options.refit else nullcontext():
        return _made(suite, interpreters, store, options, report, extent)


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Nobody else refits this suite at the same time, in the same folder. Raises UnfooledError."""
    store.root.mkdir(parents=True, exist_ok=True)
    folder = os.open(store.root, os.O_RDONLY)
    try:
        _lock(folder, store.root)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, name: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UnfooledError(f"{name}: another --refit of this suite is at work; wait, or name a --store") from None


def _made(
    suite: Suite,
    interpreters: tuple[Part, ...],
    store: Store,
    options: Options,
    report: Progress,
    extent: Extent | None,
) -> Run:
    build(suite, store, options, report)
    outcomes = ask(suite, store, options, report)
    made = gathering.gather(suite, store, options.out, outcomes, _count_run(suite, store_root(options)))
    if extent:
        parts = attacked(suite, interpreters, extent, store)
        attacks = attack(suite, parts, extent, options, report)
        made = gathering.extended(made, suite, parts, extent, store, attacks)
    if options.refit:
        shutil.rmtree(store.root, ignore_errors=True)
    return made


def attacked(suite: Suite, interpreters: tuple[Part, ...], extent: Extent, store: Store) -> tuple[Part, ...]:
    """The further interpreters, and of the suite's own those whose results are there to compare with; else all."""
    if not interpreters:
        return suite.interpreters
    settings = adaptive.settings(suite, extent)
    keys = gathering.unit_keys(settings, suite.interpreters, store)
    there = (p for p in suite.interpreters if p not in interpreters and adaptive.cells(suite, p, extent))
    return *interpreters, *(p for p in there if adaptive.answered(settings, p, extent, store, keys))


def asking_too(suite: Suite, interpreters: Iterable[Part], device: str) -> Suite:
    """The suite with further interpreters, each once. A wrong name, or device, should fail before an hour of work."""
    suite = replace(suite, interpreters=tuple(dict.fromkeys([*suite.interpreters, *interpreters])))
    for part in suite.interpreters:
        plugins.build("interpreters", part)
    _check_device(device)
    return suite


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise UnfooledError(f"device {device!r}: {reason}; cpu works everywhere") from error


def build(suite: Suite, store: Store, options: Options, report: Progress) -> None:
    """Every twin of every setting, on disk; settings side by side. Where all are there, no process is started."""
    settings = [s for s in suite.settings() if not building.finished(s, store)]
    work = [joblib.delayed(_build)(s, store, options.device) for s in settings]
    for done, name in enumerate(parallel.results(work, options.jobs), 1):
        report(f"twins of {name}", done, len(settings))


def _build(setting: Setting, store: Store, device: str) -> str:
    with parallel.one_thread():
        building.Builder(setting, store, device, _say).all()
    return setting.name


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


def ask(suite: Suite, store: Store, options: Options, report: Progress) -> list[Outcome]:
    """Every interpreter in every setting."""
    keys = gathering.unit_keys(suite.settings(), suite.interpreters, store)
    work = {}
    for part in suite.interpreters:
        for s in suite.settings():
            key = keys[s.name, part.label]
            work[s.name, part.label] = key, joblib.delayed(_ask)(s, part, store, options.device, key)
    return _answers(work, "", store, options.jobs, report)


def attack(
    suite: Suite, interpreters: Iterable[Part], extent: Extent, options: Options, report: Progress
) -> list[Outcome]:
    """Every interpreter asked about models that were fooled against it alone; canaries are let be."""
    store = open_store(options, suite)
    parts = [p for p in interpreters if adaptive.cells(suite, p, extent)]
    settings = adaptive.settings(suite, extent)
    keys = gathering.unit_keys(settings, parts, store)
    work = {}
    for part in parts:
        for s in settings:
            key = keys[s.name, part.label]
            name = adaptive.rows_key(s, part, extent, key)
            work[s.name, part.label] = name, joblib.delayed(_attack)(s, part, extent, store, options.device, key)
    return _answers(work, "models fooled against ", store, options.jobs, report)


def _answers(
    work: Mapping[tuple[str, str], tuple[str, tuple]], words: str, store: Store, jobs: int, report: Progress
) -> list[Outcome]:
    """Outcomes of (setting, interpreter) → (what names its rows, the work that makes them), in that order.

    What was answered before is found, and no process is started for it.
    """
    paths = {unit: store.find("rows", name) for unit, (name, _) in work.items()}
    outcomes = {unit: Outcome(*unit, path=path) for unit, path in paths.items() if path}
    if outcomes:
        report("answers found", len(outcomes), len(work))
    missing = [task for unit, (_, task) in work.items() if unit not in outcomes]
    for outcome in parallel.results(missing, jobs):
        outcomes[outcome.setting, outcome.interpreter] = outcome
        report(f"{words}{outcome.interpreter} in {outcome.setting}", len(outcomes), len(work))
    return [outcomes[unit] for unit in work]


def _attack(setting: Setting, part: Part, extent: Extent, store: Store, device: str, key: str) -> Outcome:
    return _outcome(setting, part, lambda: adaptive.answers(setting, part, extent, store, key, device, _say))


def _ask(setting: Setting, part: Part, store: Store, device: str, key: str) -> Outcome:
    """One unit of work. Whatever an interpreter raises is its own failure and recorded as such."""
    return _outcome(setting, part, lambda: _interview(setting, part, store, device, key))


def _outcome(setting: Setting, part: Part, make: Callable[[], Path]) -> Outcome:
    try:
        with parallel.one_thread():
            return Outcome(setting.name, part.label, path=make())
    except Unwritable:
        raise  # a full disk is nobody's failing but the disk's
    except UnfooledError as error:
        return Outcome(setting.name, part.label, reason=str(error))
    except (Exception, SystemExit) as error:
        reason = f"{plugins.raised(part.label, error)}; it must answer with maps for every twin"
        return Outcome(setting.name, part.label, reason=reason)


def _interview(setting: Setting, part: Part, store: Store, device: str, key: str) -> Path:
    splits = building.images(setting, store)
    twins = building.load_twins(setting, store, splits[0], device)
    classes = building.class_count(setting, store)
    answer = asking.interview(part, setting, twins, splits, classes, device)
    header = {
        "root": answer.root,
        "localisation": answer.localisation,
        "cost": cost.measure(part, twins[0].model, splits[0].images[:4], splits[0].targets[:4], device),
    }
    if gathering.pictured(setting):
        store.put("gallery", key, ".npz", lambda p: np.savez_compressed(p, **answer.shown))
    return store.put("rows", key, ".parquet", lambda p: records.write_rows(p, answer.rows, header))


def _count_run(suite: Suite, root: Path) -> int:
    """How many runs of this suite the user's store has seen, this one included."""
    folder = root / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    (folder / f"{suite.digest}-{stamp}-{os.getpid()}").touch()
    return len(list(folder.glob(f"{suite.digest}-*")))


def prepared(source: str, data: str | None = None, seed: int | None = None, limit: int | None = None) -> Suite:
    """A suite as a command asks for it."""
    suite = suites.load(source)
    changes = {"data_dir": data, "seed": seed, "limit": limit}
    return replace(suite, **{name: value for name, value in changes.items() if value is not None})


def narrowed(suite: Suite, interpreters: tuple[Part, ...]) -> Suite:
    """The suite asking these interpreters and its canaries alone."""
    if not interpreters:
        raise UnfooledError("run: --only needs an --interpreter to ask")
    canaries = tuple(p for p in suite.interpreters if gathering.trait(p, "family", "other") == "canary")
    return replace(suite, interpreters=(*interpreters, *canaries))
