"""The figures of a run: which there are, what each says, and why one is absent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unfooled.findings import LEAST_SETTINGS, Findings
from unfooled.wording import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """One figure, or the reason why there is none."""

    name: str
    """of its files"""
    caption: str
    figure: Figure | None = None
    absent: str = ""


def drawings(found: Findings) -> Iterator[Drawing]:
    """Every figure of a run, one at a time, so that no two need to be in memory."""
    from unfooled.plots.style import styled

    for make in (_stability, _sensitivity, _cells, _transfer, _aopc, _pareto, _specifications, _differences):
        with styled():
            made = make(found)
        yield made


def _stability(found: Findings) -> Drawing:
    from unfooled.plots.scores import ranked_dots

    caption = (
        "A line is an interpreter, the most stable on top. 1: its maps move no more than under harmless fine-tuning; "
        "0: the fooled model's maps resemble the original's no more than a random network's do. Filled marks are the "
        "cells against other families, which the ranks are by, open ones the cells against its own. Interpreters that "
        "share a letter were not found different; those without a rank say why."
    )
    return Drawing("stability", caption, ranked_dots(found.table))


def _sensitivity(found: Findings) -> Drawing:
    from unfooled.plots.scores import sensitivity, similar

    caption = (
        "Raw similarities, mean over metrics, images and cells; not the calibrated stability that ranks. A map that "
        "does not look at the model never changes, so being alike says nothing alone: crosses are canaries, which "
        "never look. On the dashed line a fooled model's maps are as far from the original's as a random network's."
    )
    caption += _without("no similarities, their maps being silent", found, list(similar(found.table)["interpreter"]))
    return Drawing("sensitivity", caption, sensitivity(found.table))


def _cells(found: Findings) -> Drawing:
    from unfooled.plots.fooling import cell_matrix

    caption = (
        "Calibrated stability in each cell (manipulation and whom it was made against), over settings. Colours go "
        "from dark, 0 and below, to bright, 1 and above; numbers do not end there. Interpreters that are not ranked "
        "for want of sensitivity have no numbers."
    )
    if found.by_cell.empty:
        return Drawing("cells", caption, absent="no interpreter has a calibrated score in any cell")
    return Drawing("cells", caption, cell_matrix(found.by_cell, found.kin))


def _transfer(found: Findings) -> Drawing:
    from unfooled.plots.fooling import transfer_matrix

    caption = (
        "How far each fooled model (row) fools each attacked interpreter (column), on test images: 1 on all of them, 0 "
        "on no more than if the original's maps were dealt out to other images, (share − null) / (1 − null). A "
        "setting below 0 counts as 0; mean over settings. Behind a row's name stands in how many settings the attack "
        "worked, and of how many; where it did not, the cell resisted, and its model is in the mean all the same."
    )
    if found.transfer.empty:
        return Drawing("transfer", caption, absent="the run's certificates hold no rates")
    aimed = {name: cell["against"] for name, cell in found.run.header["cells"].items()}
    return Drawing("transfer", caption, transfer_matrix(found.transfer, aimed, found.fooled))


def _aopc(found: Findings) -> Drawing:
    from unfooled.plots.fooling import aopc

    caption = (
        "Patches are deleted in the order of a map, the most important first (Heo et al. 2019, Samek et al. 2016). "
        "Where the order of the original's map still makes the fooled network's logit fall fastest, the network uses "
        "the object as before, and only its map lies."
    )
    if not found.aopc:
        return Drawing("aopc", caption, absent="the run's certificates hold no deletion curves")
    return Drawing("aopc", caption, aopc(found.aopc))


def _pareto(found: Findings) -> Drawing:
    from unfooled.plots.scores import pareto, priced

    caption = (
        "Passes and memory are counted, so they do not depend on the machine. Memory is the most that is alive at once "
        "of tensors other than the model's weights, for each image in the network. The line is the least price from "
        "the top down; a ring marks whom nobody beats by being more stable and no dearer."
    )
    caption += _without("no score or never ask the network", found, list(priced(found.table)["interpreter"]))
    figure = pareto(found.table)
    return Drawing("cost", caption, figure, "" if figure else "no ranked interpreter has a cost in this run")


def _without(why: str, found: Findings, shown: Collection[str]) -> str:
    """Who is not in a figure; empty if all are."""
    missing = [one_line(name) for name in found.table["interpreter"] if name not in shown]
    return f" Without a mark, as they have {why}: {', '.join(missing)}." if missing else ""


def _specifications(found: Findings) -> Drawing:
    from unfooled.plots.ranks import specification_curve

    caption = (
        "The same maps, scored in every defensible way: signed or absolute, one metric or the mean, variants of the "
        "metrics where the suite has them. A dot below says what a column chose. Bright is the first rank, dark the "
        "last; a row of one colour is a rank that does not hang on how one scores. Blank: not ranked under that choice."
    )
    if found.ranks.empty:
        return Drawing("specifications", caption, absent="no way to score ranks two interpreters")
    return Drawing("specifications", caption, specification_curve(found.ranks))


def _differences(found: Findings) -> Drawing:
    from unfooled.plots.ranks import critical_difference

    settings = found.table.attrs["settings"]
    caption = "Friedman's test over settings, and Nemenyi's critical difference of mean ranks (Demšar 2006)."
    if settings < LEAST_SETTINGS:
        wanting = f"it needs {LEAST_SETTINGS} settings or more, and this run has {settings}"
        return Drawing("critical-difference", caption, absent=wanting)
    names, test = found.friedman
    if not test.critical_difference > 0:
        return Drawing(
            "critical-difference", caption, absent="fewer than three interpreters are ranked in all settings"
        )
    caption += f" The test's χ² is {test.statistic:.1f}, p = {test.p_value:.2g}."
    return Drawing(
        "critical-difference", caption, critical_difference(names, test.mean_ranks, test.critical_difference)
    )
