"""The independent network: another seed's original, on the images that it predicts alike. Who looks at the prediction
alone keeps the whole range on it and is not ranked."""

from dataclasses import replace
from pathlib import Path

import entries
import numpy as np
import pytest
import strangers
import synthetic_rows as synthetic

from unfooled import asking, building, plugins, runner, suite, training
from unfooled.asking import questions
from unfooled.leaderboard import (
    checker,
    controls,
    multiverse,
    parts,
    ranking,
    recompute,
    reference,
    reveal,
    showing,
    spotcheck,
    submission,
    verify,
)
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.verified import Compared
from unfooled.store import Store
from unfooled.types import Part

SMALL = """
name: small
version: 1
dataset: {use: scenes, train: 1200, tune: 50, test: 80}
architectures: [{name: vgg, model: vgg, seeds: [0, 1], fit: {steps: 160, batch: 32, rate: 0.006}, recipe: {steps: 10}}]
cells: [{manipulation: location, against: grad_cam, weights: [5]}]
interpreters: ["strangers:gradient", sobel, gated_edges]
metrics: [spearman, top_k, ssim, pearson, hog, mse]
images: 12
chunk: 8
judged: 20
draws: 1
gates: {accuracy_drop: 1.0, agreement_drop: 1.0, fooled: 0.0}
"""
TRUTHS = (*synthetic.REAL, synthetic.Truth("gate", "other", 0.95, independent=1.0))
WORLD = synthetic.World(TRUTHS, own_sd=0.0, setting_sd=0.0, cell_sd=0.01, image_sd=0.02, noise_sd=0.01)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A suite of one architecture and two seeds that was fitted, fooled and run."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(SMALL)
    what, options = suite.load(folder / "small.yaml"), runner.Options(store=folder / "store", out=folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield what, Store(folder / "store"), runner.run(what, options=options)


def test_whose_original_is_independent():
    standard = {s.name: s for s in suite.load("standard").settings()}
    assert {name: s.other.name for name, s in standard.items() if name.startswith("vgg")} == {
        "vgg-1": "vgg-2", "vgg-2": "vgg-3", "vgg-3": "vgg-1"
    }  # fmt: skip
    assert standard["densenet-3"].other.name == "densenet-1"
    photographs = [(s.name, s.other.name) for s in suite.load("cifar10").settings()]
    assert photographs == [("resnet20-0", "vgg-0"), ("vgg-0", "resnet-0"), ("resnet-0", "resnet20-0")]
    assert [s.other for s in suite.load("smoke").settings()] == [None]


def test_it_is_asked_of_test_images_after_the_controls_and_before_the_twins(small):
    what, store, _ = small
    setting = what.settings()[0]
    twins = building.load_twins(setting, store, building.images(setting, store)[0])
    asked = [q.twin for q in questions(twins, "test", set())]
    assert asked[:5] == ["original", "self", "wrong_class", "independent", "honest"]
    assert "independent" not in [q.twin for q in questions(twins, "pairs", set())]


def test_its_rows_are_of_the_images_that_it_classifies_as_the_label(small):
    what, store, made = small
    for setting in what.settings():
        images = building.images(setting, store)[0]
        twins = building.load_twins(setting, store, images)
        network = next(t.model for t in twins if t.kind == "independent")
        original = building.load_twins(setting.other, store, images)[0].model
        assert all(a.equal(b) for a, b in zip(network.parameters(), original.parameters(), strict=True))
        right = (training.predict(network, images.images).argmax(1) == images.targets).nonzero()[:, 0].tolist()
        assert 0 < len(right) < len(images), "a test that cannot tell"
        rows = made.rows.query("twin == 'independent' and setting == @setting.name")
        for _, group in rows.groupby(["interpreter", "polarity", "metric"], observed=True):
            assert group["image"].tolist() == right


def test_a_gate_keeps_all_of_its_range_to_the_bit_and_a_gradient_does_not(small):
    rows, header = small[2].rows, small[2].header
    study = st.study(rows, header, "absolute", "input")
    kept = controls.control(study, "independent", np.ones((3, 6), bool)).value
    found = dict(zip(study.interpreters, kept, strict=True))
    assert found["gated_edges"] == 1
    assert found["strangers:gradient"] < 0.9
    blocks = [b for b in study.blocks if "independent" in b.controls]
    sobel = study.interpreters.index("sobel")
    assert all((b.controls["independent"][sobel][:, b.alike[sobel]] == 1).all() for b in blocks)


def test_its_maps_are_hashed_apart_and_can_be_shown(small):
    what, store, made = small
    setting = what.settings()[1]
    shown = showing.maps(setting, Part("strangers:gradient"), store)
    images = building.images(setting, store)[0]
    assert {split: some.shape[:2] for split, some in shown.items()} == {
        "test": (7, len(images)), "independent": (1, len(images))
    }  # fmt: skip
    assert reveal.root(shown, what.chunk) == made.header["roots"][f"{setting.name}/strangers:gradient"]
    shown["independent"][0, 0, 3, 3] ^= 1
    assert reveal.root(shown, what.chunk) != made.header["roots"][f"{setting.name}/strangers:gradient"]


def test_a_suite_without_other_settings_has_neither_rows_nor_a_second_root(small):
    what, store, _ = small
    setting = what.settings()[0]
    images = building.images(setting, store)[0]
    twins = [t for t in building.load_twins(setting, store, images) if t.kind != "independent"]
    metrics = {"mse": plugins.build("metrics", Part("mse"))}
    answer = asking.Interview("mine", strangers.gradient, metrics, setting, classes=8).rows(twins, images)
    assert answer.apart == ""
    assert "independent" not in set(answer.rows["twin"])


def test_an_entry_is_verified_on_it_and_an_edited_one_differs(small, tmp_path):
    what, store, made = small
    known = reference.of_suite(what, store)
    assert known.independent
    entry = submission.from_run(made, "strangers:gradient", known, name="gradient", code="https://example.org/a")
    file = submission.write(entry, tmp_path)
    options = verify.Options(cells=2, nonce="n", with_challenge=False)
    found = verify.verify(file, what, store, options, lambda text: None)
    assert found.outcome == "verified", found.reasons
    assert all(cell.independent.worst[0] <= 1 for cell in found.cells)
    for block in entry.parts:  # as if it told the two networks apart better than it does
        block.independent.independent[:] = [round(v - 0.1, 6) for v in block.independent.independent]
    scores = entries.aggregated(entry, parts.aggregates([entry]), 0)["scores"]
    file = submission.write(entry.model_copy(update={"scores": scores}), tmp_path)
    assert checker.check_entry(checker.check([file], {"small": known}).passed[0].entry, known) == []
    found = verify.verify(file, what, store, options, lambda text: None)
    assert found.outcome == "differs"
    assert all(cell.fooled.worst[0] <= 1 < cell.independent.worst[0] for cell in found.cells)


def test_what_is_kept_is_the_ratio_of_sums_over_shared_images_written_again():
    rows, header = synthetic.rows(WORLD, seed=3), synthetic.header(WORLD)
    study = st.study(rows, header, "absolute", "input")
    scored = np.ones((len(study.interpreters), len(study.metrics)), bool)
    found = controls.control(study, "independent", scored)
    shared = rows["image"] % synthetic.MISSED != 0
    means = rows[shared & (rows["split"] == "test")].groupby(
        ["interpreter", "metric", "setting", "twin"], observed=True
    )["value"].mean().unstack()  # fmt: skip
    top = (means["independent"] - means["randomised"]).groupby(level=[0, 1], observed=True).sum()
    bottom = (means["honest"] - means["randomised"]).groupby(level=[0, 1], observed=True).sum()
    wanted = (top / bottom).groupby(level=0, observed=True).mean()
    np.testing.assert_allclose(found.value, wanted.loc[list(study.interpreters)], rtol=1e-5)
    truths = {t.label: t.independent for t in TRUTHS}
    np.testing.assert_allclose(found.value, [truths[i] for i in study.interpreters], atol=0.01)


def test_controls_are_of_the_images_of_one_object():
    world = replace(WORLD, active=True)
    rows, header = synthetic.rows(world), synthetic.header(world)
    scored = np.ones((len(TRUTHS), 6), bool)
    before = controls.control(st.study(rows, header, "absolute", "input"), "randomised_top", scored).value
    pairs = (rows["split"] == "pairs") & (rows["twin"] == "randomised_top")
    spoilt = rows.assign(value=rows["value"].where(~pairs, 0.0))
    assert pairs.any()
    after = controls.control(st.study(spoilt, header, "absolute", "input"), "randomised_top", scored).value
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("kept", "ranked"), [(0.9, True), (0.97, True), (0.99, False), (1.0, False)])
def test_from_which_share_on_nobody_is_ranked(kept, ranked):
    world = replace(WORLD, truths=(*synthetic.REAL, synthetic.Truth("gate", "other", 0.95, independent=kept)))
    rows, header = synthetic.rows(world), synthetic.header(world)
    gate = ranking.scores(rows, header).set_index("interpreter").loc["gate"]
    assert gate["reason"].startswith("prediction alone: it keeps ") == (not ranked)
    assert (gate["rank"] == 1) == ranked
    assert gate["independent_low"] <= gate["independent"] <= gate["independent_high"]
    ranks = multiverse.multiverse(rows, header)
    assert ranks["gate"].notna().any() == ranked
    assert ranks["cam"].notna().all()


