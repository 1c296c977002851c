"""Where things stand in an entry's figures; the template draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEFT, WIDTH, RIGHT, ROW, TOP = 190, 230, 50, 22, 26
"""pixels; narrow enough to be read on a phone"""


@dataclass(frozen=True)
class Mark:
    """A value: a dot in its line."""

    label: str
    value: float
    x: float
    y: int
    kind: str
    """a class of the style sheet"""
    low: float | None = None
    high: float | None = None
    """ends of its interval, in pixels"""


@dataclass(frozen=True)
class Figure:
    """Lines of dots over one scale, which always holds 0 and 1."""

    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, float], ...]
    """(value, x)"""
    height: int
    width: int = LEFT + WIDTH + RIGHT


@dataclass(frozen=True)
class Line:
    """What a figure shows in one line."""

    label: str
    value: float
    kind: str
    low: float | None = None
    high: float | None = None


def dots(lines: Sequence[Line]) -> Figure:
    """A dot plot, one line below the other."""
    shown = [v for line in lines for v in (line.value, line.low, line.high) if v is not None]
    low, high = min([0.0, *shown]), max([1.0, *shown])

    def x(value: float) -> float:
        return round(LEFT + WIDTH * (value - low) / (high - low), 1)

    marks = tuple(
        Mark(
            line.label, line.value, x(line.value), TOP + ROW * n + ROW // 2, line.kind,
            None if line.low is None else x(line.low), None if line.high is None else x(line.high),
        )
        for n, line in enumerate(lines)
    )  # fmt: skip
    ticks = tuple((value, x(value)) for value in (0.0, 0.5, 1.0))
    return Figure(marks, ticks, TOP + ROW * len(lines) + 8)
