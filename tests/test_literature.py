"""Claims of the literature held against runs whose truth was planted: verdicts, intervals, the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import synthetic_run
from click.testing import CliRunner
from scipy import stats
from synthetic_rows import CANARIES, Truth, World

from unfooled import intervals
from unfooled.leaderboard import carryover, claims, heo, literature, markdown, publication
from unfooled.leaderboard.claims import Estimate, Finding, condition
from unfooled.leaderboard.evidence import Evidence

BATTERY = (
    Truth("simple_grad", "gradients", 0.6, attacked=0.3),
    Truth("smoothgrad(samples=16)", "gradients", 0.9, attacked=0.6),
    Truth("guided_backprop", "propagation", 0.8),
    Truth("grad_cam", "activations", 0.4),
)
QUIET = World(
    (*BATTERY, *CANARIES), images=10, metrics=("mse", "hog", "ssim"), own_sd=0.02, cell_sd=0.02, image_sd=0.05
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A world → its run, saved once."""
    runs = {}

    def make(world):
        if (key := repr(world)) not in runs:
            runs[key] = synthetic_run.write(tmp_path_factory.mktemp("run"), world, gallery=False)
        return runs[key]

    return make


def evidence(run, **header):
    return Evidence(replace(run, header={**run.header, **header}))


def with_certificates(run, change):
    """The run with every certificate passed through ``change(certificate, cell)``."""
    cells = {
        name: {**cell, "certificates": {s: change(dict(c), cell) for s, c in cell["certificates"].items()}}
        for name, cell in run.header["cells"].items()
    }
    return evidence(run, cells=cells)


def states(finding):
    return [c.state for c in finding.conditions]


# -- verdicts --------------------------------------------------------------------------------------------------------


def exactly(low, high):
    return Estimate((low + high) / 2, low, high, 9)


@pytest.mark.parametrize(
    ("side", "estimates", "state"),
    [
        (">", [(0.6, 0.8)], "holds"),
        (">", [(0.2, 0.4)], "fails"),
        (">", [(0.4, 0.6)], "open"),
        (">", [(0.5, 0.5)], "open"),
        ("<", [(0.6, 0.8)], "fails"),
        ("<", [(0.2, 0.4)], "holds"),
        (">", [(0.6, 0.8), (0.2, 0.4)], "open"),
        (">", [(0.6, 0.8), (np.nan, np.nan)], "holds"),
        (">", [(np.nan, np.nan)], "undefined"),
        (">", [], "undefined"),
    ],
)
def test_a_condition_holds_where_the_whole_interval_does(side, estimates, state):
    assert condition("", side, 0.5, *(exactly(*e) for e in estimates)).state == state


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([(0.6, 0.8), (0.6, 0.7)], "confirmed"),
        ([(0.6, 0.8), (np.nan, np.nan)], "confirmed"),
        ([(0.6, 0.8), (0.2, 0.3)], "qualified"),
        ([(0.4, 0.8), (0.6, 0.7)], "qualified"),
        ([(0.2, 0.4), (0.6, 0.7)], "contradicted"),
        ([(np.nan, np.nan), (0.6, 0.7)], "not testable"),
        ([], "not testable"),
    ],
)
def test_the_first_condition_is_the_claims_heart(ends, verdict):
    conditions = tuple(condition("", ">", 0.5, exactly(*e)) for e in ends)
    assert Finding("", "", "", conditions).verdict == verdict


def test_means_over_settings_are_students():
    values = np.random.default_rng(0).normal(0.3, 0.1, 9)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = claims.over_settings([*values, np.nan, None])
    assert (found.low, found.high, found.n) == pytest.approx((*wanted, 9))
    assert np.isnan(claims.over_settings([0.3]).low)
    assert claims.over_settings([]).n == 0


