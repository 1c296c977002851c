"""The mark and the fixture: what a failure reads like, what an unused plugin costs, and how it lives with others."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

METHOD = """
from unfooled.baselines.activations import GradCAM

class Method:
    family = "{family}"

    def __call__(self, model, inputs, targets):
        return GradCAM()(model, inputs, targets)

class Broken:
    def __call__(self, model, inputs, targets):
        raise ValueError("out of order")
"""


@pytest.fixture
def project(pytester, tiny, monkeypatch) -> pytest.Pytester:
    """A project with an interpreter and a suite whose networks are there already."""
    monkeypatch.setenv("UNFOOLED_STORE", str(tiny.store))
    pytester.makepyfile(plugged_methods=METHOD.format(family="other"))
    pytester.path.joinpath("tiny.yaml").write_text(tiny.file.read_text())
    monkeypatch.syspath_prepend(pytester.path)
    return pytester


def marked(body: str, interpreter: str = "plugged_methods:Method", **more: object) -> str:
    words = ", ".join(f"{k}={v!r}" for k, v in {"interpreter": interpreter, "suite": "tiny.yaml", **more}.items())
    return f"import pytest\n\n@pytest.mark.unfooled({words})\n{body}\n"


def run(project: pytest.Pytester, *words: str) -> pytest.RunResult:
    sys.modules.pop("plugged_methods", None)
    return project.runpytest_inprocess("-p", "no:randomly", *words)


def test_the_fixture_gives_the_run(project):
    project.makepyfile(
        marked(
            """
def test_it(unfooled_run):
    assert {"plugged_methods:Method", "constant"} <= set(unfooled_run.header["interpreters"])
    assert unfooled_run.path.is_file()
"""
        )
    )
    run(project).assert_outcomes(passed=1)


def test_stable_enough_passes_and_a_failure_reads_like_a_sentence(project):
    project.makepyfile(
        marked("def test_low(): pass", min_stability=-9.0) + marked("def test_high(): pass", min_stability=9.0)
    )
    result = run(project)
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    said = re.search(
        r"plugged_methods:Method has a stability of (\S+) on tiny, and 9.00 is demanded; see (.*html)", text
    )
    assert said, text
    assert float(said[1]) < 9
    assert (project.path / said[2]).read_text().startswith("<!doctype html>")
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text


def test_the_tests_own_failure_goes_first(project):
    project.makepyfile(marked("def test_it(): assert 1 == 2", min_stability=9.0))
    result = run(project)
    result.assert_outcomes(failed=1)
    assert "is demanded" not in result.stdout.str()


@pytest.fixture
def no_report(monkeypatch):
    """Reports take seconds; one test makes a real one."""
    monkeypatch.setattr("unfooled.report.write", lambda run: None)


def test_a_failing_interpreter_is_said_with_its_reason(project, no_report):
    project.makepyfile(marked("def test_it(): pass", interpreter="plugged_methods:Broken", min_stability=0.1))
    result = run(project)
    result.assert_outcomes(failed=1)
    assert "plugged_methods:Broken has no stability to be judged by on tiny: " in result.stdout.str()
    assert "ValueError: out of order" in result.stdout.str()


def test_an_insensitive_interpreter_is_said_with_its_reason(project, no_report):
    project.makepyfile(marked("def test_it(): pass", interpreter="constant", min_stability=0.1))
    result = run(project)
    result.assert_outcomes(failed=1)
    assert re.search("constant has no stability to be judged by on tiny: (silent|insensitive)", result.stdout.str())


def test_wrong_marks_are_said(project):
    project.makepyfile(
        test_a=marked("def test_it(): pass", interpreter="plugged_methods:Metod", min_stability=0.1),
        test_b=marked("def test_it(unfooled_run): pass", min_stabilty=0.1),
        test_c="def test_it(unfooled_run): pass",
    )
    text = run(project).stdout.str()
    assert "did you mean 'Method'?" in text
    assert "unexpected keyword argument 'min_stabilty'; right is unfooled(interpreter, suite='smoke'" in text
    assert "the test has no mark; @pytest.mark.unfooled(interpreter=…) says whom to run" in text


def test_the_mark_is_registered(project):
    project.makepyfile(marked("def test_it(): pass"))
    run(project, "--strict-markers").assert_outcomes(passed=1)
    assert "@pytest.mark.unfooled(interpreter, suite='smoke'" in run(project, "--markers").stdout.str()


def test_with_xdist_and_without_a_cache(project):
    """Two workers on one store; without pytest's cache the run lies in ``runs``."""
    pytest.importorskip("xdist")
    project.makepyfile(
        test_a=marked("def test_it(unfooled_run): assert len(unfooled_run.rows)"),
        test_b=marked("def test_it(unfooled_run): assert len(unfooled_run.rows)", min_stability=-9.0),
    )
    result = project.runpytest_subprocess("-n", "2", "--dist", "load", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    assert list(project.path.glob("runs/tiny-*/rows.parquet"))


def test_an_unused_plugin_imports_nothing(pytester):
    """Neither torch nor numpy nor any module of ours but itself, and the package."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            heavy = {"torch", "numpy", "pandas", "scipy", "pydantic"} & set(sys.modules)
            ours = {name for name in sys.modules if name.startswith("unfooled")}
            assert (heavy, ours) == (set(), {"unfooled", "unfooled.pytest_plugin"})
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_its_import_costs_milliseconds():
    """Against what pytest itself has imported by then. 3 ms were measured; 100 leave room for a busy machine."""
    code = "import pytest, time; t = time.process_time(); import unfooled.pytest_plugin; print(time.process_time() - t)"
    seconds = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert seconds < 0.1


def test_beside_pytest_benchmark(project):
    pytest.importorskip("pytest_benchmark")
    project.makepyfile(
        marked("def test_it(benchmark, unfooled_run): assert benchmark(lambda: 3) == 3", min_stability=-9.0)
    )
    run(project, "--benchmark-disable-gc", "--benchmark-min-rounds=2").assert_outcomes(passed=1)
