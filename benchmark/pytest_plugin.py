"""pytest: hold an interpreter to its stability, as one more test.

::

    @pytest.mark.unfooled(interpreter="mine:method", suite="smoke", min_stability=0.6)
    def test_my_method(unfooled_run):
        assert not unfooled_run.header["failures"]

The mark alone is enough: the test fails where the stability is lower, with one sentence and the report's path. Nothing
of unfooled, torch above all, is imported before a marked test runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pandas as pd

    from unfooled.records import Run

MARK = (
    "unfooled(interpreter, suite='smoke', min_stability=None): run the interpreter (a catalogue name or "
    "'module:Name') in a suite; fail where its calibrated stability is below min_stability."
)


@dataclass(frozen=True)
class Wanted:
    """What a mark asks for."""

    interpreter: str
    suite: str = "smoke"
    min_stability: float | None = None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """The test's own body first, then the mark's demand."""
    result = yield
    wanted = _wanted(item)
    if wanted and wanted.min_stability is not None:
        _demand(wanted, _run(item.config, wanted))
    return result


@pytest.fixture
def unfooled_run(request: pytest.FixtureRequest) -> Run:
    """The run that the test's ``unfooled`` mark asks for: ``rows``, ``header``, ``folder``."""
    wanted = _wanted(request.node)
    if wanted is None:
        pytest.fail(
            "unfooled_run: the test has no mark; @pytest.mark.unfooled(interpreter=…) says whom to run", pytrace=False
        )
    return _run(request.config, wanted)


def _wanted(item: pytest.Item) -> Wanted | None:
    mark = item.get_closest_marker("unfooled")
    if mark is None:
        return None
    try:
        return Wanted(*mark.args, **mark.kwargs)
    except TypeError as error:
        problem = str(error).removeprefix("Wanted.__init__() ")
        pytest.fail(f"{item.nodeid}: its mark {problem}; right is {MARK}", pytrace=False)


def _run(config: pytest.Config, wanted: Wanted) -> Run:
    """Made once per process; what another process has finished is taken from the store."""
    from unfooled import ci, runner
    from unfooled.specs import as_part
    from unfooled.types import UnfooledError

    made = config.stash.setdefault(_RUNS, {})
    key = (wanted.interpreter, wanted.suite)
    if key not in made:
        try:
            options = runner.Options(out=_folder(config))
            made[key] = ci.measure(runner.prepared(wanted.suite), as_part(wanted.interpreter), options)
        except UnfooledError as error:
            pytest.fail(f"unfooled: {error}", pytrace=False)
    return made[key]


_RUNS: pytest.StashKey[dict[tuple[str, str], object]] = pytest.StashKey()


def _folder(config: pytest.Config) -> Path:
    """Where runs and reports go: pytest's cache, or ``runs`` where that is switched off."""
    cache = getattr(config, "cache", None)
    return cache.mkdir("unfooled") if cache else config.rootpath / "runs"


def _demand(wanted: Wanted, made: Run) -> None:
    from unfooled.leaderboard import ranking
    from unfooled.specs import as_part

    label = as_part(wanted.interpreter).label
    at = made.header["interpreters"].get(label, {}).get("at", "input")
    table = ranking.scores(made.rows, made.header, at=at)
    found = table[table["interpreter"] == label].iloc[0]
    if found["reason"] or found["transfer"] < wanted.min_stability:
        pytest.fail(f"{label} {_complaint(wanted, made, label, found)}; see {_report(made)}", pytrace=False)


def _complaint(wanted: Wanted, made: Run, label: str, found: pd.Series) -> str:
    suite = made.header["suite"]["name"]
    failures = [f["reason"] for f in made.header["failures"] if f["interpreter"] == label]
    if found["reason"]:
        return f"has no stability to be judged by on {suite}: {(failures or [found['reason']])[0]}"
    return f"has a stability of {found['transfer']:.2f} on {suite}, and {wanted.min_stability:.2f} is demanded"


def _report(made: Run) -> Path:
    from unfooled import report

    report.write(made)
    return made.folder / "report.html"