def test_differences_are_paired_t_tests_of_means():
    """With equal denominators the jackknife over units is the t test over their means."""
    values = np.random.default_rng(1).normal([0.5, 0.6, 0.9], 0.1, (9, 3))
    spread = intervals.jackknife(values[:, :, None], np.ones((9, 3, 1)), np.ones((3, 1), bool))
    wanted = stats.ttest_rel(values[:, 2], values[:, :2].mean(1))
    found = claims.difference(spread, 2, np.array([0, 1]))
    assert (found.value, found.p, found.n) == pytest.approx(
        ((values[:, 2] - values[:, :2].mean(1)).mean(), wanted.pvalue, 9)
    )
    assert (found.low, found.high) == pytest.approx(wanted.confidence_interval(0.95))
    assert claims.of(spread, 1).value == pytest.approx(values[:, 1].mean())
    assert np.isnan(claims.of(spread, np.array([], int)).value)


# -- Heo, Joo and Moon, planted ----------------------------------------------------------------------------------------


def planted(first, second):
    return replace(QUIET, truths=(replace(BATTERY[0], **first), replace(BATTERY[1], **second), *BATTERY[2:]))


def test_a_planted_resistance_of_smoothgrad_is_confirmed(made):
    finding = heo.smoothing(Evidence(made(QUIET)))
    assert finding.verdict == "confirmed"
    assert states(finding) == ["holds", "holds", "holds", "undefined"]  # nobody was attacked adaptively
    assert finding.main.low < 0.3 < finding.main.high  # both columns were planted 0.3 apart
    assert finding.main.p < 1e-3


def test_no_difference_is_not_confirmed_and_its_opposite_contradicted(made):
    same = {"transfer": 0.7, "attacked": 0.4}
    assert heo.smoothing(Evidence(made(planted(same, same)))).verdict == "qualified"
    turned = heo.smoothing(Evidence(made(planted(same, {"transfer": 0.4, "attacked": 0.2}))))
    assert turned.verdict == "contradicted"


def test_models_fooled_against_each_are_a_condition_of_their_own(made):
    attacked = {"simple_grad|location": 0.1, "smoothgrad(samples=16)|location": 0.5}
    finding = heo.smoothing(Evidence(made(replace(QUIET, adaptive=attacked))))
    assert states(finding) == ["holds"] * 4
    assert finding.conditions[3].estimates[0].value == pytest.approx(0.4, abs=0.1)  # 9 settings of sd 0.02 and images


def test_what_was_fooled_is_counted(made):
    finding = heo.fooled(Evidence(made(QUIET)))
    # Every fourth of nine cells was resisted; the others' 0.93 is (0.93 − 0.1) / 0.9 beyond chance.
    assert (finding.numbers["attempts"], finding.numbers["fooled"]) == (81, 63)
    assert [n for _, n, _ in finding.numbers["resisted"]] == [9, 9]
    assert finding.main.value == pytest.approx((7 * 0.83 + 2 * 0.21) / 8.1)
    assert states(finding) == ["holds", "open", "holds"]
    assert finding.verdict == "qualified"


def test_fooling_everyone_is_confirmed_and_nobody_contradicted(made):
    everyone = with_certificates(made(QUIET), lambda _, cell: synthetic_run.certificate(True, cell["against"], []))
    nobody = with_certificates(made(QUIET), lambda _, cell: synthetic_run.certificate(False, cell["against"], []))
    assert heo.fooled(everyone).verdict == "confirmed"
    assert heo.fooled(nobody).verdict == "contradicted"
    assert heo.generalises(nobody).verdict == "not testable"


def test_accuracy_that_is_lost_qualifies(made):
    def lame(certificate, cell):
        fooled = synthetic_run.certificate(True, cell["against"], [])
        return fooled | {"kept": fooled["kept"] | {"accuracy": 0.95}}  # the honest twin's is 0.99

    finding = heo.fooled(with_certificates(made(QUIET), lame))
    assert states(finding) == ["holds", "holds", "fails"]
    assert finding.numbers["largest_loss"] == pytest.approx(0.04)


