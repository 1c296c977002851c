"""The commands around the leaderboard: what they call, print and end with."""

from __future__ import annotations

from pathlib import Path

import entries
import pytest
from click.testing import CliRunner
from test_checker import verification

from unfooled.cli import main
from unfooled.leaderboard import baselines, showing, verify
from unfooled.leaderboard.checker import Refused
from unfooled.leaderboard.complaints import Complaint


def called(*words: str):
    return CliRunner().invoke(main, ["leaderboard", *words], catch_exceptions=False)


def outcome(kind: str):
    found = {"refused": Refused("is no entry"), "elsewhere": verify.NotComparable("not here")}
    return found[kind] if kind in found else verification("0" * 64, kind)


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        (["verified", "verified"], 0),
        (["verified", "failed"], 3),
        (["failed", "elsewhere"], 4),
        (["failed", "elsewhere", "differs"], 1),
        (["verified", "refused"], 1),
    ],
)
def test_the_worst_outcome_of_several_is_the_exit_code(monkeypatch, tmp_path, kinds, code):
    monkeypatch.chdir(tmp_path)
    asked, files = [], [f"{n}.json" for n in range(len(kinds))] or ["x"]
    for name in files:
        Path(name).touch()

    def verify_files(files, suite, store, options, jobs, say):
        asked.append((jobs, options))
        return [(Path(f"{n}.json"), outcome(kind)) for n, kind in enumerate(kinds)]

    monkeypatch.setattr(verify, "verify_files", verify_files)
    words = ("--jobs", "2", "--seed", "mine", "--enough", "5", "--seconds", "7", "--memory", "0.5")
    done = called("verify", *files, *words)
    assert done.exit_code == code
    ((jobs, options),) = asked
    assert (jobs, options.nonce, options.enough, options.limits.seconds) == (2, "mine", 5, 7)
    assert options.limits.memory == 2**29
    for n, kind in enumerate(kinds):
        line = next(text for text in done.stdout.splitlines() if text.startswith(f"{n}.json: "))
        assert {"refused": "is no entry", "elsewhere": "not here"}.get(kind, f"{kind}: 0 of 0 cells agree") in line
        assert ("unchecked: the moon" in line) == (kind in ("verified", "failed", "differs"))


def test_what_is_not_there_is_a_wrong_call():
    done = called("verify", "nowhere.json")
    assert done.exit_code == 2
    assert (
        done.stderr == "unfooled: nowhere.json: no such file or folder; name entries, or the folder that holds them\n"
    )


def test_a_nonce_is_drawn_anew_and_said(monkeypatch, tmp_path):
    seen = []
    monkeypatch.chdir(tmp_path)
    Path("x.json").touch()
    monkeypatch.setattr(verify, "verify_files", lambda *words: seen.append(words[3].nonce) or [])
    said = [called("verify", "x.json").stderr for _ in range(2)]
    assert seen[0] != seen[1]
    assert all(nonce in text for nonce, text in zip(seen, said, strict=True))


@pytest.mark.parametrize("complaints", [[], [Complaint("vgg-0.npz", "its maps make another root")]])
def test_maps_that_are_not_the_entrys_end_with_one(monkeypatch, tmp_path, complaints):
    monkeypatch.setattr(showing, "draw_again", lambda *words: complaints)
    done = called("maps", "one.json", "--out", str(tmp_path))
    assert done.exit_code == len(complaints)
    assert done.stdout.splitlines() == [*map(str, complaints), str(tmp_path)]


def test_baselines_are_written_and_named(monkeypatch, tmp_path):
    monkeypatch.setattr("unfooled.records.load", lambda path: "a run")
    monkeypatch.setattr(baselines, "submit", lambda run, out, code, by: [out / f"{run}-{code[-6:]}.json"])
    done = called("baselines", "RUN", "--code", entries.CODE, "--out", str(tmp_path))
    assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / "a run-method.json"))
    assert called("baselines", "RUN").exit_code == 2
