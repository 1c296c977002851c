"""How many pairs a second the six headline similarities score, against the loop over pairs that others run.

``python -m tests.speed.metrics`` prints one table. Both sides run in this process on one core, in turns, and the least
process CPU time of several rounds counts: on a shared machine the ratios hold better than the times. Asserts nothing.
The loop is scipy and scikit-image called once a pair. Ours has the original's side prepared before, as the runner does,
and prepares and compares the other side; ``both`` prepares both inside the measured time.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import time
from collections.abc import Callable

import numpy as np
from scipy import stats
from skimage.feature import hog
from skimage.metrics import structural_similarity

from unfooled.metrics.base import Similarity
from unfooled.metrics.correlations import MSE, Pearson, Spearman
from unfooled.metrics.overlap import TopK
from unfooled.metrics.structure import HOG, SSIM

PairScore = Callable[[np.ndarray, np.ndarray], float]
SIX = {"spearman": Spearman(), "pearson": Pearson(), "top_k": TopK(), "ssim": SSIM(), "hog": HOG(), "mse": MSE()}


def min_max(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def loop_top_k(a: np.ndarray, b: np.ndarray) -> float:
    k = round(0.1 * a.size)
    top_a, top_b = (np.argpartition(x.ravel(), -k)[-k:] for x in (a, b))
    return len(np.intersect1d(top_a, top_b, assume_unique=True)) / k


def loop_ssim(a: np.ndarray, b: np.ndarray) -> float:
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return structural_similarity(min_max(a), min_max(b), **wang)


def loop_hog(a: np.ndarray, b: np.ndarray) -> float:
    side = a.shape[0] // 8
    return stats.pearsonr(*(hog(min_max(x), 9, (side, side), (3, 3)) for x in (a, b)))[0]


LOOP: dict[str, PairScore] = {
    "spearman": lambda a, b: stats.spearmanr(a.ravel(), b.ravel())[0],
    "pearson": lambda a, b: stats.pearsonr(a.ravel(), b.ravel())[0],
    "top_k": loop_top_k,
    "ssim": loop_ssim,
    "hog": loop_hog,
    "mse": lambda a, b: 1 - np.mean((min_max(a) - min_max(b)) ** 2),
}


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def least(works: dict[str, Callable[[], object]], rounds: int, seconds: float = 0.1) -> dict[str, float]:
    """Each work's least CPU seconds over the rounds, taken in turns, each long enough for the clock."""
    repeats = {name: max(1, int(seconds / max(1e-6, cpu_seconds(work, 1)))) for name, work in works.items()}
    times = [{name: cpu_seconds(work, repeats[name]) for name, work in works.items()} for _ in range(rounds)]
    return {name: min(t[name] for t in times) for name in works}


def measure(size: int, pairs: int, loop_pairs: int, rounds: int) -> dict[str, dict[str, float]]:
    """Pairs a second of every metric: the loop, ours with the original's side prepared, ours with both to prepare."""
    rng = np.random.default_rng(0)
    original, other = np.abs(rng.standard_normal((2, pairs, size, size)).astype(np.float32))
    rates = {}
    for name, metric in SIX.items():
        works = _works(metric, LOOP[name], original, other, loop_pairs)
        seconds = least(works, rounds)
        counts = {"loop": loop_pairs, "ours": pairs, "both": pairs}
        rates[name] = {key: counts[key] / seconds[key] for key in works}
    return rates


def _works(
    metric: Similarity, loop: PairScore, original: np.ndarray, other: np.ndarray, loop_pairs: int
) -> dict[str, Callable[[], object]]:
    state = metric.prepare(original)
    few = list(zip(original[:loop_pairs].astype(float), other[:loop_pairs].astype(float), strict=True))
    return {
        "loop": lambda: [loop(a, b) for a, b in few],
        "ours": lambda: metric.against(state, other),
        "both": lambda: metric(original, other),
    }


def table(size: int, rates: dict[str, dict[str, float]]) -> str:
    """One line a metric and one for all six, whose time is the sum of the six."""
    together = {key: 1 / sum(1 / r[key] for r in rates.values()) for key in ("loop", "ours", "both")}
    lines = [f"{size} x {size:<6}{'loop/s':>12}{'ours/s':>12}{'ratio':>8}{'both/s':>12}{'ratio':>8}"]
    for name, r in {**rates, "all six": together}.items():
        ours, both = r["ours"] / r["loop"], r["both"] / r["loop"]
        lines.append(f"{name:<12}{r['loop']:>12,.0f}{r['ours']:>12,.0f}{ours:>8.1f}{r['both']:>12,.0f}{both:>8.1f}")
    return "\n".join(lines)


def main() -> None:
    print(table(32, measure(32, pairs=128, loop_pairs=32, rounds=4)))
    print(table(224, measure(224, pairs=8, loop_pairs=2, rounds=4)))


if __name__ == "__main__":
    main()
