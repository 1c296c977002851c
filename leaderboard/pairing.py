"""Interpreters against one another: paired tests over settings, all pairs corrected, Friedman's test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from unfooled import intervals
from unfooled.intervals import Friedman, Spread
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.facts import beside
from unfooled.leaderboard.stability import Study
from unfooled.plugins import near_miss
from unfooled.types import UnknownPart


def _ranked(what: Study) -> tuple[list[str], Spread, np.ndarray]:
    """The ranked interpreters, the joint spread of their transfer stability, their positions in the study."""
    member, counted = st.columns(what), st.counted_metrics(what)
    scored = st.averaged(counted)
    spread = st.stability(what, member["transfer"], scored)
    which = np.flatnonzero((beside(what, member, counted)["reason"] == "").to_numpy() & np.isfinite(spread.value))
    return [what.interpreters[i] for i in which], spread[which], which


def pairwise(
    rows: pd.DataFrame, header: Mapping[str, object], *, polarity: str = "absolute", at: str = "input"
) -> pd.DataFrame:
    """Every pair of ranked interpreters: a, b, difference of transfer with low and high, p, p_holm.

    Paired t tests over settings (over the images of a single one, conditional on it). The interval is of this pair
    alone; ``p_holm`` is corrected over all pairs. The better of the two is ``a``.
    """
    names, spread, _ = _ranked(st.study(rows, header, polarity, at))
    order = np.argsort(-spread.value, kind="stable")
    names, spread = [names[i] for i in order], spread[order]
    differences, errors, p_values = intervals.paired_tests(spread)
    a, b = np.triu_indices(len(names), 1)
    half = intervals.t_quantile(0.975, spread.pair_degrees()) * errors
    frame = pd.DataFrame({"a": [names[i] for i in a], "b": [names[i] for i in b], "difference": differences[a, b]})
    frame["low"], frame["high"] = (differences - half)[a, b], (differences + half)[a, b]
    return frame.assign(p=p_values[a, b], p_holm=intervals.holm(p_values[a, b]))


def compare(
    rows: pd.DataFrame, header: Mapping[str, object], a: str, b: str, *, polarity: str = "absolute", at: str = "input"
) -> pd.Series:
    """The pair's row of ``pairwise``, as ``a`` less ``b``. Raises UnknownPart for one that is not ranked."""
    frame = pairwise(rows, header, polarity=polarity, at=at)
    for name in (a, b):
        ranked = {*frame["a"], *frame["b"]}
        if name not in ranked:
            hint = near_miss(name, ranked) or f"; ranked are {', '.join(sorted(ranked)) or 'none'}"
            raise UnknownPart(f"compare: {name!r} is not ranked in this run{hint}")
    found = frame[((frame["a"] == a) & (frame["b"] == b)) | ((frame["a"] == b) & (frame["b"] == a))]
    if found.empty:
        raise UnknownPart(f"compare: {a!r} with itself; name two interpreters")
    row = found.iloc[0]
    if row["a"] == a:
        return row
    turned = {"a": a, "b": b, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return pd.Series({**row, **turned})


def friedman(
    rows: pd.DataFrame, header: Mapping[str, object], *, polarity: str = "absolute", at: str = "input"
) -> tuple[list[str], Friedman]:
    """The ranked interpreters, and Friedman's test of their transfer stability with Nemenyi's critical difference.

    Settings are the blocks. A block holds each interpreter's pooled ratio within the setting; settings where one
    has none are left out.
    """
    what = st.study(rows, header, polarity, at)
    names, _, which = _ranked(what)
    counted = st.counted_metrics(what)
    numerators, denominators = st.totals(what, st.columns(what)["transfer"])
    per_setting = intervals.pooled_ratios(numerators, denominators, counted)[:, which]
    return names, intervals.friedman(per_setting[np.isfinite(per_setting).all(1)])
