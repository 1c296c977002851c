"""Do an interpreter's maps lie on the object, before and after the model was fooled? Read from a run's header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

WHAT = {
    "mass": "share of the absolute map that lies on the object",
    "pointing": "share of images whose map is largest on the object or a pixel beside it",
}
TWINS = {
    "original": "maps of the original",
    "honest": "of the honest twin",
    "fooled": "of the fooled models, mean over cells",
    "randomised": "of random networks",
}
COLUMNS = {
    "interpreter": ("interpreter", "what explains"),
    **{f"{w}_{t}": (f"{w} {t}", f"{meaning}: {of}") for w, meaning in WHAT.items() for t, of in TWINS.items()},
}
"""Columns of ``table``: title and meaning"""


def table(header: Mapping, order: Sequence[str]) -> pd.DataFrame:
    """One row per interpreter of ``order`` that has figures; none where the data have no object masks.

    Shares in [0, 1] of the one-object test images' absolute maps: means over settings, of the fooled ones over their
    cells first. NaN where a run has no such twin. A silent map lies nowhere and counts as 0.
    """
    rows = []
    for label in order:
        found = [f for s in header.get("settings", {}) if (f := _setting(header, s, label))]
        if found:
            rows.append({"interpreter": label, **pd.DataFrame(found).mean()})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _setting(header: Mapping, setting: str, label: str) -> dict[str, float]:
    """``mass_fooled`` and so on of one interpreter in one setting."""
    known = header.get("localisation", {}).get(f"{setting}/{label}") or {}
    found: dict[str, list[float]] = {}
    for name, values in known.items():
        for what in WHAT:
            found.setdefault(f"{what}_{name.partition('/')[0]}", []).append(values[what])
    return {name: float(np.mean(some)) for name, some in found.items()}


def chance(header: Mapping, found: pd.DataFrame) -> dict[str, float]:
    """What maps of pure noise reach, ``mass`` and ``pointing``: those of the canary ``random_map``; empty without it.

    The mass of noise is, on average, the share of the image that the object covers.
    """
    uses = {label: about.get("use", label) for label, about in header.get("interpreters", {}).items()}
    noise = found[found["interpreter"].map(uses) == "random_map"]
    return {what: float(noise[f"{what}_original"].iloc[0]) for what in WHAT} if len(noise) else {}
