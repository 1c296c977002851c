"""From rows to ranks at full size: 25 interpreters × 117 twins (9 settings × 13) × 6 metrics × 100 images.

``python -m tests.speed.bootstrap`` prints the CPU seconds of each step, the memory it added to the process's peak, and
the ratio to a loop that gathers the resampled images of every twin. One core, one process, least of three rounds;
asserts nothing.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import resource
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from unfooled.leaderboard import multiverse, ranking
from unfooled.leaderboard import stability as st

INTERPRETERS, SETTINGS, IMAGES, RESAMPLES = 25, 9, 100, 10_000
CELLS = [f"{m}:{a}" for m in ("location", "top_k", "centre_mass") for a in ("grad_cam", "lrp", "simple_grad")]
FAMILY = {"grad_cam": "activations", "lrp": "propagation", "simple_grad": "gradients"}
METRICS = ("spearman", "top_k", "ssim", "pearson", "hog", "mse")


def header() -> dict:
    families = [*FAMILY.values(), "perturbation"]
    return {
        "suite": {"digest": "speed"},
        "settings": {f"s-{s}": {"model": "vgg"} for s in range(SETTINGS)},
        "cells": {c: {"manipulation": c.split(":")[0], "family": FAMILY[c.split(":")[1]]} for c in CELLS},
        "interpreters": {f"i-{i:02}": {"family": families[i % 4], "at": "input"} for i in range(INTERPRETERS)},
    }


def rows() -> pd.DataFrame:
    """1.8 million rows: nine fooled twins, the honest and three draws of the randomised one, in each setting."""
    rng = np.random.default_rng(0)
    twins = (
        [("fooled", c, 0, 0.5) for c in CELLS]
        + [("honest", "", 0, 0.8)]
        + [("randomised", "", d, 0.3) for d in range(3)]
    )
    shape = (SETTINGS, len(twins), INTERPRETERS, len(METRICS), IMAGES)
    level = np.array([t[3] for t in twins])[:, None, None, None] + 0.1 * rng.standard_normal(
        (SETTINGS, 1, INTERPRETERS, 1, 1)
    )
    value = (level + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    index = np.indices(shape, dtype=np.int32).reshape(5, -1)
    words = {
        "setting": [f"s-{s}" for s in range(SETTINGS)],
        "interpreter": [f"i-{i:02}" for i in range(INTERPRETERS)],
        "metric": list(METRICS),
    }
    frame = {w: pd.Categorical.from_codes(index[k], words[w]) for w, k in zip(words, (0, 2, 3), strict=True)}
    for k, word in enumerate(("twin", "cell")):
        known = list(dict.fromkeys(t[k] for t in twins))
        frame[word] = pd.Categorical.from_codes(np.array([known.index(t[k]) for t in twins])[index[1]], known)
    for word, only in (("split", "test"), ("at", "input"), ("polarity", "absolute")):
        frame[word] = pd.Categorical.from_codes(np.zeros(value.size, np.int8), [only])
    frame["draw"] = np.array([t[2] for t in twins], np.int8)[index[1]]
    silent = np.zeros(value.size, bool)
    return pd.DataFrame(
        frame | {"image": index[4], "value": value.ravel(), "silent_original": silent, "silent": silent}
    )


def peak_mib() -> float:
    """The process's greatest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(what: str, work: Callable[[], object], rounds: int = 3) -> float:
    """Prints and returns the least CPU seconds; memory is what the first round added to the process's peak."""
    before, times = peak_mib(), []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    print(f"{what:<58}{min(times):>9.3f} s{peak_mib() - before:>9.0f} MiB")
    return min(times)


def gather(study: st.Study, resamples: int) -> np.ndarray:
    """The same means, an image index at a time, as a plain loop would take them."""
    rng, found = np.random.default_rng(0), []
    for _ in range(resamples):
        for block in study.blocks:
            drawn = rng.integers(0, IMAGES, IMAGES)
            found.append(block.fooled[..., drawn].mean(-1).sum() + block.honest[..., drawn].mean(-1).sum())
    return np.array(found)


def main() -> None:
    frame, about = rows(), header()
    study = st.study(frame, about, "absolute", "input")
    member, counted = st.columns(study)["transfer"], np.ones((INTERPRETERS, len(METRICS)), bool)
    print(f"{len(frame):,} rows")
    ours = measured(
        f"joint bootstrap, {RESAMPLES:,} resamples", lambda: st.bootstrap(study, member, counted, RESAMPLES)
    )
    measured("rows to blocks", lambda: st.study(frame, about, "absolute", "input"))
    measured("rows to the ranked table", lambda: ranking.scores(frame, about))
    measured("rows to the breakdown by cell", lambda: ranking.by(frame, about, "cell"))
    measured("rows to the multiverse", lambda: multiverse.multiverse(frame, about))
    loop = measured("gathering loop, 10 resamples", lambda: gather(study, 10), rounds=1) * RESAMPLES / 10
    print(f"the joint bootstrap is {loop / ours:,.0f} times as fast as the gathering loop would be")


if __name__ == "__main__":
    main()