@pytest.mark.parametrize(("tuned", "verdict"), [(0.93, "confirmed"), (1.0, "qualified")])
def test_a_step_from_tuning_to_test_images_is_seen(made, tuned, verdict):
    def searched(certificate, _):
        tries = [{"weight": 9.0, "corrected": 0.2}, {"weight": certificate["weight"], "corrected": tuned}]
        return certificate | {"tries": tries}

    finding = heo.generalises(with_certificates(made(QUIET), searched))
    assert finding.numbers["tuned"].value == pytest.approx(tuned)
    assert finding.verdict == verdict


def test_transfer_is_found_where_it_was_planted(made):
    finding = heo.transfers(Evidence(made(QUIET)))
    assert states(finding) == ["holds", "holds", "holds"]
    assert finding.main.low < (0.6 + 0.9 + 0.8 + 0.4) / 4 < finding.main.high
    assert finding.numbers["pairs"] == 4 * 6
    stable = replace(QUIET, truths=tuple(replace(t, transfer=1.15) for t in BATTERY))
    assert heo.transfers(Evidence(made(stable))).verdict == "contradicted"


def test_rates_below_chance_count_as_none(made):
    def worse(certificate, _):
        rates = certificate["transfer"]
        return certificate | {"transfer": {k: v | {"corrected": -3.0} for k, v in rates.items()}}

    finding = heo.transfers(with_certificates(made(QUIET), worse))
    assert finding.conditions[2].estimates[0].value == 0
    assert states(finding)[2] == "fails"


def test_deletion_tells_whether_the_network_still_looks(made):
    finding = heo.still_looks(Evidence(made(QUIET)))
    assert finding.verdict == "confirmed"
    end = 1 - np.exp(-32 / 12)  # of the planted curves; 8 and 2.5 high, 0.9 of the original's
    assert finding.main.value == pytest.approx(0.9 * 5.5 * end)
    assert finding.numbers["kept"].value == pytest.approx(0.9)

    def turned(certificate, _):
        curves = certificate["aopc"]
        swapped = {"fooled/original map": curves["fooled/random"], "fooled/random": curves["fooled/original map"]}
        return certificate | {"aopc": curves | swapped}

    finding = heo.still_looks(with_certificates(made(QUIET), turned))
    assert finding.verdict == "contradicted"
    assert len(finding.numbers["below"]) == 7  # the cells that were fooled
    assert not finding.numbers["beyond"]


# -- others, planted ---------------------------------------------------------------------------------------------------


def test_controls_are_what_was_planted(made):
    """Rows of a re-drawn top are planted at 0.4 between random and honest, those of another class at 0.5."""
    found = Evidence(made(QUIET))
    top, other = found.control("randomised_top"), found.control("wrong_class")
    assert top.value[found.ranked] == pytest.approx(0.4, abs=0.02)  # noise of 0.1 over 9 × 10 images × 3 metrics
    assert other.value[found.ranked] == pytest.approx(0.5, abs=0.02)
    assert np.isnan(top.value[found.study.interpreters.index("sobel")])  # which nothing can be told of
    assert literature.guided_is_blind(found).verdict == "contradicted"
    assert literature.gradient_sees(found).verdict == "confirmed"


def test_a_canary_among_the_ranked_is_told(made):
    assert literature.canaries(Evidence(made(QUIET))).verdict == "confirmed"
    cheat = Truth("brightness", "canary", 0.99, attacked=0.99)
    finding = literature.canaries(Evidence(made(replace(QUIET, truths=(*BATTERY, cheat)))))
    assert finding.verdict == "contradicted"
    assert "brightness" in finding.numbers["exposed"][0]


@pytest.mark.parametrize(("cam", "verdict"), [(0.95, "confirmed"), (0.5, "contradicted")])
def test_localisation_is_compared_by_setting(made, cam, verdict):
    places = {
        f"{s}/{name}": {"original/": {"pointing": value + k / 100, "mass": value}}
        for k, (s, _) in enumerate(QUIET.settings)
        for name, value in (("grad_cam", cam), ("simple_grad", 0.7))
    }
    finding = literature.cam_points(evidence(made(QUIET), localisation=places))
    assert finding.verdict == verdict
    assert finding.main.value == pytest.approx(cam - 0.7)


