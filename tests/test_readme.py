"""The README is executed: its snippets as they stand there, its commands, and every name that it says exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from unfooled import plugins, suite

HERE = Path(__file__).parents[1]
README = (HERE / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_readme_has_an_interpreter_and_a_python_example():
    assert len(blocks("python")) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("newcomer")
    (place / "mine.py").write_text(blocks("python")[0])
    return place


def test_the_commands_for_an_interpreter_of_ones_own(folder):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("unfooled ")]
    assert len(lines) == 2
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-m", "unfooled.cli", *shlex.split(line)[1:]], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "mine:method" in done.stdout


def test_the_python_face_as_the_readme_shows_it(folder):
    done = subprocess.run([sys.executable, "-c", blocks("python")[1]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mine:method" in done.stdout
    assert "grad_cam" in done.stdout


def test_what_the_readme_names_is_there():
    for path in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (HERE / path).exists(), path
    for name in re.findall(r"^\| `(\w+)` \|", README, re.M):
        assert name in suite.shipped()
    targets = (HERE / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert f"\n{target}:" in targets


def test_every_command_shown_in_the_readme_is_a_command():
    from unfooled.cli import main

    for word in re.findall(r"`unfooled (\w+)", README):
        assert word in main.commands
    assert plugins.names("interpreters")
