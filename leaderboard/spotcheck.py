"""Which cells of an entry are asked again, and whether what was found is what was reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from unfooled import intervals, seeding
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.entry import Block, Entry, as_json
from unfooled.leaderboard.verified import Compared, Recomputed

EXACT = 1e-3
"""Tolerance of a mean similarity of an interpreter that is a function of the model alone. Other processors, numbers of
threads and the jitter of the weights move most maps by 1e-6 of themselves."""

FLIPS = 0.05
"""What is added for n images, over n: pixels at the edge of the top tenth that all but tie. Of 32 × 32 pixels one moves
an image's similarity by 1/102; five such images are allowed for."""

REDRAWS = 4.0
"""Standard deviations of a mean over n images that a redraw of the noise may move it by. One image's similarity moves
by about its self-noise, once for the original's map and once for the twin's. The noise is the entry's own where the
method is stochastic; else what another jitter of the weights does, as the verifier finds it: LRP-ε divides by numbers
near 0, and moves by a thousand times as much as its weights."""

LOOSEST = 0.05
"""No recorded noise excuses more."""

SILENT = 0.05
"""Share of images whose map may be silent here and not there: by the jitter, a redraw or another processor."""


def drawn(entry: Entry, count: int, nonce: str) -> dict[str, list[str]]:
    """Setting → the cells to recompute, drawn by the entry's content and the nonce."""
    known = sorted((b.setting, c) for b in entry.parts for c in b.cells if not entry.cells[c].adaptive)
    stream = seeding.numpy_generator("verify", as_json(entry), nonce)
    found: dict[str, list[str]] = {}
    for place in stream.permutation(len(known))[:count]:
        setting, cell = known[place]
        found.setdefault(setting, []).append(cell)
    return found


def compared(entry: Entry, setting: str, cell: str, blocks: dict[str, Block]) -> Recomputed:
    """A cell of the entry beside the same one as recomputed."""
    mine = _block_of(entry, setting, cell)
    other = blocks[mine.split]
    allowed = tolerance(entry, mine, _shaken(blocks))

    def one(reported: list, recomputed: list) -> Compared:
        return Compared(reported=reported, recomputed=recomputed, tolerance=allowed)

    return Recomputed(
        setting=setting,
        cell=cell,
        fooled=one(mine.cells[cell], other.cells[cell]),
        honest=one(mine.honest, other.honest),
        randomised=one(mine.randomised, other.randomised),
        independent=mine.independent and one(mine.independent.independent, other.independent.independent),
    )


def silenced(entry: Entry, setting: str, cell: str, blocks: dict[str, Block]) -> Iterator[str]:
    """What is wrong with the number of images that the original's maps are said to say something on."""
    mine = _block_of(entry, setting, cell)
    found = blocks[mine.split].valid
    if abs(found - mine.valid) > SILENT * mine.images:
        yield f"{setting}, {cell}: the original's maps say something on {found} images, {mine.valid} reported"


def _block_of(entry: Entry, setting: str, cell: str) -> Block:
    return next(b for b in entry.parts if b.setting == setting and cell in b.cells)


def _shaken(blocks: dict[str, Block]) -> list[float | None] | None:
    """Mean similarity of the original's maps under one jitter of its weights and another, where that was asked."""
    return next((b.controls.again for b in blocks.values() if b.controls), None)


def tolerance(entry: Entry, block: Block, shaken: list[float | None] | None = None) -> list[float]:
    """How far each metric's mean may lie from the reported one."""
    images = max(block.valid, 1)
    exact = EXACT + FLIPS / images
    recorded = next((b.controls.again for b in entry.parts if b.setting == block.setting and b.controls), None)
    noise = recorded if entry.method.stochastic else shaken
    again = [1.0 if value is None else value for value in noise or [None] * len(entry.metrics)]
    scale = REDRAWS * np.sqrt(2 / images)
    return [round(max(exact, min(exact + scale * max(1 - value, 0), LOOSEST)), 6) for value in again]


def totals(entry: Entry, cells: Sequence[Recomputed]) -> dict[str, float | None]:
    """Stability over the drawn cells alone, as reported and as recomputed."""
    counted = np.array([[m.range_low is not None and m.range_low >= st.LEAST_RANGE for m in entry.metrics]])
    scored = st.averaged(counted)
    return {which: _total(cells, which, scored) for which in ("reported", "recomputed")}


def _total(cells: Sequence[Recomputed], which: str, scored: np.ndarray) -> float | None:
    if not cells or not scored.any():
        return None
    fooled, honest, floor = (
        np.array([getattr(getattr(c, kind), which) for c in cells], float)
        for kind in ("fooled", "honest", "randomised")
    )
    value = intervals.pooled_ratios((fooled - floor).sum(0)[None], (honest - floor).sum(0)[None], scored)[0]
    return round(float(value), 6) if np.isfinite(value) else None
