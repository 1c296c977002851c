"""Two runs → what got worse: interpreters before and after a change, on the same frozen twins and the same images.

The question is conditional on the networks: *did this change move the interpreter's stability here?* So images are the
unit, paired one by one; settings are not resampled, unlike in ``ranking``. docs/ci.md says it in words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfooled import intervals
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.blocks import Block
from unfooled.leaderboard.paired import Paired, Side, paired
from unfooled.leaderboard.stability import Study
from unfooled.leaderboard.verdicts import EVERYWHERE, LEAST_MOVE, Change, Comparison, FailOn
from unfooled.plugins import near_miss
from unfooled.records import Run
from unfooled.types import UnknownPart

ALPHA = 0.005
LEAST_EFFECT = 0.02
LOST_RANGE = st.LEAST_RANGE / 2
"""a metric that counted and whose range falls below this no longer tells the model from a random one"""
LOST_COVERAGE = 0.05


def compare(
    base: Run,
    new: Run,
    *,
    alpha: float = ALPHA,
    least: float = LEAST_EFFECT,
    fail_on: FailOn = "worse",
    interpreters: Collection[str] | None = None,
) -> Comparison:
    """Every interpreter of either run, before and after: over all cells, and in each.

    A line is worse or better if its p, corrected by Holm for all lines, is below ``alpha`` and the difference is
    ``least`` or more. ``interpreters``: labels; None takes all but the canaries. Only settings whose twins are the same
    files on both sides are compared; without any, or with other suites, every line is ``x``. Raises RowsError, and
    UnknownPart for an interpreter that neither run has asked.
    """
    labels = _labels(base, new, interpreters)
    reason = _apart(base.header, new.header)
    if reason:
        return Comparison(tuple(Change("x", name, note=reason) for name in labels), alpha, least, fail_on)
    settings = _same_settings(base.header, new.header)
    changes = [change for name in labels for change in _changes(base, new, name, settings)]
    return Comparison(tuple(judged(changes, alpha, least)), alpha, least, fail_on, tuple(_notes(base, new, settings)))


def _labels(base: Run, new: Run, wanted: Collection[str] | None) -> list[str]:
    """The wanted interpreters of either run, the failed ones too; by default all but the canaries."""
    known = _asked(base) | _asked(new)
    if wanted is None:
        about = {**new.header["interpreters"], **base.header["interpreters"]}
        return sorted(known - {name for name, facts in about.items() if facts.get("family") == "canary"})
    for name in sorted({*wanted} - known):
        hint = near_miss(name, known) or f"; there are {', '.join(sorted(known))}"
        raise UnknownPart(f"compare: neither run asked {name!r}{hint}")
    return sorted(wanted)


def _apart(base: Mapping, new: Mapping) -> str:
    """Why no line of two runs can be compared; empty if some can."""
    before, after = base["suite"], new["suite"]
    if before["digest"] != after["digest"]:
        names = [f"{s['name']} version {s['version']} ({s['digest']})" for s in (before, after)]
        return f"suite {names[0]} is not {names[1]}"
    return "" if _same_settings(base, new) else "the fooled models are not the same files"


def _same_settings(base: Mapping, new: Mapping) -> tuple[str, ...]:
    both = [name for name in base["settings"] if name in new["settings"]]
    return tuple(n for n in both if base["settings"][n].get("twins") == new["settings"][n].get("twins"))


def _notes(base: Run, new: Run, settings: tuple[str, ...]) -> Iterator[str]:
    """What differs beside the interpreters, so that nobody blames them for it."""
    left = sorted({*base.header["settings"], *new.header["settings"]} - set(settings))
    if left:
        yield f"left out, its fooled models are not the same files: {', '.join(left)}"
    before, after = (run.header.get("versions", {}) for run in (base, new))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name, 'unknown')} in BASE, {after.get(name, 'unknown')} in NEW"


def judged(changes: Sequence[Change], alpha: float, least: float) -> Iterator[Change]:
    """Marks for the tested lines, after their p-values are corrected together.

    Lines where nothing differs have p = 1 for sure: they can never fail, so they cost the others nothing.
    """
    found = np.array([c.p for c in changes])
    corrected = np.where(found < 1, intervals.holm(np.where(found < 1, found, np.nan)), found)
    for change, p in zip(changes, corrected, strict=True):
        sure = p < alpha and abs(change.difference) >= least
        moved = "-" if change.difference < 0 else "+"
        yield replace(change, mark=moved if sure else change.mark, p=float(p))


def _changes(base: Run, new: Run, name: str, settings: tuple[str, ...]) -> list[Change]:
    """The lines of one interpreter; those with a p-value still want their mark."""
    excuse = _without_numbers(base, new, name, settings)
    if excuse:
        return [excuse]
    return lines(*(Version.of(run, name, settings) for run in (base, new)))


def lines(before: Version, after: Version) -> list[Change]:
    """What changed between two versions of one interpreter: over all its cells, then in each; ``judged`` marks them."""
    counted = before.counted & (after.ranges >= LOST_RANGE)
    by_rule = _by_rule(before, after, counted)
    if by_rule:
        return [by_rule]
    lost = [m for m, kept in zip(before.study.metrics, before.counted == counted, strict=True) if not kept]
    moved = before.moved(after)
    note = _note(moved, lost)
    overall = replace(_line(before, after, EVERYWHERE, before.cells, counted), moved=moved, note=note)
    cells = [c for c in before.cells if len(before.cells) > 1]
    return [overall, *(_line(before, after, c, (c,), counted) for c in cells)]


def _note(moved: float, lost: Sequence[str]) -> str:
    """What a line of numbers does not say."""
    said = [f"its maps are not the same: similarities moved by {moved:.3f} on average"] if moved >= LEAST_MOVE else []
    said += [f"without {', '.join(lost)}: no longer tells the model from a random one"] if lost else []
    return "; ".join(said)


def _without_numbers(base: Run, new: Run, name: str, settings: tuple[str, ...]) -> Change | None:
    """The line of an interpreter that one of the sides has no maps of, or has other maps of."""
    before, after = (_failure(run, name, settings) for run in (base, new))
    if before or after:
        side = "NEW" if not before else "BASE" if not after else "both"
        fixed = "*" if name in _asked(base) else "x"
        return Change({"NEW": "!", "BASE": fixed, "both": "x"}[side], name, note=f"{side}: {after or before}")
    places = [run.header["interpreters"][name].get("at", "input") for run in (base, new)]
    if places[0] != places[1]:
        return Change("x", name, note=f"maps at {places[0]} in BASE, at {places[1]} in NEW")
    return None


def _asked(run: Run) -> set[str]:
    return {*run.header["interpreters"], *(f["interpreter"] for f in run.header["failures"])}


def _failure(run: Run, name: str, settings: tuple[str, ...]) -> str:
    """Why a run has not all maps of an interpreter; empty if it has."""
    reasons = [f["reason"] for f in run.header["failures"] if f["interpreter"] == name and f["setting"] in settings]
    return reasons[0] if reasons else "" if name in run.header["interpreters"] else "was not asked"


def _by_rule(before: Version, after: Version, counted: np.ndarray) -> Change | None:
    """The line of an interpreter whose maps stopped saying anything, or anything about the model."""
    name, least = before.name, st.LEAST_COVERAGE
    if after.coverage < least <= before.coverage and before.coverage - after.coverage > LOST_COVERAGE:
        shares = f"{before.coverage:.0%} of the images before, on {after.coverage:.0%} now"
        return Change("-", name, note=f"silent: its maps say something on {shares}")
    if not _sensitive(before.counted):
        now = _sensitive(after.counted)
        says = (
            "tells its model from a random one now" if now else "insensitive before and after: no stability to compare"
        )
        return Change("+" if now else "x", name, note=says)
    if not _sensitive(counted):
        return Change("-", name, note="insensitive: its maps no longer tell the model from a random one")
    return None


def _sensitive(counted: np.ndarray) -> bool:
    return bool(st.sensitive(counted[None])[0])


def _line(before: Version, after: Version, cell: str, cells: Collection[str], counted: np.ndarray) -> Change:
    pair = before.pair_with(after, cells, counted)
    if pair is None:
        return Change("x", before.name, cell, note="no image on which both versions say something")
    low, high = pair.interval()
    return Change("~", before.name, cell, pair.before, pair.after, low, high, pair.p_value(), pair.images)


@dataclass(frozen=True)
class Version:
    """One interpreter in one run."""

    study: Study
    """of this interpreter alone"""
    counted: np.ndarray
    """bool (m,): the metrics that count"""
    ranges: np.ndarray
    """(m,): honest − randomised per cell"""
    coverage: float

    @classmethod
    def of(cls, run: Run, name: str, settings: tuple[str, ...]) -> Version:
        about = run.header["interpreters"][name]
        kept = (run.rows["interpreter"] == name).to_numpy() & run.rows["setting"].isin(settings).to_numpy()
        header = {**run.header, "interpreters": {name: about}, "failures": []}
        study = st.study(run.rows[kept], header, "absolute", about.get("at", "input"))
        ranges, sure = (per_interpreter[0] for per_interpreter in st.ranges(study))
        counted = np.nan_to_num(sure, nan=-1) >= st.LEAST_RANGE
        return cls(study, counted, ranges, float(st.coverage(study)[0]))

    @property
    def name(self) -> str:
        return self.study.interpreters[0]

    @property
    def cells(self) -> tuple[str, ...]:
        """Those that count for it: not the ones made adaptively for another."""
        member = np.any(list(st.columns(self.study).values()), axis=0)[:, 0]
        return tuple(c for c, mine in zip(self.study.cells, member, strict=True) if mine)

    def pair_with(self, other: Version, cells: Collection[str], counted: np.ndarray) -> Paired | None:
        """The two paired over their images; None if they share none."""
        sides = [found for pair in self._blocks_with(other) if (found := _sides(*pair, cells, counted))]
        return paired([old for old, _ in sides], [new for _, new in sides]) if sides else None

    def moved(self, other: Version) -> float:
        """Mean absolute difference of similarities over all twins, metrics and images; NaN without any in common."""
        apart = [_apart_by(old, new) for old, new in self._blocks_with(other) if old.fooled.shape == new.fooled.shape]
        return float(np.mean(np.concatenate(apart))) if apart else float("nan")

    def _blocks_with(self, other: Version) -> list[tuple[Block, Block]]:
        others = {(b.setting, b.split): b for b in other.study.blocks}
        return [(b, others[b.setting, b.split]) for b in self.study.blocks if (b.setting, b.split) in others]


def _apart_by(old: Block, new: Block) -> np.ndarray:
    """How far every similarity of one block is from the other's, flat, those that either lacks left out."""
    kinds = [(old.fooled, new.fooled), (old.honest, new.honest), (old.floor, new.floor)]
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in kinds])
    return apart[~np.isnan(apart)]


def _sides(old: Block, new: Block, cells: Collection[str], counted: np.ndarray) -> tuple[Side, Side] | None:
    """Both versions on the images of one setting and split where both originals say something."""
    there = (
        (old.valid & old.present & new.valid & new.present)[0] if old.valid.shape == new.valid.shape else old.valid[:0]
    )
    shared = [c for c in old.cells if c in cells and c in new.cells]
    if not shared or not there.any():
        return None
    sides = tuple(_side(block, [block.cells.index(c) for c in shared], there, counted) for block in (old, new))
    return None if any(np.isnan(s.fooled + s.honest).any() for s in sides) else sides


def _side(block: Block, cells: list[int], there: np.ndarray, counted: np.ndarray) -> Side:
    floor, honest = block.floor[0][counted][:, there], block.honest[0][counted][:, there]
    fooled = block.fooled[cells, 0][:, counted][:, :, there]
    return Side((fooled - floor).sum(0), (honest - floor) * len(cells))
