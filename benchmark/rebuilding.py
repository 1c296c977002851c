"""Three cells of a built suite made again from nothing: do their figures come out as they were recorded?

The setting is the suite's first VGG (its first of all where there is none), the cells are the first of each
manipulation, in the suite's order, filled up with the next. Each is fooled with the weight that its recorded search
chose. On the machine and with the thread count that made the recorded networks the files come out the same to the last
bit; elsewhere sums are taken in another order, training drifts apart, and a figure may differ by three times its
deviation between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from unfooled import adaptive, asking, building, gathering, models, parallel
from unfooled.building import Builder, Say
from unfooled.leaderboard.stability import LEAST_RANGE, study
from unfooled.searching import Judge
from unfooled.store import Store
from unfooled.suite import CellSpec, Setting, Suite
from unfooled.types import Part, UnfooledError

CELLS = 3
DEVIATIONS = 3
"""how many of them a figure may be off"""

FIGURES = {
    "corrected rate": ("rates", "corrected"),
    "accuracy": ("kept", "accuracy"),
    "agreement": ("kept", "agreement"),
    "KL": ("kept", "divergence"),
    "distance": ("kept", "distance"),
}
"""a certificate's figures, all of the test split, and where they stand in it"""


class NotBuilt(UnfooledError):
    """There are no networks yet to compare with."""

    exit_code = 5


@dataclass(frozen=True)
class Line:
    """One figure of a cell, as recorded and as it came out."""

    cell: str
    figure: str
    recorded: float
    rebuilt: float
    between_seeds: float
    """standard deviation over the settings of this architecture, see ``between_seeds``; NaN where there is but one"""
    least: float
    """what stands in for a smaller one: the error of a mean over the figure's images; a tenth of KL and distance"""

    @property
    def allowed(self) -> float:
        return DEVIATIONS * float(np.fmax(self.between_seeds, self.least))

    @property
    def within(self) -> bool:
        return abs(self.rebuilt - self.recorded) <= self.allowed


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    setting: str
    seeds: int
    """settings that the deviation was taken over"""
    lines: tuple[Line, ...]
    identical: int
    """networks whose file is the recorded one to the last bit"""
    networks: int
    unheard: tuple[str, ...] = ()
    """attacked interpreters whose stability cannot be compared: nobody's rows of the built networks are there"""

    @property
    def failed(self) -> bool:
        return not all(line.within for line in self.lines)


def chosen_cells(suite: Suite) -> tuple[CellSpec, ...]:
    """The first cell of each manipulation, then the others, three in all where there are as many."""
    first = {c.manipulation.use: c for c in reversed(suite.cells)}
    firsts = [c for c in suite.cells if first[c.manipulation.use] is c]
    return tuple([*firsts, *(c for c in suite.cells if c not in firsts)][:CELLS])


def check(suite: Suite, store: Store, folder: Path, device: str, say: Say) -> Outcome:
    """Make the cells again in the folder, which must be empty, and compare. Raises NotBuilt; the store is only read."""
    setting = adaptive.settings(suite, "quick")[0]
    if not building.finished(setting, store):
        raise NotBuilt(f"{suite.name}: {setting.name} is not built; `unfooled build` makes what --check compares with")
    with parallel.one_thread():
        return Rebuilding(setting, store, Store(folder), device, say).outcome()


