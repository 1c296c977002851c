"""The adaptive track on a tiny suite: its rows stand beside the others and change none of them."""

import dataclasses
import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from unfooled import adaptive, building, cli, gathering, plugins, runner, searching
from unfooled import suite as suites
from unfooled.baselines.gradients import InputXGradient, IntegratedGradients, SimpleGrad
from unfooled.baselines.perturbation import RISE, MeaningfulPerturbation
from unfooled.baselines.smoothing import BetaSmoothing, SmoothGrad
from unfooled.leaderboard import ranking, stability
from unfooled.models import vgg
from unfooled.types import Part

SUITE = """
name: tiny
version: 1
dataset: {use: scenes, train: 64, tune: 24, test: 48}
architectures:
  - {name: vgg, model: vgg, fit: {steps: 30, batch: 16}, recipe: {steps: 2, batch: 8}}
  - {name: resnet, model: resnet, fit: {steps: 30, batch: 16}, recipe: {steps: 1, batch: 8}}
cells:
  - {manipulation: location, against: grad_cam, weights: [10]}
interpreters: [grad_cam, constant]
metrics: [spearman, mse]
images: 4
chunk: 3
draws: 1
judged: 8
aopc_images: 0
gates: {accuracy_drop: 1, agreement_drop: 1}
"""
ATTACKED = (Part("grad_cam"), Part("smoothgrad", {"samples": 5}), Part("test_adaptive:opaque"), Part("constant"))
COMMON = [
    "transfer",
    "attacked",
    "metrics_counted",
    "raw_fooled",
    "raw_honest",
    "coverage",
    "missing",
    "reason",
    "rank",
]


