"""Entries: a run packed and unpacked, aggregates against the ranking, the published schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import entries
import jsonschema
import numpy as np
import pytest
import synthetic_rows as synthetic

from unfooled import plugins
from unfooled.leaderboard import baselines, names, parts, ranking, submission
from unfooled.leaderboard import entry as schema
from unfooled.leaderboard.submission import NotSubmittable
from unfooled.types import Part, UnknownPart

SCHEMA = Path(__file__).parents[1] / "leaderboard" / "schema.json"


@pytest.fixture(scope="module")
def made():
    return entries.run()


@pytest.fixture(scope="module")
def known():
    return entries.reference()


@pytest.fixture(scope="module")
def packed(made, known):
    return [entries.entry(made, label, known) for label in made.header["interpreters"]]


def test_the_published_schema_is_the_types():
    assert SCHEMA.read_text() == schema.schema()


def test_an_entry_satisfies_the_published_schema_by_another_validator(packed):
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    for one in packed:
        validator.validate(entries.plain(one))
    spoilt = entries.plain(packed[0]) | {"more": 1}
    assert not validator.is_valid(spoilt)


def test_an_entry_survives_its_file(packed, tmp_path):
    for one in packed:
        path = submission.write(one, tmp_path)
        assert path.name == f"synthetic-{one.name}.json"
        assert schema.Entry.model_validate(json.loads(path.read_bytes())) == one


def test_a_standard_sized_entry_is_small():
    """18 cells over nine settings and two splits: well under the checker's 200 KiB."""
    world = replace(entries.WORLD, manipulations=("location", "top_k", "centre_mass", "a", "b"), images=4)
    one = entries.entry(entries.run(world), "gradient", entries.reference(world))
    assert len(schema.as_json(one)) < 60 * 1024


@pytest.mark.parametrize("adaptive", [{}, {"gradient|location": 0.2, "gradient|top_k": 0.4, "cam|location": 0.1}])
def test_aggregates_of_the_parts_are_the_rankings_of_the_rows(adaptive):
    """Two ways to the same numbers; they differ by the rounding of the parts alone (see consistency.ROUNDING)."""
    world = replace(entries.WORLD, adaptive=adaptive, images=8)
    made, labels = entries.run(world, seed=1), ["gradient", "smooth", "cam", "lrp"]
    table = ranking.scores(made.rows, made.header).set_index("interpreter")
    alone = [_without_others(made, label) for label in labels]
    found = parts.aggregates(
        [entries.entry(r, n, entries.reference(world)) for r, n in zip(alone, labels, strict=True)]
    )
    for name in ("transfer", "attacked", "adaptive"):
        spread = getattr(found, name)
        for column, values in zip(("", "_low", "_high"), (spread.value, *spread.interval()), strict=True):
            np.testing.assert_allclose(values, table.loc[labels, name + column], atol=1e-4, err_msg=name + column)
    np.testing.assert_allclose(found.worst, table.loc[labels, "worst"], atol=1e-4)
    assert found.worst_cell == list(table.loc[labels, "worst_cell"])
    assert found.adaptive_worst == list(table.loc[labels, "adaptive_worst"])
    assert (found.counted.sum(1) == table.loc[labels, "metrics_counted"]).all()


def _without_others(made, label):
    """The run without the cells that were made against other interpreters alone."""
    cells = {n: f for n, f in made.header["cells"].items() if f.get("adaptive_for", label) == label}
    gone = set(made.header["cells"]) - set(cells)
    return replace(made, header={**made.header, "cells": cells}, rows=made.rows[~made.rows["cell"].isin(gone)])


def test_a_run_of_one_setting_can_be_packed():
    one = entries.entry(entries.run(entries.SINGLE), "gradient", entries.reference(entries.SINGLE))
    assert one.scores.transfer.low < one.scores.transfer.value < one.scores.transfer.high


