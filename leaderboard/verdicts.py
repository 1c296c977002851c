"""What a comparison of two runs found: one line for each interpreter and cell, a sentence, an exit code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Mark = Literal["-", "+", "~", "x", "!", "*"]

MEANING: dict[Mark, str] = {
    "-": "worse",
    "+": "better",
    "~": "not significant",
    "x": "not comparable",
    "!": "newly failing",
    "*": "fixed",
}
EVERYWHERE = "all cells"
FailOn = Literal["worse", "change"]

LEAST_MOVE = 0.005
"""Above it the maps are not the same. Rounding moves similarities by 1e-5 on average, another random stream by 0.02."""

FINE, WORSE, INCOMPLETE, NOT_COMPARABLE = 0, 1, 3, 4


@dataclass(frozen=True)
class Change:
    """One interpreter in one cell, or over all of them, before and after. NaN where there is no number."""

    mark: Mark
    interpreter: str
    cell: str = EVERYWHERE
    before: float = float("nan")
    """calibrated stability in BASE"""
    after: float = float("nan")
    low: float = float("nan")
    """the lower end of the difference's 95 % interval over images"""
    high: float = float("nan")
    p: float = float("nan")
    """corrected by Holm for all lines of the comparison"""
    images: int = 0
    moved: float = float("nan")
    """mean absolute difference of all its similarities; only over all cells"""
    note: str = ""
    """why there is no number, or what else changed"""

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def said(self) -> str:
        """In one line, for logs and annotations."""
        numbers = "" if self.after != self.after or self.before != self.before else f": {self.numbers}"
        return f"{MEANING[self.mark]}: {self.interpreter} on {self.cell}{numbers}" + (
            f" ({self.note})" if self.note else ""
        )

    @property
    def numbers(self) -> str:
        """``stability 0.81 → 0.74, difference −0.07 [−0.09, −0.05], p < 0.0001``"""
        ends = "" if self.low != self.low else f" [{signed(self.low)}, {signed(self.high)}], {p_word(self.p)}"
        return f"stability {number(self.before)} → {number(self.after)}, difference {signed(self.difference)}{ends}"


@dataclass(frozen=True)
class Comparison:
    """All lines, and by which rule they were judged."""

    changes: tuple[Change, ...]
    alpha: float
    least: float
    """the least difference that matters"""
    fail_on: FailOn = "worse"
    notes: tuple[str, ...] = ()
    """what else is not the same on both sides"""

    def of(self, *marks: Mark) -> list[Change]:
        """The lines with one of these marks."""
        return [c for c in self.changes if c.mark in marks]

    @property
    def failed(self) -> list[Change]:
        """The lines that fail the check: worse ones and newly failing ones; any change, where that was asked for."""
        if self.fail_on == "worse":
            return self.of("-", "!")
        return [c for c in self.changes if c.mark in "-!+*" or c.moved >= LEAST_MOVE]

    @property
    def exit_code(self) -> int:
        """0 fine, 1 worse (or changed), 3 newly failing and nothing worse, 4 nothing was comparable."""
        marks = {c.mark for c in self.failed}
        if marks - {"!"}:
            return WORSE
        if marks:
            return INCOMPLETE
        return FINE if len(self.of("x")) < len(self.changes) else NOT_COMPARABLE

    @property
    def sentence(self) -> str:
        """How many of each, the verdict, and the worst line."""
        counts = Counter(c.mark for c in self.changes)
        found = ", ".join(f"{counts[m]} {word}" for m, word in MEANING.items() if counts[m]) or "nothing compared"
        return f"{self._verdict()} {found[0].upper()}{found[1:]}." + self._worst()

    def _verdict(self) -> str:
        changed = "An interpreter changed." if self.fail_on == "change" else "An interpreter got worse."
        fine = "No change." if self.fail_on == "change" else "No regression."
        words = {WORSE: changed, INCOMPLETE: "An interpreter no longer works.", FINE: fine}
        return words.get(self.exit_code, "Nothing can be compared.")

    def _worst(self) -> str:
        worse = [c for c in self.of("-") if c.difference == c.difference]
        worst = min(worse, key=lambda c: c.difference, default=None)
        return f" Worst: {worst.interpreter} on {worst.cell}, by {signed(worst.difference)}." if worst else ""


def number(value: float) -> str:
    """Three digits behind the point."""
    return f"{value:.3f}".replace("-", "−")


def signed(value: float) -> str:
    """A number with its sign, three digits behind the point."""
    return f"{value:+.3f}".replace("-", "−")


def p_word(p: float) -> str:
    """``p = 0.034``, or that it is smaller than can be told."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}" if p < 0.01 else f"p = {p:.2f}"
