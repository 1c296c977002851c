"""The commands: what they print where, their exit codes, and one line for whatever the user can mend."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file
from tiny_suite import TINY

from unfooled.cli import main
from unfooled.types import UnfooledError

TESTS = Path(__file__).parent


@pytest.fixture
def command(tiny, tmp_path, monkeypatch):
    """Call a command in an empty folder; the tiny suite's networks are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNFOOLED_STORE", str(tiny.store))

    def call(*words):
        return CliRunner().invoke(main, [str(w) for w in words])

    return call


def run(command, tiny, *words):
    return command("run", tiny.file, "--jobs", 1, "--no-report", *words)


def test_an_interruption_is_told_in_a_line(monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr("unfooled.runner.prepared", interrupted)
    done = CliRunner().invoke(main, ["run", "smoke"])
    assert (done.exit_code, done.stderr.count("\n")) == (130, 1)
    assert done.stderr.startswith("unfooled: interrupted; ")


def test_a_run_prints_its_table_and_where_it_lies(command, tiny):
    done = run(command, tiny)
    assert done.exit_code == 0, done.output
    assert "grad_cam" in done.stdout
    paths = dict(line.split(":", 1) for line in done.stdout.splitlines() if line.startswith(("run:", "rows:")))
    assert Path(paths["rows"].strip()).is_file()
    assert Path(paths["run"].strip()).parts[0] == "runs"
    assert "3/3" in done.stderr, "progress goes to stderr"
    assert "3/3" not in done.stdout


def test_a_report_is_one_file_with_figures_beside(command, tiny):
    done = command("run", tiny.file, "--jobs", 1)
    assert done.exit_code == 0, done.output
    paths = dict(line.split(":", 1) for line in done.stdout.splitlines() if line.startswith(("report:", "figures:")))
    page = Path(paths["report"].strip())
    assert page.is_file()
    assert any(Path(paths["figures"].strip()).iterdir())
    page.unlink()
    again = command("report", page.parent)
    assert again.exit_code == 0, again.output
    assert page.is_file()


def test_a_failed_interpreter_ends_with_3_and_its_reason(command, tiny):
    done = run(command, tiny, "-i", "mischief:raises")
    assert done.exit_code == 3
    assert "failed: vgg-0: mischief:raises: raised RuntimeError: no map for you (mischief.py:" in done.stderr
    assert "grad_cam" in done.stdout
    assert "Traceback" not in done.output


def test_all_interpreters_failing_ends_with_3_in_one_line(command, tiny, tmp_path):
    told = yaml.safe_load(TINY) | {"interpreters": ["mischief:raises"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(told))
    done = command("run", "tiny.yaml", "--jobs", 1)
    assert done.exit_code == 3
    assert done.stderr.splitlines()[-1].startswith("unfooled: tiny: every interpreter failed: mischief:raises: raised")


def test_a_limited_run_is_marked(command, tiny):
    done = run(command, tiny, "--limit", 2)
    assert done.exit_code == 0, done.output
    assert "limited: fewer images than the suite asks for, so this run cannot be submitted" in done.stderr


def test_a_dry_run_does_nothing(command, tiny, tmp_path):
    done = run(command, tiny, "--dry-run", "-i", "lrp?at=T")
    assert done.exit_code == 0
    assert "vgg-0: 4 of 4 networks found" in done.stdout
    assert "then 4 interpreters" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_only_asks_whom_it_names(command, tiny):
    done = run(command, tiny, "--only", "-i", "input_x_gradient")
    assert done.exit_code == 0
    assert "input_x_gradient" in done.stdout
    assert "grad_cam " not in done.stdout.split("Calibrated")[0].replace("location:grad_cam", "")


def refused(done, line, code=2):
    """One line to stderr, nothing to stdout, no traceback."""
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert line in last, last
    assert last.startswith("unfooled: ")


def changed(tmp_path, **changes):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(TINY) | changes))
    return path


