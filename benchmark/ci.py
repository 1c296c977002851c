"""One interpreter against its own past, for continuous integration: run, compare, annotate.

A baseline is a run's Parquet file, kept in the repository of whoever wrote the interpreter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TextIO

from unfooled import records, runner
from unfooled.leaderboard import change_tables, regression
from unfooled.leaderboard.verdicts import Comparison, FailOn
from unfooled.records import Run
from unfooled.runner import Options, Progress
from unfooled.store import publish
from unfooled.suite import Suite
from unfooled.types import Part, UnfooledError

Missing = Literal["fail", "create", "skip"]


class NoBaseline(UnfooledError):
    """There is nothing yet to compare with."""

    exit_code = 5


class Incomplete(UnfooledError):
    """The interpreter failed somewhere, so that its run can be no baseline."""

    exit_code = 3


def baseline(path: Path) -> Run:
    """The run to compare with. Raises NoBaseline where the file is missing, RunError where it cannot be read."""
    if not path.exists():
        raise NoBaseline(
            f"{path}: no baseline there; `unfooled ci --interpreter NAME --baseline {path} --baseline-missing create` "
            "makes one, or name a run's folder or Parquet file"
        )
    return records.load(path)


def measure(suite: Suite, named: Part, options: Options, progress: Progress | None = None) -> Run:
    """The suite's run of this interpreter and the canaries alone."""
    return runner.run(runner.narrowed(suite, (named,)), (), options, progress)


def keep(made: Run, path: Path) -> None:
    """Write the run as a baseline. Raises Incomplete, and writes nothing, where an interpreter failed."""
    failures = made.header["failures"]
    if failures:
        raise Incomplete(f"{path}: not written, for {failures[0]['reason']}; a baseline holds a run without failures")
    publish(path, lambda part: records.write_rows(part, made.rows, made.header))


def against(base: Run, made: Run, label: str, alpha: float, least: float, fail_on: FailOn) -> Comparison:
    """The run's one interpreter against the baseline's."""
    return regression.compare(base, made, alpha=alpha, least=least, fail_on=fail_on, interpreters=[label])


def exit_code(made: Run, found: Comparison | None) -> int:
    """What the command ends with: the comparison's code, or 3 where it is fine but an interpreter failed."""
    code = found.exit_code if found else 0
    return code or (3 if made.header["failures"] else 0)


def annotate(found: Comparison, environment: Mapping[str, str], stream: TextIO | None = None) -> None:
    """What GitHub shows beside a pull request: an error for every failed line, and the table as the step's summary.

    Only where GitHub's own variables are set; the commands go to stderr, which its runner reads too.
    """
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in annotations(found):
            print(line, file=stream or sys.stderr)
    summary = environment.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(change_tables.as_markdown(found) + "\n")


def annotations(found: Comparison) -> list[str]:
    """GitHub's workflow commands: an error for each failed line, a warning where nothing could be compared."""
    lines = [f"::error title=unfooled::{_data(c.said)}" for c in found.failed]
    return lines or ([f"::warning title=unfooled::{_data(found.sentence)}"] if found.exit_code else [])


def _data(text: str) -> str:
    """A command's message, escaped as GitHub's toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
