"""The rank of every interpreter under every defensible way to score it, from the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from unfooled.leaderboard import stability as st
from unfooled.leaderboard.controls import prediction_alone
from unfooled.leaderboard.facts import beside

MEAN = "mean"


@dataclass(frozen=True)
class Specification:
    """One way to score: a single metric, or the mean of the headline's with some replaced by variants."""

    polarity: str
    metric: str
    """``mean``, or the base name of a single metric"""
    labels: tuple[str, ...]
    """the metrics that are averaged"""

    @property
    def variant(self) -> str:
        """The arguments that differ from the headline; empty for the headline's own."""
        return ", ".join(label for label in self.labels if "(" in label)


def specifications(polarities: list[str], labels: list[str]) -> Iterator[Specification]:
    """Polarity × (each metric and each of its variants, and the mean over every choice of variants)."""
    headline = st.headline_metrics(labels)
    choices = [
        [base, *sorted(m for m in labels if m.startswith(f"{base}(") and m not in headline)] for base in headline
    ]
    extra = sorted(set(labels) - {m for choice in choices for m in choice})
    for polarity in polarities:
        for picked in product(*choices) if len(headline) > 1 else ():
            yield Specification(polarity, MEAN, picked)
        for label in [*(m for choice in choices for m in choice), *extra]:
            yield Specification(polarity, label.split("(")[0], (label,))


def multiverse(rows: pd.DataFrame, header: Mapping[str, object], *, at: str = "input") -> pd.DataFrame:
    """Specification × interpreter: the rank by transfer stability, 1 the most stable; NaN where one is not ranked.

    The index has the levels ``polarity``, ``metric`` and ``variant``; the first row of a polarity is the headline's. A
    metric whose range is not surely 0.1 gives no rank; the mean needs two thirds of its metrics. Columns stand in the
    order of their median rank. The frame's ``attrs``: at, conditional (one setting) and canaries.
    """
    labels = sorted(rows.loc[(rows["at"] == at).to_numpy(), "metric"].unique())
    polarities = sorted(rows["polarity"].unique())
    found = list(specifications(polarities, labels))
    ranks = pd.DataFrame([rank for p in polarities for rank in _of_polarity(rows, header, at, p, labels, found)])
    keys = [(s.polarity, s.metric, s.variant) for s in found]
    ranks.index = pd.MultiIndex.from_tuples(keys, names=["polarity", "metric", "variant"])
    ranks = ranks[ranks.median().sort_values(kind="stable").index]
    known = header.get("interpreters", {})
    canaries = [i for i in ranks if known.get(i, {}).get("family") == "canary"]
    ranks.attrs = {"at": at, "conditional": rows["setting"].nunique() == 1, "canaries": canaries}
    return ranks


def _of_polarity(rows, header, at, polarity, labels, found) -> Iterator[pd.Series]:
    what = st.study(rows, header, polarity, at, labels)
    member, counted = st.columns(what), st.counted_metrics(what)
    facts = beside(what, member, counted)
    whole = (facts["coverage"] >= st.LEAST_COVERAGE) & (facts["missing"] == 0)
    able = (whole & (facts["independent"].map(prediction_alone) == "")).to_numpy()
    for one in (s for s in found if s.polarity == polarity):
        chosen = np.isin(what.metrics, one.labels)
        enough = st.sensitive(counted[:, chosen]) & able
        values = st.value(what, member["transfer"], counted & chosen & enough[:, None])
        yield pd.Series(values, index=what.interpreters).rank(ascending=False, method="min")


def comparing(ranks: pd.DataFrame) -> pd.DataFrame:
    """The specifications of a multiverse that rank two interpreters or more."""
    return ranks[ranks.notna().sum(axis=1) > 1]


def rank_ranges(ranks: pd.DataFrame) -> pd.DataFrame:
    """A multiverse → per interpreter its best, median and worst rank, and in how many specifications it is ranked.

    Specifications that rank fewer than two are left out. The frame's ``attrs``: those of the multiverse, and
    ``choices``: level → what there is to choose, ``variant`` naming each varied metric; ``specifications``: how many.
    """
    ranks = comparing(ranks)
    found = {"best_rank": ranks.min(), "median_rank": ranks.median(), "worst_rank": ranks.max()}
    frame = pd.DataFrame(found).assign(specifications=ranks.notna().sum()).rename_axis("interpreter").reset_index()
    frame.attrs = {**ranks.attrs, "choices": _choices(ranks.index), "specifications": len(ranks)}
    return frame


def _choices(specified: pd.MultiIndex) -> dict[str, list[str]]:
    # A single metric's variant is one label; a mean's is all of its variants in one word.
    single = [(p, m, v) for p, m, v in specified if m != MEAN]
    return {
        "polarity": list(dict.fromkeys(p for p, _, _ in specified)),
        "metric": list(dict.fromkeys(m for _, m, _ in specified)),
        "variant": list(dict.fromkeys(v for _, _, v in single if v)),
    }