@dataclass(frozen=True)
class Rebuilding:
    """One setting made again in a store of its own, beside the one that holds what was recorded."""

    setting: Setting
    recorded: Store
    again: Store
    device: str
    say: Say

    @cached_property
    def cells(self) -> tuple[CellSpec, ...]:
        return chosen_cells(self.setting.suite)

    @cached_property
    def siblings(self) -> list[Setting]:
        """The built settings of the same architecture, this one included."""
        same = [s for s in self.setting.suite.settings() if s.architecture == self.setting.architecture]
        return [s for s in same if building.finished(s, self.recorded)]

    @cached_property
    def narrow(self) -> Setting:
        """The setting as if its suite had it and these cells alone, scored in one polarity."""
        suite, alone = self.setting.suite, replace(self.setting.architecture, seeds=(self.setting.seed,))
        small = replace(suite, architectures=(alone,), cells=self.cells, polarities=suite.polarities[:1])
        return Setting(small, alone, self.setting.seed)

    def outcome(self) -> Outcome:
        lines = [*self._certified(), *self._stabilities()]
        lines.sort(key=lambda line: [c.name for c in self.cells].index(line.cell))
        s = self.setting
        keys = [s.original_key, s.honest_key, *(s.fooled_key(c) for c in self.cells)]
        files = [(self.recorded.find("weights", k), self.again.find("weights", k)) for k in keys]
        same = sum(a.name == b.name for a, b in files)  # a file's name holds the hash of its content
        unheard = tuple(dict.fromkeys(p.label for c in self.cells if (p := self._asks(c)) and not self._rows(p)))
        return Outcome(s.name, len(self.siblings), tuple(lines), same, len(files), unheard)

    def _certified(self) -> Iterator[Line]:
        """Original and honest twin first, then each cell's twin, which is asked for the figures of its certificate."""
        builder = Builder(self.setting, self.again, self.device, self.say)
        data = building.splits(self.setting, self.device)
        original = builder.original(data)
        honest = builder.honest(data, original)
        for cell in self.cells:
            judge = Judge(self.setting, cell, data, original, honest)
            found = judge.figures(builder.load(self._fooled(judge), len(data.classes)))
            images = {"rates": len(judge.manipulation.judged_on(data, "test", self.setting.suite.judged)[0])}
            images["rates"] //= judge.manipulation.groups
            images["kept"] = len(data.test)
            yield from self._compared(cell, found, images)

    def _fooled(self, judge: Judge) -> Path:
        """The cell's twin as the recorded search chose it: of one weight, or the honest one where none passed."""
        key = self.setting.fooled_key(judge.cell)
        weight = building.certificate(self.setting, self.recorded, key)["weight"]
        self.say(f"{self.setting.name}: {judge.cell.name}, weight {'–' if weight is None else f'{weight:g}'}")
        twin = judge.honest if weight is None else judge.twin(weight)
        return self.again.put("weights", key, ".safetensors", lambda p: models.save_weights(twin, p, half=True))

    def _compared(self, cell: CellSpec, found: dict, images: dict[str, int]) -> Iterator[Line]:
        told = [building.certificate(s, self.recorded, s.certificate_key(cell)) for s in self.siblings]
        own = told.pop(self.siblings.index(self.setting))
        for figure, (part, name) in FIGURES.items():
            recorded, rebuilt = own[part][name], found[part][name]
            spread = between_seeds([t[part][name] for t in told], recorded, rebuilt)
            yield Line(cell.name, figure, recorded, rebuilt, spread, least_deviation(own, figure, images[part]))

    def _stabilities(self) -> Iterator[Line]:
        """How stable each cell's attacked interpreter is, where the suite asks it and its recorded rows are there."""
        answered: dict[str, pd.DataFrame] = {}
        for cell in self.cells:
            part = self._asks(cell)
            rows = self._rows(part) if part else []
            if rows and part.label not in answered:
                answered[part.label] = self._asked(part)
            if rows:
                yield from self._compared_stability(cell, part, rows, answered[part.label])

    def _asks(self, cell: CellSpec) -> Part | None:
        """The cell's attacked interpreter as the suite asks it, if it does."""
        return next((p for p in self.setting.suite.interpreters if p.use == cell.against.use), None)

    def _rows(self, part: Part) -> list[pd.DataFrame]:
        """Its recorded rows, one frame a sibling; none where one lacks them."""
        keys = gathering.unit_keys(self.siblings, [part], self.recorded)
        paths = [self.recorded.find("rows", key) for key in keys.values()]
        return [pq.ParquetFile(p).read().to_pandas() for p in paths] if all(paths) else []

    def _asked(self, part: Part) -> pd.DataFrame:
        """The interpreter's rows about the new networks, of the recorded images."""
        self.say(f"{self.setting.name}: {part.label} asked again")
        images = building.images(self.setting, self.recorded)
        if not any(c.manipulation.use == "active" for c in self.cells):
            images = images[:1]
        twins = building.load_twins(self.narrow, self.again, images[0], self.device)
        classes = building.class_count(self.setting, self.again)
        return asking.interview(part, self.narrow, twins, images, classes, self.device).rows

    def _compared_stability(
        self, cell: CellSpec, part: Part, rows: list[pd.DataFrame], again: pd.DataFrame
    ) -> Iterator[Line]:
        at = str(gathering.trait(part, "at", "input"))
        recorded = [Stability.of(r, cell.name, at, self.narrow.suite.polarities[0]) for r in rows]
        own = recorded.pop(self.siblings.index(self.setting))
        if not own.metrics:
            return  # it does not tell this setting's networks apart, so it has no stability there
        rebuilt = Stability.of(again, cell.name, at, self.narrow.suite.polarities[0], own.metrics)
        spread = between_seeds([s.value for s in recorded], own.value, rebuilt.value)
        yield Line(cell.name, f"stability of {part.label}", own.value, rebuilt.value, spread, own.error)


