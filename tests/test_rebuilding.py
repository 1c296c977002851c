"""build --check: three cells made again come out the same; a figure that was another is found."""

import json
import math
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from unfooled import rebuilding, runner
from unfooled import suite as suites
from unfooled.cli import main
from unfooled.leaderboard import ranking
from unfooled.rebuilding import Line, Outcome, Stability
from unfooled.store import Store, write_json

TWO_SEEDS = """
name: two
version: 1
dataset: {use: scenes, train: 400, tune: 60, test: 100}
architectures:
  - {name: resnet, model: resnet, fit: {steps: 8}, recipe: {steps: 1}}
  - {name: vgg, model: vgg, seeds: [0, 1], fit: {steps: 40, batch: 32, rate: 0.006}, recipe: {steps: 8, warmup: 2}}
cells:
  - {manipulation: location, against: grad_cam, weights: [3, 1]}
  - {manipulation: location, against: {use: simple_grad, at: T}, weights: [3]}
  - {manipulation: top_k, against: grad_cam, weights: [1]}
  - {manipulation: top_k, against: {use: simple_grad, at: T}, weights: [1]}
interpreters: [grad_cam, constant]
metrics: [spearman, pearson, mse]
images: 12
chunk: 8
draws: 1
judged: 40
aopc_images: 0
gates: {accuracy_drop: 1, agreement_drop: 1, fooled: 1, silent: 1}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The suite's file and a store in which its VGG settings are built and scored."""
    root = tmp_path_factory.mktemp("two")
    file = root / "two.yaml"
    file.write_text(TWO_SEEDS)
    suite = suites.load(file)
    suite = replace(suite, architectures=suite.architectures[1:])
    runner.run(suite, options=runner.Options(store=root / "store", out=root / "runs"))
    return file, root / "store"


def check(file, store):
    return CliRunner().invoke(main, ["build", str(file), "--check", "--store", str(store)])


def files(store):
    return {p.relative_to(store): p.stat().st_mtime_ns for p in store.rglob("*")}


def test_the_same_machine_makes_the_same_networks(built):
    file, store = built
    before = files(store)
    done = check(file, store)
    assert done.exit_code == 0, done.output
    assert files(store) == before, "nothing is written beside what was built, and nothing is left"
    lines = done.stdout.splitlines()
    assert lines[0] == "vgg-0, fitted and fooled again"
    assert "5 of 5 networks are the recorded ones to the last bit" in lines
    assert "all 17 figures are within" in lines
    assert "the standard deviation between 2 seeds" in done.stdout
    named = {line.split("  ")[0] for line in lines[2:-4]}
    assert named == {"location:grad_cam", "top_k:grad_cam", "location:simple_grad(at=T)"}
    assert {line.split()[-2] for line in lines[2:-4]} == {"+0.0000"}
    assert sum("stability of grad_cam" in line for line in lines) == 2, "nobody else whom a cell attacks is asked"


def test_a_figure_that_was_another_fails(built, tmp_path):
    """Agreement recorded as half a unit off: three errors of 100 images are 0.15 at most, and here is but one seed."""
    _, store = built
    shutil.copytree(store, tmp_path / "store")
    file = tmp_path / "one.yaml"
    file.write_text(TWO_SEEDS.replace("[0, 1]", "[0]"))
    suite = suites.load(file)
    setting = suite.settings()[1]
    changed = Store(tmp_path / "store")
    key = setting.certificate_key(suite.cells[0])
    path = changed.find("certificates", key)
    said = json.loads(path.read_text())
    said["kept"]["agreement"] = abs(said["kept"]["agreement"] - 0.5)
    path.unlink()
    changed.put("certificates", key, ".json", lambda p: write_json(p, said))
    done = check(file, tmp_path / "store")
    assert done.exit_code == 1, done.output
    (line,) = (line for line in done.stdout.splitlines() if line.endswith("  differs"))
    assert line.startswith("location:grad_cam")
    assert "agreement" in line
    # the two stabilities are left out: the rows were of a suite with another independent network
    assert done.stdout.splitlines()[-1] == "1 of 15 figures differ by more"