def pictures(folder, broken=False):
    """Two classes of six images."""
    from PIL import Image

    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            noise = np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(folder / name / f"{i}.png")
    if broken:
        (folder / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def architecture(**changes):
    return [{"name": "net", "model": "vgg", "fit": {"steps": 8}, "recipe": {"steps": 2}} | changes]


def outside(folder):
    return {"use": "image_folder", "root": str(folder)}


def test_an_unknown_field(command, tmp_path):
    refused(
        command("run", changed(tmp_path, imgaes=3)), "mine.yaml: imgaes: unknown field 'imgaes'; did you mean 'images'"
    )


def test_an_unknown_part(command, tmp_path):
    path = changed(tmp_path, interpreters=["gradcam"])
    refused(command("run", path), "mine.yaml: interpreters: no 'gradcam'; did you mean 'grad_cam'?")
    refused(command("run", "smoke", "-i", "gradcam"), "interpreters: no 'gradcam'; did you mean 'grad_cam'?")
    refused(command("run", "smoke", "-i", "x?a=["), "x?a=[: an argument is not YAML")
    refused(command("doctor", "gradcam"), "interpreters: no 'gradcam'; did you mean 'grad_cam'?")


def test_a_missing_suite(command):
    refused(command("run", "smok"), "suites: no 'smok'; did you mean 'smoke'?")
    refused(command("run", "gone.yaml"), "gone.yaml: no such file; name a suite file, or one of ")


def test_a_missing_data_folder(command, tmp_path):
    path = changed(tmp_path, dataset=outside(tmp_path / "gone"), architectures=architecture())
    refused(command("run", path, "--jobs", 1), "gone: no such folder; root must be a folder with a folder a class")


def test_data_are_found_where_the_command_says(command, tmp_path):
    path = changed(tmp_path, dataset=outside("photos"), architectures=architecture())
    done = command("run", path, "--jobs", 1, "--data", tmp_path / "elsewhere")
    refused(done, f"{tmp_path / 'elsewhere' / 'photos'}: no such folder")


def test_a_broken_image(command, tmp_path):
    path = changed(tmp_path, dataset=outside(pictures(tmp_path / "data", broken=True)), architectures=architecture())
    refused(command("run", path, "--jobs", 1), "3.png")


def test_weights_that_do_not_fit(command, tmp_path):
    save_file({"conv1.weight": torch.zeros(16, 3, 5, 5)}, str(tmp_path / "w.safetensors"))
    model = {"use": "resnet20", "weights": str(tmp_path / "w.safetensors")}
    path = changed(
        tmp_path, dataset=outside(pictures(tmp_path / "data")), architectures=architecture(model=model, fit=None)
    )
    refused(
        command("run", path, "--jobs", 1), "w.safetensors: 'conv1.weight' has shape (16, 3, 5, 5); this model needs"
    )


@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_out_of_range(command, tmp_path, label):
    folder = pictures(tmp_path / "data")
    images = [{"bytes": p.read_bytes()} for p in sorted(folder.rglob("*.png"))]
    names = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"img": images, "label": [0] * 6 + [1] * 5 + [label]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, tmp_path / "train-0.parquet")
    path = changed(tmp_path, dataset={"use": "parquet", "root": str(tmp_path)}, architectures=architecture())
    refused(command("run", path, "--jobs", 1), f"label {label}")


def test_a_device_and_a_place_that_are_not_there(command, tiny, tmp_path):
    refused(run(command, tiny, "--device", "cuda:77"), "device 'cuda:77': ")
    refused(run(command, tiny, "--device", "warp"), "device 'warp': ")
    refused(command("show", tmp_path), "no run there; name a run's folder, or its rows.parquet")
    (tmp_path / "locked").write_text("")
    refused(run(command, tiny, "--out", tmp_path / "locked" / "below"), "locked")


@pytest.mark.parametrize("words", [["run"], ["run", "smoke", "--limit", "0"], ["list", "nothing"], ["frobnicate"]])
def test_usage_is_2(command, words):
    done = command(*words)
    assert done.exit_code == 2
    assert "Usage:" in done.stderr


@pytest.mark.parametrize("kind", ["interpreters", "manipulations", "metrics", "datasets", "models", "suites"])
def test_lists(command, kind):
    plain, machine = command("list", kind), command("list", kind, "--json")
    assert plain.exit_code == machine.exit_code == 0
    entries = json.loads(machine.stdout)
    assert [line.split()[0] for line in plain.stdout.splitlines()] == [e["name"] for e in entries]
    marked = {line.split()[0] for line in plain.stdout.splitlines() if "  (canary) " in line}
    canaries = {"brightness", "centre_blob", "constant", "gated_edges", "memoiser", "random_map", "sobel"}
    assert marked == {e["name"] for e in entries if e.get("canary")} == (canaries if kind == "interpreters" else set())


