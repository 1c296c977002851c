"""The findings of Heo, Joo and Moon (2019), held against a run. Rules and thresholds stand here, before any number.

A condition holds where its 95 % interval over settings lies wholly beyond its threshold. What a verdict takes stands in
``claims.Finding.verdict``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from unfooled.leaderboard import claims
from unfooled.leaderboard.claims import Estimate, Finding, condition
from unfooled.leaderboard.evidence import Evidence

HEO = "Heo, Joo and Moon 2019"
HALF = 0.5
LOSS = 0.02
"""of accuracy: more would be noticed"""
GAP = 0.05
"""of a rate, between images that were looked at and images that were not"""
TENTH = 0.1


def findings(e: Evidence) -> Iterator[Finding]:
    """All five, in the paper's order."""
    for make in (fooled, generalises, transfers, smoothing, still_looks):
        yield make(e)


def fooled(e: Evidence) -> Finding:
    """Attacked interpreters are fooled, and the network's accuracy is kept."""
    tried, won = e.certified, e.fooled
    cells = {name: e.mean(part, "corrected") for name, part in tried.groupby("cell", sort=False)}
    table = pd.DataFrame(
        {
            "cell": name,
            "fooled": f"{(part['status'] == 'fooled').sum()} of {len(part)}",
            "published rate": e.mean(part, "published"),
            "rate beyond chance": cells[name],
            "accuracy lost": e.mean(part, "lost"),
        }
        for name, part in tried.groupby("cell", sort=False)
    )
    resisted = tried[tried["status"] != "fooled"].groupby("cell", sort=False).size()
    return Finding(
        "fooled",
        "The interpreters that are attacked are fooled, and the network keeps its accuracy.",
        HEO,
        (
            condition("share of images fooled beyond chance, mean of all attempts", ">", HALF,
                      e.mean(tried, "corrected")),
            condition("the same, for every manipulation and attacked interpreter", ">", HALF, *cells.values()),
            condition("accuracy lost against the honest twin where the attack worked", "<", LOSS, e.mean(won, "lost")),
        ),
        {
            "attempts": len(tried), "fooled": len(won), "published": e.mean(tried, "published"),
            "largest_loss": won["lost"].max(), "distance": e.mean(won, "distance"),
            "resisted": [(name, int(n), int((tried["cell"] == name).sum())) for name, n in resisted.items()],
        },
        table,
    )  # fmt: skip


def generalises(e: Evidence) -> Finding:
    """Fooling holds on images that the attack never saw."""
    won = e.fooled.assign(gap=e.fooled["tuned"] - e.fooled["corrected"])
    return Finding(
        "generalises",
        "Fooling generalises to images that the attack never saw.",
        HEO,
        (
            condition("share of test images fooled beyond chance, where the attack worked", ">", HALF,
                      e.mean(won, "corrected")),
            condition("lost from the tuning to the test images", "<", GAP, e.mean(won, "gap")),
        ),
        {"tuned": e.mean(won, "tuned"), "tested": e.mean(won, "corrected"), "attempts": len(won)},
    )  # fmt: skip


def transfers(e: Evidence) -> Finding:
    """A network fooled against one interpreter changes the maps of others."""
    spread, pairs = e.spread("transfer"), e.pairs
    values = pairs[list(e.study.settings)].to_numpy(float).reshape(len(pairs), -1)
    below = {bar: claims.over_settings(_share_below(values, bar)) for bar in (1.0, HALF)}
    surely = {bar: int((pairs["high"] < bar).sum()) for bar in (1.0, HALF)}
    return Finding(
        "transfers",
        "Fooling transfers to interpreters that were not attacked.",
        HEO,
        (
            condition("stability under attacks on other families, mean of the ranked interpreters", "<", 1.0,
                      claims.of(spread, e.ranked)),
            condition("share of (interpreter, cell) pairs less stable than under honest fine-tuning", ">", HALF,
                      below[1.0]),
            condition("share of images that fool another attacked interpreter too, beyond chance", ">", TENTH,
                      e.mean(e.fooled, "to_others")),
        ),
        {"pairs": len(pairs), "surely_below_one": surely[1.0], "surely_below_half": surely[HALF],
         "below_half": below[HALF]},
        pd.DataFrame(
            {
                "interpreter": e.study.interpreters[i],
                "transfer": claims.of(spread, i),
                "surely below 1": _of_pairs(pairs, e.study.interpreters[i], 1.0),
                "surely below 0.5": _of_pairs(pairs, e.study.interpreters[i], HALF),
            }
            for i in e.ranked[np.argsort(-spread.value[e.ranked], kind="stable")]
        ),
    )  # fmt: skip