def test_where_no_such_network_was_asked_nothing_is_held_against_anyone():
    world = replace(WORLD, settings=WORLD.settings[:1])
    table = ranking.scores(synthetic.rows(world), synthetic.header(world))
    assert table["independent"].isna().all()
    assert (table["reason"] == "").all()
    assert controls.prediction_alone(None) == controls.prediction_alone(float("nan")) == ""


def test_an_entry_holds_it_and_its_aggregate_follows():
    made, known = entries.run(WORLD), entries.reference(WORLD)
    table = ranking.scores(made.rows, made.header).set_index("interpreter")
    packed = [entries.entry(made, label, known) for label in ("gradient", "gate")]
    for one in packed:
        block = next(b for b in one.parts if b.split == "test")
        assert block.independent.images == 90
        assert one.scores.independent.value == pytest.approx(table.loc[one.name, "independent"], abs=1e-6)
    assert [checker.unranked(one) for one in packed] == ["", table.loc["gate", "reason"]]
    np.testing.assert_allclose(
        parts.aggregates(packed).independent.value, table.loc[["gradient", "gate"], "independent"], atol=1e-4
    )


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (None, "independent", "is missing; every setting has another network in this suite"),
        ({"images": 3}, "independent.images", "is 3 of 100 valid ones; half of them at least is right"),
        ({"images": 101}, "independent.images", "is 101 of 100 valid ones; half of them at least is right"),
        ({"honest": [0.5]}, "independent.honest", "has 1 means for 6 metrics; one each is right"),
        ({"independent": [None] * 6}, "independent.independent", "has 6 nulls; a number for each metric is right"),
    ],
)
def test_an_entry_that_leaves_it_out_is_refused(change, where, what):
    known = entries.reference(WORLD)
    one = entries.entry(entries.run(WORLD), "gate", known)
    block = one.parts[0]
    spoilt = change and block.independent.model_copy(update=change)
    one = one.model_copy(update={"parts": [block.model_copy(update={"independent": spoilt}), *one.parts[1:]]})
    assert f"parts.{block.setting} test.{where}: {what}" in map(str, checker.check_entry(one, known))


