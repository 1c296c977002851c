"""Rows → dense arrays: one block per setting and split, with what silent maps count as already decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unfooled.types import UnfooledError

COLUMNS = (
    *("setting", "split", "cell", "twin", "draw", "interpreter", "at", "polarity", "metric", "image", "value"),
    *("silent_original", "silent"),
)
CONTROLS = ("independent", "randomised_top", "self", "wrong_class")


class RowsError(UnfooledError):
    """Rows that do not keep their contract."""


@dataclass(frozen=True)
class Block:
    """The similarities of one setting on one split's images: i interpreters, m metrics, n images.

    NaN in ``fooled``, ``honest``, ``floor`` and ``controls`` means that the run holds no such row.
    """

    setting: str
    split: str
    cells: tuple[str, ...]
    fooled: np.ndarray
    """float64 (cells, i, m, n)"""
    honest: np.ndarray
    """float64 (i, m, n)"""
    floor: np.ndarray
    """float64 (i, m, n): the randomised twin's similarity, its draws averaged"""
    controls: dict[str, np.ndarray]
    """the twins of CONTROLS that the run has, each float64 (i, m, n); NaN where the independent one was not asked"""
    valid: np.ndarray
    """bool (i, n): the original's map says something; other images leave for all twins"""
    present: np.ndarray
    """bool (i, n): the run has a row for it"""
    silent: np.ndarray
    """int (c, i): silent fooled maps of the valid images"""
    silent_honest: np.ndarray
    """int (i,): the same of the honest twin"""

    @property
    def alike(self) -> np.ndarray:
        """bool (i, n): the independent network was asked about it, since it classifies it as the label too."""
        return ~np.isnan(self.controls["independent"]).all(1)

    def mean(self, values: np.ndarray, where: np.ndarray | bool = True) -> np.ndarray:
        """(..., i, m, n) → (..., i, m): the mean over the valid images, of those in ``where``, bool (i, n), if given.

        NaN where there is none or one is missing.
        """
        weights = (self.valid & where)[:, None, :]
        with np.errstate(invalid="ignore"):
            return np.where(weights, values, 0).sum(-1) / weights.sum(-1)

    def resampled_means(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """(..., i, m, n) and counts (r, n) → float32 (r, ..., i, m): the same mean under each draw of images.

        Zero where no valid image is drawn."""
        weights = self.valid.astype(np.float32)
        flat = np.where(self.valid[:, None, :], values, 0).reshape(-1, values.shape[-1]).astype(np.float32)
        sums = (counts @ flat.T).reshape(len(counts), *values.shape[:-1])
        drawn = np.maximum(counts @ weights.T, 1)
        return sums / drawn.reshape(len(counts), *[1] * (values.ndim - 3), -1, 1)


def check(rows: pd.DataFrame) -> None:
    """Raise RowsError where a column is missing, with its name."""
    missing = [c for c in COLUMNS if c not in rows.columns]
    if missing:
        raise RowsError(f"rows: no column {missing[0]!r}; rows have {', '.join(COLUMNS)}")


def blocks(rows: pd.DataFrame, interpreters: list[str], metrics: list[str]) -> Iterator[Block]:
    """Rows of one polarity and resolution → blocks, settings in alphabetical order, ``test`` before ``pairs``.

    Raises RowsError for two rows with the same key, and for a NaN similarity of maps that are not silent.
    """
    settings, splits = _text(rows["setting"]), _text(rows["split"])
    for setting in sorted(settings.unique()):
        for split in sorted(splits[settings == setting].unique(), reverse=True):
            part = rows[(settings == setting).to_numpy() & (splits == split).to_numpy()]
            yield _block(str(setting), str(split), part, interpreters, metrics)


def _text(column: pd.Series) -> pd.Series:
    return column.astype("category")


def _codes(column: pd.Series, known: list[str]) -> np.ndarray:
    """Positions in ``known`` of a column's values, found once per category."""
    text = _text(column)
    return pd.Index(known).get_indexer(text.cat.categories)[text.cat.codes]


def _block(setting: str, split: str, rows: pd.DataFrame, interpreters: list[str], metrics: list[str]) -> Block:
    twins, slot = _twins(rows)
    positions, image = np.unique(rows["image"].to_numpy(), return_inverse=True)
    shape = (len(twins), len(interpreters), len(metrics), len(positions))
    where = np.ravel_multi_index(
        (slot, _codes(rows["interpreter"], interpreters), _codes(rows["metric"], metrics), image), shape
    )
    _refuse(setting, rows, where)
    value = _scatter(shape, where, rows["value"].to_numpy(np.float64), np.nan)
    silent = _scatter(shape, where, rows["silent"].to_numpy(bool), False)
    silent_original = _scatter(shape, where, rows["silent_original"].to_numpy(bool), False).any((0, 2))
    present = _scatter(shape, where, np.ones(len(rows), bool), False).any((0, 2))
    return _assemble(setting, split, twins, value, silent, ~silent_original, present)


def _scatter(shape: tuple[int, ...], where: np.ndarray, what: np.ndarray, empty: float | bool) -> np.ndarray:
    dense = np.full(int(np.prod(shape)), empty, what.dtype)
    dense[where] = what
    return dense.reshape(shape)


def _twins(rows: pd.DataFrame) -> tuple[list[tuple[str, str, int]], np.ndarray]:
    """The (twin, cell, draw) triples of the rows, and each row's position among them."""
    twin, cell = _text(rows["twin"]), _text(rows["cell"])
    draw = rows["draw"].to_numpy(np.int64)
    cells, draws = len(cell.cat.categories) + 1, int(draw.max(initial=0)) + 1
    # A twin of the whole setting has an empty cell; whether stored as '' or as missing, it is one and the same.
    key = (twin.cat.codes.to_numpy(np.int64) * cells + cell.cat.codes.to_numpy(np.int64) + 1) * draws + draw
    found = np.flatnonzero(np.bincount(key))
    names = ["", *map(str, cell.cat.categories)]
    triples = [(str(twin.cat.categories[k // draws // cells]), names[k // draws % cells], k % draws) for k in found]
    return triples, np.searchsorted(found, key)


def _refuse(setting: str, rows: pd.DataFrame, where: np.ndarray) -> None:
    twice = len(where) and np.bincount(where).max() > 1
    if twice:
        raise RowsError(f"rows: {setting}: two rows for one twin, interpreter, metric and image; keys are unique")
    excused = rows["silent"].to_numpy(bool) & (rows["twin"] != "randomised").to_numpy()
    wrong = np.isnan(rows["value"].to_numpy()) & ~excused & ~rows["silent_original"].to_numpy(bool)
    if wrong.any():
        row = rows.iloc[int(np.flatnonzero(wrong)[0])]
        raise RowsError(
            f"rows: {setting}: {row['metric']} of {row['interpreter']} is NaN for image {row['image']} of the "
            f"{row['twin']} twin; a number belongs where maps are not silent, the null where a randomised one is"
        )


def _assemble(
    setting: str,
    split: str,
    twins: list[tuple[str, str, int]],
    value: np.ndarray,
    silent: np.ndarray,
    valid: np.ndarray,
    present: np.ndarray,
) -> Block:
    of = {
        kind: [k for k, t in enumerate(twins) if t[0] == kind] for kind in ("fooled", "honest", "randomised", *CONTROLS)
    }
    absent = np.full(value.shape[1:], np.nan)
    floor = value[of["randomised"]].mean(0) if of["randomised"] else absent
    # A silent map that is not the floor's takes the floor's similarity of the same image: it adds nothing to a sum.
    filled = np.where(silent & np.isnan(value), floor, value)
    first = {kind: filled[which].mean(0) for kind, which in of.items() if which}
    return Block(
        setting=setting,
        split=split,
        cells=tuple(twins[k][1] for k in of["fooled"]),
        fooled=filled[of["fooled"]],
        honest=first.get("honest", absent),
        floor=floor,
        controls={kind: first[kind] for kind in CONTROLS if kind in first},
        valid=valid,
        present=present,
        silent=(silent[of["fooled"]].any(2) & valid).sum(2),
        silent_honest=(silent[of["honest"]].any((0, 2)) & valid).sum(1),
    )