def _share_below(values: np.ndarray, bar: float) -> list[float]:
    """Of each column: the share of its known values below the bar."""
    known = np.isfinite(values)
    return [float((column[k] < bar).mean()) if k.any() else np.nan for column, k in zip(values.T, known.T, strict=True)]


def _of_pairs(pairs: pd.DataFrame, interpreter: str, bar: float) -> str:
    own = pairs[pairs["interpreter"] == interpreter]
    return f"{int((own['high'] < bar).sum())} of {len(own)} cells"


def smoothing(e: Evidence) -> Finding:
    """SmoothGrad resists more than SimpleGrad."""
    return more_stable(e, "smoothing", "SmoothGrad resists more than SimpleGrad.", HEO, "smoothgrad", "simple_grad")


def more_stable(e: Evidence, key: str, claim: str, source: str, a: str, b: str) -> Finding:
    """Paired differences of stability: over the suite's cells, these apart, and over models fooled against each."""
    spreads = [("all cells", e.spread("attacked", "transfer")), ("their own family attacked", e.spread("attacked")),
               ("other families attacked", e.spread("transfer")),
               ("models fooled against the one and the other", e.spread("adaptive"))]  # fmt: skip
    return Finding(
        key,
        claim,
        source,
        tuple(condition(f"{a} less {b}, stability, {w}", ">", 0.0, e.less(s, a, b)) for w, s in spreads),
        {"first": e.one(spreads[0][1], a), "second": e.one(spreads[0][1], b), **_raw(e, a, b)},
    )


def _raw(e: Evidence, a: str, b: str) -> dict[str, float]:
    """Raw similarities of both under fooling and under honest fine-tuning."""
    table = e.found.table.set_index("interpreter")
    labels = {word: [e.study.interpreters[i] for i in e.named(use)] for word, use in (("first", a), ("second", b))}
    return {
        f"{kind}_{word}": float(table.loc[names[0], f"raw_{column}"]) if names else np.nan
        for word, names in labels.items()
        for kind, column in (("raw", "fooled"), ("honest", "honest"))
    }


def still_looks(e: Evidence) -> Finding:
    """Deletion in the order of the original's map still hurts the fooled network most (passive fooling)."""
    won = e.fooled[(e.fooled["manipulation"] != "active").to_numpy()]
    cells = {name: e.mean(part, "kept_order") for name, part in won.groupby("cell", sort=False)}
    kept = claims.over_settings(_ratio(won, "kept_order", "original_order"))
    return Finding(
        "still_looks",
        "The fooled network still uses the object: only its map lies.",
        f"{HEO}, by the AOPC of Samek et al. 2016",
        (
            condition("AOPC of the fooled network, original's map less random order, logits", ">", 0.0,
                      e.mean(won, "kept_order")),
            condition("AOPC of the fooled network, original's map less its own map, logits", ">", 0.0,
                      e.mean(won, "own_order")),
            condition("original's map less random order, for every manipulation and attacked interpreter", ">", 0.0,
                      *cells.values()),
        ),
        {"kept": kept, "early": e.mean(won, "early_order"), "beyond": _beyond(cells, 1), "below": _beyond(cells, -1)},
        pd.DataFrame(
            {
                "cell": name,
                "original's map − random": cells[name],
                "original's map − own map": e.mean(part, "own_order"),
                "original network: map − random": e.mean(part, "original_order"),
            }
            for name, part in won.groupby("cell", sort=False)
        ),
    )  # fmt: skip


def _beyond(cells: dict[str, Estimate], sign: int) -> list[str]:
    """Names whose interval lies above 0 (sign 1) or below (−1)."""
    return [name for name, e in cells.items() if min(sign * e.low, sign * e.high) > 0]


def _ratio(frame: pd.DataFrame, top: str, bottom: str) -> pd.Series:
    """Of the means within each setting."""
    means = frame.groupby("setting")[[top, bottom]].mean()
    return means[top] / means[bottom].where(means[bottom] != 0)
