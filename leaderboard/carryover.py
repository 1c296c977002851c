"""Does a ranking carry over from one suite to another? Rank correlation of two runs, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from unfooled.leaderboard import ranking
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.claims import Estimate, Finding, condition
from unfooled.leaderboard.stability import Study
from unfooled.records import Run

STRONG = 0.5


@dataclass(frozen=True)
class CarryOver:
    """Transfer stability of the interpreters that two runs both rank, over the cells that both have."""

    interpreters: tuple[str, ...]
    cells: tuple[str, ...]
    first: np.ndarray
    """(k,) in the first run"""
    second: np.ndarray
    tau: Estimate
    """Kendall's τ-b and its percentile interval over resampled networks and images; n is the number of interpreters"""
    rho: Estimate
    """Spearman's, the same"""
    p: float
    """two-sided p of τ-b if the second order were any order of these interpreters (Kendall's exact test)"""
    settings: tuple[tuple[str, ...], tuple[str, ...]]
    """the networks of either run"""


def carry_over(first: Run, second: Run, resamples: int = st.RESAMPLES) -> CarryOver:
    """How alike two runs order the interpreters that both rank, canaries apart.

    The interval is a percentile bootstrap of both runs: settings drawn as wholes, and in each setting and split its
    images, once for all interpreters (``stability.bootstrap``); the two runs independently, interpreters fixed. It adds
    noise to scores that have some already, so it leans towards 0. Undefined with fewer than three interpreters.
    """
    runs = [_ranked(run) for run in (first, second)]
    names = tuple(n for n in runs[0][1] if n in runs[1][1])
    cells = tuple(c for c in runs[0][0].cells if c in runs[1][0].cells)
    values, resampled = zip(*(_scores(what, names, cells, resamples) for what, _ in runs), strict=True)
    settings = tuple(tuple(what.settings) for what, _ in runs)
    known = [np.isfinite(v).all() for v in values]
    if len(names) < 3 or not all(known):
        nothing = Estimate(np.nan, np.nan, np.nan, len(names))
        return CarryOver(names, cells, *values, nothing, nothing, np.nan, settings)
    tau, rho = (_estimate(how, values, resampled) for how in (kendall, spearman))
    return CarryOver(names, cells, *values, tau, rho, float(stats.kendalltau(*values).pvalue), settings)


def _ranked(run: Run) -> tuple[Study, list[str]]:
    what = st.study(run.rows, run.header, "absolute", "input")
    table = ranking.ranked_table(what, "absolute", "input")
    return what, table.loc[table["rank"].notna() & ~table["canary"], "interpreter"].tolist()


def _scores(
    what: Study, names: tuple[str, ...], cells: tuple[str, ...], resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    """(k,) transfer stability over these cells, and (resamples, k)."""
    counted = st.counted_metrics(what)
    scored = st.averaged(counted)
    member = st.columns(what)["transfer"] & np.isin(what.cells, cells)[:, None]
    which = [what.interpreters.index(n) for n in names]
    return st.value(what, member, scored)[which], st.bootstrap(what, member, scored, resamples)[:, which]


def _estimate(how, values: tuple[np.ndarray, ...], resampled: tuple[np.ndarray, ...]) -> Estimate:
    drawn = how(*resampled)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(float(how(*values)), float(low), float(high), len(values[0]))


def kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., k) and (..., k) → (...): Kendall's τ-b; NaN where one is constant."""
    i, j = np.triu_indices(a.shape[-1], 1)
    signs = [np.sign(x[..., i] - x[..., j]) for x in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (signs[0] * signs[1]).sum(-1) / np.sqrt((signs[0] ** 2).sum(-1) * (signs[1] ** 2).sum(-1))


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., k) and (..., k) → (...): Pearson's correlation of average ranks; NaN where one is constant."""
    ranks = [stats.rankdata(x, axis=-1) for x in (a, b)]
    centred = [r - r.mean(-1, keepdims=True) for r in ranks]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(-1) / np.sqrt((centred[0] ** 2).sum(-1) * (centred[1] ** 2).sum(-1))


def finding(found: CarryOver) -> Finding:
    """Whether the ranking carries over, as a claim with its verdict."""
    return Finding(
        "carries_over",
        "The ranking on scenes carries over to photographs.",
        "This suite's question",
        (
            condition("Kendall's τ-b of transfer stability in the two suites", ">", 0.0, found.tau),
            condition("the same, strong", ">", STRONG, found.tau),
        ),
        {"rho": found.rho, "p": found.p, "settings": found.settings, "cells": found.cells},
    )
