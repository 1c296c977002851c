"""What a verification found: the file that lies beside an entry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from unfooled.leaderboard.entry import Count, Label, Model, Moment, Real, Root, Share, Similarities, Version

Sentence = Annotated[str, StringConstraints(max_length=400, pattern=r"^[ -~–…×]*$", strict=True)]
"""One line without control characters; it may quote what an interpreter said."""


class Compared(Model):
    """Means as the entry reports them and as the verifier found them, metric by metric."""

    reported: Similarities
    recomputed: Similarities
    tolerance: Annotated[list[Share], Field(max_length=32)]

    @property
    def worst(self) -> tuple[float, float]:
        """The largest difference, as a multiple of its tolerance, and in itself; infinite where only one is defined."""
        pairs = zip(self.reported, self.recomputed, self.tolerance, strict=True)
        gaps = [(_distance(a, b) / t, _distance(a, b)) for a, b, t in pairs]
        return max(gaps, default=(0.0, 0.0))


def _distance(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    return abs(a - b)


class Recomputed(Model):
    """A cell that was asked again."""

    setting: Label
    cell: Label
    fooled: Compared
    honest: Compared
    randomised: Compared
    independent: Compared | None = None
    """where the cell's images are asked of the other network too"""

    @property
    def worst(self) -> tuple[float, float]:
        """The worst of all kinds of twins: a multiple of the tolerance, and the difference itself."""
        kinds = (self.fooled, self.honest, self.randomised, self.independent)
        return max(kind.worst for kind in kinds if kind)

    @property
    def agrees(self) -> bool:
        return self.worst[0] <= 1


class Challenge(Model):
    """Networks and images that nobody had seen before."""

    against: Label
    """what the fresh model was fooled against"""
    images: Count
    accuracy: Share
    """of the fresh fooled model"""
    success: Real
    """corrected fooling rate on the fresh model"""
    stability: Real | None
    low: Real | None
    """ends of its 95 % interval, over images"""
    high: Real | None
    reported: Real | None
    """the entry's stability in its cells most like this one"""
    gap: Real | None
    """reported less found: what does not carry over to new networks and images"""
    allowed: Real
    """largest gap that is not held against the entry"""


class Enforced(Model):
    """What the system let the verifier enforce around the interpreter's process."""

    process: Literal["separate"]
    network: Literal["none", "not enforced"]
    time: Literal["limited", "not enforced"]
    memory: Literal["limited", "not enforced"]
    processes: Literal["own namespace", "not enforced"]
    files: Literal["not enforced"]


class Verified(Model):
    """The outcome of recomputing some of an entry."""

    format: Literal[1]
    entry: Root
    """SHA-256 of the entry's file"""
    outcome: Literal["verified", "differs", "failed"]
    reasons: Annotated[list[Sentence], Field(max_length=50)]
    """empty where verified"""
    unchecked: Annotated[list[Sentence], Field(max_length=10)]
    """what the entry reports and nobody looked at here, and why; nothing that is held against it"""
    nonce: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]+$", max_length=64, strict=True)]
    """what the verifier added to the entry's digest to draw the cells; drawn anew by default"""
    cells: Annotated[list[Recomputed], Field(max_length=2000)]
    reported: Real | None
    """stability over these very cells, from the entry's parts"""
    recomputed: Real | None
    """the same, from the verifier's maps"""
    challenge: Challenge | None
    enforced: Enforced
    source: Literal["same", "changed", "unknown"]
    """is the interpreter's source the one that was submitted?"""
    versions: Annotated[dict[str, Version], Field(max_length=32)]
    created: Moment
    seconds: Real
