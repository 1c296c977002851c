"""What stands beside a score: coverage, silent maps, raw similarities, controls, cost, and why one is not ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from unfooled.leaderboard import controls
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.blocks import Block
from unfooled.leaderboard.stability import Study

COST = ("forward", "backward", "memory", "seconds")
"""columns of what a map costs, as headers name them; NaN where a header does not tell one"""


def beside(what: Study, member: Mapping[str, np.ndarray], counted: np.ndarray) -> pd.DataFrame:
    """One row per interpreter of the study, in its order; ``tables.COLUMNS`` says what each column means."""
    families, raw = [what.family(i) for i in what.interpreters], _raw(what)
    frame = pd.DataFrame(
        {
            "interpreter": list(what.interpreters),
            "family": families,
            "canary": [f == "canary" for f in families],
            "metrics_counted": counted.sum(1),
            "insensitive": ~st.sensitive(counted),
            "coverage": st.coverage(what),
            "silent": sum(_silent(what, block) for block in what.blocks),
            "missing": st.missing_cells(what, member["attacked"] | member["transfer"]),
            "self_noise": 1 - raw.pop("self"),
            **raw,
            **_independent(what, counted),
            **{word: [_cost(what, i, word) for i in what.interpreters] for word in COST},
        }
    )
    failed = Counter(f["interpreter"] for f in what.header.get("failures", ()))
    reasons = [
        _failed(what, failed[fact.interpreter]) or _reason(fact, len(what.metrics), has_cells)
        for fact, has_cells in zip(frame.itertuples(), member["transfer"].any(0), strict=True)
    ]
    return frame.assign(reason=reasons)


def _independent(what: Study, counted: np.ndarray) -> dict[str, np.ndarray]:
    kept = controls.control(what, "independent", st.averaged(counted))
    low, high = kept.interval()
    return {"independent": kept.value, "independent_low": low, "independent_high": high}


def _silent(what: Study, block: Block) -> np.ndarray:
    """(i,): fooled and honest maps without a word; that somebody was attacked moves no other number, nor this one."""
    common = np.array([what.common(cell) for cell in block.cells], bool)
    return block.silent[common].sum(0) + block.silent_honest


def _failed(what: Study, settings: int) -> str:
    return f"failed in {settings} of {len(what.header['settings'])} settings" if settings else ""


def _cost(what: Study, interpreter: str, word: str) -> float:
    value = (what.about(interpreter).get("cost") or {}).get(word)
    return float("nan") if value is None else float(value)


def _raw(what: Study) -> dict[str, np.ndarray]:
    """Uncalibrated mean similarities, (i,) each, over settings, cells, images and metrics: for orientation only."""
    means = {
        "raw_fooled": [st.mean(b.mean(b.fooled[_common(what, b)]), 0) for b in what.blocks if b.cells],
        "raw_honest": [b.mean(b.honest) for b in what.blocks],
        "raw_randomised": [b.mean(b.floor) for b in what.blocks],
    }
    for kind in ("self", "wrong_class", "randomised_top"):
        means[kind] = [b.mean(b.controls[kind]) for b in what.blocks if kind in b.controls]
    nothing = np.full(len(what.interpreters), np.nan)
    return {kind: st.mean(st.mean(np.stack(m), 0), 1) if m else nothing for kind, m in means.items()}


def _common(what: Study, block: Block) -> list[int]:
    """Positions of the block's cells that everyone was asked about: all but the adaptive ones."""
    return [c for c, name in enumerate(block.cells) if what.common(name)]


def _reason(fact: object, metrics: int, has_cells: bool) -> str:
    """Why an interpreter is not ranked, in words; empty if it is."""
    if np.isnan(fact.coverage):
        return "no maps in this run"
    if fact.coverage < st.LEAST_COVERAGE:
        return f"silent: its maps say something on {fact.coverage:.0%} of the images; {st.LEAST_COVERAGE:.0%} needed"
    if fact.missing:
        return f"incomplete: no maps for {fact.missing} of the fooled models"
    if fact.insensitive:
        return f"insensitive: {fact.metrics_counted} of {metrics} metrics tell the model from a random one"
    if alone := controls.prediction_alone(fact.independent):
        return alone
    return "" if has_cells else "no cells against other families"
