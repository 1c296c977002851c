"""Recompute what a submitter could not foresee, in a sandbox, and write what was found beside the entry."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from torch import Tensor

from unfooled import building, plugins, runner, seeding
from unfooled import suite as suites
from unfooled.asking import Interview, Question, joined
from unfooled.leaderboard import challenge, checker, sandbox, spotcheck, submission
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.checker import Filed
from unfooled.leaderboard.entry import SUFFIX, VERIFIED, Block, Entry, as_json
from unfooled.leaderboard.names import printable
from unfooled.leaderboard.reference import Reference, of_suite
from unfooled.leaderboard.sandbox import Limits, Worker
from unfooled.leaderboard.verified import Challenge, Enforced, Recomputed, Verified
from unfooled.store import Store, publish
from unfooled.suite import Setting, Suite
from unfooled.types import Maps, Part, UnfooledError

Say = Callable[[str], None]


class NotComparable(UnfooledError):
    """The twins that an entry was run on are not here."""

    exit_code = 4


@dataclass(frozen=True)
class Options:
    """How much is recomputed, and under which limits."""

    cells: int = 3
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """what makes the draw unforeseeable"""
    with_challenge: bool = True
    device: str = "cpu"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9_-]{1,64}", self.nonce):
            raise UnfooledError(f"verify: the nonce is {self.nonce!a}; up to 64 letters, digits, _ and - are right")


def verify_file(path: Path, suite: str | None, store: Path | None, options: Options, say: Say) -> Verified:
    """``verify`` by names: the suite is a file, or None for the shipped one that the entry names."""
    named = suite or checker.named_suite(path)
    what = suites.load(named)
    return verify(path, what, runner.open_store(runner.Options(store=store), what), options, say)


def verify(path: Path, suite: Suite, store: Store, options: Options, say: Say) -> Verified:
    """Verify the entry in a file and write the outcome beside it. Raises UnfooledError where that cannot be begun."""
    started = time.monotonic()
    filed = _checked(path, of_suite(suite, store))
    settings = {s.name: s for s in suite.settings()}
    isolation = sandbox.prefix()
    work = _Work(filed.entry, settings, store, options, isolation, say)
    found = work.done()
    verified = Verified(
        format=1,
        entry=filed.digest,
        outcome="failed" if found.failure else "differs" if found.reasons else "verified",
        reasons=[printable(r, 390) for r in ([found.failure] if found.failure else found.reasons)[:50]],
        nonce=options.nonce,
        cells=found.cells,
        **spotcheck.totals(filed.entry, found.cells),
        challenge=found.challenge,
        enforced=Enforced.model_validate(sandbox.enforced(isolation)),
        source=found.source,
        versions=_versions(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
    )
    beside = path.with_name(path.name.removesuffix(SUFFIX) + VERIFIED)
    publish(beside, lambda part: part.write_bytes(as_json(verified)))
    beside.chmod(0o644)
    return verified


def _checked(path: Path, reference: Reference) -> Filed:
    """The file's entry. Raises UnfooledError with the checker's first complaint, NotComparable for other twins."""
    found = checker.check([path], {reference.name: reference})
    if not found.passed:
        raise checker.Refused(str(found.complaints[0]))
    entry = found.passed[0].entry
    for name, facts in sorted(entry.settings.items()):
        if reference.twins.get(name) != facts.twins:
            raise NotComparable(f"{path.name}: the twins of {name} are not in the store; run {reference.name} once")
    return found.passed[0]


def summary(found: Verified) -> str:
    """The outcome in one line."""
    agreed = sum(cell.agrees for cell in found.cells)
    parts = [f"{found.outcome}: {agreed} of {len(found.cells)} cells agree"]
    if found.recomputed is not None:
        parts.append(f"stability on them {found.recomputed:.3f}, reported {found.reported:.3f}")
    if found.challenge and found.challenge.gap is not None:
        parts.append(f"gap on new networks {found.challenge.gap:.3f}, {found.challenge.allowed:.3f} allowed")
    return "; ".join([*parts, f"network: {found.enforced.network}"])


@dataclass
class _Found:
    """What the work came to."""

    cells: list[Recomputed] = field(default_factory=list)
    challenge: Challenge | None = None
    reasons: list[str] = field(default_factory=list)
    failure: str = ""
    source: str = "unknown"


@dataclass(frozen=True)
class _Work:
    """One verification: the drawn cells in one process, while another fits the challenge's networks."""

    entry: Entry
    settings: dict[str, Setting]
    store: Store
    options: Options
    isolation: list[str]
    say: Say

    def done(self) -> _Found:
        found = _Found()
        suite = next(iter(self.settings.values())).suite
        fresh = challenge.setting(self.entry, suite.metrics, self.options.nonce)
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
            made = pool.submit(challenge.make, fresh, Path(folder)) if self._has_challenge else None
            try:
                part = as_suite(self.entry.method.part)
                with sandbox.worker(
                    part, self.entry.method.at, self.options.limits, self.options.device, self.isolation
                ) as worker:
                    self._recompute(worker, found)
                    if made:
                        self._challenge(worker, fresh, Store(Path(folder)), made, found)
            except UnfooledError as error:
                found.failure = str(error)
        return found

    @property
    def _has_challenge(self) -> bool:
        """An entry whose metrics do not count has no stability that could carry over."""
        return self.options.with_challenge and not checker.unranked(self.entry)

    def _recompute(self, worker: Worker, found: _Found) -> None:
        found.source = "same" if worker.traits.get("fingerprint") == self.entry.method.fingerprint else "changed"
        found.reasons += list(_traits(self.entry, worker))
        for name, cells in spotcheck.drawn(self.entry, self.options.cells, self.options.nonce).items():
            self.say(f"{name}: {', '.join(cells)}")
            blocks = self._blocks(worker, self.settings[name], cells)
            for cell in cells:
                one = spotcheck.compared(self.entry, name, cell, blocks)
                found.cells.append(one)
                if not one.agrees:
                    found.reasons.append(
                        f"{name}, {cell}: differs by {one.worst[1]:.4f}, {one.worst[0]:.1f} × its tolerance"
                    )

    def _blocks(self, worker: Worker, setting: Setting, cells: Sequence[str]) -> dict[str, Block]:
        """The setting's parts on each split that these cells need, from fresh maps."""
        splits = {self._split(cell) for cell in cells}
        images = building.images(setting, self.store)
        twins = building.load_twins(setting, self.store, images[0], self.options.device)
        twins = [t for t in twins if t.kind != "fooled" or t.cell in cells]
        study = _study(self.entry, worker, setting, twins, [i for i in images if i.split in splits], self.options)
        return {b.split: Block.model_validate(submission.part_of(b)) for b in study.blocks}

    def _split(self, cell: str) -> str:
        return next(b.split for b in self.entry.parts if cell in b.cells)

    def _challenge(self, worker: Worker, fresh: Setting, store: Store, made: Future, found: _Found) -> None:
        self.say("challenge: new scenes, a freshly fooled network")
        made.result()
        images = building.images(fresh, store)
        twins = building.load_twins(fresh, store, images[0], self.options.device)
        study = _study(self.entry, worker, fresh, twins, images, self.options)
        cell = fresh.suite.cells[0]
        certificate = building.certificate(fresh, store, fresh.fooled_key(cell), fresh.certificate_key(cell))
        found.challenge = challenge.judged(self.entry, fresh, challenge.Outcome(study, certificate, len(images[0])))
        gap, allowed = found.challenge.gap, found.challenge.allowed
        if gap is not None and gap > allowed:
            found.reasons.append(
                f"challenge: reported stability is {gap:.3f} above that on new networks, {allowed:.3f} allowed"
            )


