"""The similarities against scipy, scikit-image and their formulas written again, pair by pair in float64."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from skimage.feature import hog
from skimage.metrics import structural_similarity

from unfooled import plugins
from unfooled.maps import says_nothing
from unfooled.metrics import base, prepared
from unfooled.metrics.correlations import MSE, Cosine, Pearson, SignCorrelation, Spearman
from unfooled.metrics.overlap import TopK
from unfooled.metrics.structure import HOG, SSIM
from unfooled.types import Part

pytestmark = pytest.mark.filterwarnings("error")

EXACT = 1e-11
"""Float64 throughout: sums of up to 224² terms of size 1 round by at most 224² · 2⁻⁵³ = 6e-12."""
VOTES = 1e-6
"""scikit-image adds a cell's votes in float32: 28² additions round by 2⁻²⁴ of the sum each, and mostly cancel."""

SIZES = [(12, 12), (32, 32), (33, 33), (224, 224), (12, 33)]
KINDS = ["random", "tied", "sparse", "offset"]


def min_max(x: np.ndarray) -> np.ndarray:
    return (x - x.min()) / (x.max() - x.min())


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return stats.pearsonr(a.ravel(), b.ravel())[0]


def scipy_spearman(a: np.ndarray, b: np.ndarray) -> float:
    return stats.spearmanr(a.ravel(), b.ravel())[0]


def formula_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def formula_sign_correlation(a: np.ndarray, b: np.ndarray) -> float:
    def ternary(h: np.ndarray) -> np.ndarray:
        return np.sign(h) * ((np.abs(h) - np.abs(h).mean()) / np.abs(h).std(ddof=1) > 1)

    return pearson(ternary(a), ternary(b))


def formula_mse(a: np.ndarray, b: np.ndarray) -> float:
    return 1 - np.mean((min_max(a) - min_max(b)) ** 2)


def sorted_top_k(a: np.ndarray, b: np.ndarray, fraction: float = 0.1) -> float:
    k = max(1, round(fraction * a.size))
    top_a, top_b = (set(np.argsort(-x.ravel(), kind="stable")[:k]) for x in (a, b))
    return len(top_a & top_b) / k


def skimage_ssim_wang(a: np.ndarray, b: np.ndarray) -> float:
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return structural_similarity(min_max(a), min_max(b), **wang)


