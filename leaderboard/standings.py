"""Entries that passed → who stands where: one table for each suite and place of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unfooled import intervals
from unfooled.intervals import Spread
from unfooled.leaderboard import parts, ranking
from unfooled.leaderboard.checker import Filed, unranked
from unfooled.leaderboard.entry import SUFFIX
from unfooled.leaderboard.parts import Breakdown


@dataclass(frozen=True)
class Standing:
    """One row of a table."""

    filed: Filed
    reason: str
    """why it is not ranked; empty if it is"""
    counted: int
    """how many metrics count"""
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    """ends of the simultaneous 95 % interval of the rank; None where entries have no intervals of their own"""
    tie: str = ""
    by_cell: tuple[tuple[str, float], ...] = ()
    by_setting: tuple[tuple[str, float], ...] = ()

    @property
    def stem(self) -> str:
        return self.filed.path.name.removesuffix(SUFFIX)


@dataclass(frozen=True)
class Standings:
    """A table: what is comparable."""

    suite: str
    version: int
    digest: str
    at: str
    settings: int
    rows: tuple[Standing, ...]
    """the ranked first"""

    @property
    def key(self) -> str:
        return f"{self.suite}-{self.version}-{self.at}"


def standings(filed: Sequence[Filed]) -> list[Standings]:
    """Tables in the order of their suites' names, maps at the input before maps at T."""
    groups: dict[tuple[str, bool, str], list[Filed]] = {}
    for f in filed:
        groups.setdefault((f.entry.suite.name, f.entry.method.at != "input", f.entry.suite.digest), []).append(f)
    return [_table(groups[key]) for key in sorted(groups)]


def _table(group: list[Filed]) -> Standings:
    first = group[0].entry
    return Standings(
        suite=first.suite.name,
        version=first.suite.version,
        digest=first.suite.digest,
        at=first.method.at,
        settings=len(first.settings),
        rows=tuple(_rows(group)),
    )


def _rows(group: list[Filed]) -> list[Standing]:
    reasons = [unranked(f.entry) for f in group]
    entries = [f.entry for f in group]
    found = parts.aggregates(entries)
    split = parts.breakdown(entries, found.counted)
    which = np.flatnonzero([not reason for reason in reasons])
    places = dict(zip(which.tolist(), _places(found.transfer[which]), strict=True))
    rows = [
        Standing(f, reasons[i], int(found.counted[i].sum()), *places.get(i, (None, None, None, "")), *_split(split, i))
        for i, f in enumerate(group)
    ]
    return sorted(rows, key=lambda r: (r.rank or len(rows) + 1, r.filed.entry.canary, r.filed.entry.name.casefold()))


def _places(spread: Spread) -> list[tuple[int, int | None, int | None, str]]:
    """Rank, both ends of its interval, ties; of a single setting, whose entries hold no spread, the rank alone."""
    value = spread.value
    best = (value[None] > value[:, None]).sum(1) + 1
    if not (spread.degrees > 0).any():
        return [(int(rank), None, None, "") for rank in best]
    different = ranking.significant(spread)
    low, high = intervals.rank_intervals(value, different)
    ties = intervals.tie_runs(value, different)
    return [(int(r), int(a), int(b), tie) for r, a, b, tie in zip(best, low, high, ties, strict=True)]


def _split(split: Breakdown, i: int) -> tuple[tuple[tuple[str, float], ...], ...]:
    cells = zip(split.cells, split.by_cell[:, i].tolist(), strict=True)
    settings = zip(split.settings, split.by_setting[:, i].tolist(), strict=True)
    return tuple(tuple((n, v) for n, v in some if np.isfinite(v)) for some in (cells, settings))
