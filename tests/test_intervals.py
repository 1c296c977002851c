"""The statistics, each against scipy, a published table or its definition written again."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unfooled import intervals


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _one_metric(values: np.ndarray) -> intervals.Spread:
    """The spread of plain means: ratios whose denominators are all 1. ``values`` (u, k)."""
    numerators = values[..., None]
    return intervals.jackknife(numerators, np.ones_like(numerators), np.ones((values.shape[1], 1), bool))


def test_with_equal_denominators_the_jackknife_is_the_t_interval_of_scipy():
    values = _rng().normal(size=(9, 4))
    low, high = _one_metric(values).interval()
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(low, expected.low, rtol=1e-12)
    np.testing.assert_allclose(high, expected.high, rtol=1e-12)


def test_paired_tests_are_scipys():
    values = _rng(1).normal(size=(9, 5)) + _rng(2).normal(size=(9, 1))
    differences, _, p_values = intervals.paired_tests(_one_metric(values))
    for a, b in combinations(range(5), 2):
        expected = stats.ttest_rel(values[:, a], values[:, b])
        assert p_values[a, b] == pytest.approx(expected.pvalue, rel=1e-9)
        assert differences[a, b] == pytest.approx((values[:, a] - values[:, b]).mean(), rel=1e-12)


def test_the_jackknife_of_a_ratio_is_leaving_one_out_by_hand():
    rng = _rng(3)
    top, bottom = rng.normal(1, 0.2, (7, 2, 3)), rng.normal(2, 0.2, (7, 2, 3))
    counted = np.array([[True, True, False], [True, True, True]])
    spread = intervals.jackknife(top, bottom, counted)
    for k in range(2):
        metrics = np.flatnonzero(counted[k])
        whole = np.mean([top[:, k, m].sum() / bottom[:, k, m].sum() for m in metrics])
        left = [
            np.mean([np.delete(top[:, k, m], u).sum() / np.delete(bottom[:, k, m], u).sum() for m in metrics])
            for u in range(7)
        ]
        assert spread.value[k] == pytest.approx(whole, rel=1e-12)
        assert spread.error()[k] == pytest.approx(np.sqrt(6 / 7 * np.sum((left - np.mean(left)) ** 2)), rel=1e-9)


def test_estimates_that_never_differ_have_p_one_and_a_constant_difference_has_p_zero():
    values = _rng(4).normal(size=(9, 1))
    _, _, p_values = intervals.paired_tests(_one_metric(np.hstack([values, values, values + 0.5])))
    assert p_values[0, 1] == 1
    assert p_values[0, 2] == 0


def test_one_unit_gives_a_value_and_no_interval():
    spread = _one_metric(np.array([[0.5, 0.25]]))
    np.testing.assert_array_equal(spread.value, [0.5, 0.25])
    assert np.isnan(spread.interval()).all()


def test_a_unit_in_which_a_quantity_has_nothing_is_none_of_its_units():
    """Three of nine units, as where models were fooled against an interpreter in three settings alone."""
    rng = _rng()
    top, bottom = rng.normal(size=(9, 2, 3)), rng.uniform(1, 2, size=(9, 2, 3))
    top[3:, 1], bottom[3:, 1] = 0, 0
    counted = np.ones((2, 3), bool)
    both = intervals.jackknife(top, bottom, counted)
    whole = intervals.jackknife(top[:, :1], bottom[:, :1], counted[:1])
    few = intervals.jackknife(top[:3, 1:], bottom[:3, 1:], counted[1:])
    assert both.degrees.tolist() == [8, 2]
    assert both.pair_degrees().tolist() == [[8, 2], [2, 2]]
    for k, alone in enumerate((whole, few)):
        np.testing.assert_allclose(both.value[k], alone.value[0], rtol=1e-12)
        np.testing.assert_allclose(
            [end[k] for end in both.interval()], [end[0] for end in alone.interval()], rtol=1e-12
        )


def test_intervals_over_few_of_the_units_cover():
    truth, covered = np.array([0.4]), []
    rng = _rng(11)
    for _ in range(2000):
        top = np.zeros((9, 1, 1))
        top[:3, 0, 0] = truth + rng.normal(size=3)
        low, high = intervals.jackknife(top, (top != 0).astype(float), np.ones((1, 1), bool)).interval()
        covered.append(bool(low[0] <= truth[0] <= high[0]))
    assert 0.935 <= np.mean(covered) <= 0.965


def test_nothing_counted_is_undefined():
    ones = np.ones((3, 2, 2))
    spread = intervals.jackknife(ones, ones, np.array([[True, True], [False, False]]))
    assert spread.value[0] == 1
    assert np.isnan(spread.value[1])


def test_lower_bound_is_scipys_one_sided_interval_and_leaves_missing_units_out():
    values = _rng(5).normal(size=(8, 3))
    values[2, 1] = np.nan
    for k, bound in enumerate(intervals.lower_bound(values)):
        there = values[np.isfinite(values[:, k]), k]
        assert bound == pytest.approx(stats.ttest_1samp(there, 0, alternative="greater").confidence_interval(0.95).low)
    assert np.isnan(intervals.lower_bound(values[:1])).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """Holm's p of a hypothesis is the largest Bonferroni p of any set that holds it (Marcus et al. 1976)."""
    p = np.array(p_values)
    sets = [s for size in range(1, len(p) + 1) for s in combinations(range(len(p)), size)]
    expected = [max(min(1, len(s) * p[list(s)].min()) for s in sets if i in s) for i in range(len(p))]
    np.testing.assert_allclose(intervals.holm(p), expected, rtol=1e-12)


