"""Blocks → calibrated stability with its spread: who was aimed at, which metrics count, which maps are silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from unfooled import intervals, seeding
from unfooled.intervals import Spread
from unfooled.leaderboard.blocks import Block, RowsError, blocks, check

SIX = ("spearman", "top_k", "ssim", "pearson", "hog", "mse")
LEAST_RANGE = 0.1
LEAST_COVERAGE = 0.9
LEAST_SHARE_OF_METRICS = 4 / 6
RESAMPLES = 10_000


@dataclass(frozen=True)
class Study:
    """The rows of one polarity and resolution, ready to be summed: s settings, c cells, i interpreters, m metrics."""

    header: Mapping[str, object]
    blocks: tuple[Block, ...]
    settings: tuple[str, ...]
    cells: tuple[str, ...]
    interpreters: tuple[str, ...]
    metrics: tuple[str, ...]

    @cached_property
    def differences(self) -> tuple[np.ndarray, np.ndarray]:
        """(s, c, i, m) twice: fooled − randomised and honest − randomised, image means on the cell's own split.

        NaN where the run has no such cell or the interpreter no map.
        """
        shape = (len(self.settings), len(self.cells), len(self.interpreters), len(self.metrics))
        top, bottom = np.full(shape, np.nan), np.full(shape, np.nan)
        for block in self.blocks:
            s, c = self.settings.index(block.setting), [self.cells.index(name) for name in block.cells]
            top[s, c] = block.mean(block.fooled - block.floor)
            bottom[s, c] = block.mean(block.honest - block.floor)
        # A cell counts with both of its differences or not at all.
        gone = np.isnan(top) | np.isnan(bottom)
        return np.where(gone, np.nan, top), np.where(gone, np.nan, bottom)

    def of_settings(self, settings: tuple[str, ...]) -> Study:
        """The same study of some settings only."""
        return replace(self, settings=settings, blocks=tuple(b for b in self.blocks if b.setting in settings))

    def about(self, interpreter: str) -> Mapping[str, object]:
        """What the header says of an interpreter; nothing if it does not know it."""
        return self.header.get("interpreters", {}).get(interpreter, {})

    def family(self, interpreter: str) -> str:
        """The family it declared; ``other`` if none."""
        return str(self.about(interpreter).get("family", "other"))

    def cell(self, name: str) -> Mapping[str, object]:
        """What the header says of a cell; nothing if it does not know it."""
        return self.header.get("cells", {}).get(name, {})

    def common(self, name: str) -> bool:
        """Was everyone asked about the cell? An adaptive one is put to a single interpreter."""
        return not self.cell(name).get("adaptive_for")


def headline_metrics(labels: list[str]) -> list[str]:
    """The metrics that a score averages: the six where a run has them all, else all but variants of another one.

    ``top_k(fraction=0.05)`` is a variant where ``top_k`` is there too; variants serve the multiverse.
    """
    if set(SIX) <= set(labels):
        return list(SIX)
    return sorted(m for m in labels if "(" not in m or m.split("(")[0] not in labels)


def study(
    rows: pd.DataFrame, header: Mapping[str, object], polarity: str, at: str, metrics: list[str] | None = None
) -> Study:
    """A run's rows of one polarity and resolution. ``metrics``: labels; None takes the headline's.

    An interpreter that the header knows, or says has failed, stays without any rows, all undefined. Raises RowsError.
    """
    check(rows)
    rows = rows[((rows["polarity"] == polarity) & (rows["at"] == at)).to_numpy()]
    present = sorted(rows["metric"].unique())
    metrics = headline_metrics(present) if metrics is None else _known(metrics, present)
    if len(metrics) < len(present):
        rows = rows[rows["metric"].isin(metrics).to_numpy()]
    interpreters = sorted({*_declared(header, at), *rows["interpreter"].unique()})
    found = tuple(blocks(rows, interpreters, metrics))
    return Study(
        header=header,
        blocks=found,
        settings=tuple(dict.fromkeys(b.setting for b in found)),
        cells=tuple(sorted({c for b in found for c in b.cells})),
        interpreters=tuple(interpreters),
        metrics=tuple(metrics),
    )


def _known(metrics: list[str], present: list[str]) -> list[str]:
    """The metrics asked for; a run without any rows has none to know. Raises RowsError for one that a run lacks."""
    for label in metrics if present else ():
        if label not in present:
            raise RowsError(f"metrics: {label!r} is not in these rows; they have {', '.join(present)}")
    return list(metrics) if present else []


def _declared(header: Mapping[str, object], at: str) -> set[str]:
    """Interpreters that belong into the table though they may have no rows: all that failed are said to be at input."""
    known = header.get("interpreters", {})
    failed = {f["interpreter"] for f in header.get("failures", ()) if at == "input"} - set(known)
    return failed | {name for name, facts in known.items() if facts.get("at", "input") == at}


def columns(what: Study) -> dict[str, np.ndarray]:
    """Which cells count for whom: bool (c, i) under ``attacked``, ``transfer`` and ``adaptive``.

    A cell is *attacked* for the family of the interpreter it was made against, *transfer* for all others, and one made
    adaptively is neither: it is *adaptive* for the very interpreter it was made for. The family ``other`` holds no
    kin: there only the interpreter itself is attacked. Nothing attacks a canary's family.
    """
    shape = (len(what.cells), len(what.interpreters))
    kinds = {name: np.zeros(shape, bool) for name in ("attacked", "transfer", "adaptive")}
    for c, name in enumerate(what.cells):
        facts = what.cell(name)
        for i, interpreter in enumerate(what.interpreters):
            made_for = facts.get("adaptive_for")
            if made_for:
                kinds["adaptive"][c, i] = made_for == interpreter
            else:
                kinds["attacked" if _kin(what, facts, interpreter) else "transfer"][c, i] = True
    return kinds


def _kin(what: Study, cell: Mapping[str, object], interpreter: str) -> bool:
    family = what.family(interpreter)
    return cell.get("against") == interpreter or (family == cell.get("family") and family not in ("other", "canary"))


def stability(what: Study, member: np.ndarray, counted: np.ndarray) -> Spread:
    """Calibrated stability of every interpreter, (i,), over its cells (``member``, bool (c, i)).

    Per metric Σ_cells (fooled − randomised) / Σ_cells (honest − randomised), then the mean over the metrics that count
    (``counted``, bool (i, m)). Over two settings or more the spread is the jackknife's over settings; a
    single setting has only its images to resample, and the spread is conditional on its networks.
    """
    if len(what.settings) > 1:
        return intervals.jackknife(*totals(what, member), counted)
    images = sum(block.valid.shape[1] for block in what.blocks)
    return intervals.from_resamples(value(what, member, counted), bootstrap(what, member, counted), images)


def value(what: Study, member: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(i,): ``stability`` without its spread."""
    return intervals.pooled_ratios(*(t.sum(0) for t in totals(what, member)), counted)


