"""Statistics of estimates: pooled ratios, their joint spread, intervals, paired comparisons, tie groups, ranks.

Pure functions of arrays; nothing here knows what an interpreter is. Undefined estimates are NaN and stay NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Spread:
    """Estimates of k quantities and how they would vary together in another sample."""

    value: np.ndarray
    """(k,) the estimates; NaN where undefined"""
    deviations: np.ndarray
    """(u, k), scaled so that the covariance of the estimates is ``deviations.T @ deviations``"""
    degrees: np.ndarray
    """(k,) degrees of freedom of the t distribution that intervals and tests use; 0 without any"""

    def error(self) -> np.ndarray:
        """(k,) standard errors."""
        return np.sqrt((self.deviations**2).sum(0))

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """(k,) and (k,): the two-sided t interval's ends; NaN without a degree of freedom."""
        half = t_quantile((1 + level) / 2, self.degrees) * self.error()
        return self.value - half, self.value + half

    def __getitem__(self, which: np.ndarray) -> Spread:
        return Spread(self.value[which], self.deviations[:, which], self.degrees[which])

    def pair_degrees(self) -> np.ndarray:
        """(k, k): of two estimates over different units the fewer count."""
        return np.minimum(self.degrees[:, None], self.degrees[None])


def t_quantile(probability: float, degrees: np.ndarray | int) -> np.ndarray:
    """The t distribution's quantiles, shaped like the degrees of freedom; NaN where there are none."""
    return np.where(np.greater(degrees, 0), stats.t.ppf(probability, np.maximum(degrees, 1)), np.nan)


