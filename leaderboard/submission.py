"""A run → an entry, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from unfooled import merkle
from unfooled import suite as suites
from unfooled.leaderboard import names, ranking
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.blocks import Block
from unfooled.leaderboard.checker import check_entry, complaints_of
from unfooled.leaderboard.entry import FORMAT, INTERVALS, SUFFIX, Entry, as_json
from unfooled.leaderboard.reference import Reference, shipped
from unfooled.plugins import near_miss
from unfooled.records import Run
from unfooled.store import publish
from unfooled.types import UnfooledError, UnknownPart

DIGITS = 6
POLARITY = "absolute"


class NotSubmittable(UnfooledError):
    """A run that is no entry, with everything that is missing."""

    exit_code = 1


def from_run(
    run: Run, label: str, reference: Reference, *, name: str, code: str, by: str = "", paper: str | None = None
) -> Entry:
    """The entry of one interpreter of a run.

    ``code`` and ``paper`` are https links. Raises NotSubmittable, with everything that is missing or wrong, where the
    checker would refuse the entry.
    """
    lacking = list(missing(run, label, reference))
    if lacking:
        raise NotSubmittable(f"{label}: cannot be submitted: {'; '.join(lacking)}")
    facts = run.header["interpreters"][label]
    given = {"name": name, "by": by, "method": _method(facts, code, paper)}
    try:
        entry = Entry.model_validate({**given, **_content(run, label)})
    except ValidationError as error:
        raise NotSubmittable(f"{label}: {'; '.join(map(str, complaints_of(error)))}") from None
    found = check_entry(entry, reference)
    if found:
        raise NotSubmittable(f"{label}: {'; '.join(map(str, found))}")
    return entry


def submit(
    run: Run, method: str, folder: Path, *, name: str, code: str, by: str = "", paper: str | None = None
) -> Path:
    """Pack the interpreter that a run asked as ``method`` (its reference or its label) and write its file."""
    reference, label = the_reference(run), the_label(run, method)
    return write(from_run(run, label, reference, name=name, code=code, by=by, paper=paper), folder)


def the_reference(run: Run) -> Reference:
    """What the run's suite prescribes. Raises NotSubmittable for a suite that does not ship."""
    suite = run.header["suite"]["name"]
    known = shipped({suite})
    if suite not in known:
        raise NotSubmittable(f"submit: {suite!r} is no suite that ships; there are {', '.join(suites.shipped())}")
    return known[suite]


def write(entry: Entry, folder: Path) -> Path:
    """Publish the entry under its name in the folder, in one step."""
    path = folder / file_name(entry)
    publish(path, lambda part: part.write_bytes(as_json(entry)))
    path.chmod(0o644)
    return path


def file_name(entry: Entry) -> str:
    """``<suite>-<name>.json``"""
    return f"{entry.suite.name}-{names.slug(entry.name)}{SUFFIX}"


def the_label(run: Run, method: str) -> str:
    """The label under which a run asked this method; a label itself goes before a reference. Raises UnknownPart."""
    known = run.header["interpreters"]
    found = [method] if method in known else [label for label, facts in known.items() if facts["use"] == method]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownPart(f"submit: the run asked {method!r} as {' and as '.join(found)}; name one of these")
    hint = near_miss(method, known) or f"; it asked {', '.join(known)}"
    raise UnknownPart(f"submit: the run did not ask {method!r}{hint}")


def missing(run: Run, label: str, reference: Reference) -> Iterator[str]:
    """What keeps a run from being an entry, a sentence each."""
    header = run.header
    if header["suite"]["digest"] != reference.digest:
        right = f"{reference.name} version {reference.version} ({reference.digest})"
        yield f"the run is of another suite than {right}, or of fewer images or another seed; run that one"
        return
    for failure in header["failures"]:
        if failure["interpreter"] == label:
            yield f"it failed in {failure['setting']} ({failure['reason']}); mend that and run again"
    if label not in header["interpreters"]:
        yield "the run holds no rows of it; run it again"
        return
    rows = run.rows[(run.rows["interpreter"] == label).to_numpy()]
    present = set(rows["setting"].unique())
    for setting in sorted(set(reference.settings) - present):
        yield f"no rows in {setting}; run it again"
    for setting in sorted(set(reference.settings) & present):
        if f"{setting}/{label}" not in header["roots"]:
            yield f"no Merkle root in {setting}; run it again"


