"""Two versions of an interpreter on the same twins: shares of images, p-values, verdicts, and how often they err."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_rows
from scipy import stats
from synthetic_rows import Truth, World

from unfooled.leaderboard import regression
from unfooled.leaderboard.paired import Side, paired, swap_p_value
from unfooled.leaderboard.regression import Version
from unfooled.leaderboard.verdicts import EVERYWHERE, Change, Comparison
from unfooled.records import Run
from unfooled.types import UnknownPart

SMOKE = World(
    truths=(Truth("gradient", "gradients", 0.8, 0.5), Truth("cam", "activations", 0.6, 0.2)),
    settings=(("vgg-0", "vgg"),),
    manipulations=("location",),
    against=("activations", "gradients"),
    images=64,
    noise_sd=0.1,
)
TWO = replace(SMOKE, settings=(("vgg-0", "vgg"), ("vgg-1", "vgg")))


def run(world: World = SMOKE, seed: int = 0) -> Run:
    header = synthetic_rows.header(world)
    for setting in header["settings"].values():
        setting["twins"] = "feed"
    return Run(synthetic_rows.rows(world, seed), header | {"versions": {"torch": "2.13.0"}}, Path("run"))


def changed(source: Run, change=lambda rows: rows, **header: object) -> Run:
    """A copy of a run with other rows, or another header."""
    return Run(change(source.rows.copy()), copy.deepcopy(source.header) | header, source.folder)


def marks(found: Comparison) -> dict[tuple[str, str], str]:
    return {(c.interpreter, c.cell): c.mark for c in found.changes}


def lowered(by: float, interpreter: str = "gradient", cells: str = "", spread: float = 1.0, seed: int = 1):
    """Lower the stability of an interpreter: every image loses its own amount, gamma-distributed with this spread."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        lost = np.random.default_rng(seed).gamma(1 / spread**2, spread**2, SMOKE.images)
        hit = (rows["interpreter"] == interpreter) & (rows["twin"] == "fooled") & rows["cell"].str.contains(cells)
        span = {t.label: t.span for t in SMOKE.truths}[interpreter]
        rows["value"] -= np.where(hit, by * span * lost[rows["image"]], 0).astype(np.float32)
        return rows

    return change


# The difference and its shares


def sides(rng: np.random.Generator, images: int, metrics: int = 6, shift: float = 0.0) -> Side:
    return Side(rng.normal(0.8 - shift, 0.4, (metrics, images)), rng.normal(1, 0.3, (metrics, images)))


def test_shares_sum_to_the_difference_whatever_the_sides():
    rng = np.random.default_rng(0)
    for counts in ((64,), (5, 30, 11)):
        before, after = ([sides(rng, n, shift=s) for n in counts] for s in (0, 0.3))
        pair = paired(before, after)
        ratio = [
            np.mean(sum(s.fooled.mean(1) for s in some) / sum(s.honest.mean(1) for s in some))
            for some in (before, after)
        ]
        assert (pair.before, pair.after) == pytest.approx(ratio, abs=1e-12)
        assert sum(s.sum() for s in pair.shares) == pytest.approx(ratio[1] - ratio[0], abs=1e-12)
        assert pair.images == sum(counts)


def test_with_fixed_denominators_it_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    ones = np.ones((1, 40))
    x, y = rng.normal(0.7, 0.2, (2, 1, 40))
    pair = paired([Side(x, ones)], [Side(y, ones)])
    reference = stats.ttest_rel(y[0], x[0])
    assert pair.difference / pair.error() == pytest.approx(reference.statistic)
    assert pair.interval() == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert pair.p_value() >= reference.pvalue
    assert pair.p_value() == pytest.approx(max(reference.pvalue, swap_p_value((y - x)[0])), rel=1e-9)


def test_the_error_is_that_of_resampled_images():
    """Against a joint bootstrap; 4,000 resamples know a standard deviation to 1.1 %, linearising costs some more."""
    rng = np.random.default_rng(2)
    n = 80
    before = sides(rng, n)
    after = Side(0.7 * before.fooled + rng.normal(0, 0.1, (6, n)), 1.5 * before.honest + rng.normal(0, 0.1, (6, n)))
    pair = paired([before], [after])
    drawn = rng.integers(0, n, (4000, n))

    def resampled(side: Side) -> np.ndarray:
        return (side.fooled[:, drawn].mean(-1) / side.honest[:, drawn].mean(-1)).mean(0)

    assert (resampled(after) - resampled(before)).std() == pytest.approx(pair.error(), rel=0.06)


def test_rescaling_a_metric_moves_nothing():
    rng = np.random.default_rng(3)
    before, after = sides(rng, 50), sides(rng, 50, shift=0.1)
    scaled = [Side(3 * s.fooled, 3 * s.honest) for s in (before, after)]
    one, other = paired([before], [after]), paired([scaled[0]], [scaled[1]])
    assert one.shares[0] == pytest.approx(other.shares[0], abs=1e-12)


