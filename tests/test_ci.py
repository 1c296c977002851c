"""The commands compare and ci: exit codes, tables, annotations, JUnit, baselines."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result
from test_regression import SMOKE, changed, failed, lowered, run

from unfooled import ci, cli, records, runner, suite
from unfooled.leaderboard import change_tables, regression
from unfooled.leaderboard.verdicts import Change, Comparison
from unfooled.records import Run

HASTY = """
from unfooled.baselines.activations import GradCAM

class Method:
    family = "activations"

    def __call__(self, model, inputs, targets):
        return GradCAM()(model, inputs, targets)


class Broken(Method):
    def __call__(self, model, inputs, targets):
        raise ValueError("out of order")
"""


@pytest.fixture(autouse=True)
def _away_from_github(monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def saved(made: Run, folder: Path) -> Path:
    records.save(replace(made, folder=folder))
    return folder


def command(*words: object) -> Result:
    result = CliRunner().invoke(cli.main, [str(w) for w in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return saved(run(), tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def worse(tmp_path_factory) -> Path:
    return saved(changed(run(), lowered(0.1)), tmp_path_factory.mktemp("worse"))


# compare


def test_a_folder_and_its_parquet_file_are_the_same_run(base):
    result = command("compare", base, base / "rows.parquet")
    assert result.exit_code == 0
    assert result.stdout.endswith("No regression. 6 not significant.\n")


def test_a_regression_is_a_line_and_exit_code_1(base, worse):
    result = command("compare", base, worse)
    assert result.exit_code == 1
    line = next(x for x in result.stdout.splitlines() if x.startswith("-") and "all cells" in x)
    assert "gradient" in line
    assert "−0.1" in line


def test_columns_stand_below_their_headings(base, worse):
    lines = command("compare", base, worse).stdout.splitlines()
    heading, table = lines[0], lines[1:7]
    for word, values in (("Interpreter", {"cam", "gradient"}), ("Change", {"-", "~"})):
        assert {line[heading.index(word) :].split()[0] for line in table} == values


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (changed(run(), failures=failed("cam")["failures"]), 3),
        (changed(run(), suite={"name": "smoke", "version": 2, "digest": "ffff"}), 4),
    ],
    ids=["newly failing", "another suite"],
)
def test_exit_codes(base, tmp_path, new, code):
    assert command("compare", base, saved(new, tmp_path)).exit_code == code


def test_no_base_is_exit_code_5_and_no_new_is_2(base, tmp_path):
    result = command("compare", tmp_path / "none.parquet", base)
    assert result.exit_code == 5
    assert "none.parquet: no baseline there; `unfooled ci --interpreter NAME --baseline" in result.stderr
    assert command("compare", base, tmp_path / "none.parquet").exit_code == 2


def test_a_file_that_is_no_run_is_said_in_a_line(base, tmp_path):
    (tmp_path / "odd.parquet").write_bytes(b"PAR1 this is not")
    result = command("compare", tmp_path / "odd.parquet", base)
    assert result.exit_code == 2
    assert "is not a run of unfooled" in result.stderr


def test_thresholds_are_options(base, worse):
    assert command("compare", base, worse, "--least-effect", "0.5").exit_code == 0
    assert command("compare", base, worse, "--alpha", "0").exit_code == 0
    assert command("compare", worse, base).exit_code == 0
    assert command("compare", worse, base, "--fail-on", "change").exit_code == 1
    assert command("compare", base, worse, "-i", "cam").exit_code == 0


def test_json_holds_every_line_unrounded(base, worse):
    found = json.loads(command("compare", base, worse, "--json").stdout)
    reference = regression.compare(records.load(base), records.load(worse))
    assert found["exit_code"] == 1
    assert [c["difference"] for c in found["changes"]] == [c.difference for c in reference.changes]
    assert {c["meaning"] for c in found["changes"]} == {"worse", "not significant"}
    assert found["sentence"] == reference.sentence


def test_json_knows_no_nan():
    found = json.loads(change_tables.as_json(Comparison((Change("x", "a"),), 0.005, 0.02)))
    assert found["changes"][0]["before"] is None


def test_junit_counts_failures_and_skips(base, worse, tmp_path):
    command("compare", base, worse, "--junit", tmp_path / "out.xml")
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("6", "3", "0")
    broken = [case for case in root if case.find("failure") is not None]
    assert {case.get("classname") for case in broken} == {"gradient"}
    assert "stability" in broken[0].find("failure").get("message")


HOSTILE = Change("-", "a|b\x1b[31m<script>", "cell\nbreak", 0.5, 0.4, -0.2, 0.0, 0.001, note="100 %\r\n::error::x")


@pytest.mark.parametrize("printer", [*change_tables.PRINTERS.values(), change_tables.as_junit])
def test_names_from_outside_colour_no_terminal_and_break_no_line(printer):
    text = printer(Comparison((HOSTILE,), 0.005, 0.02))
    assert "\x1b" not in text
    assert "<script>" not in text or printer is not change_tables.as_markdown
    if printer is change_tables.as_markdown:
        row = next(x for x in text.splitlines() if x.startswith("| `-`"))
        assert row.replace(r"\|", "").count("|") == 9
    if printer is change_tables.as_junit:
        ElementTree.fromstring(text)


def test_what_markdown_says(base, worse):
    lines = command("compare", base, worse, "--md").stdout.splitlines()
    assert lines[0].startswith("**An interpreter got worse. 3 worse, 3 not significant.")
    assert lines[2].startswith("| Change | Before ↑ | After ↑ | Difference [95 %] | p | Interpreter | Cell |")
    assert sum(line.startswith("| `-` |") for line in lines) == 3


# What GitHub shows


def test_annotations_and_summary_where_github_asks(base, worse, tmp_path):
    found = regression.compare(records.load(base), records.load(worse))
    stream, summary = io.StringIO(), tmp_path / "summary.md"
    ci.annotate(found, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}, stream)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("::error title=unfooled::worse: gradient on all cells: stability 0.")
    assert "[95 %]" in summary.read_text()
    ci.annotate(found, {"GITHUB_STEP_SUMMARY": str(summary)}, stream)
    assert summary.read_text().count("An interpreter got worse") == 2  # a step's summary is added to, never replaced
    assert len(stream.getvalue().splitlines()) == 3


def test_nothing_is_written_elsewhere(base, worse):
    stream = io.StringIO()
    ci.annotate(regression.compare(records.load(base), records.load(worse)), {}, stream)
    assert stream.getvalue() == ""


def test_a_commands_message_is_escaped_as_githubs_toolkit_does():
    (line,) = ci.annotations(Comparison((HOSTILE,), 0.005, 0.02))
    assert "\n" not in line
    assert "100 %25%0D%0A::error::x" in line
    assert "cell%0Abreak" in line


def test_what_cannot_be_compared_is_a_warning():
    (line,) = ci.annotations(Comparison((Change("x", "a"),), 0.005, 0.02))
    assert line == "::warning title=unfooled::Nothing can be compared. 1 not comparable."


# ci, on a tiny suite that was really fooled


@pytest.fixture
def method(tmp_path, monkeypatch, tiny) -> Path:
    """A folder with somebody's interpreter, to be the working directory."""
    (tmp_path / "hasty_methods.py").write_text(HASTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def check(tiny, *words: object, interpreter: str = "hasty_methods:Method") -> Result:
    places = ["--suite", tiny.file, "--store", tiny.store, "--out", "runs", "-j", "1"]
    return command("ci", "--interpreter", interpreter, "--baseline", "base.parquet", *places, *words)


def test_no_baseline_is_exit_code_5_before_anything_is_run(method, tiny):
    result = check(tiny)
    assert result.exit_code == 5
    assert "--baseline-missing create" in result.stderr
    assert not (method / "runs").exists()


def test_create_compare_and_update(method, tiny):
    assert check(tiny, "--baseline-missing", "create").exit_code == 0
    made = records.load(method / "base.parquet")
    assert {"hasty_methods:Method", "constant"} <= set(made.header["interpreters"])
    before = (method / "base.parquet").read_bytes()
    again = check(tiny, "--baseline-missing", "create")
    assert again.exit_code in (0, 4)  # 4: this suite of a minute does not make the method sensitive
    assert "hasty_methods:Method" in again.stdout
    assert (method / "base.parquet").read_bytes() == before
    assert check(tiny, "--update-baseline").exit_code == 0
    assert (method / "base.parquet").read_bytes() != before


def test_skip_runs_and_compares_nothing(method, tiny):
    result = check(tiny, "--baseline-missing", "skip")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert not (method / "base.parquet").exists()


def test_a_failing_interpreter_is_exit_code_3_and_no_baseline(method, tiny):
    result = check(tiny, "--baseline-missing", "create", interpreter="hasty_methods:Broken")
    assert result.exit_code == 3
    assert "ValueError: out of order" in result.stderr
    assert not (method / "base.parquet").exists()
    assert check(tiny, "--baseline-missing", "skip", interpreter="hasty_methods:Broken").exit_code == 3


def test_an_interpreter_that_the_baseline_lacks_is_not_comparable(method, tiny):
    assert check(tiny, "--baseline-missing", "create").exit_code == 0
    result = check(tiny, interpreter="grad_cam")
    assert result.exit_code == 4
    assert "BASE: was not asked" in result.stdout


def test_a_wrong_name_is_said_before_anything_is_run(method, tiny):
    result = check(tiny, "--baseline-missing", "create", interpreter="hasty_methods:Metod")
    assert result.exit_code == 2
    assert "did you mean 'Method'?" in result.stderr
    assert not (method / "runs").exists()


def test_ci_prints_what_compare_prints(monkeypatch, tmp_path):
    """The same table for the same two runs; ci asks for the one interpreter alone."""
    base, new = run(), changed(run(), lowered(0.1))
    monkeypatch.setattr(runner, "run", lambda *_, **__: replace(new, folder=tmp_path))
    ci.keep(base, tmp_path / "base.parquet")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = command(
        "ci", "--interpreter", "gradient", "--baseline", tmp_path / "base.parquet", "--junit", tmp_path / "out.xml"
    )
    reference = command("compare", tmp_path / "base.parquet", saved(new, tmp_path / "new"), "-i", "gradient")
    assert result.exit_code == 1
    assert result.stdout == reference.stdout
    assert result.stderr.count("::error title=unfooled::") == 3
    assert "An interpreter got worse" in summary.read_text()
    assert ElementTree.parse(tmp_path / "out.xml").getroot().get("failures") == "3"


def test_the_drops_are_planted_at_the_size_of_smoke():
    """64 images, 2 cells: what test_regression says of power is said of the shipped suite."""
    smoke = suite.load("smoke")
    assert (smoke.images, len(smoke.cells), len(smoke.settings())) == (SMOKE.images, len(SMOKE.cells()), 1)


# What the documentation and the workflow say

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "unfooled.yml"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_command_of_the_page_is_one():
    hook = yaml.safe_load(blocks("yaml")[1])["repos"][0]["hooks"][0]["entry"]
    commands = [line for block in blocks("sh") for line in block.splitlines()] + [hook]
    assert len(commands) == 5
    for line in commands:
        program, name, *words = shlex.split(line)
        assert program == "unfooled"
        cli.main.commands[name].make_context(name, words, resilient_parsing=False)


def test_every_line_of_the_pages_workflow_is_an_input_of_ours():
    called = yaml.safe_load(blocks("yaml")[0])["jobs"]["unfooled"]
    inputs = workflow()["on"]["workflow_call"]["inputs"]
    assert called["uses"].split("@")[0].endswith(str(WORKFLOW.relative_to(ROOT)))
    assert {k for k, v in inputs.items() if v.get("required")} <= called["with"].keys() <= inputs.keys()


def workflow() -> dict:
    """YAML 1.1 reads the word ``on`` as true."""
    content = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return content | {"on": content[True]}


def test_inputs_reach_the_workflows_shell_as_variables_only():
    inputs = workflow()["on"]["workflow_call"]["inputs"]
    steps = workflow()["jobs"]["ci"]["steps"]
    assert not any("${{" in step.get("run", "") for step in steps)
    used = set(re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", WORKFLOW.read_text(encoding="utf-8")))
    assert used == set(inputs)


def test_the_workflows_own_step_runs(method, tiny):
    """The very text of its step, in bash, with inputs that would do harm if they were ever commands."""
    (step,) = [s for s in workflow()["jobs"]["ci"]["steps"] if "unfooled ci" in s.get("run", "")]
    given = {
        "INTERPRETER": "grad_cam",
        "BASELINE": "$(touch harm).parquet",
        "SUITE": str(tiny.file),
        "FAIL_ON": "worse",
    }
    assert given.keys() == step["env"].keys()
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step["run"]],
        env=os.environ | given | {"PATH": scripts}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 5
    assert "$(touch harm).parquet: no baseline there" in ended.stderr
    assert not (method / "harm").exists()