def lower_bound(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """(u, ...) → (...): the one-sided t lower bound of the mean over units.

    NaN units are left out; NaN for fewer than two.
    """
    count = np.isfinite(values).sum(0)
    filled = np.where(np.isfinite(values), values, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = filled.sum(0) / count
        variance = np.where(np.isfinite(values), (values - mean) ** 2, 0).sum(0) / (count - 1)
        return np.where(count > 1, mean - stats.t.ppf(level, count - 1) * np.sqrt(variance / count), np.nan)


def pooled_ratios(numerators: np.ndarray, denominators: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(..., k, m) and (..., k, m) → (..., k): the mean of numerator / denominator over the m that count.

    ``counted`` is bool (k, m). NaN where nothing counts or where a denominator that counts is zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(denominators != 0, numerators / denominators, np.nan)
        return np.where(counted, ratios, 0).sum(-1) / counted.sum(-1)


def jackknife(numerators: np.ndarray, denominators: np.ndarray, counted: np.ndarray) -> Spread:
    """The spread of pooled ratios over independent units, from leaving each unit out once.

    ``numerators`` and ``denominators`` are (u, k, m) and add up over the units. A unit's deviation is
    (u − 1) (estimate − estimate without the unit), which is its pseudo-value less the estimate (Tukey 1958); their
    mean is taken off and t has u − 1 degrees of freedom. With equal denominators this is the textbook t interval over
    the units' means, and differences of two ratios are paired by unit. A unit in which a quantity has nothing to add is
    none of its units.
    """
    top, bottom = numerators.sum(0), denominators.sum(0)
    value = pooled_ratios(top, bottom, counted)
    there = ((numerators != 0) | (denominators != 0)).any(-1)
    units = there.sum(0)
    without = pooled_ratios(top - numerators, bottom - denominators, counted)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, without, 0).sum(0) / units
        deviations = (units - 1) * (mean - without) / np.sqrt(units * (units - 1))
    deviations = np.where(units > 1, np.where(there, deviations, 0), np.nan)
    return Spread(value, deviations, np.maximum(units - 1, 0))


def resampling_counts(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """float32 (resamples, n): how often each of n items is drawn when n are drawn with replacement."""
    drawn = rng.integers(0, n, (resamples, n), dtype=np.int32)
    drawn += np.arange(resamples, dtype=np.int32)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float32)


def from_resamples(value: np.ndarray, resampled: np.ndarray, units: int) -> Spread:
    """The spread that bootstrap estimates (r, k) show around ``value`` (k,); t takes the units' degrees of freedom.

    A plain bootstrap's variance is (units − 1)/units of the unbiased one; that is put back.
    """
    scale = np.sqrt(units / max(units - 1, 1) / max(len(resampled) - 1, 1))
    return Spread(value, (resampled - resampled.mean(0)) * scale, np.full(len(value), units - 1))


def paired_tests(spread: Spread) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of estimates compared: (k, k) differences row − column, their errors, two-sided p-values of t.

    With one ratio per unit and equal denominators it is ``scipy.stats.ttest_rel`` over the units.
    Two estimates that never differ have p = 1; a constant difference has p = 0.
    """
    covariance = spread.deviations.T @ spread.deviations
    own = np.diag(covariance)
    differences = spread.value[:, None] - spread.value[None]
    squared = own[:, None] + own[None] - 2 * covariance
    # Below rounding of the two variances the pair has no spread of its own.
    errors = np.sqrt(np.where(squared > 1e-12 * (own[:, None] + own[None]), squared, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(
            np.abs(differences) > 1e-12, np.abs(differences) / errors, np.where(np.isnan(differences), np.nan, 0)
        )
    return differences, errors, 2 * stats.t.sf(t, spread.pair_degrees())


def holm(p_values: np.ndarray) -> np.ndarray:
    """(n,) → (n,): p-values corrected for n tests by Holm's (1979) step-down; NaN counts as no test."""
    corrected = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]
    stepped = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected


def holm_pairs(p_values: np.ndarray) -> np.ndarray:
    """(k, k) symmetric p-values of all pairs → corrected over the k (k − 1) / 2 pairs; NaN on the diagonal."""
    upper = np.triu_indices(len(p_values), 1)
    corrected = np.full(p_values.shape, np.nan)
    corrected[upper] = holm(p_values[upper])
    corrected.T[upper] = corrected[upper]
    return corrected


def rank_intervals(value: np.ndarray, different: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) and (k,): the least and largest rank (1 is the largest value) that the pairs found different leave open.

    Least: one more than how many are surely larger. Largest: k less how many are surely smaller. If the pairwise
    tests err with probability α altogether, all true ranks lie inside together with probability 1 − α
    (Al Mohamad, van Zwet, Solari and Goeman 2022).
    """
    better = different & (value[None] > value[:, None])
    worse = different & (value[None] < value[:, None])
    return 1 + better.sum(1), len(value) - worse.sum(1)


def tie_runs(value: np.ndarray, different: np.ndarray) -> list[str]:
    """Longest runs of neighbours in the ranking within which no pair was found different, as letters: 'a', 'ab', …

    The bars of a critical-difference diagram (Demšar 2006). There are at most as many runs as entries, where groups
    that need not be runs (Piepho 2004) can be exponentially many and fill a table with letters. So two that share a
    letter were not found different; of two that share none, one with a wide interval may not have been either.
    """
    order = np.argsort(-value, kind="stable")
    ranked = different[np.ix_(order, order)]
    letters = [""] * len(value)
    end = count = 0
    for start in range(len(value)):
        reach = _reach(ranked, start)
        if reach <= end:
            continue
        for place in order[start:reach]:
            letters[place] += _letter(count)
        end, count = reach, count + 1
    return letters


def _reach(different: np.ndarray, start: int) -> int:
    """One past the last entry of the run that begins here."""
    end = start + 1
    while end < len(different) and not different[start:end, end].any():
        end += 1
    return end


def _letter(n: int) -> str:
    return chr(ord("a") + n) if n < 26 else f"({n + 1})"


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of k treatments over n blocks, and Nemenyi's critical difference of mean ranks."""

    statistic: float
    p_value: float
    mean_ranks: np.ndarray
    """(k,), 1 is best"""
    critical_difference: float
    """two mean ranks further apart than this differ at the 5 % level, all pairs together"""


def friedman(table: np.ndarray, level: float = 0.95) -> Friedman:
    """(n blocks, k treatments), larger is better → Friedman (1937) and Nemenyi (1963), as in Demšar (2006, eq. 6).

    NaN for the test with fewer than three treatments or two blocks. ``table`` must be finite.
    """
    blocks, treatments = table.shape
    mean_ranks = stats.rankdata(-table, axis=1).mean(0) if blocks else np.full(treatments, np.nan)
    if treatments < 3 or blocks < 2:
        return Friedman(np.nan, np.nan, mean_ranks, np.nan)
    statistic, p_value = stats.friedmanchisquare(*table.T)
    q = stats.studentized_range.ppf(level, treatments, np.inf) / np.sqrt(2)
    return Friedman(
        float(statistic), float(p_value), mean_ranks, float(q * np.sqrt(treatments * (treatments + 1) / (6 * blocks)))
    )