def test_swapping_the_runs_turns_every_sign():
    rng = np.random.default_rng(4)
    before, after = sides(rng, 50), sides(rng, 50, shift=0.1)
    there, back = paired([before], [after]), paired([after], [before])
    assert there.shares[0] == pytest.approx(-back.shares[0], abs=1e-12)
    assert there.p_value() == pytest.approx(back.p_value())


def test_versions_that_never_differ_have_p_one():
    side = sides(np.random.default_rng(5), 20)
    pair = paired([side], [side])
    assert pair.difference == 0
    assert pair.p_value() == 1


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy", "shifted", "skewed"])
def test_swap_p_value_is_that_of_all_swaps(draw):
    """All 2^16 of them. The saddlepoint formula errs by a quarter of a small p at most; of a large one by more, where a
    few wild images decide."""
    rng = np.random.default_rng(6)
    n = 16
    draws = {
        "normal": lambda: rng.normal(0.3, 1, n),
        "standard_cauchy": lambda: rng.standard_cauchy(n),
        "shifted": lambda: rng.normal(1, 0.6, n),
        "skewed": lambda: rng.exponential(1, n) - 0.4,
    }
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    for _ in range(8):
        shares = draws[draw]()
        exact = (np.abs(signs @ shares) >= np.abs(shares.sum()) - 1e-12).mean()
        found = swap_p_value(shares)
        # A discrete p counts its own outcome whole, a continuous one half: they differ by a few outcomes' weight.
        assert found == pytest.approx(exact, rel=0.3, abs=4 * 2.0**-n) or min(exact, found) > 0.1


def test_swap_p_value_at_its_ends():
    assert swap_p_value(np.zeros(5)) == 1
    assert swap_p_value(np.array([1.0, -1.0])) == pytest.approx(1)
    assert swap_p_value(np.full(64, 0.1)) == 2.0**-63
    assert swap_p_value(np.array([0.3])) == 1
    assert 2.0**-63 <= swap_p_value(np.r_[np.ones(63), -1e-6]) < 1e-15


def test_one_wild_image_is_no_regression():
    """Student's t alone would take one image for a tendency only at its own weight; the swap test never does."""
    shares = np.zeros(64)
    shares[0] = -1
    assert swap_p_value(shares) == 1


# Verdicts


def test_a_run_against_itself_is_fine():
    found = regression.compare(run(), run())
    assert set(marks(found)) == {
        (i, c) for i in ("cam", "gradient") for c in (EVERYWHERE, "location:activations", "location:gradients")
    }
    assert {c.mark for c in found.changes} == {"~"}
    assert all(c.difference == 0 and c.p == 1 and c.images == 64 for c in found.changes)
    assert found.exit_code == 0
    assert found.sentence == "No regression. 6 not significant."


def test_a_drop_is_worse_and_its_size_is_right():
    found = regression.compare(run(), changed(run(), lowered(0.1)))
    assert marks(found) == {
        **{("gradient", c): "-" for c in (EVERYWHERE, "location:activations", "location:gradients")},
        **{("cam", c): "~" for c in (EVERYWHERE, "location:activations", "location:gradients")},
    }
    line = next(c for c in found.changes if c.interpreter == "gradient" and c.cell == EVERYWHERE)
    assert line.low < -0.1 < line.high
    lost = 0.1 * np.random.default_rng(1).gamma(1, 1, 64)
    assert line.high - line.low == pytest.approx(2 * stats.t.ppf(0.975, 63) * lost.std(ddof=1) / 8, rel=0.1)
    assert found.exit_code == 1
    assert found.sentence.startswith("An interpreter got worse. 3 worse, 3 not significant. Worst: gradient on ")


def test_a_rise_is_better_and_fails_only_where_any_change_does():
    better = changed(run(), lowered(-0.1))
    assert regression.compare(run(), better).exit_code == 0
    found = regression.compare(run(), better, fail_on="change")
    assert {c.mark for c in found.failed} == {"+"}
    assert found.exit_code == 1


def test_a_drop_in_one_cell_shows_in_that_cell():
    found = marks(regression.compare(run(), changed(run(), lowered(0.1, cells="activations"))))
    assert found["gradient", "location:activations"] == "-"
    assert found["gradient", "location:gradients"] == "~"
    assert found["gradient", EVERYWHERE] == "-"


def test_a_sure_but_trivial_drop_does_not_matter():
    found = regression.compare(run(), changed(run(), lowered(0.015, spread=0.3)))
    lines = [c for c in found.changes if c.interpreter == "gradient"]
    assert all(c.p < 1e-6 and c.mark == "~" for c in lines)
    assert regression.compare(run(), changed(run(), lowered(0.015, spread=0.3)), least=0.01).exit_code == 1