@dataclass(frozen=True)
class Stability:
    """An interpreter's calibrated stability in one cell of one setting."""

    value: float
    error: float
    """of the mean over the images"""
    metrics: list[str]
    """the metrics averaged: those of a range of at least 0.1, unless they were named"""

    @classmethod
    def of(cls, rows: pd.DataFrame, cell: str, at: str, polarity: str, metrics: list[str] | None = None) -> Stability:
        what = study(rows, {}, polarity, at, metrics)
        block = next(b for b in what.blocks if cell in b.cells)
        scale = block.mean(block.honest - block.floor)[0]
        counted = scale >= LEAST_RANGE if metrics is None else np.ones(len(scale), bool)
        moved = (block.fooled[block.cells.index(cell)] - block.floor)[0][:, block.valid[0]]
        each = (moved[counted] / scale[counted, None]).mean(0) if counted.any() else np.full(1, np.nan)
        error = each.std(ddof=1) / math.sqrt(len(each)) if len(each) > 1 else 0.0
        return cls(float(each.mean()), float(error), [m for m, c in zip(what.metrics, counted, strict=True) if c])


def between_seeds(others: list[float], recorded: float, rebuilt: float) -> float:
    """Standard deviation (n − 1) of a figure over the other seeds and this one; NaN where there are no others.

    Of this seed the recorded or the rebuilt figure, whichever gives less: one that is wrong must not widen what it is
    allowed to be wrong by.
    """
    if not others:
        return math.nan
    return min(float(np.std([*others, own], ddof=1)) for own in (recorded, rebuilt))


def least_deviation(certificate: dict, figure: str, images: int) -> float:
    """The binomial error of a share of so many images (one hit and one miss added, so that it is never 0).

    A corrected rate errs 1 / (1 − null) times as much as the rate. A tenth of KL and distance, which are no shares.
    """
    rates, kept = certificate["rates"], certificate["kept"]
    if figure in ("KL", "distance"):
        return abs(kept[FIGURES[figure][1]]) / 10
    share = rates["not_silent"] if figure == "corrected rate" else kept[figure]
    share = (share * images + 1) / (images + 2)
    error = math.sqrt(share * (1 - share) / images)
    return error / max(1 - rates["null"], 1 / images) if figure == "corrected rate" else error


def as_text(found: Outcome) -> str:
    """The outcome as a table for the terminal, and below it what was allowed and why."""
    width = max(len(line.cell) for line in found.lines)
    wide = max(len(line.figure) for line in found.lines)
    head = f"{'cell':<{width}}  {'figure':<{wide}}  recorded   rebuilt  difference  allowed"
    body = [
        f"{x.cell:<{width}}  {x.figure:<{wide}}  {x.recorded:8.4f}  {x.rebuilt:8.4f}  {x.rebuilt - x.recorded:+10.4f}"
        f"  {x.allowed:7.4f}{'' if x.within else '  differs'}"
        for x in found.lines
    ]
    off = sum(not x.within for x in found.lines)
    return "\n".join(
        [
            f"{found.setting}, fitted and fooled again",
            head,
            *body,
            f"{found.identical} of {found.networks} networks are the recorded ones to the last bit",
            *(
                f"stability of {u}: not compared, as no recorded rows are there; a run makes them"
                for u in found.unheard
            ),
            *_allowance(found.seeds),
            f"{off} of {len(body)} figures differ by more" if off else f"all {len(body)} figures are within",
        ]
    )


def _allowance(seeds: int) -> list[str]:
    least = "the error of a mean over the figure's images (a tenth of KL and of distance)"
    if seeds < 2:
        return ["with one seed no deviation between seeds is recorded, so allowed is three times", f"  {least}"]
    return [f"allowed: three times the standard deviation between {seeds} seeds, or, where that is more,", f"  {least}"]