def test_a_silent_canary_is_an_entry_without_scores(packed):
    constant = next(e for e in packed if e.name == "constant")
    assert constant.canary
    assert constant.scores.transfer.value is None
    assert constant.scores.coverage == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda h: h["suite"].update(digest="0" * 16), "another suite"),
        (
            lambda h: h["failures"].append({"setting": "vgg-1", "interpreter": "gradient", "reason": "boom"}),
            "failed in vgg-1",
        ),
        (lambda h: h["roots"].pop("vgg-0/gradient"), "no Merkle root in vgg-0"),
        (lambda h: h["interpreters"].pop("gradient"), "no rows of it"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_made(made, known, spoil, said):
    header = json.loads(json.dumps(made.header))
    spoil(header)
    with pytest.raises(NotSubmittable, match=said):
        entries.entry(replace(made, header=header), "gradient", known)


def test_everything_that_is_missing_is_said_at_once(made, known):
    rows = made.rows[~made.rows["setting"].isin(["vgg-1", "resnet-2"])]
    with pytest.raises(NotSubmittable, match=r"no rows in resnet-2.*no rows in vgg-1"):
        entries.entry(replace(made, rows=rows), "gradient", known)


def test_links_and_names_are_checked_before_anything_is_written(made, known):
    for code in ("http://example.org", "javascript:alert(1)", "https://user@example.org", "https://", "https://a b"):
        with pytest.raises(NotSubmittable, match=r"method\.code"):
            submission.from_run(made, "gradient", known, name="x", code=code)
    with pytest.raises(NotSubmittable, match="name: holds <"):
        submission.from_run(made, "gradient", known, name="<b>", code=entries.CODE)


def test_a_method_is_found_by_its_reference_or_its_label(made):
    assert submission.the_label(made, "mine:cam") == submission.the_label(made, "cam") == "cam"
    twice = {"cam(k=1)": {"use": "cam"}, "cam(k=2)": {"use": "cam"}}
    with pytest.raises(UnknownPart, match=r"asked 'cam' as cam\(k=1\) and as cam\(k=2\)"):
        submission.the_label(replace(made, header={"interpreters": twice}), "cam")
    with pytest.raises(UnknownPart, match="did not ask 'cma'; did you mean 'cam'"):
        submission.the_label(made, "cma")


def test_wrapped_interpreters_come_back_as_the_part_they_were():
    arguments = {"samples": 8, "of": {"use": "grad_cam", "arguments": {"k": 0.5}}}
    method = {"reference": "smoothgrad", "parameters": arguments, "family": "gradients", "at": "input", "signed": True,
              "stochastic": True, "code": entries.CODE, "fingerprint": "0" * 16}  # fmt: skip
    assert schema.Method.model_validate(method).part.label == "smoothgrad(of=grad_cam(k=0.5), samples=8)"


def test_every_interpreter_of_the_catalogue_has_a_name_of_its_own():
    assert set(baselines.KNOWN) == set(plugins.names("interpreters"))
    called = [name for name, _ in baselines.KNOWN.values()]
    assert [names.fault(name) for name in called] == [""] * len(called)
    assert len({names.skeleton(name) for name in called}) == len({names.slug(name) for name in called}) == len(called)
    gradient = Part("simple_grad", {"at": "T"})
    assert baselines.full_name(gradient) == "Gradient (at=T)"
    assert baselines.full_name(Part("beta_smoothing", {"of": Part("simple_grad")})) == "β-smoothing of Gradient"
    of = Part("smoothgrad", {"of": gradient, "samples": 8})
    assert baselines.full_name(of) == "SmoothGrad of Gradient (at=T) (samples=8)"


@pytest.fixture
def ours(made, known, monkeypatch):
    """The run as if some of its interpreters were the catalogue's."""
    uses = {"gradient": "simple_grad", "smooth": "smoothgrad", "sobel": "sobel"}
    facts = {n: f | {"use": uses.get(n, f["use"])} for n, f in made.header["interpreters"].items()}
    monkeypatch.setattr(submission, "the_reference", lambda run: known)
    return replace(made, header={**made.header, "interpreters": facts})


def test_the_catalogues_interpreters_of_a_run_become_entries_at_once(ours, tmp_path):
    paths = baselines.submit(ours, tmp_path, code=entries.CODE)
    assert sorted(p.name for p in paths) == [f"synthetic-{n}.json" for n in ("gradient", "smoothgrad", "sobel")]
    one = schema.Entry.model_validate(json.loads((tmp_path / "synthetic-gradient.json").read_bytes()))
    assert (one.name, one.method.reference, one.method.paper) == (
        "Gradient",
        "simple_grad",
        f"{baselines.ARXIV}1312.6034",
    )


def test_one_that_lacks_something_keeps_all_from_being_written(ours, tmp_path):
    failures = [
        {"setting": "vgg-1", "interpreter": "smooth", "reason": "boom"},
        {"setting": "vgg-0", "interpreter": "rise(masks=4)", "reason": "bang"},
        {"setting": "vgg-0", "interpreter": "mine:other", "reason": "nobody's business"},
    ]
    broken = replace(ours, header={**ours.header, "failures": failures})
    with pytest.raises(
        NotSubmittable, match=r"rise\(masks=4\): failed everywhere \(bang\); smooth.* failed in vgg-1"
    ) as said:
        baselines.submit(broken, tmp_path, code=entries.CODE)
    assert "business" not in str(said.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotSubmittable, match="none of the catalogue's"):
        baselines.submit(entries.run(), tmp_path, code=entries.CODE)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Grad-CAM", "Grad CAM"), ("Grad-CAM", "grad_cam"), ("Grad-CAM", "Gräd-CAM"), ("LRP", "LRΡ"),
        ("Input", "lnput"), ("Score-CAM", "Sc0re-CAM"), ("Kernel", "Kemel"), ("Input × Gradient", "Input x Gradient"),
        ("w", "vv"), ("K", "Κ"),
    ],
)  # fmt: skip
def test_look_alikes_share_a_skeleton(a, b):
    assert names.skeleton(a) == names.skeleton(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [("Grad-CAM", "Grad-CAM++"), ("e=0.1", "e=0.01"), ("e=1.5", "e=15"), ("LRP", "LRQ"), ("VarGrad", "SmoothGrad")],
)
def test_different_names_do_not(a, b):
    assert names.skeleton(a) != names.skeleton(b)


def test_our_own_names_are_names():
    for label in [*synthetic.SIX, "β-smoothing", "Grad-CAM++", "LRP (ε = 0.1)", "Integrated Gradients, 32 steps"]:
        assert names.fault(label) == ""
        assert set(names.slug(label)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert names.slug("β-smoothing (ε = 0.1)") == "beta-smoothing-epsilon-0-1"
    assert names.slug("Grad-CAM++") == "grad-cam-plus-plus"
