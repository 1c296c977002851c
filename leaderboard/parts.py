"""The parts of entries → the aggregates that must follow from them, for many entries of one suite at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfooled import intervals
from unfooled.intervals import Spread
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.blocks import Block
from unfooled.leaderboard.entry import Block as Part
from unfooled.leaderboard.entry import Entry
from unfooled.leaderboard.stability import Study

ADAPTIVE = "for "


@dataclass(frozen=True)
class Aggregates:
    """What the parts of i entries add up to; NaN where undefined, and for every end of an interval over one setting."""

    transfer: Spread
    attacked: Spread
    adaptive: Spread
    independent: Spread
    adaptive_worst: list[str]
    worst: np.ndarray
    """(i,)"""
    worst_cell: list[str]
    range: np.ndarray
    """(i, m)"""
    range_low: np.ndarray
    """(i, m)"""
    counted: np.ndarray
    """bool (i, m): the metrics that count"""


def study_of(entries: Sequence[Entry]) -> Study:
    """Entries of one suite with the same metrics as a study with one image a split: its means are the entries' own.

    Interpreters are numbered, since names may be equal.
    """
    metrics = tuple(m.name for m in entries[0].metrics)
    places = [slots(entry) for entry in entries]
    found: dict[tuple[str, str], list[tuple[int, Part]]] = {}
    for i, entry in enumerate(entries):
        for part in entry.parts:
            found.setdefault((part.setting, part.split), []).append((i, part))
    order = sorted(found, key=lambda key: (key[0], key[1] == "pairs"))
    blocks = tuple(_block(*key, found[key], places, len(metrics)) for key in order)
    return Study(
        header={
            "interpreters": {str(i): {"family": e.method.family} for i, e in enumerate(entries)},
            "cells": _cells(entries),
        },
        blocks=blocks,
        settings=tuple(dict.fromkeys(b.setting for b in blocks)),
        cells=tuple(sorted({c for b in blocks for c in b.cells})),
        interpreters=tuple(str(i) for i in range(len(entries))),
        metrics=metrics,
    )


def slots(entry: Entry) -> dict[str, str]:
    """Cell name → the cell of the joint study. What was made against one entry alone shares a slot with its likes.

    Without that, 500 entries with three such cells each would make a study of 1,500 cells, nearly all of them empty.
    """
    found, count = {}, Counter()
    for name, facts in sorted(entry.cells.items()):
        found[name] = f"{ADAPTIVE}{count[facts.manipulation]}:{facts.manipulation}" if facts.adaptive else name
        count[facts.manipulation] += facts.adaptive
    return found


def _cells(entries: Sequence[Entry]) -> dict[str, dict]:
    found = {}
    for entry in entries:
        for name, slot in slots(entry).items():
            facts = entry.cells[name]
            about = {"manipulation": facts.manipulation, "against": facts.against, "family": facts.family}
            found[slot] = about | ({"adaptive_for": ADAPTIVE} if facts.adaptive else {})
    return found


def _block(setting: str, split: str, parts: list[tuple[int, Part]], places: list[dict[str, str]], m: int) -> Block:
    cells = sorted({places[i][c] for i, part in parts for c in part.cells})
    place = {name: c for c, name in enumerate(cells)}
    shape = (len(places), m, 1)
    fooled, honest, floor = np.full((len(cells), *shape), np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for i, part in parts:
        honest[i, :, 0], floor[i, :, 0] = part.honest, part.randomised
        for name, means in part.cells.items():
            fooled[place[places[i][name]], i, :, 0] = means
    everyone = np.ones((len(places), 1), bool)
    nobody = np.zeros((len(cells), len(places)), int)
    return Block(setting, split, tuple(cells), fooled, honest, floor, {}, everyone, everyone, nobody, nobody.sum(0))


def aggregates(entries: Sequence[Entry]) -> Aggregates:
    """The aggregates of entries of one suite. Over one setting, which metrics count is taken from the entries."""
    what = study_of(entries)
    member = _columns(what, entries)
    span, low = st.ranges(what) if len(what.settings) > 1 else _reported_ranges(entries, what)
    counted = np.nan_to_num(low, nan=-1) >= st.LEAST_RANGE
    scored = st.averaged(counted)
    adaptive, attack = _least(what, member["adaptive"], scored, _manipulations(what))
    worst, cell = _least(what, member["attacked"] | member["transfer"], scored, {c: [c] for c in what.cells})
    return Aggregates(
        transfer=_spread(what, member["transfer"], scored),
        attacked=_spread(what, member["attacked"], scored),
        adaptive=adaptive,
        independent=_independent(what, entries, scored),
        adaptive_worst=attack,
        worst=worst.value,
        worst_cell=cell,
        range=span,
        range_low=low,
        counted=counted,
    )


@dataclass(frozen=True)
class Breakdown:
    """The stability of i entries, split up; NaN where undefined."""

    settings: tuple[str, ...]
    cells: tuple[str, ...]
    by_setting: np.ndarray
    """(s, i): transfer"""
    by_cell: np.ndarray
    """(c, i)"""


def breakdown(entries: Sequence[Entry], counted: np.ndarray) -> Breakdown:
    """Transfer by setting, and stability by cell, over the metrics that count."""
    what = study_of(entries)
    scored = st.averaged(counted)
    by_setting = intervals.pooled_ratios(*st.totals(what, _columns(what, entries)["transfer"]), scored)
    top, bottom = (np.nansum(d, 0) for d in what.differences)
    return Breakdown(what.settings, what.cells, by_setting, intervals.pooled_ratios(top, bottom, scored))


def _columns(what: Study, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """``stability.columns``, but for what hangs on an interpreter's own label, which the study does not know."""
    member = st.columns(what)
    labels = np.array([e.method.part.label for e in entries])
    for c, name in enumerate(what.cells):
        if name.startswith(ADAPTIVE):
            member["adaptive"][c] = [name in slots(e).values() for e in entries]
            continue
        itself = labels == what.cell(name)["against"]
        member["attacked"][c] |= itself
        member["transfer"][c] &= ~itself
    return member


