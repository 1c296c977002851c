"""Intervals cover at their rate and a null gives no winner, at the layout that ships: 9 settings × 9 cells × 6 metrics.

Settings are simulated as the totals over their cells, which is all that the statistics ever see of the rows; the noise
of the images enters with its standard error. Each rate comes from REPEATS simulated suites of INTERPRETERS
interpreters; its Monte-Carlo error, from suites alone, is at most sqrt(0.05 · 0.95 / REPEATS) = 0.006.
"""

import numpy as np
import pytest
from synthetic_rows import REAL, World, header, model_effects, rows

from unfooled import intervals
from unfooled.leaderboard import ranking

SETTINGS, CELLS, METRICS, IMAGES, REPEATS = 9, 9, 6, 100, 1500
INTERPRETERS = 8
ERROR = np.sqrt(0.05 * 0.95 / REPEATS)
COUNTED = np.ones((INTERPRETERS, METRICS), bool)


def _normal(rng, shape):
    return rng.standard_normal(shape)


def _skewed(rng, shape):
    """Mean 0, variance 1, skewness 1.4."""
    return (rng.gamma(2.0, 1.0, shape) - 2) / np.sqrt(2)


def _suite(rng, truth, draw=_normal, sd=0.08):
    """Numerators and denominators, (settings, interpreters, metrics): ranges differ by 20 %, stabilities by ``sd``."""
    s, k, m = SETTINGS, INTERPRETERS, METRICS
    span = np.clip(0.5 + 0.1 * draw(rng, (s, k, 1)) + 0.05 * draw(rng, (s, k, m)), 0.1, None)
    effects = sd * (0.5 * draw(rng, (s, 1, 1)) + draw(rng, (s, k, 1)) + 0.5 * draw(rng, (s, k, m)))
    cells = sd * draw(rng, (s, k, 1, CELLS)).mean(-1)
    images = 0.15 / np.sqrt(IMAGES) * draw(rng, (s, k, m))
    # The effects are added to the numerator, apart from the span: so truth is the ratio of the expectations.
    return CELLS * (truth[None, :, None] * span + 0.5 * (effects + cells) + images), CELLS * span


def _spreads(truth, draw=_normal, sd=0.08):
    rng = np.random.default_rng(11)
    for _ in range(REPEATS):
        yield intervals.jackknife(*_suite(rng, truth, draw, sd), COUNTED)


TRUTH = np.linspace(0.9, 0.1, INTERPRETERS)


@pytest.mark.parametrize("draw", [_normal, _skewed])
@pytest.mark.parametrize("sd", [0.03, 0.15])
def test_95_percent_intervals_of_stability_cover_between_92_and_98(draw, sd):
    covered = []
    for spread in _spreads(TRUTH, draw, sd):
        low, high = spread.interval()
        covered.append((low <= TRUTH) & (high >= TRUTH))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_95_percent_intervals_of_differences_cover_between_92_and_98():
    covered = []
    for spread in _spreads(TRUTH):
        differences, errors, _ = intervals.paired_tests(spread)
        half = intervals.t_quantile(0.975, spread.pair_degrees()) * errors
        truth = TRUTH[:, None] - TRUTH[None]
        covered.append((np.abs(differences - truth) <= half)[np.triu_indices(INTERPRETERS, 1)])
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("draw", [_normal, _skewed])
def test_a_null_gives_no_winner(draw):
    """All interpreters are equally stable: at most 5 % of the suites find any pair different, or a rank for sure."""
    wrong = []
    for spread in _spreads(np.full(INTERPRETERS, 0.5), draw):
        different = np.nan_to_num(intervals.holm_pairs(intervals.paired_tests(spread)[2]), nan=1) < 0.05
        low, high = intervals.rank_intervals(spread.value, different)
        wrong.append(different.any())
        assert different.any() or ((low == 1) & (high == INTERPRETERS)).all()
    assert np.mean(wrong) <= 0.05 + 2 * ERROR


