"""Progress in a log: lines that are rare, and an estimate that knows what was found done."""

from __future__ import annotations

import pytest

from unfooled import progress


@pytest.fixture
def shown(monkeypatch, capsys):
    """Call with (seconds, what, done, total); answers the line it printed, or nothing."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.bar() as report:

        def show(seconds: float, what: str, done: int, total: int) -> str:
            now[0] = seconds
            report(what, done, total)
            return capsys.readouterr().err

        yield show


def test_what_was_found_does_not_hurry_the_estimate(shown):
    assert shown(0, "answers found", 279, 288) == "279/288 answers found\n"
    assert shown(6, "a in vgg-1", 282, 288) == "282/288 a in vgg-1, about 12 s left\n"
    assert shown(8, "a in vgg-2", 283, 288) == "", "a line every five seconds is enough"
    assert shown(18, "a in vgg-3", 288, 288) == "288/288 a in vgg-3\n", "but the last one is always told"


def test_each_series_is_estimated_by_itself(shown):
    assert shown(100, "twins of vgg-1", 1, 9) == "1/9 twins of vgg-1\n"
    assert shown(160, "twins of vgg-2", 2, 9) == "2/9 twins of vgg-2, about 420 s left\n"
    assert shown(580, "twins of vgg-9", 9, 9) == "9/9 twins of vgg-9\n"
    assert shown(590, "a in vgg-1", 1, 4) == "1/4 a in vgg-1\n"
    assert shown(600, "b in vgg-1", 2, 4) == "2/4 b in vgg-1, about 20 s left\n"
