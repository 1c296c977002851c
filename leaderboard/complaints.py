"""What is wrong with a file, where, and what would be right; nothing of the file shown unescaped or at length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from unfooled.leaderboard.entry import Entry
from unfooled.leaderboard.names import printable
from unfooled.plugins import near_miss

LINKS = ("code", "paper")
MOST = 20
"""complaints that are shown of one file"""


@dataclass(frozen=True)
class Complaint:
    """What is wrong where, and what would be right."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def complaints_of(error: ValidationError) -> list[Complaint]:
    """What pydantic found, in our form, nothing of the file unescaped or at length."""
    return [_complaint(problem) for problem in error.errors(include_url=False, include_context=False)[:MOST]]


def _complaint(problem: Mapping) -> Complaint:
    steps = [printable(str(step)) for step in problem["loc"]]
    where = ".".join(steps) or "entry"
    if problem["type"] == "extra_forbidden":
        known = Entry.model_fields if len(steps) == 1 else ()
        return Complaint(where, f"is no field{near_miss(steps[-1], known) or '; leave it out'}")
    if problem["type"] == "missing":
        return Complaint(where, "is missing; every entry has it")
    if problem["type"] == "string_pattern_mismatch" and steps[-1] in LINKS:
        return Complaint(where, f"is {printable(repr(problem['input']))}; a plain https:// link is right")
    return Complaint(where, f"{problem['msg'][:200]}, not {printable(repr(problem['input']))}")
