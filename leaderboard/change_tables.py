"""Printers of a comparison: text, Markdown, JSON, JUnit. A comparison in, a string out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from xml.etree import ElementTree

from unfooled.leaderboard.verdicts import MEANING, Change, Comparison, number, p_word, signed
from unfooled.wording import one_line

HEADINGS = ("Change", "Before ↑", "After ↑", "Difference [95 %]", "p", "Interpreter", "Cell", "Note")
LEGEND = (
    "Before and after are calibrated stability: 1 is as stable as under honest fine-tuning, 0 is as a random network. "
    "The difference and its interval are over the same images on the same fooled models, and conditional on those."
)


def _words(change: Change) -> list[str]:
    """A line as people read it; empty where there is no number."""
    sure = change.low == change.low
    difference = f"{signed(change.difference)} [{signed(change.low)}, {signed(change.high)}]" if sure else ""
    numbers = [number(v) if v == v else "" for v in (change.before, change.after)]
    p = p_word(change.p).removeprefix("p ").removeprefix("= ") if change.p == change.p else ""
    return [change.mark, *numbers, difference, p, *map(one_line, (change.interpreter, change.cell, change.note))]


def rule(comparison: Comparison) -> str:
    """What counts as a change, and how it is marked, in one line."""
    marks = ", ".join(f"{mark} {meaning}" for mark, meaning in MEANING.items())
    return (
        f"{marks}; p corrected by Holm, under {comparison.alpha:g}, and a difference of {comparison.least:g} or more."
    )


def as_text(comparison: Comparison) -> str:
    """For a terminal, columns of even width."""
    lines = [list(HEADINGS), *map(_words, comparison.changes)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADINGS))]
    table = ["  ".join(f"{w:<{n}}" for w, n in zip(line, widths, strict=True)).rstrip() for line in lines]
    below = [*(f"note: {one_line(n)}" for n in comparison.notes), rule(comparison), one_line(comparison.sentence)]
    return "\n".join([*table, "", *below]) + "\n"


def as_markdown(comparison: Comparison) -> str:
    """GitHub's Markdown, the sentence first."""
    lines = [HEADINGS, ["---"] + ["---:"] * 4 + ["---"] * 3]
    lines += [[f"`{w[0]}`", *map(_escaped, w[1:])] for w in map(_words, comparison.changes)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    notes = [f"- {_escaped(one_line(n))}" for n in (*comparison.notes, rule(comparison), LEGEND)]
    return "\n".join([f"**{_escaped(one_line(comparison.sentence))}**", "", *table, "", *notes]) + "\n"


def _escaped(text: str) -> str:
    for sign in "\\|`*_~[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def as_json(comparison: Comparison) -> str:
    """``{sentence, exit_code, rule, notes, changes}``, numbers unrounded, null where there is none."""
    content = {
        "sentence": comparison.sentence,
        "exit_code": comparison.exit_code,
        "alpha": comparison.alpha,
        "least": comparison.least,
        "fail_on": comparison.fail_on,
        "notes": list(comparison.notes),
        "changes": [_plain(c) for c in comparison.changes],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(change: Change) -> dict[str, object]:
    fields = asdict(change) | {"meaning": MEANING[change.mark], "difference": change.difference}
    return {k: None if v != v else v for k, v in fields.items()}


def as_junit(comparison: Comparison) -> str:
    """JUnit's XML: a test case a line; worse and newly failing ones fail, those without a comparison are skipped."""
    failed, skipped = comparison.failed, comparison.of("x")
    counts = {"tests": len(comparison.changes), "failures": len(failed), "errors": 0, "skipped": len(skipped)}
    suite = ElementTree.Element("testsuite", {"name": "unfooled", **{k: str(n) for k, n in counts.items()}})
    for change in comparison.changes:
        names = {"classname": one_line(change.interpreter), "name": one_line(change.cell)}
        case = ElementTree.SubElement(suite, "testcase", names)
        outcome = "failure" if change in failed else "skipped" if change in skipped else "system-out"
        inside = ElementTree.SubElement(
            case, outcome, {} if outcome == "system-out" else {"message": one_line(change.said)}
        )
        inside.text = one_line(change.said)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


PRINTERS: dict[str, Callable[[Comparison], str]] = {"text": as_text, "markdown": as_markdown, "json": as_json}
