"""What a control leaves of an interpreter's range: its stability with the control in the fooled twin's place."""

from __future__ import annotations

from typing import Literal

import numpy as np

from unfooled import intervals
from unfooled.intervals import Spread
from unfooled.leaderboard.blocks import Block
from unfooled.leaderboard.stability import Study

Kind = Literal["independent", "randomised_top", "wrong_class"]

MOST_ALIKE = 0.98
"""Who keeps this share of the range on the independent network explains the prediction alone. What depends on the image
and the prediction keeps 1, whatever the networks; the catalogue's interpreters keep .1 to .9 on `standard`."""


def control(what: Study, kind: Kind, scored: np.ndarray) -> Spread:
    """(s_control − s_randomised) / (s_honest − s_randomised), pooled over settings, mean over the metrics ``scored``.

    1: the control moves the maps no more than harmless fine-tuning does; 0: as much as re-drawing all weights. (i,),
    with the jackknife's spread over settings, on images of one object; ``scored``: bool (i, m). ``independent``:
    another network, fitted from another seed, on the images that it classifies as the label too; ``randomised_top``:
    the head and the last block are re-drawn; ``wrong_class``: another class is explained. NaN where a run has no such
    control.
    """
    return intervals.jackknife(*totals(what, kind), scored)


def totals(what: Study, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """(s, i, m) twice: the numerators and denominators of ``control``; 0 where the run has none."""
    shape = (len(what.settings), len(what.interpreters), len(what.metrics))
    top, bottom = np.zeros(shape), np.zeros(shape)
    for block in (b for b in what.blocks if b.split == "test" and kind in b.controls):
        s, where = what.settings.index(block.setting), _asked(block, kind)
        top[s] = np.nan_to_num(block.mean(block.controls[kind] - block.floor, where))
        bottom[s] = np.nan_to_num(block.mean(block.honest - block.floor, where))
    return top, bottom


def _asked(block: Block, kind: Kind) -> np.ndarray | bool:
    return block.alike if kind == "independent" else True


def prediction_alone(kept: float | None) -> str:
    """Why an interpreter that keeps this much on the independent network is not ranked; empty where it is no reason.

    None and NaN, where no such network was asked, are none.
    """
    if kept is None or not kept >= MOST_ALIKE:
        return ""
    return f"prediction alone: it keeps {kept:.2f} of its range on another network that predicts the same"