def test_all_true_ranks_lie_inside_their_intervals_together():
    wrong, ranks = [], np.arange(1, INTERPRETERS + 1)
    for spread in _spreads(TRUTH):
        different = np.nan_to_num(intervals.holm_pairs(intervals.paired_tests(spread)[2]), nan=1) < 0.05
        low, high = intervals.rank_intervals(spread.value, different)
        wrong.append(((low > ranks) | (high < ranks)).any())
    assert np.mean(wrong) <= 0.05 + 2 * ERROR


def test_a_real_difference_is_found():
    """Power, so that the tests above cannot be passed by intervals that say nothing."""
    found = []
    for spread in _spreads(TRUTH):
        found.append(intervals.holm_pairs(intervals.paired_tests(spread)[2])[0, -1] < 0.05)
    assert np.mean(found) >= 0.95


def test_over_the_images_of_one_setting_intervals_cover_between_92_and_98():
    """The smoke layout: 64 images, one setting; the truth is that of its networks over all images."""
    rng, repeats, images, truth = np.random.default_rng(12), 600, 64, np.array([0.8, 0.4])
    covered = []
    for _ in range(repeats):
        span = 0.5 + 0.1 * rng.standard_normal((images, 2, METRICS))
        shared = 0.2 * rng.standard_normal((images, 1, 1)) + 0.1 * rng.standard_normal((images, 2, METRICS))
        top = truth[:, None] * span + 0.5 * shared
        counts = intervals.resampling_counts(images, 1000, rng)
        means = [(counts @ x.reshape(images, -1) / images).reshape(-1, 2, METRICS) for x in (top, span)]
        counted = np.ones((2, METRICS), bool)
        value = intervals.pooled_ratios(top.mean(0), span.mean(0), counted)
        low, high = intervals.from_resamples(value, intervals.pooled_ratios(*means, counted), images).interval()
        covered.append((low <= truth) & (high >= truth))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_whole_way_from_rows_covers_between_92_and_98():
    """120 runs at the shipped layout (9 settings, cells on both splits, 6 metrics) with a quarter of its images, which
    matter little beside the settings: rows, sums, intervals and ranks together."""
    world, covered, inside = World(REAL, images=24, active=True), [], []
    about, truth = header(world), {t.label: t for t in REAL}
    order = sorted(truth, key=lambda label: -truth[label].transfer)
    for seed in range(120):
        table = ranking.scores(rows(world, seed), about)
        for row in table.itertuples():
            of = truth[row.interpreter]
            covered.append(row.transfer_low <= of.transfer <= row.transfer_high)
            covered.append(row.attacked_low <= of.attacked <= row.attacked_high)
        places = [(r.rank_low, order.index(r.interpreter) + 1, r.rank_high) for r in table.itertuples()]
        inside.append(all(low <= place <= high for low, place, high in places))
    # 960 outcomes, of which those of one run are dependent, but between interpreters only
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(inside) >= 0.95


def test_three_architectures_say_little_of_others():
    """Seeds of one architecture are alike, with an intraclass correlation of 0.87 as on `standard`.

    For these three architectures the interval over nine settings is too wide: it covers their own mean nearly always.
    For the mean over architectures drawn at random it is too narrow: 0.69, where nine independent settings give 0.95
    (400,000 draws of nine normal numbers). docs/ranking.md tells both.
    """
    own = 0.05
    world = World(REAL, images=4, metrics=("mse",), setting_sd=0, own_sd=own, cell_sd=0, image_sd=0, noise_sd=0.02,
                  model_sd=own * np.sqrt(0.87 / 0.13))  # fmt: skip
    about, truth = header(world), {t.label: t.transfer for t in REAL}
    these, others = [], []
    for seed in range(100):
        effects = model_effects(world, seed)
        for row in ranking.scores(rows(world, seed), about).itertuples():
            of_these = np.mean([effects[m, row.interpreter] for m in ("vgg", "resnet", "densenet")])
            these.append(row.transfer_low <= truth[row.interpreter] + of_these <= row.transfer_high)
            others.append(row.transfer_low <= truth[row.interpreter] <= row.transfer_high)
    assert np.mean(these) >= 0.97
    # 400 independent outcomes: a Monte-Carlo error of 0.023, of which this allows four
    assert np.mean(others) == pytest.approx(0.69, abs=0.1)
