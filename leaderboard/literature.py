"""What else the literature says of interpreters, and the suite's own conditions, held against a run.

As in ``heo``, rules and thresholds stand here before any number.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from unfooled import intervals
from unfooled.leaderboard import claims, controls, ranking
from unfooled.leaderboard.claims import Estimate, Finding, condition
from unfooled.leaderboard.evidence import Evidence
from unfooled.leaderboard.heo import HALF, more_stable

BLIND = 0.5
"""a control that moves maps by less than half of what re-drawing all weights does leaves them as they were"""
MODIFIED = ("guided_backprop", "deconvnet", "lrp_alpha_beta", "lrp_zplus")
"""rules of propagation that are not the gradient's, among those that Sixt et al. examined"""


def findings(e: Evidence) -> Iterator[Finding]:
    """What others found of the same interpreters by other means."""
    for make in (guided_is_blind, gradient_sees, modified_are_blind, integrated, beta, cam_points, stable_or_blind):
        yield make(e)


def canaries(e: Evidence) -> Finding:
    """Maps that do not look at the model are found out."""
    table = e.found.table
    own, exposed = table[table["canary"]], ranking.canaries_exposed(table)
    count = Estimate(*[float(len(exposed)) if len(own) else np.nan] * 3, e.settings)
    raw = table.sort_values("raw_fooled", ascending=False)["interpreter"].tolist()
    first = [n for n in raw if n in set(own["interpreter"]) and raw.index(n) < len(own)]
    return Finding(
        "canaries",
        "Maps that never look at the model are not ranked above maps that do.",
        "The suite's own condition for a release",
        (condition("canaries ranked above an interpreter that looks", "<", HALF, count),),
        {"count": len(own), "insensitive": int(own["rank"].isna().sum()), "raw_first": first, "exposed": exposed},
    )


def guided_is_blind(e: Evidence) -> Finding:
    """Adebayo et al. 2018: Guided Backprop does not see a re-drawn top."""
    top = e.control("randomised_top")
    return Finding(
        "guided_is_blind",
        "Guided Backprop hardly changes when the top of the network is re-drawn.",
        "Adebayo et al. 2018",
        (
            condition("guided_backprop, calibrated similarity under a re-drawn top", ">", BLIND,
                      e.one(top, "guided_backprop")),
            condition("guided_backprop less simple_grad", ">", 0.0, e.less(top, "guided_backprop", "simple_grad")),
        ),
    )  # fmt: skip


def gradient_sees(e: Evidence) -> Finding:
    """Adebayo et al. 2018: gradients and Grad-CAM pass the same test."""
    top = e.control("randomised_top")
    names = ("simple_grad", "grad_cam")
    return Finding(
        "gradient_sees",
        "The gradient and Grad-CAM do change when the top of the network is re-drawn.",
        "Adebayo et al. 2018",
        tuple(condition(f"{n}, calibrated similarity under a re-drawn top", "<", BLIND, e.one(top, n)) for n in names),
    )


def modified_are_blind(e: Evidence) -> Finding:
    """Sixt et al. 2020: modified backpropagation ignores later layers; DeepLIFT does not."""
    top = e.control("randomised_top")
    each = [e.one(top, n) for n in MODIFIED]
    return Finding(
        "modified_are_blind",
        "Modified backpropagation (Guided Backprop, Deconvnet, LRP-αβ and z⁺) ignores later layers, DeepLIFT not.",
        "Sixt, Granz and Landgraf 2020",
        (
            condition("their calibrated similarity under a re-drawn top, mean", ">", BLIND, e.one(top, *MODIFIED)),
            condition("the same, each of them", ">", BLIND, *each),
            condition("deeplift less their mean", "<", 0.0, e.less(top, "deeplift", *MODIFIED)),
        ),
        {"deeplift": e.one(top, "deeplift")},
    )


def integrated(e: Evidence) -> Finding:
    """Ghorbani et al. 2019, of perturbed inputs: Integrated Gradients is the more robust."""
    claim = "Integrated Gradients is more robust than the gradient (there: to perturbed inputs)."
    source = "Ghorbani, Abid and Zou 2019"
    return more_stable(e, "integrated", claim, source, "integrated_gradients", "simple_grad")


def beta(e: Evidence) -> Finding:
    """Dombrowski et al. 2019, of perturbed inputs: softplus in place of ReLU makes maps robust."""
    claim = "Smoothing the network's ReLU (β-smoothing) makes maps more robust (there: to perturbed inputs)."
    return more_stable(e, "beta", claim, "Dombrowski et al. 2019", "beta_smoothing", "simple_grad")


def cam_points(e: Evidence) -> Finding:
    """Selvaraju et al. 2017: Grad-CAM lies on the object."""
    gaps = {w: e.located("grad_cam", w) - e.located("simple_grad", w) for w in ("pointing", "mass")}
    words = {"pointing": "pointing game, grad_cam less simple_grad", "mass": "mass on the object, the same"}
    return Finding(
        "cam_points",
        "Grad-CAM lies on the object better than the gradient does.",
        "Selvaraju et al. 2017",
        tuple(condition(words[w], ">", 0.0, claims.over_settings(gap)) for w, gap in gaps.items()),
        {"cam": claims.over_settings(e.located("grad_cam", "pointing")),
         "gradient": claims.over_settings(e.located("simple_grad", "pointing")),
         "stability": e.less(e.spread("transfer"), "grad_cam", "simple_grad")},
    )  # fmt: skip


def stable_or_blind(e: Evidence) -> Finding:
    """Our own question: do the stable interpreters look at the top of the network at all?"""
    seen = intervals.pooled_ratios(*controls.totals(e.study, "randomised_top"), e.scored)[:, e.ranked]
    agreement = [_spearman(a, b) for a, b in zip(seen, e.by_setting[:, e.ranked], strict=True)]
    return Finding(
        "stable_or_blind",
        "The interpreters that stay stable are those that see less of the top of the network.",
        "This suite's question, after Adebayo et al. 2018",
        (condition("rank correlation of stability with similarity under a re-drawn top", ">", 0.0,
                   claims.over_settings(agreement)),),
        {"interpreters": len(e.ranked)},
    )  # fmt: skip


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    return float(stats.spearmanr(a[known], b[known])[0]) if known.sum() > 2 else np.nan