def test_other_suites_and_other_twins_are_not_comparable():
    other = changed(run(), suite={"name": "smoke", "version": 2, "digest": "ffff"})
    found = regression.compare(run(), other)
    assert {c.mark for c in found.changes} == {"x"}
    assert found.exit_code == 4
    assert "version 1 (0123) is not smoke version 2 (ffff)" in found.changes[0].note
    settings = {"vgg-0": {"twins": "beef"}}
    found = regression.compare(run(), changed(run(), settings=settings))
    assert found.exit_code == 4
    assert found.changes[0].note == "the fooled models are not the same files"


def test_settings_with_other_twins_are_left_out():
    base = run(TWO)
    settings = {**base.header["settings"], "vgg-1": {"twins": "beef"}}
    spoilt = changed(base, lambda rows: rows.assign(value=rows["value"].where(rows["setting"] != "vgg-1", 0)))
    found = regression.compare(base, changed(spoilt, settings=settings))
    assert {c.mark for c in found.changes} == {"~"}
    assert {c.images for c in found.changes} == {64}
    assert found.notes == ("left out, its fooled models are not the same files: vgg-1",)


def test_all_settings_together():
    found = regression.compare(run(TWO), changed(run(TWO), lowered(0.05)))
    assert {c.images for c in found.changes} == {128}
    assert {c.mark for c in found.changes if c.interpreter == "gradient"} == {"-"}


def failed(name: str) -> dict[str, object]:
    header = run().header
    return {
        "interpreters": {k: v for k, v in header["interpreters"].items() if k != name},
        "failures": [{"setting": "vgg-0", "interpreter": name, "reason": f"{name}: raised ValueError"}],
    }


def test_newly_failing_missing_fixed_and_new():
    broken = changed(run(), lambda rows: rows[rows["interpreter"] != "cam"], **failed("cam"))
    found = regression.compare(run(), broken)
    assert marks(found)["cam", EVERYWHERE] == "!"
    assert found.changes[0].note == "NEW: cam: raised ValueError"
    assert found.exit_code == 3
    assert marks(regression.compare(broken, run()))["cam", EVERYWHERE] == "*"
    assert regression.compare(broken, run()).exit_code == 0
    assert marks(regression.compare(broken, broken))["cam", EVERYWHERE] == "x"
    absent = changed(broken, failures=[])
    assert marks(regression.compare(run(), absent))["cam", EVERYWHERE] == "!"
    assert marks(regression.compare(absent, run()))["cam", EVERYWHERE] == "x"


def test_worse_goes_before_newly_failing():
    broken = changed(changed(run(), lowered(0.1)), lambda rows: rows[rows["interpreter"] != "cam"], **failed("cam"))
    assert regression.compare(run(), broken).exit_code == 1


def test_only_the_interpreters_asked_for():
    found = regression.compare(run(), changed(run(), lowered(0.1)), interpreters=["cam"])
    assert {c.interpreter for c in found.changes} == {"cam"}
    with pytest.raises(UnknownPart, match="neither run asked 'cam2'; did you mean 'cam'"):
        regression.compare(run(), run(), interpreters=["cam2"])


def test_maps_that_stop_saying_anything_are_worse():
    def silence(rows: pd.DataFrame) -> pd.DataFrame:
        hit = (rows["interpreter"] == "cam") & (rows["image"] < 20)
        return rows.assign(silent_original=hit, value=rows["value"].mask(hit))

    found = regression.compare(run(), changed(run(), silence))
    assert marks(found)["cam", EVERYWHERE] == "-"
    assert found.changes[0].note == "silent: its maps say something on 100% of the images before, on 69% now"
    assert found.exit_code == 1