def opaque(model, inputs, targets):
    """Takes no create_graph, so only queries are left."""
    return InputXGradient()(model, inputs, targets).numpy()


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE)
    return suites.load(path)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return runner.Options(store=tmp_path_factory.mktemp("store"), out=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def plain(suite, options):
    return runner.run(suite, ATTACKED, options)


@pytest.fixture(scope="module")
def attacked(suite, options, plain):
    return runner.run(suite, ATTACKED, options, extent="quick")


def of_cells(run, which):
    about = run.header["cells"]
    return run.rows[[bool(c) and which(about[c]) for c in run.rows["cell"].astype(str)]]


def test_every_attacked_interpreter_has_its_own_cells_and_nobody_else_has_rows_there(attacked):
    rows = of_cells(attacked, lambda cell: "adaptive_for" in cell)
    assert attacked.header["adaptive"]["failures"] == []
    assert set(rows["twin"].astype(str)) == {"fooled"}
    assert set(rows["split"].astype(str)) == {"test"}
    found = {(str(c), str(i)) for c, i in zip(rows["cell"], rows["interpreter"], strict=True)}
    labels = [p.label for p in ATTACKED if p.use != "constant"]
    assert found == {(f"adaptive:{m}:{label}", label) for m in ("location", "top_k") for label in labels}
    for cell, label in found:
        about = attacked.header["cells"][cell]
        assert (about["adaptive_for"], about["against"]) == (label, label)
        assert set(about["certificates"]) == {"vgg-0"}, "the quick track fools the VGG alone"


def test_the_other_rows_and_all_columns_but_adaptive_are_as_without_it(plain, attacked):
    about = attacked.header["cells"]
    common = attacked.rows[["adaptive_for" not in about.get(c, {}) for c in attacked.rows["cell"].astype(str)]]
    texts = {c: str for c in common.columns if isinstance(common[c].dtype, pd.CategoricalDtype)}
    pd.testing.assert_frame_equal(common.astype(texts).reset_index(drop=True), plain.rows.astype(texts))
    tables = [ranking.scores(r.rows, r.header).set_index("interpreter") for r in (plain, attacked)]
    pd.testing.assert_frame_equal(tables[1].loc[tables[0].index, COMMON], tables[0][COMMON])
    for key in ("suite", "settings", "roots", "interpreters", "failures"):
        assert attacked.header[key] == plain.header[key]
    assert attacked.header["adaptive"] == {"extent": "quick", "failures": []}
    assert attacked.folder != plain.folder


def test_the_adaptive_column_counts_them_for_their_own_interpreter_alone(attacked):
    what = stability.study(attacked.rows, attacked.header, "absolute", "input")
    member = stability.columns(what)
    for c, name in enumerate(what.cells):
        mine = what.cell(name).get("adaptive_for")
        assert [i for i, yes in zip(what.interpreters, member["adaptive"][c], strict=True) if yes] == (
            [mine] if mine else []
        )


def test_certificates_say_by_what_means_and_what_was_kept(attacked, suite):
    said = {
        about["against"]: about["certificates"]["vgg-0"]
        for name, about in attacked.header["cells"].items()
        if name.startswith("adaptive:location")
    }
    steps = suite.architectures[0].recipe.steps
    assert said["grad_cam"]["attack"] == said["smoothgrad(samples=5)"]["attack"] == "gradient"
    assert said["test_adaptive:opaque"]["attack"] == f"gradient-free, {8 * steps} queries"
    for certificate in said.values():
        assert {"kept", "rates", "honest", "status", "tries", "recipe"} <= set(certificate)
        json.dumps(certificate, allow_nan=False)


def test_the_suites_own_twin_is_taken_where_it_attacks_the_very_same(suite, options, attacked):
    """location against grad_cam is a cell of the suite: no second network of it, and the same similarities."""
    setting = suite.settings()[0]
    (cell, other) = adaptive.cells(suite, Part("grad_cam"), "quick")
    assert adaptive.key(setting, cell) == setting.fooled_key(suite.cells[0])
    assert other.weights == (10.0, 30.0), "top_k is not in the suite: twice and six times its own weight"
    mine = attacked.rows[(attacked.rows["interpreter"] == "grad_cam") & (attacked.rows["setting"] == "vgg-0")]
    values = [mine[mine["cell"] == name]["value"].to_numpy() for name in ("location:grad_cam", adaptive.name_of(cell))]
    assert len(values[0])
    assert values[0].tolist() == pytest.approx(values[1].tolist(), nan_ok=True)


def test_what_is_finished_is_found_again(suite, options, attacked, monkeypatch):
    def search(*_):
        raise AssertionError("a twin was made again")

    monkeypatch.setattr(searching, "search", search)
    again = runner.run(suite, ATTACKED, options, extent="quick")
    assert again.header["adaptive"]["failures"] == []
    assert len(again.rows) == len(attacked.rows)
    store = runner.open_store(options, suite)
    setting, part = suite.settings()[0], ATTACKED[1]
    rows = store.find("rows", adaptive.rows_key(setting, part, "quick", gathering.unit_key(setting, part, store)))
    rows.unlink()  # a run cut off after its twins were made: they are asked about, not made
    runner.run(suite, ATTACKED, options, extent="quick")
    assert rows.exists()


def test_images_are_chosen_without_the_adaptive_twins(suite, options, attacked):
    store = runner.open_store(options, suite)
    assert len(building.images(suite.settings()[0], store)[0]) == attacked.header["settings"]["vgg-0"]["images"]["test"]
    assert len(list((store.root / "images").iterdir())) == len(suite.settings())


def test_a_failing_attack_is_told_and_takes_nothing_with_it(suite, options, plain, monkeypatch):
    def search(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(searching, "search", search)
    part = Part("input_x_gradient")
    failed = runner.run(suite, (part,), options, extent="quick")
    (failure,) = failed.header["adaptive"]["failures"]
    assert failure["interpreter"] == part.label
    assert "out of luck" in failure["reason"]
    assert failed.header["failures"] == []
    assert part.label not in {c.get("adaptive_for") for c in failed.header["cells"].values()}


def test_full_is_every_passive_manipulation_on_every_setting(suite):
    cells = adaptive.cells(suite, Part("simple_grad"), "full")
    assert [c.manipulation.use for c in cells] == ["location", "top_k", "centre_mass"]
    assert [s.name for s in adaptive.settings(suite, "full")] == ["vgg-0", "resnet-0"]
    only = dataclasses.replace(suite, architectures=suite.architectures[1:])
    assert [s.name for s in adaptive.settings(only, "quick")] == ["resnet-0"]


@pytest.mark.parametrize(
    "canary", ["constant", "centre_blob", "brightness", "sobel", "gated_edges", "random_map", "memoiser"]
)
def test_a_canary_has_nothing_to_attack(suite, canary):
    assert adaptive.cells(suite, Part(canary), "full") == []


def test_lightened_reaches_what_is_wrapped_and_leaves_small_numbers():
    heavy = SmoothGrad(of=BetaSmoothing(of=IntegratedGradients(steps=32)), samples=16)
    light = adaptive.lightened(heavy, 4)
    assert (light.samples, light.of.of.steps) == (4, 4)
    assert adaptive.lightened(RISE(masks=3), 4) == RISE(masks=3)
    assert adaptive.lightened(opaque, 4) is opaque
    assert (heavy.samples, heavy.of.of.steps) == (16, 32)


@pytest.mark.parametrize(
    ("interpreter", "expected"),
    [
        (SimpleGrad(), True),
        (SmoothGrad(of=BetaSmoothing(of=SimpleGrad()), samples=2), True),
        (SmoothGrad(of=MeaningfulPerturbation(steps=1), samples=2), False),
        (MeaningfulPerturbation(steps=1), False),
        (opaque, False),
        (plugins.build("interpreters", Part("constant")), False),
    ],
)
def test_whether_a_map_carries_a_graph_is_tried_and_not_believed(interpreter, expected):
    model = vgg(4).eval().requires_grad_(False)
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    assert adaptive.differentiable(interpreter, model, images, labels) is expected
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("words", "extent"), [(["--adaptive"], "quick"), (["--adaptive=full"], "full"), ([], None)])
def test_the_option_has_a_value_of_its_own(words, extent, monkeypatch):
    asked = []

    def run(suite, interpreters, options, progress, extent):
        asked.append(extent)
        raise runner.UnfooledError("enough")

    monkeypatch.setattr(runner, "run", run)
    result = CliRunner().invoke(cli.main, ["run", "smoke", *words, "--jobs", "1"])
    assert (result.exit_code, asked) == (2, [extent])


def test_what_is_known_of_the_suites_own_stands_beside_a_new_one(suite, options, attacked):
    new = Part("smoothgrad", {"samples": 5})
    assert runner.run(suite, (new,), options, extent="quick").header["cells"].keys() >= {
        "adaptive:location:smoothgrad(samples=5)",
        "adaptive:top_k:grad_cam",
    }


def test_nobody_else_is_attacked_for_a_new_one(suite, options, attacked, tmp_path):
    elsewhere = dataclasses.replace(options, store=tmp_path / "store")
    shutil.copytree(options.store, elsewhere.store)
    for file in (elsewhere.store / "rows").iterdir():
        if any(
            str(c).startswith("adaptive:") for c in pq.ParquetFile(file).read(["cell"]).to_pandas()["cell"].unique()
        ):
            file.unlink()
    made = runner.run(suite, (Part("smoothgrad", {"samples": 5}),), elsewhere, extent="quick")
    known = {cell["adaptive_for"] for cell in made.header["cells"].values() if "adaptive_for" in cell}
    assert known == {"smoothgrad(samples=5)"}
