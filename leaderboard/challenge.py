"""Networks and images that nobody had seen: does an entry's stability carry over to them?"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unfooled import intervals, seeding
from unfooled.building import Builder
from unfooled.certificates import Gates
from unfooled.intervals import Spread
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.entry import Entry
from unfooled.leaderboard.verified import Challenge
from unfooled.store import Store
from unfooled.suite import Architecture, CellSpec, Setting, Suite
from unfooled.training import Fit, Recipe
from unfooled.types import Part

ALLOWED = 0.35
"""Largest gap that the recipe alone may make: the challenge's networks are fitted for seconds, the suite's longer."""

LEAST_COVERAGE = 0.5
"""Least share of the challenge's images to say something on; less than in a suite, whose networks are fitted longer."""

SCENES = {"train": 3000, "tune": 250, "test": 250}
FIT = Fit(steps=700, batch=32, rate=0.006)
RECIPE = Recipe(steps=250, rate=0.005)
WEIGHT = 30.0
GATES = Gates(accuracy_drop=0.1, agreement_drop=0.1)
"""wider than a suite's: there is one try, and a twin that was refused would be replaced by the honest one"""
AIMS = (Part("grad_cam"), Part("simple_grad", {"at": "T"}))
FAMILIES = ("activations", "gradients")


def setting(entry: Entry, metrics: Sequence[Part], nonce: str) -> Setting:
    """New scenes and a small VGG from seeds that the nonce decides, fooled against another family than the entry's."""
    seed = seeding.derive("challenge", nonce) % 2**31
    aim = AIMS[entry.method.family == FAMILIES[0]]
    suite = Suite(
        name="challenge",
        version=1,
        dataset=Part("scenes", {"seed": seed, **SCENES}),
        architectures=(Architecture("vgg", Part("vgg"), (seed,), FIT, RECIPE),),
        cells=(CellSpec(Part("location"), aim, (WEIGHT,)),),
        interpreters=(),
        metrics=tuple(metrics),
        images=64,
        judged=200,
        gates=GATES,
        seed=seed,
    )
    return suite.settings()[0]


def make(what: Setting, store: Store) -> None:
    """Fit and fool the networks of the challenge, or wait for the process that is at it."""
    torch.set_num_threads(1)
    store.root.mkdir(parents=True, exist_ok=True)
    with (store.root / ".challenge.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Builder(what, store, "cpu", lambda text: None).all()


@dataclass(frozen=True)
class Outcome:
    """The interpreter's rows on the challenge, as a study of one setting, and what was made for it."""

    study: st.Study
    certificate: dict
    images: int


def judged(entry: Entry, what: Setting, outcome: Outcome) -> Challenge:
    """The challenge beside the cells of the entry that are most like it."""
    counted = np.array([[m.range_low is not None and m.range_low >= st.LEAST_RANGE for m in entry.metrics]])
    scored = st.averaged(counted)
    everything = np.ones((1, 1), bool)
    found = st.stability(outcome.study, everything, scored)
    low, high = (float(end[0]) for end in found.interval())
    value = float(found.value[0])
    reported = comparable(entry, what.suite.cells[0], scored)
    certificate = outcome.certificate
    return Challenge(
        against=what.suite.cells[0].against.label,
        images=outcome.images,
        accuracy=certificate["kept"]["accuracy"],
        success=certificate["rates"]["corrected"],
        stability=_number(value),
        low=_number(low),
        high=_number(high),
        reported=_number(float(reported.value[0])),
        gap=_number(float(reported.value[0]) - value),
        allowed=_number(ALLOWED + _half(reported) + (high - value if np.isfinite(high) else 0.0)) or ALLOWED,
    )


def complaints(found: Challenge, coverage: float) -> Iterator[str]:
    """What a challenge holds against an entry; an interpreter that keeps silent does not evade it."""
    if not coverage >= LEAST_COVERAGE:
        yield (
            f"challenge: on new networks its maps say something on {coverage:.0%} of the images; "
            f"{LEAST_COVERAGE:.0%} needed"
        )
    elif found.gap is None:
        yield "challenge: its stability on new networks is undefined"
    elif found.gap > found.allowed:
        yield (
            f"challenge: reported stability is {found.gap:.3f} above that on new networks, {found.allowed:.3f} allowed"
        )


def comparable(entry: Entry, cell: CellSpec, scored: np.ndarray) -> Spread:
    """The entry's stability under this manipulation and aim, on this architecture; each where the suite has it."""
    blocks = [b for b in entry.parts if b.split == "test"]
    alike = [b for b in blocks if entry.settings[b.setting].model.split("(")[0] == "vgg"] or blocks
    names = {name for block in alike for name in block.cells if not entry.cells[name].adaptive}
    for wanted in (lambda c: c.manipulation.startswith("location"), lambda c: c.against == cell.against.label):
        names = {name for name in names if wanted(entry.cells[name])} or names
    pairs = [_differences(block, sorted(names & set(block.cells))) for block in alike]
    top, bottom = (np.stack([pair[k] for pair in pairs])[:, None] for k in (0, 1))
    return intervals.jackknife(top, bottom, scored)


def _differences(block: object, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Fooled and honest less randomised, (m,) each, summed over the cells of one setting."""
    honest, floor = np.array(block.honest, float), np.array(block.randomised, float)
    fooled = np.array([block.cells[name] for name in names], float).reshape(len(names), len(honest))
    return (fooled - floor).sum(0), (honest - floor) * len(names)


def _half(spread: Spread) -> float:
    """Half of the prediction interval for one more setting; 0 where the entry has a single one."""
    degrees, error = int(spread.degrees[0]), spread.error()[0]
    if degrees < 1 or not np.isfinite(error):
        return 0.0
    return float(intervals.t_quantile(0.975, degrees) * error * np.sqrt(degrees + 2))


def _number(value: float) -> float | None:
    return round(value, 6) + 0.0 if np.isfinite(value) else None
