"""Do an entry's aggregates follow from its parts?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfooled.leaderboard import parts
from unfooled.leaderboard.complaints import Complaint
from unfooled.leaderboard.entry import INTERVALS, Entry, Interval, Metric

ROUNDING = 2e-4
"""Largest step that rounding the parts makes in an aggregate. Means are known to 5e-7, so a quotient of two differences
of them, the lower one at least 0.1, to 4 · 5e-7 / 0.1 = 2e-5; a jackknife of nine settings makes that eight times more.
"""


def inconsistencies(entries: Sequence[Entry]) -> list[list[Complaint]]:
    """For each entry of one suite, whose blocks are whole, what does not follow from its parts."""
    right = parts.aggregates(entries)
    ends = {k: (getattr(right, k).value, *getattr(right, k).interval()) for k in INTERVALS}
    return [
        [c for k, v in ends.items() for c in _interval(f"scores.{k}", entry, k, *(end[i] for end in v))]
        + _number("scores.worst", entry.scores.worst, right.worst[i])
        + _number("scores.coverage", entry.scores.coverage, coverage(entry))
        + _word("scores.worst_cell", entry, entry.scores.worst_cell, right.worst_cell[i])
        + _word("scores.adaptive_worst", entry, entry.scores.adaptive_worst, right.adaptive_worst[i])
        + [
            c
            for m, metric in enumerate(entry.metrics)
            for c in _metric(metric, right.range[i, m], right.range_low[i, m])
        ]
        for i, entry in enumerate(entries)
    ]


def _metric(said: Metric, span: float, low: float) -> list[Complaint]:
    where = f"metrics.{said.name}"
    found = _number(f"{where}.range", said.range, span) + _number(f"{where}.range_low", said.range_low, low)
    if None not in (said.range, said.range_low) and said.range_low > said.range + ROUNDING:
        found.append(Complaint(f"{where}.range_low", f"is above the range; {said.range} or less is right"))
    return found


def coverage(entry: Entry) -> float:
    asked = sum(b.images for b in entry.parts)
    return sum(b.valid for b in entry.parts) / asked if asked else np.nan


def _interval(where: str, entry: Entry, name: str, value: float, low: float, high: float) -> list[Complaint]:
    """Over one setting an interval is over images, which an entry does not hold: it only has to be in order."""
    said: Interval = getattr(entry.scores, name)
    found = _number(f"{where}.value", said.value, value)
    if len(entry.settings) > 1:
        return found + _number(f"{where}.low", said.low, low) + _number(f"{where}.high", said.high, high)
    ends = [e for e in (said.low, said.value, said.high) if e is not None]
    if ends != sorted(ends) or len(ends) not in (0, 1, 3):
        found.append(Complaint(where, f"{said.low} to {said.high} is no interval around {said.value}"))
    return found


def _number(where: str, said: float | None, right: float) -> list[Complaint]:
    if said is None or np.isnan(right):
        return [] if said is None and np.isnan(right) else [_wrong(where, said, right)]
    return [] if abs(said - right) <= ROUNDING * max(1, abs(right)) else [_wrong(where, said, right)]


def _wrong(where: str, said: float | None, right: float) -> Complaint:
    follows = "null" if np.isnan(right) else f"{right:.6g}"
    return Complaint(where, f"is {'null' if said is None else said}; {follows} follows from the parts")


def _word(where: str, entry: Entry, said: str, right: str) -> list[Complaint]:
    """Where two cells are equally bad, rounding may name either: the value beside it was checked."""
    known = {"", *entry.cells, *(c.manipulation for c in entry.cells.values())}
    fine = said in known and bool(said) == bool(right)
    return (
        []
        if fine
        else [Complaint(where, f"is {said or 'empty'!r}; {right or 'an empty text'!r} follows from the parts")]
    )
