"""Two versions of an interpreter on the same networks and images: the difference, split over the images it is made of.

Stability is a mean of ratios, N / D for each metric, and both N and D move with the interpreter. Every image's share of
the difference comes from the ratio's influence function, so that images can be resampled, or swapped, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from unfooled import intervals


@dataclass(frozen=True)
class Side:
    """One version's similarities on one setting's images, summed over the cells in question: each (m, n)."""

    fooled: np.ndarray
    """Σ_cells (fooled − randomised)"""
    honest: np.ndarray
    """Σ_cells (honest − randomised)"""


@dataclass(frozen=True)
class Paired:
    """A difference of two stabilities and what every image adds to it."""

    before: float
    after: float
    shares: tuple[np.ndarray, ...]
    """per setting and split (n,): what each image adds; all together sum to ``after − before``"""

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def images(self) -> int:
        return sum(map(len, self.shares))

    def error(self) -> float:
        """The standard error over images, networks held fixed; NaN where a setting has a single image."""
        if min(map(len, self.shares)) < 2:
            return float("nan")
        return float(np.sqrt(sum(len(s) * s.var(ddof=1) for s in self.shares)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The t interval of the difference."""
        half = intervals.t_quantile((1 + level) / 2, self._degrees()) * self.error()
        return self.difference - half, self.difference + half

    def p_value(self) -> float:
        """The larger of two: Student's over images, and that of swapping the versions image by image.

        The first holds for means of many images. The second needs no normal images, so a few wild ones do not pass
        for a change of all; it is near 1 where the versions never differ.
        """
        everything = np.concatenate(self.shares)
        if not everything.any():
            return 1.0
        error = self.error()
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(np.float64(self.difference)) / error
        return float(np.fmax(2 * stats.t.sf(t, self._degrees()), swap_p_value(everything)))

    def _degrees(self) -> int:
        return self.images - len(self.shares)


def paired(before: list[Side], after: list[Side]) -> Paired:
    """The two versions' stabilities over one or more settings' images; sides correspond one to one.

    ``before`` and ``after``: one Side for each setting and split, on the very same images. A side's stability is the
    mean over metrics of Σ mean fooled / Σ mean honest. NaN where a denominator is zero.
    """
    ratios = [_ratios(sides) for sides in (before, after)]
    flows = [_influence(new, *ratios[1]) - _influence(old, *ratios[0]) for old, new in zip(before, after, strict=True)]
    gains = _gains(before, after, *ratios)
    # An image's influence is centred in its setting; the setting's own gain is spread evenly over its images.
    shares = tuple(f - f.mean() + g / len(f) for f, g in zip(flows, gains, strict=True))
    return Paired(float(ratios[0][0].mean()), float(ratios[1][0].mean()), shares)


def _ratios(sides: list[Side]) -> tuple[np.ndarray, np.ndarray]:
    """(m,) ratios and their denominators."""
    top, bottom = (sum(getattr(s, kind).mean(-1) for s in sides) for kind in ("fooled", "honest"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom != 0, top / bottom, np.nan), bottom


def _influence(side: Side, ratio: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """(n,): how much each image pulls the mean of ratios away from its value."""
    pulls = (side.fooled - ratio[:, None] * side.honest) / bottom[:, None]
    return pulls.mean(0) / pulls.shape[1]


def _gains(
    before: list[Side], after: list[Side], old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]
) -> list[float]:
    """What each setting adds to the difference, exactly: a′/b′ − a/b = (a′ − a − r (b′ − b)) / d, r and d the means."""
    ratio, bottom = (old[0] + new[0]) / 2, (old[1] + new[1]) / 2
    return [
        float(np.mean(((n.fooled - o.fooled) - ratio[:, None] * (n.honest - o.honest)).mean(-1) / bottom))
        for o, n in zip(before, after, strict=True)
    ]


def swap_p_value(shares: np.ndarray) -> float:
    """Two-sided p of |Σ shares| if every share's sign were a fair coin: Fisher's randomisation test.

    Not by drawing: the sum's tail by Lugannani and Rice's (1980) saddlepoint formula, with the cumulant function
    Σ log cosh(t share), so that it is the same every time and reaches the smallest p. Never under 2^(1 − n).
    """
    sizes = np.abs(shares[shares != 0])
    if not len(sizes):
        return 1.0
    sizes = sizes / sizes.max()
    total = abs(shares.sum()) / np.abs(shares).max()
    least = 2.0 ** (1 - len(sizes))
    if total >= sizes.sum() * (1 - 1e-9):
        return least
    return float(np.clip(2 * _tail(sizes, total), least, 1))


def _tail(sizes: np.ndarray, total: float) -> float:
    """P(Σ ± sizes ≥ total), 0 ≤ total < Σ sizes."""
    top = 1.0
    while sizes @ np.tanh(top * sizes) < total:
        top *= 2
    t = optimize.brentq(lambda t: sizes @ np.tanh(t * sizes) - total, 0, top)
    v = t * np.sqrt((sizes**2 / np.cosh(np.minimum(t * sizes, 300)) ** 2).sum())
    u = t * sizes
    w = np.sqrt(max(2 * (t * total - (u + np.log1p(np.exp(-2 * u)) - np.log(2)).sum()), 0))
    if w < 1e-3:  # at the centre the formula is 0/0, and its limit is one half
        return 0.5
    return float(stats.norm.sf(w) + stats.norm.pdf(w) * (1 / v - 1 / w))