def test_what_was_never_built(built, tmp_path):
    done = check(built[0], tmp_path / "empty")
    assert done.exit_code == 5
    assert done.stderr.strip() == "unfooled: two: vgg-0 is not built; `unfooled build` makes what --check compares with"
    assert not list((tmp_path / "empty").iterdir())


def test_two_places_are_no_place(built, tmp_path):
    done = CliRunner().invoke(main, ["build", str(built[0]), "--check", "--into", str(tmp_path)])
    assert done.exit_code == 2
    assert "leave --into out" in done.output


@pytest.mark.parametrize(
    ("suite", "wanted"),
    [
        ("smoke", ["location:grad_cam", "location:simple_grad(at=T)"]),
        ("standard", ["location:lrp(at=T)", "top_k:lrp(at=T)", "centre_mass:lrp(at=T)"]),
    ],
)
def test_which_cells(suite, wanted):
    assert [c.name for c in rebuilding.chosen_cells(suites.load(suite))] == wanted


@pytest.mark.parametrize(
    ("rebuilt", "between_seeds", "least", "within"),
    [
        (0.62, 0.04, 0.01, True),
        (0.63, 0.04, 0.01, False),
        (0.62, 0.01, 0.04, True),
        (0.62, math.nan, 0.04, True),
        (0.63, math.nan, 0.04, False),
        (0.5, 0.0, 0.0, True),
        (math.nan, 0.04, 0.04, False),
    ],
)
def test_three_times_the_larger_of_two(rebuilt, between_seeds, least, within):
    assert Line("cell", "accuracy", 0.5, rebuilt, between_seeds, least).within is within


def test_deviations():
    assert rebuilding.between_seeds([0.2, 0.5], 0.8, 0.8) == pytest.approx(0.3)
    assert rebuilding.between_seeds([0.2, 0.5], 0.8, 40) == pytest.approx(0.3)
    assert rebuilding.between_seeds([0.2, 0.5], 40, 0.8) == pytest.approx(0.3)
    assert math.isnan(rebuilding.between_seeds([], 0.2, 0.3))
    told = {"rates": {"not_silent": 0.9, "null": 0.75}, "kept": {"agreement": 1.0, "divergence": 0.3}}
    share = 91 / 102  # 90 of 100, one of each kind added
    error = math.sqrt(share * (1 - share) / 100)
    assert rebuilding.least_deviation(told, "corrected rate", 100) == pytest.approx(4 * error)
    assert rebuilding.least_deviation(told, "agreement", 100) == pytest.approx(math.sqrt(101 / 102 / 102 / 100))
    assert rebuilding.least_deviation(told, "KL", 100) == pytest.approx(0.03)


def test_one_seed_is_said():
    found = Outcome("vgg-0", 1, (Line("cell", "KL", 0.5, 0.56, math.nan, 0.05),), 0, 3, ("lrp",))
    said = rebuilding.as_text(found)
    assert "with one seed no deviation between seeds is recorded" in said
    assert "+0.0600   0.1500" in said
    assert "stability of lrp: not compared" in said
    assert not found.failed


def test_stability_is_the_tables(built):
    """Of one cell in one setting it is what the ranking prints for a run of that cell."""
    file, store = built
    suite = suites.load(file)
    suite = replace(suite, architectures=(replace(suite.architectures[1], seeds=(0,)),), cells=suite.cells[:1])
    run = runner.run(suite, options=runner.Options(store=store, out=file.parent / "runs"))
    rows = run.rows[(run.rows["interpreter"] == "grad_cam").to_numpy()]
    own = Stability.of(rows, "location:grad_cam", "input", "absolute")
    table = ranking.scores(run.rows, run.header).set_index("interpreter")
    assert own.metrics == ["pearson", "spearman"], "the range of mse is too small in so small a suite"
    assert own.value == pytest.approx(table.loc["grad_cam", "attacked"])
    assert 0 < own.error < 1