def totals(what: Study, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(s, i, m) twice: numerators and denominators summed over each interpreter's cells; missing ones add nothing."""
    return tuple(np.where(member[None, :, :, None] & ~np.isnan(d), d, 0).sum(1) for d in what.differences)


def bootstrap(what: Study, member: np.ndarray, counted: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """(resamples, i): stability under resampling, numerator and denominator jointly.

    Settings are drawn as wholes; within a setting and split the images are drawn once for all twins, interpreters
    and metrics. The stream depends on the suite's digest only, so every column sees the same draws.
    """
    top, bottom = resampled_totals(what, member, resamples)
    return intervals.pooled_ratios(top, bottom, counted)


def resampled_totals(what: Study, member: np.ndarray, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """float32 (resamples, i, m) twice: the numerators and denominators of ``bootstrap``."""
    rng = seeding.numpy_generator("bootstrap", what.header.get("suite", {}).get("digest"))
    weights = intervals.resampling_counts(len(what.settings), resamples, rng)
    top = np.zeros((resamples, len(what.interpreters), len(what.metrics)), np.float32)
    bottom = np.zeros_like(top)
    for block in what.blocks:
        counts = intervals.resampling_counts(block.valid.shape[1], resamples, rng)
        weight = weights[:, what.settings.index(block.setting), None, None]
        fooled_sum, honest_sum = _sums_over_cells(what, block, member)
        top += weight * block.resampled_means(fooled_sum, counts)
        bottom += weight * block.resampled_means(honest_sum, counts)
    return top, bottom


def _sums_over_cells(what: Study, block: Block, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Means are linear, so cells are summed first and each image is then resampled once, whatever the number of cells.
    s, c = what.settings.index(block.setting), [what.cells.index(name) for name in block.cells]
    there = (member[c][..., None] & ~np.isnan(what.differences[0][s, c]))[..., None]
    fooled_sum = np.where(there, block.fooled - block.floor, 0).sum(0)
    return fooled_sum, np.where(there.any(0), (block.honest - block.floor) * there.sum(0), 0)


def ranges(what: Study) -> tuple[np.ndarray, np.ndarray]:
    """(i, m) twice: honest − randomised per cell, and its one-sided 95 % lower bound.

    Over settings by t; for a single setting over resampled images. Adaptive cells are left out: that an interpreter was
    attacked must not change which of its metrics count.
    """
    common = np.array([what.common(c) for c in what.cells], bool)
    bottom = np.where(common[:, None, None], what.differences[1], np.nan)
    per_setting = mean(bottom, 1)
    if len(what.settings) > 1:
        return mean(per_setting, 0), intervals.lower_bound(per_setting)
    cells = (~np.isnan(bottom)).sum((0, 1))
    _, resampled = resampled_totals(what, np.repeat(common[:, None], len(what.interpreters), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean(per_setting, 0), np.quantile(resampled, 0.05, axis=0) / cells


def counted_metrics(what: Study) -> np.ndarray:
    """bool (i, m): the metrics whose range is surely 0.1 or more, decided over all cells: all columns share it."""
    return np.nan_to_num(ranges(what)[1], nan=-1) >= LEAST_RANGE


def sensitive(counted: np.ndarray) -> np.ndarray:
    """bool (i,): four of the six metrics count (two thirds, where a run has others)."""
    return counted.sum(1) >= LEAST_SHARE_OF_METRICS * counted.shape[1] - 1e-9


def averaged(counted: np.ndarray) -> np.ndarray:
    """bool (i, m): the metrics that make a score: those that count, and none of an interpreter that is insensitive."""
    return counted & sensitive(counted)[:, None]


def coverage(what: Study) -> np.ndarray:
    """(i,): share of the run's images on which the original's map says something; NaN without any row."""
    valid = sum((b.valid & b.present).sum(1) for b in what.blocks)
    present = sum(b.present.sum(1) for b in what.blocks)
    with np.errstate(invalid="ignore"):
        return np.where(present > 0, valid, np.nan) / np.where(present > 0, present, 1)


def missing_cells(what: Study, member: np.ndarray) -> np.ndarray:
    """int (i,): cells × settings of its columns that others have and this interpreter lacks.

    Maps that say nothing are a matter of coverage, not of this.
    """
    has = np.zeros((len(what.settings), len(what.cells), len(what.interpreters)), bool)
    for block in what.blocks:
        s, c = what.settings.index(block.setting), [what.cells.index(name) for name in block.cells]
        there = ~np.isnan(np.where(block.valid[:, None, :], block.fooled + block.honest + block.floor, 0)).any((-2, -1))
        has[s, c] = there & block.present.all(-1)
    wanted = has.any(-1, keepdims=True) & member[None]
    return (wanted & ~has).sum((0, 1))


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is there; NaN, without a warning, where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis) / there.sum(axis)