def _method(facts: dict, code: str, paper: str | None) -> dict:
    return {
        "reference": facts["use"],
        "parameters": _parameters(facts["arguments"]),
        **{k: facts[k] for k in ("family", "at", "signed", "stochastic")},
        "code": code,
        "paper": paper,
        "fingerprint": facts["source"],
    }


def _parameters(arguments: dict) -> dict:
    """Arguments as a run's header holds them; an interpreter within one keeps its own."""
    wrapped = (
        {"use": v["use"], "arguments": _parameters(v["arguments"])} if isinstance(v, dict) else v
        for v in arguments.values()
    )
    return dict(zip(arguments, wrapped, strict=True))


def _content(run: Run, label: str) -> dict:
    """Everything of an entry that the run alone decides."""
    header = run.header
    facts = header["interpreters"][label]
    alone = {**header, "interpreters": {label: facts}}
    rows = run.rows[(run.rows["interpreter"] == label).to_numpy()]
    what = st.study(rows, alone, POLARITY, facts["at"])
    table = ranking.ranked_table(what, POLARITY, facts["at"]).iloc[0]
    roots = {s: header["roots"][f"{s}/{label}"] for s in sorted(header["settings"])}
    return {
        "format": FORMAT,
        "suite": {k: header["suite"][k] for k in ("name", "version", "digest")},
        "created": header["created"],
        "runs_made": header["runs_made"],
        "versions": header["versions"],
        "cost": {k: _number(v) for k, v in facts["cost"].items()},
        "metrics": _metrics(what),
        "settings": {
            s: {"model": header["settings"][s]["model"], "twins": header["settings"][s]["twins"], "root": root}
            for s, root in roots.items()
        },
        "cells": {name: _cell(header["cells"][name]) for name in what.cells},
        "scores": _scores(table),
        "root": merkle.root(bytes.fromhex(root) for root in roots.values()),
        "parts": [part_of(block) for block in what.blocks],
    }


def _number(value: float) -> float | None:
    return round(float(value), DIGITS) + 0.0 if np.isfinite(value) else None


def _metrics(what: st.Study) -> list[dict]:
    span, low = st.ranges(what)
    return [
        {"name": name, "range": _number(span[0, m]), "range_low": _number(low[0, m])}
        for m, name in enumerate(what.metrics)
    ]


def _cell(facts: dict) -> dict:
    return {**{k: facts[k] for k in ("manipulation", "against", "family")}, "adaptive": bool(facts.get("adaptive_for"))}


def _scores(table: pd.Series) -> dict:
    def interval(name: str) -> dict:
        return {
            "value": _number(table[name]),
            "low": _number(table[f"{name}_low"]),
            "high": _number(table[f"{name}_high"]),
        }

    return {
        **{name: interval(name) for name in INTERVALS},
        "adaptive_worst": table["adaptive_worst"],
        "worst": _number(table["worst"]),
        "worst_cell": table["worst_cell"],
        "coverage": _number(table["coverage"]),
    }


def part_of(block: Block) -> dict:
    """A study's block of one interpreter as an entry holds it."""
    return {
        "setting": block.setting,
        "split": block.split,
        "images": int(block.present[0].sum()),
        "valid": int((block.valid & block.present)[0].sum()),
        "honest": _means(block, block.honest),
        "randomised": _means(block, block.floor),
        "controls": _controls(block),
        "independent": _independent(block),
        "cells": {name: _means(block, block.fooled[c]) for c, name in enumerate(block.cells)},
        "silent": int(block.silent[:, 0].sum() + block.silent_honest[0]),
    }


def _means(block: Block, values: np.ndarray, where: np.ndarray | bool = True) -> list[float | None]:
    return [_number(v) for v in block.mean(values, where)[0]]


def _independent(block: Block) -> dict | None:
    if "independent" not in block.controls:
        return None
    kinds = {"independent": block.controls["independent"], "honest": block.honest, "randomised": block.floor}
    means = {kind: _means(block, values, block.alike) for kind, values in kinds.items()}
    return {"images": int((block.valid & block.alike)[0].sum()), **means}


def _controls(block: Block) -> dict | None:
    known = {"again": "self", "wrong_class": "wrong_class", "randomised_top": "randomised_top"}
    if not set(known.values()) <= set(block.controls):
        return None
    return {ours: _means(block, block.controls[kind]) for ours, kind in known.items()}
