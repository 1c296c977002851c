"""A claim about a run, what it would take for it to hold, and the verdict that follows: rules first, numbers second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from unfooled import intervals
from unfooled.intervals import Spread

Verdict = Literal["confirmed", "qualified", "contradicted", "not testable"]
State = Literal["holds", "open", "fails", "undefined"]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval over n settings; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int
    p: float = float("nan")
    """of a paired difference: two-sided, from t over settings"""


def over_settings(values: Iterable[float]) -> Estimate:
    """The mean of one finite value a setting and its t interval; settings without a value are left out."""
    known = np.array([v for v in values if v is not None and np.isfinite(v)], float)
    n = len(known)
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    half = intervals.t_quantile(0.975, n - 1) * known.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Estimate(float(known.mean()), float(known.mean() - half), float(known.mean() + half), n)


def of(spread: Spread, which: int | np.ndarray) -> Estimate:
    """One quantity of a spread, or the mean of several; undefined where there is none."""
    pooled = _means(spread, which)
    low, high = pooled.interval()
    return Estimate(float(pooled.value[0]), float(low[0]), float(high[0]), int(pooled.degrees[0]) + 1)


def difference(spread: Spread, a: int | np.ndarray, b: int | np.ndarray) -> Estimate:
    """a less b (or their means), paired: what both have in common in a setting cancels."""
    pair = _means(spread, a, b)
    values, errors, p_values = intervals.paired_tests(pair)
    degrees = int(pair.pair_degrees()[0, 1])
    half = intervals.t_quantile(0.975, degrees) * errors[0, 1]
    value = float(values[0, 1])
    return Estimate(value, float(value - half), float(value + half), degrees + 1, float(p_values[0, 1]))


def _means(spread: Spread, *groups: int | np.ndarray) -> Spread:
    """The spread of each group's mean over the units that its members share at least; NaN for an empty group."""
    mixed = np.stack([np.isin(np.arange(len(spread.value)), g) / max(np.size(g), 1) for g in groups], 1)
    empty = np.array([np.size(g) == 0 for g in groups])
    used = mixed.any(1)
    value, deviations = spread.value[used] @ mixed[used], spread.deviations[:, used] @ mixed[used]
    degrees = np.array([spread.degrees[g].min(initial=spread.degrees.max(initial=0)) for g in groups])
    return Spread(np.where(empty, np.nan, value), np.where(empty, np.nan, deviations), degrees)


@dataclass(frozen=True)
class Condition:
    """Something that the claim says of one or several quantities, held against their intervals."""

    words: str
    estimates: tuple[Estimate, ...]
    side: Literal[">", "<"]
    threshold: float

    @property
    def states(self) -> list[State]:
        return [self._state(e) for e in self.estimates]

    @property
    def state(self) -> State:
        """*holds* or *fails* where all intervals lie beyond the threshold on that side; undefined ones do not count."""
        known = {s for s in self.states if s != "undefined"}
        return known.pop() if len(known) == 1 else "open" if known else "undefined"

    def _state(self, estimate: Estimate) -> State:
        if not np.isfinite([estimate.value, estimate.low, estimate.high]).all():
            return "undefined"
        ends = (estimate.low, estimate.high) if self.side == ">" else (-estimate.high, -estimate.low)
        bar = self.threshold if self.side == ">" else -self.threshold
        return "holds" if ends[0] > bar else "fails" if ends[1] < bar else "open"


def condition(words: str, side: Literal[">", "<"], threshold: float, *estimates: Estimate) -> Condition:
    """What is wanted in words, which side of which threshold, and the quantities."""
    return Condition(words, estimates, side, threshold)


@dataclass(frozen=True)
class Finding:
    """A claim of the literature, its conditions (the first is the claim's heart) and what else there is to say."""

    key: str
    claim: str
    source: str
    conditions: tuple[Condition, ...]
    numbers: Mapping[str, object] = field(default_factory=dict)
    """for the prose"""
    table: pd.DataFrame | None = None

    @property
    def verdict(self) -> Verdict:
        """confirmed: every condition that can be tested holds; contradicted: the first one surely does not.

        Qualified: anything between, so it holds in part, or these settings cannot tell it from its opposite. Not
        testable: the run lacks what the first condition asks for, or has a single setting.
        """
        if not self.conditions or self.conditions[0].state == "undefined":
            return "not testable"
        if self.conditions[0].state == "fails":
            return "contradicted"
        return "confirmed" if all(c.state in ("holds", "undefined") for c in self.conditions) else "qualified"

    @property
    def main(self) -> Estimate:
        """The number that stands for the claim; all NaN where there is none."""
        estimates = self.conditions[0].estimates if self.conditions else ()
        return estimates[0] if estimates else Estimate(np.nan, np.nan, np.nan, 0)