def test_one_that_the_suite_does_not_have_is_refused():
    known = entries.reference(WORLD)
    one = entries.entry(entries.run(WORLD), "gate", known)
    found = checker.check_entry(one, replace(known, independent=False))
    assert "parts.densenet-0 test.independent: is not of this suite; leave it out" in map(str, found)


def test_an_aggregate_that_hides_the_gate_does_not_follow():
    known = entries.reference(WORLD)
    one = entries.entry(entries.run(WORLD), "gate", known)
    hidden = one.scores.independent.model_copy(update={"value": 0.8, "low": 0.7, "high": 0.9})
    one = one.model_copy(update={"scores": one.scores.model_copy(update={"independent": hidden})})
    (value, *_) = checker.check_entry(one, known)
    assert str(value).startswith("scores.independent.value: is 0.8; ")
    assert str(value).endswith(" follows from the parts")


def test_where_no_drawn_cell_lies_on_its_images_that_is_said():
    one = entries.entry(entries.run(WORLD), "gradient", entries.reference(WORLD))
    same = Compared(reported=[0.5], recomputed=[0.5], tolerance=[0.1])
    cell = spotcheck.Recomputed(setting="vgg-0", cell="c", fooled=same, honest=same, randomised=same)
    assert recompute._independent_unasked(one, [cell])
    assert not recompute._independent_unasked(one, [cell, cell.model_copy(update={"independent": same})])
    alone = [b.model_copy(update={"independent": None}) for b in one.parts]
    assert not recompute._independent_unasked(one.model_copy(update={"parts": alone}), [cell])