def test_maps_that_stop_telling_the_model_are_worse_and_the_other_way_round_better():
    def blind(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(value=rows["value"].where(rows["interpreter"] != "cam", 0.9).astype(np.float32))

    found = regression.compare(run(), changed(run(), blind))
    assert marks(found)["cam", EVERYWHERE] == "-"
    assert "no longer tell the model from a random one" in found.changes[0].note
    assert marks(regression.compare(changed(run(), blind), run()))["cam", EVERYWHERE] == "+"
    both = regression.compare(changed(run(), blind), changed(run(), blind))
    assert marks(both)["cam", EVERYWHERE] == "x"


def test_a_metric_that_lost_its_range_is_left_out_by_name():
    def blind(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(value=rows["value"].where(rows["metric"] != "mse", 0.9).astype(np.float32))

    found = regression.compare(run(), changed(run(), blind))
    overall = [c for c in found.changes if c.cell == EVERYWHERE]
    assert all(c.note.endswith("; without mse: no longer tells the model from a random one") for c in overall)
    assert {c.images for c in found.changes} == {64}


def test_other_maps_of_the_same_stability_are_told_and_fail_only_where_any_change_does():
    def exchanged(rows: pd.DataFrame) -> pd.DataFrame:
        """Every similarity of one interpreter higher by the same: no stability moves."""
        return rows.assign(value=rows["value"] + np.float32(0.01) * (rows["interpreter"] == "cam"))

    found = regression.compare(run(), changed(run(), exchanged))
    line = next(c for c in found.changes if c.interpreter == "cam" and c.cell == EVERYWHERE)
    assert line.moved == pytest.approx(0.01, abs=1e-6)
    assert line.note == "its maps are not the same: similarities moved by 0.010 on average"
    assert abs(line.difference) < 1e-5
    assert found.exit_code == 0
    assert regression.compare(run(), changed(run(), exchanged), fail_on="change").failed == [line]


def test_other_versions_are_noted():
    found = regression.compare(run(), changed(run(), versions={"torch": "2.14.0"}))
    assert found.notes == ("torch 2.13.0 in BASE, 2.14.0 in NEW",)


def test_holm_over_all_lines():
    changes = [Change("~", "a", before=0.5, after=0.4, p=p) for p in (0.004, 0.002, 0.001)] + [Change("x", "b")]
    found = list(regression.judged(changes, 0.005, 0.02))
    assert [c.p for c in found[:3]] == pytest.approx([0.004, 0.004, 0.003])
    assert [c.mark for c in found] == ["-", "-", "-", "x"]
    assert [c.mark for c in regression.judged([*changes, changes[0]], 0.005, 0.02)] == ["~", "~", "-", "x", "~"]


def test_lines_where_nothing_differs_cost_the_others_nothing():
    sure, same = Change("~", "a", before=0.5, after=0.4, p=0.004), Change("~", "b", before=0.5, after=0.5, p=1.0)
    found = list(regression.judged([same, sure, same], 0.005, 0.02))
    assert [(c.mark, c.p) for c in found] == [("~", 1), ("-", 0.004), ("~", 1)]


# How often it errs


def noisy(source: Run, sd: float, seed: int, heavy: bool) -> Run:
    """The run as a stochastic interpreter would make it again: noise of all twins, alike in part over the metrics."""
    rng = np.random.default_rng(seed)

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        keys = (
            rows["twin"].astype(str) + rows["cell"].astype(str) + rows["draw"].astype(str) + rows["image"].astype(str)
        )
        place = pd.factorize(rows["interpreter"].astype(str) + keys)[0]
        draw = (lambda n: rng.standard_t(3, n) / np.sqrt(3)) if heavy else rng.standard_normal
        shared, own = draw(place.max() + 1)[place], draw(len(rows))
        return rows.assign(value=(rows["value"] + sd * (0.8 * shared + 0.6 * own)).astype(np.float32))

    return changed(source, change)


SD = 0.0268
"""of one similarity under another seed; the error of the difference it gives is held below to that of real maps"""


@pytest.fixture(scope="module", params=[False, True], ids=["normal", "heavy"])
def versions(request) -> list[list[Version]]:
    """21 runs of two stochastic interpreters under other seeds."""
    quiet = run(replace(SMOKE, noise_sd=0.05))
    runs = [noisy(quiet, SD, seed, request.param) for seed in range(21)]
    return [[Version.of(r, name, ("vgg-0",)) for name in ("cam", "gradient")] for r in runs]


def verdict(before: list[Version], after: list[Version]) -> Comparison:
    changes = [line for old, new in zip(before, after, strict=True) for line in regression.lines(old, new)]
    return Comparison(tuple(regression.judged(changes, regression.ALPHA, regression.LEAST_EFFECT)), 0.005, 0.02)


def test_at_most_two_percent_of_210_null_comparisons_fail(versions):
    found = [verdict(*pair) for pair in combinations(versions, 2)]
    assert len(found) == 210
    assert sum(f.exit_code != 0 for f in found) <= 4


def test_at_least_95_percent_of_drops_of_0_05_are_caught(versions, request):
    heavy = "heavy" in request.node.name
    quiet = run(replace(SMOKE, noise_sd=0.05))
    dropped = [noisy(changed(quiet, lowered(0.05, seed=s)), SD, 100 + s, heavy) for s in range(10)]
    found = [verdict([old[1]], [Version.of(new, "gradient", ("vgg-0",))]) for new in dropped for old in versions]
    assert np.mean([f.exit_code == 1 for f in found]) >= 0.95


def test_the_noise_is_as_large_as_on_real_maps(versions):
    """The error of the difference that two seeds of smoothgrad show on the smoke suite's maps (docs/ci.md)."""
    pairs = [old[1].pair_with(new[1], old[1].cells, old[1].counted) for old, new in combinations(versions[:5], 2)]
    assert np.mean([p.error() for p in pairs]) >= 0.0079
