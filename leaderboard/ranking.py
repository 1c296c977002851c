"""Rows → the ranked table: calibrated stability with intervals, ranks with ties, and what stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from unfooled import intervals
from unfooled.intervals import Spread
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.facts import COST, beside
from unfooled.leaderboard.stability import Study

ALPHA = 0.05
PARTS = (
    *("transfer", "transfer_low", "transfer_high", "transfer_settings"),
    *("attacked", "attacked_low", "attacked_high", "attacked_settings"),
)
ORDER = (
    *("interpreter", "family", "canary", "rank", "rank_low", "rank_high", "tie", *PARTS),
    *("adaptive", "adaptive_low", "adaptive_high", "adaptive_settings", "adaptive_worst", "worst", "worst_cell"),
    *("metrics_counted", "insensitive", "coverage", "silent", "missing", "reason"),
    *("independent", "independent_low", "independent_high"),
    *("raw_fooled", "raw_honest", "raw_randomised", "randomised_top", "self_noise", "wrong_class", *COST),
)
By = Literal["manipulation", "model", "metric", "cell"]


def scores(
    rows: pd.DataFrame,
    header: Mapping[str, object],
    *,
    polarity: str = "absolute",
    at: str = "input",
    metrics: list[str] | None = None,
) -> pd.DataFrame:
    """The ranked table of a run: one row per interpreter, the ranked ones first, by ``transfer``.

    ``rows`` and ``header`` are a run's (docs/design.md). ``metrics`` are labels; None takes the headline's. What each
    column means stands in ``tables.COLUMNS``; undefined numbers are NaN, undefined words empty. An interpreter is
    ranked if its ``reason`` is empty. The frame's ``attrs``: polarity, at, settings, conditional (one setting: its
    intervals are over images only, and no printer shows its ranks), metrics, canaries, architectures (how many; 0 where
    the header does not tell) and adaptive (extent, manipulations and architectures of the adaptive cells; empty without
    any). Raises RowsError for rows that break their contract.
    """
    return ranked_table(st.study(rows, header, polarity, at, metrics), polarity, at)


def ranked_table(what: Study, polarity: str, at: str) -> pd.DataFrame:
    """``scores`` of a study that is already made."""
    member, counted = st.columns(what), st.counted_metrics(what)
    facts = beside(what, member, counted)
    scored = st.averaged(counted)
    transfer = st.stability(what, member["transfer"], scored)
    parts = [
        facts,
        _ranks(transfer, (facts["reason"] == "").to_numpy()),
        _interval("transfer", what, transfer),
        _interval("attacked", what, st.stability(what, member["attacked"], scored)),
        _adaptive(what, member["adaptive"], scored),
        _worst(what, member["attacked"] | member["transfer"], scored),
    ]
    frame = pd.concat(parts, axis=1)[list(ORDER)]
    frame = frame.sort_values(["rank", "transfer", "interpreter"], ascending=[True, False, True], na_position="last")
    adaptive = _adaptive_track(what, member["adaptive"])
    frame.attrs = {**_about(what, polarity, at), "metrics": list(what.metrics), "adaptive": adaptive}
    return frame.reset_index(drop=True)


def _about(what: Study, polarity: str, at: str) -> dict[str, object]:
    """What a caption needs to know of a study."""
    return {
        "polarity": polarity,
        "at": at,
        "settings": len(what.settings),
        "conditional": len(what.settings) == 1,
        "architectures": _architectures(what, what.settings),
        "canaries": [i for i in what.interpreters if what.family(i) == "canary"],
    }


def _architectures(what: Study, settings: Iterable[str]) -> int:
    models = {what.header.get("settings", {}).get(s, {}).get("model") for s in settings}
    return 0 if None in models else len(models)


def _adaptive_track(what: Study, member: np.ndarray) -> dict[str, object]:
    """How far the adaptive attacks went; empty without any."""
    there = member[None] & ~np.isnan(what.differences[0]).all(-1)
    if not there.any():
        return {}
    settings = [s for s, some in zip(what.settings, there.any((1, 2)), strict=True) if some]
    return {
        "extent": str(what.header.get("adaptive", {}).get("extent", "")),
        "manipulations": sum(there[:, cells].any() for cells in _cells_by_manipulation(what).values()),
        "architectures": _architectures(what, settings),
    }


def _interval(name: str, what: Study, spread: Spread) -> pd.DataFrame:
    low, high = spread.interval()
    over = spread.degrees + 1 if len(what.settings) > 1 else np.ones(len(spread.value), int)
    over = np.where(np.isfinite(spread.value), over, 0)
    return pd.DataFrame({name: spread.value, f"{name}_low": low, f"{name}_high": high, f"{name}_settings": over})


def _ranks(spread: Spread, ranked: np.ndarray) -> pd.DataFrame:
    """Ranks, their simultaneous 95 % intervals and tie letters among the ranked; NaN and '' for the rest."""
    frame = pd.DataFrame({"rank": np.nan, "rank_low": np.nan, "rank_high": np.nan, "tie": ""}, index=range(len(ranked)))
    which = np.flatnonzero(ranked & np.isfinite(spread.value))
    among = spread[which]
    different = significant(among)
    low, high = intervals.rank_intervals(among.value, different)
    best = (among.value[None] > among.value[:, None]).sum(1) + 1
    frame.loc[which, ["rank", "rank_low", "rank_high"]] = np.stack([best, low, high], 1).astype(float)
    frame.loc[which, "tie"] = intervals.tie_runs(among.value, different)
    return frame


def significant(spread: Spread) -> np.ndarray:
    """bool (k, k): the pairs that differ by Holm-corrected paired t tests at the 5 % level."""
    return np.nan_to_num(intervals.holm_pairs(intervals.paired_tests(spread)[2]), nan=1) < ALPHA


def _adaptive(what: Study, member: np.ndarray, counted: np.ndarray) -> pd.DataFrame:
    """The worst manipulation among the models that were fooled against the interpreter itself."""
    empty = {"adaptive": np.nan, "adaptive_low": np.nan, "adaptive_high": np.nan}
    frame = pd.DataFrame(empty, index=range(len(what.interpreters))).assign(adaptive_settings=0, adaptive_worst="")
    if not member.any():
        return frame
    for kind, cells in _cells_by_manipulation(what).items():
        spread = st.stability(what, member & cells[:, None], counted)
        one = _interval("adaptive", what, spread).assign(adaptive_worst=kind)
        worse = one["adaptive"].notna() & ~(one["adaptive"] >= frame["adaptive"])
        frame[worse] = one[worse]
    return frame


def _worst(what: Study, member: np.ndarray, counted: np.ndarray) -> pd.DataFrame:
    """The cell, adaptive ones apart, in which the interpreter is least stable over the settings."""
    values = [st.value(what, member & one[:, None], counted) for one in np.eye(len(what.cells), dtype=bool)]
    filled = np.nan_to_num(np.stack(values), nan=np.inf) if values else np.full((1, len(what.interpreters)), np.inf)
    least, cell = filled.min(0), filled.argmin(0)
    names = [what.cells[c] if np.isfinite(v) else "" for c, v in zip(cell, least, strict=True)]
    return pd.DataFrame({"worst": np.where(np.isfinite(least), least, np.nan), "worst_cell": names})


def _cells_by_manipulation(what: Study) -> dict[str, np.ndarray]:
    kinds = [str(what.cell(c).get("manipulation", c.split(":")[0])) for c in what.cells]
    return {kind: np.array([k == kind for k in kinds]) for kind in sorted(set(kinds))}


def by(
    rows: pd.DataFrame, header: Mapping[str, object], group: By, *, polarity: str = "absolute", at: str = "input"
) -> pd.DataFrame:
    """The columns ``transfer`` and ``attacked``, split up: one row per interpreter and member of the group.

    Adaptive cells, which were made for one interpreter alone, are part of neither. Which metrics count is decided on
    the whole run. By metric, each stands alone, with its ``range``, ``range_low`` and ``range_ok``, and is NaN where
    its range is not surely 0.1. ``transfer_settings`` and ``attacked_settings`` say over how many each number is; with
    one its interval is over that setting's images only. Interpreters stand in the order of ``scores``. The frame's
    ``attrs``: those of ``scores`` but for metrics and adaptive, and by, the group.
    """
    what = st.study(rows, header, polarity, at)
    member, counted = st.columns(what), st.counted_metrics(what)
    scored = st.averaged(counted)
    parts = [
        _part(study, group, name, cells, metrics, member)
        for name, study, cells, metrics in _groups(what, group, scored, counted)
    ]
    order = list(ranked_table(what, polarity, at)["interpreter"])
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["interpreter", group, *PARTS])
    if group == "metric":
        frame = frame.merge(_ranges(what), on=["interpreter", "metric"])
    frame = frame.sort_values(
        [group, "interpreter"], key=lambda c: c.map(order.index) if c.name == "interpreter" else c
    )
    frame.attrs = {**_about(what, polarity, at), "by": group}
    return frame.reset_index(drop=True)


def _groups(
    what: Study, group: By, scored: np.ndarray, counted: np.ndarray
) -> list[tuple[str, Study, np.ndarray, np.ndarray]]:
    """(name, study, cells bool (c,), metrics bool (i, m)) of every group."""
    everywhere = np.ones(len(what.cells), bool)
    if group == "manipulation":
        return [(name, what, cells, scored) for name, cells in _cells_by_manipulation(what).items()]
    if group == "cell":
        return [(name, what, np.array(what.cells) == name, scored) for name in filter(what.common, what.cells)]
    if group == "metric":
        one = np.eye(len(what.metrics), dtype=bool)
        return [(name, what, everywhere, counted & one[m]) for m, name in enumerate(what.metrics)]
    models: dict[str, list[str]] = {}
    for setting in what.settings:
        models.setdefault(str(what.header.get("settings", {}).get(setting, {}).get("model", setting)), []).append(
            setting
        )
    return [(name, what.of_settings(tuple(some)), everywhere, scored) for name, some in models.items()]


def _part(
    what: Study, group: By, name: str, cells: np.ndarray, metrics: np.ndarray, member: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    spreads = {k: st.stability(what, member[k] & cells[:, None], metrics) for k in ("transfer", "attacked")}
    names = pd.DataFrame({"interpreter": list(what.interpreters), group: name})
    return pd.concat([names, *(_interval(k, what, s) for k, s in spreads.items())], axis=1)


def _ranges(what: Study) -> pd.DataFrame:
    span, low = st.ranges(what)
    index = pd.MultiIndex.from_product([what.interpreters, what.metrics], names=["interpreter", "metric"])
    frame = pd.DataFrame({"range": span.ravel(), "range_low": low.ravel()}, index=index).reset_index()
    return frame.assign(range_ok=st.counted_metrics(what).ravel())


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Of a ``scores`` table: transfer stability beside what a map costs, as far as the header tells; same order."""
    known = [word for word in COST if table[word].notna().any()]
    return table[["interpreter", "transfer", "transfer_low", "transfer_high", "transfer_settings", *known]]


def canaries_exposed(table: pd.DataFrame) -> list[str]:
    """What is wrong with a suite, one sentence for each canary of ``scores`` that is ranked above a real interpreter.

    Empty if all canaries are insensitive, unranked or last: only then is the release of a suite valid.
    """
    ranked = table[table["rank"].notna()]
    real = ranked[~ranked["canary"]]
    above = [(c, (real["rank"] >= c.rank).sum()) for c in ranked[ranked["canary"]].itertuples()]
    return [
        f"{c.interpreter}: a canary has rank {c.rank:.0f} and {n} interpreters that look at the model are not above it"
        for c, n in above
        if n
    ]
