"""An entry's drawn cells and the challenge, asked of a sandboxed interpreter and scored here."""

from __future__ import annotations

import copy
import functools
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

from unfooled import building, plugins, records, seeding
from unfooled.asking import Interview, Question
from unfooled.leaderboard import challenge, checker, sandbox, spotcheck, submission
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.blocks import CONTROLS
from unfooled.leaderboard.entry import Block, Entry
from unfooled.leaderboard.sandbox import Limits, Worker
from unfooled.leaderboard.verified import Challenge, Recomputed
from unfooled.store import Store, Unwritable
from unfooled.suite import Setting
from unfooled.types import Maps, Part, UnfooledError

Say = Callable[[str], None]

ADAPTIVE = "adaptive stability: reported, not verified"
"""models fooled against the entry's own interpreter would have to be made again"""

UNCOMPARED = {*CONTROLS} - {"independent"}
"""controls that calibrate nothing"""

INDEPENDENT = "the independent network: no cell was drawn on its images"


@dataclass(frozen=True)
class Options:
    """How much is recomputed, and under which limits."""

    cells: int = 3
    enough: int = 60
    """no further setting is begun once the cells are expected to take more seconds of processor time than this"""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """what makes the draw unforeseeable"""
    with_challenge: bool = True
    device: str = "cpu"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9_-]{1,64}", self.nonce):
            raise UnfooledError(f"verify: the nonce is {self.nonce!a}; up to 64 letters, digits, _ and - are right")


@dataclass
class Found:
    """What the work came to."""

    cells: list[Recomputed] = field(default_factory=list)
    challenge: Challenge | None = None
    reasons: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    failure: str = ""
    source: str = "unknown"