def test_what_a_run_lacks_is_not_testable(made):
    found = {f.key: f.verdict for f in literature.findings(Evidence(made(QUIET)))}
    assert found["integrated"] == found["beta"] == found["cam_points"] == "not testable"
    alone = Evidence(made(replace(QUIET, settings=(("vgg-0", "vgg"),))))
    assert {f.verdict for f in heo.findings(alone)} == {"not testable"}


# -- photographs -------------------------------------------------------------------------------------------------------


def test_rank_correlations_are_scipys():
    rng = np.random.default_rng(2)
    pairs = rng.integers(0, 5, (2, 20, 7)).astype(float)  # with ties
    for how, second in ((carryover.kendall, stats.kendalltau), (carryover.spearman, stats.spearmanr)):
        wanted = [second(a, b)[0] for a, b in zip(*pairs, strict=True)]
        assert how(*pairs) == pytest.approx(np.array(wanted), nan_ok=True)
    assert np.isnan(carryover.kendall(np.ones(4), np.arange(4.0)))


def elsewhere(*levels, **changes):
    """Another suite's world with these transfer stabilities."""
    truths = tuple(replace(t, transfer=level) for t, level in zip(BATTERY, levels, strict=True))
    settings = (("r20-0", "r20"), ("vgg-0", "vgg"), ("res-0", "res"))
    return replace(QUIET, truths=truths, settings=settings, **changes)


def test_a_ranking_that_carries_over_and_one_that_turns(made):
    same = carryover.carry_over(made(QUIET), made(elsewhere(0.5, 0.95, 0.75, 0.2)), resamples=500)
    assert same.interpreters == tuple(n for n in same.interpreters if n in {t.label for t in BATTERY})
    assert (same.tau.value, same.rho.value) == pytest.approx((1, 1))
    assert same.tau.low > 0.5
    assert carryover.finding(same).verdict == "confirmed"
    assert same.p == pytest.approx(2 / 24)  # of 4! orders the two extreme ones
    turned = carryover.carry_over(made(QUIET), made(elsewhere(0.75, 0.2, 0.5, 0.95)), resamples=500)
    assert turned.tau.value == pytest.approx(-1)
    assert carryover.finding(turned).verdict == "contradicted"


def test_interpreters_that_cannot_be_told_apart_carry_nothing_over(made):
    flat = elsewhere(0.6, 0.6, 0.6, 0.6)
    found = carryover.carry_over(made(QUIET), made(flat), resamples=500)
    assert found.tau.low < 0.5
    assert carryover.finding(found).verdict != "confirmed"


def test_only_common_cells_and_interpreters_count(made):
    fewer = elsewhere(0.5, 0.95, 0.75, 0.2, manipulations=("location",))
    found = carryover.carry_over(made(QUIET), made(fewer), resamples=50)
    assert set(found.cells) == {n for n, _, _ in fewer.cells()}
    two = replace(fewer, truths=fewer.truths[:2])
    nothing = carryover.carry_over(made(QUIET), made(two), resamples=50)
    assert len(nothing.interpreters) == 2
    assert carryover.finding(nothing).verdict == "not testable"


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(made, tmp_path_factory):
    """The command's page, and the folder that it wrote into."""
    folder = tmp_path_factory.mktemp("published")
    scenes, photographs = made(QUIET).folder, made(elsewhere(0.5, 0.95, 0.75, 0.2)).folder
    words = [str(scenes), "--photographs", str(photographs), "--docs", str(folder), "--reference", str(folder / "ref")]
    result = CliRunner().invoke(publication.main, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(result.output.split()) == sorted(str(p) for p in folder.rglob("*") if p.is_file())
    return (folder / "findings.md").read_text(encoding="utf-8"), folder


def test_the_page_says_what_was_found(published, made):
    page, _ = published
    found = Evidence(made(QUIET))
    for one in (*heo.findings(found), *literature.findings(found)):
        assert f"| {one.claim} | **{one.verdict}** | {markdown.interval(one.main)} |" in page
        assert f"### {one.claim.rstrip('.')}\n" in page
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", page)
    assert "scenes carries over to photographs. | **confirmed** | 1.00" in page


def test_its_tables_are_whole_and_its_pictures_there(published):
    page, folder = published
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    shown = re.findall(r"\]\((pictures/[^)]+)\)", page)
    assert len(shown) == 3
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in shown)