def skimage_ssim_default(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(min_max(a), min_max(b), data_range=1)


def skimage_hog(a: np.ndarray, b: np.ndarray) -> float:
    cell = tuple(max(2, extent // 8 // 2 * 2) for extent in a.shape)
    return pearson(*(hog(min_max(x), 9, cell, (3, 3), block_norm="L2-Hys") for x in (a, b)))


REFERENCES = [
    (Spearman(), scipy_spearman, EXACT),
    (Pearson(), pearson, EXACT),
    (Cosine(), formula_cosine, EXACT),
    (SignCorrelation(), formula_sign_correlation, EXACT),
    (MSE(), formula_mse, EXACT),
    (TopK(), sorted_top_k, 0),
    (SSIM(), skimage_ssim_wang, EXACT),
    (SSIM("uniform"), skimage_ssim_default, EXACT),
    (HOG(), skimage_hog, VOTES),
]
METRICS = [metric for metric, _, _ in REFERENCES]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=str)


def pairs(kind: str, size: tuple[int, int], polarity: str = "signed", n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two correlated batches of float32 maps."""
    rng = np.random.default_rng([KINDS.index(kind), *size])
    a, b = rng.standard_normal((2, n, *size))
    a, b = a.astype(np.float32), (0.5 * a + b).astype(np.float32)
    if kind == "tied":
        a, b = np.round(a), np.round(b)
    if kind == "sparse":
        a, b = a * (np.abs(a) > 1.5), b * (np.abs(b) > 1.5)
    if kind == "offset":
        a, b = 1e-3 * a - 7, 1e3 * b - 7e3
    return (np.abs(a), np.abs(b)) if polarity == "absolute" else (a, b)


def assert_agrees(metric: Callable, reference: Callable, a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
    """The metric's answer is (n,) float64 and each number the reference's for this pair."""
    ours = metric(a, b)
    expected = [reference(x, y) for x, y in zip(a.astype(np.float64), b.astype(np.float64), strict=True)]
    assert ours.shape == (len(a),)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("metric", "reference", "tolerance"), REFERENCES, ids=lambda x: str(x)[:24])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("polarity", ["signed", "absolute"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_a_second_source(metric, reference, tolerance, kind, size, polarity):
    assert_agrees(metric, reference, *pairs(kind, size, polarity), tolerance)


def test_assert_agrees_can_fail():
    a, b = pairs("tied", (12, 12))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_agrees(Pearson(), scipy_spearman, a, b, 1e-6)
    with pytest.raises(AssertionError):
        assert_agrees(lambda x, y: Pearson()(x, y)[:1], pearson, a, b, 1e-6)


@pytest.mark.parametrize("orientations", [2, 4, 8, 12, 180])
def test_hog_puts_angles_between_two_parts_where_unrounded_gradients_are(orientations):
    """Whole numbers meet 45, 90 and 135 degrees often. Eighths are exact, sevenths, which min-max may give, are not."""

    def exact(a: np.ndarray, b: np.ndarray) -> float:
        return pearson(*(hog(x / 8, orientations, (4, 4), (3, 3), block_norm="L2-Hys") for x in (a, b)))

    a, b = (np.clip(x, -3, 4) for x in pairs("tied", (32, 32)))
    assert_agrees(HOG(orientations), exact, a, b, VOTES)


@pytest.mark.parametrize("fraction", [1e-9, 0.01, 0.5, 0.999, 1.0])
def test_top_k_agrees_for_any_fraction(fraction):
    a, b = pairs("sparse", (12, 33))
    assert_agrees(TopK(fraction), lambda x, y: sorted_top_k(x, y, fraction), a, b, 0)


@every_metric
@pytest.mark.parametrize("kind", KINDS)
def test_identical_maps_have_one(metric, kind):
    maps, _ = pairs(kind, (32, 32))
    np.testing.assert_allclose(metric(maps, maps), 1, rtol=0, atol=EXACT)


@every_metric
@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_to_the_bit(metric, kind):
    a, b = pairs(kind, (33, 33))
    np.testing.assert_array_equal(metric(a, b), metric(b, a))


@every_metric
def test_a_pair_depends_on_itself_alone_to_the_bit(metric, monkeypatch):
    a, b = pairs("sparse", (32, 32), n=9)
    a[4], b[7] = 0, np.nan
    whole = metric(a, b)
    state_a, state_b = metric.prepare(a), metric.prepare(b)
    np.testing.assert_array_equal(metric.compare(state_a, state_b), whole)
    np.testing.assert_array_equal(metric.against(state_a, b), whole)
    np.testing.assert_array_equal(metric.compare(state_a[::-2], state_b[::-2]), whole[::-2])
    np.testing.assert_array_equal(np.concatenate([metric(a[i : i + 1], b[i : i + 1]) for i in range(9)]), whole)
    for pixels in (1, 2500, 1 << 20):
        monkeypatch.setattr(base, "CHUNK_PIXELS", pixels)
        np.testing.assert_array_equal(metric(a, b), whole)
        np.testing.assert_array_equal(metric.compare(metric.prepare(a), metric.prepare(b)), whole)


@every_metric
def test_undefined_exactly_where_a_map_says_nothing(metric):
    a, b = pairs("random", (32, 32), n=8)
    expected = metric(a, b)
    a[1], a[2], b[3], b[4], b[5, 3, 3], a[6, 0, 0] = 0, 3.5, -1, 1e-35, np.nan, np.inf
    undefined = np.array([False, True, True, True, True, True, True, False])
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(metric(a, b), np.where(undefined, np.nan, expected))
    np.testing.assert_array_equal(metric(b, a), np.where(undefined, np.nan, expected))


@every_metric
def test_inputs_are_left_alone(metric):
    a, b = pairs("sparse", (32, 32))
    a[0] = 0
    copy_a, copy_b = a.copy(), b.copy()
    metric(a, b)
    np.testing.assert_array_equal(a, copy_a)
    np.testing.assert_array_equal(b, copy_b)


@every_metric
def test_layout_in_memory_does_not_matter(metric):
    a, b = pairs("random", (32, 32))
    turned = np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(metric(turned, b.astype(np.float64)), metric(a, b))


@every_metric
def test_no_maps_no_scores(metric):
    assert metric(*np.zeros((2, 0, 32, 32), np.float32)).shape == (0,)


@pytest.mark.parametrize("metric", [Pearson(), MSE(), SSIM(), SSIM("uniform"), HOG(), Spearman(), TopK()], ids=str)
def test_unchanged_by_scale_and_offset(metric):
    a, b = pairs("tied", (32, 32))  # small integers: 4·a + 8 is exact in float32
    np.testing.assert_allclose(metric(4 * a + 8, b), metric(a, b), rtol=0, atol=EXACT)


@pytest.mark.parametrize("metric", [Cosine(), SignCorrelation()], ids=str)
def test_unchanged_by_scale_but_not_by_offset(metric):
    a, b = pairs("tied", (32, 32))
    np.testing.assert_allclose(metric(4 * a, b), metric(a, b), rtol=0, atol=EXACT)
    assert (np.abs(metric(a + 2, b) - metric(a, b)) > 1e-3).all()


@pytest.mark.parametrize("metric", [Spearman(), TopK()], ids=str)
def test_ranks_do_not_see_a_monotone_change(metric):
    a, b = pairs("tied", (32, 32))
    np.testing.assert_array_equal(metric(a**3, b), metric(a, b))
    assert (np.abs(Pearson()(a**3, b) - Pearson()(a, b)) > 1e-3).all()


@pytest.mark.parametrize("metric", [Spearman(), Pearson(), Cosine(), SignCorrelation()], ids=str)
def test_the_opposite_map_has_minus_one(metric):
    a, _ = pairs("random", (32, 32))
    np.testing.assert_allclose(metric(a, -a), -1, rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("metric", "expected", "deviation"),
    [
        *[(metric, 0, 1 / 32) for metric in (Spearman(), Pearson(), Cosine(), SignCorrelation())],
        *[(metric, 0.02, 0.045) for metric in (SSIM(), SSIM("uniform"))],
        (HOG(), 0.05, 0.05),
    ],
    ids=str,
)
def test_independent_noise_has_about_zero(metric, expected, deviation):
    """Within four deviations of the mean of 64 pairs.

    A correlation of 1,024 pixels deviates by 1 / sqrt(1024). Where covariances vanish, SSIM is C2 / (σa² + σb² + C2),
    0.02 for noise of σ = 0.15. HOGs share their lack of gradients across the border.
    """
    a, b = np.random.default_rng(5).standard_normal((2, 64, 32, 32)).astype(np.float32)
    assert abs(metric(a, b).mean() - expected) < 4 * deviation / np.sqrt(64)


def test_independent_noise_shares_k_of_n_pixels():
    """102 of 1,024 by chance; hypergeometric with a deviation of 0.028 a pair, 0.0035 for the mean of 64."""
    a, b = np.random.default_rng(6).standard_normal((2, 64, 32, 32)).astype(np.float32)
    assert abs(TopK()(a, b).mean() - 102 / 1024) < 0.014


def test_top_k_takes_the_first_among_equals():
    a = np.array([[[0, 5, 1], [1, 1, 1], [0, 0, 0]]], np.float32)
    b = np.array([[[0, 0, 1], [1, 0, 0], [0, 1, 5]]], np.float32)
    # k = 3: pixels 1, 2, 3 of a (5, then the first ones), pixels 8, 2, 3 of b.
    assert TopK(1 / 3)(a, b) == [2 / 3]


def test_top_k_counts():
    assert [TopK().count(size**2) for size in (12, 32, 33, 224)] == [14, 102, 109, 5018]
    assert TopK(0.001).count(10) == 1


def test_sign_correlation_by_hand():
    """|h| = 1, 1, 1, 9 and 1, 1, 1, 1, 9, 9 have bounds 3 + 4 and 3.67 + 4.13: only the nines stand out."""
    a = np.array([[[1, -1, 1], [-1, 9, -9]]], np.float32)
    b = np.array([[[1, -1, 1], [9, 9, -1]]], np.float32)
    ternary_a, ternary_b = [0, 0, 0, 0, 1, -1], [0, 0, 0, 1, 1, 0]
    np.testing.assert_allclose(SignCorrelation()(a, b), np.corrcoef(ternary_a, ternary_b)[0, 1], atol=EXACT)


FLAT = np.indices((32, 32)).sum(0)[None] % 2.0  # a chessboard: no gradients, and nothing stands out


@pytest.mark.parametrize("metric", [HOG(), SignCorrelation()], ids=str)
def test_a_map_without_features_is_one_to_its_like_and_zero_to_others(metric):
    other, _ = pairs("random", (32, 32), n=1)
    flat = FLAT.astype(np.float32)
    np.testing.assert_allclose(metric(flat, 1 - flat), 1, rtol=0, atol=EXACT)
    np.testing.assert_allclose(metric(flat, other), 0, rtol=0, atol=EXACT)


@pytest.mark.parametrize(("metric", "least"), [(SSIM(), 11), (SSIM("uniform"), 7), (HOG(), 6), (HOG(block=2), 4)])
def test_too_small_maps_are_refused(metric, least):
    a, b = pairs("random", (least, least))
    assert np.isfinite(metric(a, b)).all()
    with pytest.raises(ValueError, match=f"{least - 1} x {least} pixels; they must be at least {least} x {least}"):
        metric(a[:, 1:], b[:, 1:])


def test_misfits_are_refused():
    a, b = pairs("random", (12, 12), n=3)
    with pytest.raises(ValueError, match=r"Pearson: maps of shape \(12, 12\); they must be \(n, h, w\)"):
        Pearson()(a[0], b[0])
    with pytest.raises(ValueError, match="Spearman: shapes"):
        Spearman()(a, b[:, 1:])
    with pytest.raises(ValueError, match="MSE: shapes"):
        MSE().compare(MSE().prepare(a), MSE().prepare(b[:, 1:]))
    with pytest.raises(ValueError, match="MSE: shapes"):
        MSE().against(MSE().prepare(a), b[:, 1:])
    with pytest.raises(ValueError, match="Cosine: 3 and 1 maps"):
        Cosine().against(Cosine().prepare(a), b[:1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopK(0), "above 0 and at most 1"),
        (lambda: TopK(1.5), "above 0 and at most 1"),
        (lambda: SSIM("box"), "'gaussian' or 'uniform'"),
        (lambda: HOG(orientations=0), "1 to 180"),
        (lambda: HOG(block=9), "1 <= block <= cells"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def first_pixel(maps_a: np.ndarray, maps_b: np.ndarray) -> np.ndarray:
    return 1 - np.abs(maps_a[:, 0, 0] - maps_b[:, 0, 0])


def test_a_plain_function_can_be_prepared():
    a, b = pairs("random", (12, 12), n=3)
    metric = prepared(first_pixel)
    state = metric.prepare(a)
    for scores in (metric(a, b), metric.compare(state, metric.prepare(b)), metric.against(state, b)):
        np.testing.assert_array_equal(scores, first_pixel(a, b))
        assert scores.dtype == np.float64
    assert prepared(metric) is metric
    assert prepared(own := Pearson()) is own


def all_but_one(maps_a: np.ndarray, maps_b: np.ndarray) -> np.ndarray:
    return first_pixel(maps_a, maps_b)[1:]


def test_a_plain_function_must_answer_once_a_pair():
    a, b = pairs("random", (12, 12), n=3)
    with pytest.raises(ValueError, match=r"metric all_but_one: .*\(2,\); one similarity a pair is \(3,\)"):
        prepared(all_but_one)(a, b)


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_the_catalogue_offers_it(name):
    a, b = pairs("random", (32, 32))
    metric = plugins.build("metrics", Part(name))
    assert metric in METRICS
    assert np.isfinite(prepared(metric)(a, b)).all()


def test_the_catalogue_passes_arguments():
    assert plugins.build("metrics", Part("ssim", {"window": "uniform"})) == SSIM("uniform")
    assert plugins.build("metrics", Part("top_k", {"fraction": 0.05})) == TopK(0.05)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
few = st.sampled_from(np.array([-2, -1, -0.0, 0.0, 1e-40, 1, 3], np.float32).tolist())


@st.composite
def two_batches(draw, elements=None):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)))
    elements = draw(st.sampled_from([finite, few])) if elements is None else elements
    return tuple(draw(hnp.arrays(np.float32, shape, elements=elements)) for _ in range(2))


@settings(max_examples=150, deadline=None)
@given(two_batches(), st.sampled_from(METRICS))
def test_every_answer_is_a_number_in_range_or_undefined_on_purpose(batches, metric):
    a, b = batches
    if min(a.shape[1:]) < metric.smallest:
        with pytest.raises(ValueError, match="must be at least"):
            metric(a, b)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, own = metric(a, b), metric(a, a)
    np.testing.assert_array_equal(np.isnan(scores), says_nothing(a) | says_nothing(b))
    np.testing.assert_allclose(own, np.where(says_nothing(a), np.nan, 1), rtol=0, atol=1e-9)
    heard = scores[~np.isnan(scores)]
    assert ((heard >= -1 - EXACT) & (heard <= 1 + EXACT)).all()


@settings(max_examples=100, deadline=None)
@given(two_batches(elements=few))
def test_ties_of_all_sorts_agree_with_scipy(batches):
    a, b = batches
    assert_agrees(TopK(0.3), _unless_silent(lambda x, y: sorted_top_k(x, y, 0.3)), a, b, 0)
    assert_agrees(Spearman(), _unless_silent(scipy_spearman), a, b, EXACT)


def _unless_silent(reference: Callable) -> Callable:
    def guarded(a: np.ndarray, b: np.ndarray) -> float:
        return np.nan if says_nothing(np.stack([a, b])).any() else reference(a, b)

    return guarded
