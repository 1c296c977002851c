"""What every column of every table is: its title, arrow, range, unit and meaning, in one place for all printers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table that ``scores``, ``by``, ``pairwise`` or ``multiverse`` makes."""

    name: str
    title: str
    meaning: str
    arrow: str = ""
    """↑ larger is better, ↓ smaller is better, empty: neither"""
    low: float | None = None
    """least possible value; None: unbounded or no number"""
    high: float | None = None
    unit: str = ""
    digits: int | None = None
    """digits behind the point when printed; None: printed as it is"""

    @property
    def heading(self) -> str:
        """The title with its arrow and unit, as tables print it."""
        return f"{self.title} {self.arrow}".strip() + (f" ({self.unit})" if self.unit else "")

    @property
    def range(self) -> str:
        """The values it can take, in words a legend can show; empty for columns of words."""
        if self.digits is None:
            return ""
        low, high = ("" if end is None else f"{end:g}" for end in (self.low, self.high))
        return f"{low} to {high}" if low and high else f"{low} or more" if low else f"{high} or less" if high else "any"

    @property
    def explained(self) -> str:
        """What it means, with its range, as every legend says it."""
        return f"{self.meaning} ({self.range})" if self.range else self.meaning


def _stability(name: str, meaning: str) -> tuple[Column, ...]:
    ends = (
        Column(f"{name}_{end}", f"{name} {end}", f"{word} end of its 95 % interval", "↑", digits=2)
        for end, word in (("low", "lower"), ("high", "upper"))
    )
    over = "settings that it is over; 1: its interval, if it has one, is over that one's images only; 0: undefined"
    return (
        Column(name, name, meaning, "↑", digits=3),
        *ends,
        Column(f"{name}_settings", f"{name} settings", over, low=0, digits=0),
    )


COLUMNS: tuple[Column, ...] = (
    Column("interpreter", "interpreter", "what explains"),
    Column("family", "family", "interpreters of one kind"),
    Column("canary", "canary", "does not look at the model; has to end up insensitive or last"),
    Column("rank", "rank", "by transfer, among the ranked; 1 is the most stable", "↓", 1, digits=0),
    Column("rank_low", "rank low", "the best rank that the paired comparisons leave open", "↓", 1, digits=0),
    Column("rank_high", "rank high", "the worst rank that the paired comparisons leave open", "↓", 1, digits=0),
    Column("tie", "ties", "interpreters that share a letter were not found different (Holm, 5 %)"),
    *_stability(
        "transfer", "stability where another family was attacked; 1: as under honest fine-tuning, 0: as random"
    ),
    *_stability("attacked", "stability where its own family was attacked"),
    *_stability("adaptive", "stability where it was attacked itself, by the worst manipulation"),
    Column("adaptive_worst", "worst attack", "the manipulation behind adaptive"),
    Column("worst", "worst", "stability in its worst cell, over all settings", "↑", digits=3),
    Column("worst_cell", "worst cell", "that cell: manipulation and the interpreter it was made against"),
    Column("metrics_counted", "metrics", "metrics that surely tell its model from a random one", "↑", 0, digits=0),
    Column("insensitive", "insensitive", "fewer than four of six metrics count; never ranked"),
    Column(
        "coverage", "coverage", "share of images whose original map says something; 0.9 to rank", "↑", 0, 1, digits=2
    ),
    Column(
        "silent", "silent", "fooled or honest maps without a word; each counts as random", "↓", 0, unit="maps", digits=0
    ),
    Column("missing", "missing", "fooled models, over all settings, that it gave no maps for", "↓", 0, digits=0),
    Column("reason", "not ranked because", "why it is not ranked; empty if it is"),
    Column(
        "independent",
        "other network",
        "stability on one of another seed that predicts alike; under 0.98 to rank",
        digits=3,
    ),
    Column("independent_low", "other network low", "lower end of its 95 % interval", digits=2),
    Column("independent_high", "other network high", "upper end of its 95 % interval", digits=2),
    Column("raw_fooled", "raw fooled", "mean similarity of original and fooled maps, uncalibrated", high=1, digits=3),
    Column("raw_honest", "raw honest", "the same for the honest twin", high=1, digits=3),
    Column("raw_randomised", "raw randomised", "the same for the randomised twins", high=1, digits=3),
    Column(
        "randomised_top", "randomised top", "the same with only head and last block re-drawn", "↓", high=1, digits=3
    ),
    Column(
        "self_noise", "self-noise", "1 − similarity of two runs on one model, other random stream", "↓", 0, digits=3
    ),
    Column(
        "wrong_class", "wrong class", "similarity of the maps of the label and of another class", "↓", high=1, digits=3
    ),
    Column("forward", "forward", "forward passes per image", "↓", 0, unit="passes", digits=1),
    Column("backward", "backward", "backward passes per image", "↓", 0, unit="passes", digits=1),
    Column(
        "memory", "memory", "peak of live tensors per image in the network, weights apart", "↓", 0, unit="MiB", digits=1
    ),
    Column(
        "seconds",
        "seconds",
        "time per image on the machine of the run; no measure on others",
        "↓",
        0,
        unit="s",
        digits=4,
    ),
    Column("manipulation", "manipulation", "what fooled the model"),
    Column("model", "model", "the architecture"),
    Column("metric", "metric", "the similarity"),
    Column("cell", "cell", "manipulation and the interpreter it was made against"),
    Column("range", "range", "honest − randomised similarity", "↑", digits=3),
    Column(
        "range_low", "range low", "its one-sided 95 % lower bound; under 0.1 the metric does not count", "↑", digits=3
    ),
    Column("range_ok", "counts", "the metric surely tells its model from a random one"),
    Column("a", "first", "an interpreter"),
    Column("b", "second", "the interpreter it is compared with"),
    Column("difference", "difference", "transfer of the first less that of the second", digits=3),
    Column("low", "low", "lower end of its 95 % interval", digits=3),
    Column("high", "high", "upper end of its 95 % interval", digits=3),
    Column("best_rank", "best rank", "over all specifications that rank it", "↓", 1, digits=0),
    Column("median_rank", "median rank", "over all specifications that rank it", "↓", 1, digits=1),
    Column("worst_rank", "worst rank", "over all specifications that rank it", "↓", 1, digits=0),
    Column("specifications", "specifications", "ways to score that rank it", "↑", 0, digits=0),
    Column("p", "p", "of the paired t test over settings", low=0, high=1, digits=4),
    Column("p_holm", "p (Holm)", "the same, corrected for all pairs", low=0, high=1, digits=4),
)
BY_NAME = {column.name: column for column in COLUMNS}


def column(name: str) -> Column:
    """What a column is; one that this page does not know (an interpreter, a metric) is a stability of its own name."""
    return BY_NAME.get(name, Column(name, name, "", digits=3))