def _independent(what: Study, entries: Sequence[Entry], scored: np.ndarray) -> Spread:
    """``controls.control`` of the independent network."""
    top, bottom = (np.zeros((len(what.settings), *scored.shape)) for _ in range(2))
    for i, entry in enumerate(entries):
        for block in (b for b in entry.parts if b.independent):
            s, means = what.settings.index(block.setting), block.independent
            floor = np.array(means.randomised, float)
            top[s, i] = np.nan_to_num(np.array(means.independent, float) - floor)
            bottom[s, i] = np.nan_to_num(np.array(means.honest, float) - floor)
    return intervals.jackknife(top, bottom, scored)


def _reported_ranges(entries: Sequence[Entry], what: Study) -> tuple[np.ndarray, np.ndarray]:
    span = st.mean(st.mean(what.differences[1], 1), 0)
    low = [[np.nan if m.range_low is None else m.range_low for m in e.metrics] for e in entries]
    return span, np.array(low, float)


def _spread(what: Study, member: np.ndarray, counted: np.ndarray) -> Spread:
    """The jackknife's spread over settings; with one setting the values alone."""
    return intervals.jackknife(*st.totals(what, member), counted)


def _manipulations(what: Study) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name in what.cells:
        kinds.setdefault(what.cell(name)["manipulation"], []).append(name)
    return dict(sorted(kinds.items()))


def _least(
    what: Study, member: np.ndarray, counted: np.ndarray, groups: dict[str, list[str]]
) -> tuple[Spread, list[str]]:
    """For every interpreter the group of cells in which it is least stable, the first of equals."""
    nothing = np.full(len(what.interpreters), np.nan)
    best = Spread(nothing, np.full((max(len(what.settings), 1), len(nothing)), np.nan), np.zeros(len(nothing), int))
    names = [""] * len(nothing)
    for name, cells in groups.items():
        which = member & np.isin(what.cells, cells)[:, None]
        if not which.any():
            continue
        found = _spread(what, which, counted)
        lower = np.isfinite(found.value) & ~(found.value >= best.value)
        best = replace(
            found,
            value=np.where(lower, found.value, best.value),
            deviations=np.where(lower, found.deviations, best.deviations),
            degrees=np.where(lower, found.degrees, best.degrees),
        )
        names = [name if is_lower else old for is_lower, old in zip(lower, names, strict=True)]
    return best, names