@dataclass(frozen=True)
class _Shuffled(Interview):
    """An interview that asks the twins of every chunk in an order that the nonce decides."""

    nonce: str = ""

    def _ask(
        self, asked: list[Question], images: Tensor, targets: Tensor, split: str, number: int
    ) -> dict[int, dict[str, Maps]]:
        stream = seeding.numpy_generator("order", self.nonce, self.setting.name, split, number)
        order = stream.permutation(len(asked)).tolist()
        return {i: self._maps(asked[i], images, targets, split, number) for i in order}


def _study(
    entry: Entry, worker: Worker, setting: Setting, twins: list, images: list[building.Images], options: Options
) -> st.Study:
    """Fresh maps of the worker's interpreter, scored here, as a study of one interpreter."""
    label = entry.method.part.label
    metrics = {m.label: plugins.build("metrics", m) for m in setting.suite.metrics}
    classes = twins[0].model(images[0].images[:1].to(options.device)).shape[1]
    asker = _Shuffled(label, worker, metrics, setting, classes, options.device, options.nonce)
    rows = joined([asker.rows(twins, one).rows for one in images])
    header = {"interpreters": {label: {"family": entry.method.family, "at": entry.method.at}}}
    return st.study(rows, header, submission.POLARITY, entry.method.at, [m.name for m in entry.metrics])


def as_suite(part: Part) -> dict[str, object]:
    """A part as a suite file writes it."""
    return {"use": part.use, **{k: as_suite(v) if isinstance(v, Part) else v for k, v in part.arguments.items()}}


def _traits(entry: Entry, worker: Worker) -> list[str]:
    """What the interpreter says of itself, where the entry says something else."""
    said = {name: getattr(entry.method, name) for name in ("family", "at", "signed", "stochastic")}
    return [
        f"method.{name}: the entry says {value}, the interpreter {worker.traits.get(name)}"
        for name, value in said.items()
        if worker.traits.get(name) != value
    ]


def _versions() -> dict[str, str]:
    ours = {name: importlib.metadata.version(name) for name in ("unfooled", "torch", "torchvision", "numpy", "scipy")}
    return {"python": platform.python_version(), **ours}