@pytest.mark.parametrize("by", [None, "manipulation", "model", "metric", "cell", "choice", "cost"])
def test_show_has_a_form_for_everyone(command, tiny, by):
    where = run(command, tiny).stdout.split("run:")[1].split()[0]
    for form in ([], ["--md"], ["--csv"], ["--latex"], ["--json"]):
        done = command("show", where, *form, *(["--by", by] if by else []))
        assert done.exit_code == 0, done.output
        assert "cam" in done.stdout
        if form == ["--json"]:
            data = json.loads(done.stdout)
            assert len(data["rows"][0]) == len(data["columns"])
        if form == ["--csv"]:
            assert len({len(line) for line in csv.reader(done.stdout.strip().splitlines())}) == 1


def test_show_by_choice_takes_no_polarity(command, tiny):
    where = run(command, tiny).stdout.split("run:")[1].split()[0]
    done = command("show", where, "--by", "choice", "--polarity", "signed")
    assert done.exit_code == 2
    assert "--by choice ranks maps of either polarity; leave --polarity out" in done.stderr


def test_show_says_where_nobody_answers(command, tiny):
    where = run(command, tiny).stdout.split("run:")[1].split()[0]
    refused(command("show", where, "--at", "T"), "nobody in it answers with maps at T; --at is input or T")


def test_debug_shows_where_it_came_from(command):
    done = command("--debug", "run", "smok")
    assert isinstance(done.exception, UnfooledError)


def test_the_doctor_sends_nobody_fit_away(command):
    assert command("doctor", "simple_grad").exit_code == 0
    for name, said in (("touches_weights", "changed the values of"), ("leaves", "raised SystemExit: 0")):
        sick = command("doctor", f"mischief:{name}")
        assert sick.exit_code == 1
        assert said in sick.output
        assert "Traceback" not in sick.output
    refused(command("doctor", "mischief:Unmade"), "interpreters: mischief:Unmade: raised AttributeError: no card (")


def process(*words, cwd, **environment):
    """The installed command, in a process of its own."""
    program = Path(sys.executable).with_name("unfooled")
    paths = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([program, *map(str, words)], cwd=cwd, env=paths, capture_output=True, text=True)


def test_the_installed_command_runs_and_resumes(tiny, tmp_path):
    """A stranger's module in the working directory, two processes, and nothing to do the second time."""
    (tmp_path / "mine.py").write_text("def method(model, inputs, targets):\n    return inputs * model(inputs).mean()\n")
    words = ("run", tiny.file, "-i", "mine:method", "--no-report", "--store", tiny.store)
    done = process(*words, "--jobs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine:method" in done.stdout
    assert "4/4 " in done.stderr, "plain progress where there is no terminal"
    again = process(*words, "--jobs", 1, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == done.stdout


def test_the_version_answers_at_once(tmp_path):
    done = process("--version", cwd=tmp_path)
    assert done.stdout.startswith("unfooled ")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("model.nothing", "raised AttributeError: 'Network' object has no attribute 'nothing' (fool_"),
        ("None", "answered with NoneType; a fooled copy of the model is right"),
    ],
)
def test_a_broken_manipulation_is_one_line(command, tmp_path, monkeypatch, answer, said):
    name = f"fool_{len(answer)}"
    (tmp_path / f"{name}.py").write_text(
        "from dataclasses import dataclass\nfrom unfooled.manipulations.passive import Location\n\n\n"
        "@dataclass(frozen=True)\nclass Broken(Location):\n"
        f"    def __call__(self, model, data, against, recipe, seed):\n        return {answer}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "suite.yaml").write_text(TINY.replace("manipulation: location", f"manipulation: '{name}:Broken'"))
    done = command("run", "suite.yaml", "--jobs", 1)
    assert done.exit_code == 3, done.output
    assert f"unfooled: {name}:Broken:grad_cam: {said}" in done.stderr
    assert "Traceback" not in done.stderr