def test_holm_leaves_out_what_was_not_tested():
    corrected = intervals.holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(corrected, [0.02, np.nan, 0.04])


def test_entries_that_share_a_letter_are_runs_without_a_difference():
    """Against the definition, by trying all runs."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        value = rng.normal(size=7)
        different = np.triu(rng.random((7, 7)) < 0.3, 1)
        different |= different.T
        letters = intervals.tie_runs(value, different)
        order = np.argsort(-value)
        runs = [range(a, b) for a in range(7) for b in range(a + 1, 8)]
        alike = [set(run) for run in runs if not different[np.ix_(order[run], order[run])].any()]
        longest = [run for run in alike if not any(run < other for other in alike)]
        found = [{p for p in range(7) if c in letters[order[p]]} for c in sorted(set("".join(letters)))]
        assert sorted(map(sorted, longest)) == sorted(map(sorted, found))


def test_letters_of_an_intransitive_case():
    """The first differs from the third only: a, ab, b."""
    different = np.zeros((3, 3), bool)
    different[0, 2] = different[2, 0] = True
    assert intervals.tie_runs(np.array([3.0, 2.0, 1.0]), different) == ["a", "ab", "b"]


def test_rank_intervals_count_who_is_surely_better_and_worse():
    value = np.array([0.2, 0.9, 0.5])
    none, every = np.zeros((3, 3), bool), ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(intervals.rank_intervals(value, none), [[1, 1, 1], [3, 3, 3]])
    np.testing.assert_array_equal(intervals.rank_intervals(value, every), [[3, 1, 2], [3, 1, 2]])


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_demsars_table(k, q):
    """Demšar (2006), table 5a, printed to three decimals, some of them cut rather than rounded."""
    blocks = 9
    found = intervals.friedman(_rng(6).normal(size=(blocks, k))).critical_difference
    assert found / np.sqrt(k * (k + 1) / (6 * blocks)) == pytest.approx(q, abs=1e-3)


def test_friedman_is_its_textbook_formula():
    table = _rng(7).normal(size=(9, 4)) + np.arange(4)
    found = intervals.friedman(table)
    ranks = np.argsort(np.argsort(-table, 1), 1) + 1
    np.testing.assert_allclose(found.mean_ranks, ranks.mean(0))
    statistic = 12 * 9 / (4 * 5) * (np.sum(ranks.mean(0) ** 2) - 4 * 25 / 4)
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 3))


def test_friedman_of_two_treatments_or_one_block_is_undefined():
    assert np.isnan(intervals.friedman(np.ones((5, 2))).p_value)
    assert np.isnan(intervals.friedman(np.ones((1, 4))).p_value)


def test_resampling_counts_have_the_moments_of_drawing_with_replacement():
    counts = intervals.resampling_counts(50, 4000, _rng(8))
    assert (counts.sum(1) == 50).all()
    # 200,000 nearly independent counts of variance 0.98 and kurtosis about 4: three standard errors of the variance
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=3 * 0.98 * np.sqrt(3 / 200_000))


def test_the_bootstraps_error_is_the_analytic_one():
    values = _rng(9).normal(size=(40, 3))
    counts = intervals.resampling_counts(40, 8000, _rng(10))
    spread = intervals.from_resamples(values.mean(0), counts @ values / 40, 40)
    # the relative standard error of a standard deviation from 8000 draws is 1 / sqrt(16000) = 0.8 %
    np.testing.assert_allclose(spread.error(), stats.sem(values), rtol=0.03)