def test_what_is_kept_is_small_and_readable(published):
    _, folder = published
    files = list((folder / "ref").iterdir())
    assert sum(f.stat().st_size for f in files) < 2**20
    findings = json.loads((folder / "ref" / "synthetic-v1-findings.json").read_text(encoding="utf-8"))["findings"]
    smoothing = next(f for f in findings if f["key"] == "smoothing")
    assert smoothing["verdict"] == "confirmed"
    assert smoothing["conditions"][3]["estimates"][0]["value"] is None
    assert "interpreter" in (folder / "ref" / "synthetic-v1.csv").read_text(encoding="utf-8").splitlines()[0]


def test_words_from_outside_do_not_break_the_page(made):
    evil = Truth("x|y](z)\n# <b>", "gradients", 0.99)  # it wins, so the page speaks of it
    run = made(replace(QUIET, truths=(*BATTERY, evil)))
    found = Evidence(run)
    page = publication.page(found, publication.findings(found, None), None)
    assert "\n# <b>" not in page
    assert "x\\|y\\](z) # \\<b>" in page
    assert "`x|y](z) # <b>`" in page


def test_numbers_read_as_numbers():
    assert markdown.number(-0.001) == "0.00"
    assert markdown.number(-0.25) == "−0.25"
    assert markdown.number(float("nan")) == "–"
    assert markdown.interval(Estimate(0.003, -0.002, 0.008, 9)) == "0.003 [−0.002, 0.008]"
    assert markdown.interval(Estimate(0.5, 0.25, 0.75, 9, 0.0001)) == "0.50 [0.25, 0.75], p < 0.001"


def test_the_page_tells_of_models_fooled_against_the_interpreters_themselves(made):
    run = made(replace(QUIET, adaptive={"simple_grad|location": 0.1, "grad_cam|top_k": 0.5}))
    told = {"vgg-1": {"setting": "vgg-1", "status": "fooled", "attack": "gradient"},
            "vgg-2": {"setting": "vgg-2", "status": "resisted", "attack": "gradient-free, 12 queries"},
            "vgg-3": {"setting": "vgg-3", "status": "resisted", "attack": "gradient", "rates": {"null": 0.97}},
    }  # fmt: skip
    cells = {n: {**c, "certificates": told} if c.get("adaptive_for") else c for n, c in run.header["cells"].items()}
    found = Evidence(replace(run, header={**run.header, "cells": cells}))
    page = publication.page(found, publication.findings(found, None), None)
    section = page.partition("## Attacked themselves")[2].partition("\n## ")[0]
    assert "Here each of 2 is the target itself" in section
    assert "2 of 4 attempts on vgg-1, vgg-2, vgg-3 met" in section
    assert "2 more are left out of this count" in " ".join(section.split())
    first, second = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert re.match(
        r"\| simple\\_grad \| 0\.[01]\d \[.*\| location \| .*\| 1 of 2 \| gradient; gradient-free, 12 queries \|", first
    )
    assert re.match(r"\| grad\\_cam \| 0\.[45]\d \[.*\| top\\_k \| .*\| 1 of 2 \|", second)
    quiet = Evidence(made(QUIET))
    assert "Attacked themselves" not in publication.page(quiet, publication.findings(quiet, None), None)