@dataclass(frozen=True)
class Work:
    """One verification: the drawn cells in one process, while another makes the challenge's networks, once a nonce."""

    entry: Entry
    settings: dict[str, Setting]
    store: Store
    options: Options
    isolation: list[str]
    say: Say

    def done(self) -> Found:
        method, options = self.entry.method, self.options
        found = Found(unchecked=[ADAPTIVE] if any(c.adaptive for c in self.entry.cells.values()) else [])
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            made = pool.submit(challenge.make, self._fresh, self.store) if self._lacks_networks else None
            try:
                part = as_suite(method.part)
                with sandbox.worker(part, method.at, options.limits, options.device, self.isolation) as worker:
                    each = self._recompute(worker, found)
                    found.unchecked += [INDEPENDENT] * _independent_unasked(self.entry, found.cells)
                    if self._has_challenge and self._in_time(worker.spent + each, found):
                        self._challenge(worker, made, found)
            except Unwritable:
                raise  # a full disk is nobody's failing but the disk's
            except UnfooledError as error:
                found.failure = str(error)
        return found

    @functools.cached_property
    def _fresh(self) -> Setting:
        suite = next(iter(self.settings.values())).suite
        return challenge.setting(self.entry, suite.metrics, self.options.nonce)

    @property
    def _has_challenge(self) -> bool:
        """An entry whose metrics do not count has no stability that could carry over."""
        return self.options.with_challenge and not checker.unranked(self.entry)

    @property
    def _lacks_networks(self) -> bool:
        return self._has_challenge and not building.finished(self._fresh, self.store)

    def _recompute(self, worker: Worker, found: Found) -> float:
        """Ask the drawn cells again, setting by setting; the seconds of processor time that a setting took."""
        found.source = "same" if worker.traits.get("fingerprint") == self.entry.method.fingerprint else "changed"
        found.reasons += list(_traits(self.entry, worker))
        drawn = spotcheck.drawn(self.entry, self.options.cells, self.options.nonce)
        begun, each = worker.spent, 0.0
        for done, (name, cells) in enumerate(drawn.items()):
            if done and each * (done + 1) > self.options.enough:
                left = sum(map(len, drawn.values())) - len(found.cells)
                found.unchecked.append(f"{left} of the drawn cells: slow, {each:.0f} s a setting")
                break
            self.say(f"{name}: {', '.join(cells)}")
            self._ask_again(name, cells, worker, found)
            each = (worker.spent - begun) / (done + 1)
        return each

    def _ask_again(self, name: str, cells: list[str], worker: Worker, found: Found) -> None:
        blocks = self._blocks(worker, self.settings[name], cells)
        for cell in cells:
            one = spotcheck.compared(self.entry, name, cell, blocks)
            found.cells.append(one)
            found.reasons += list(spotcheck.silenced(self.entry, name, cell, blocks))
            if not one.agrees:
                found.reasons.append(
                    f"{name}, {cell}: differs by {one.worst[1]:.4f}, {one.worst[0]:.1f} times its tolerance"
                )

    def _blocks(self, worker: Worker, setting: Setting, cells: Sequence[str]) -> dict[str, Block]:
        """The setting's parts on each split that these cells need, from fresh maps."""
        splits = {self._split(cell) for cell in cells}
        images = building.images(setting, self.store)
        twins = building.load_twins(setting, self.store, images[0], self.options.device)
        twins = [t for t in twins if t.kind != "fooled" or t.cell in cells]
        images = [i for i in images if i.split in splits]
        study = self._study(worker, setting, twins, images, shaken=not self.entry.method.stochastic)
        return {b.split: Block.model_validate(submission.part_of(b)) for b in study.blocks}

    def _split(self, cell: str) -> str:
        return next(b.split for b in self.entry.parts if cell in b.cells)

    def _in_time(self, expected: float, found: Found) -> bool:
        """A challenge costs about two thirds of a setting; what would break the limit is not begun."""
        if expected > self.options.limits.seconds:
            found.unchecked.append(f"the challenge: slow, {expected:.0f} s expected in all")
        return expected <= self.options.limits.seconds

    def _challenge(self, worker: Worker, made: Future | None, found: Found) -> None:
        self.say("challenge: new scenes, a freshly fooled network")
        if made:
            made.result()
        fresh, store = self._fresh, self.store
        images = building.images(fresh, store)
        twins = building.load_twins(fresh, store, images[0], self.options.device)
        study = self._study(worker, fresh, twins, images, shaken=False)
        cell = fresh.suite.cells[0]
        certificate = building.certificate(fresh, store, fresh.fooled_key(cell), fresh.certificate_key(cell))
        found.challenge = challenge.judged(self.entry, fresh, challenge.Outcome(study, certificate, len(images[0])))
        found.reasons += list(challenge.complaints(found.challenge, float(st.coverage(study)[0])))

    def _study(
        self, worker: Worker, setting: Setting, twins: list, images: list[building.Images], shaken: bool
    ) -> st.Study:
        """Fresh maps of the worker's interpreter, scored here, as a study of one interpreter."""
        entry, label = self.entry, self.entry.method.part.label
        metrics = {m.label: plugins.build("metrics", m) for m in setting.suite.metrics}
        classes = building.class_count(setting, self.store)
        asker = _Shuffled(label, worker, metrics, setting, classes, self.options.device, self.options.nonce, shaken)
        rows = records.joined([asker.rows(twins, one).rows for one in images])
        header = {"interpreters": {label: {"family": entry.method.family, "at": entry.method.at}}}
        return st.study(rows, header, submission.POLARITY, entry.method.at, [m.name for m in entry.metrics])


@dataclass(frozen=True)
class _Shuffled(Interview):
    """An interview that asks the twins of every chunk in an order that the nonce decides, and nothing in vain."""

    nonce: str = ""
    shaken: bool = False
    """ask about the original a second time, under another jitter of its weights: what comes of it is allowed for"""

    def _ask(
        self, asked: list[Question], images: building.Images, number: int
    ) -> Iterator[tuple[int, dict[str, Maps]]]:
        stream = seeding.numpy_generator("order", self.nonce, self.setting.name, images.split, number)
        # The original's maps stand in the place of those that nobody compares.
        needed = {i: question for i, question in enumerate(asked) if question.twin not in UNCOMPARED}
        if self.shaken:  # the sandbox jitters every network that it has not seen, and a copy is one
            needed |= {i: replace(q, model=copy.deepcopy(q.model)) for i, q in enumerate(asked) if q.twin == "self"}
        order = stream.permutation(sorted(needed)).tolist()
        found = {i: self._maps(needed[i], images, number) for i in order}
        yield from ((i, found.get(i, found[0])) for i in range(len(asked)))


def _independent_unasked(entry: Entry, cells: Sequence[Recomputed]) -> bool:
    return any(b.independent for b in entry.parts) and not any(c.independent for c in cells)


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
