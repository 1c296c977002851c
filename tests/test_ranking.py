"""From rows to ranks, on synthetic rows whose truth is known."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from synthetic_rows import CANARIES, REAL, SIX, Truth, World, header, rows

from unfooled import intervals, seeding
from unfooled.leaderboard import ranking
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.blocks import RowsError

WORLD = World(REAL + CANARIES, images=24, active=True, adaptive={"gradient|location": 0.0, "gradient|top_k": 0.3})
SMALL = World(REAL, settings=(("vgg-0", "vgg"), ("vgg-1", "vgg"), ("res-0", "res")), images=8, metrics=("mse", "hog"))
ONE = replace(SMALL, settings=(("vgg-0", "vgg"),), images=64)


@pytest.fixture(scope="module")
def run():
    return rows(WORLD), header(WORLD)


@pytest.fixture(scope="module")
def table(run):
    return ranking.scores(*run).set_index("interpreter")


def _reference(frame: pd.DataFrame, interpreter: str, cells: list[str]) -> float:
    """Stability written again, from pandas means: silent originals leave, other silent maps take the floor's value."""
    mine = frame[(frame["interpreter"] == interpreter) & ~frame["silent_original"]]
    key = ["setting", "split", "metric", "image"]
    floor = mine[mine["twin"] == "randomised"].groupby(key, observed=True)["value"].mean().rename("floor")
    mine = mine.join(floor, on=key)
    mine = mine.assign(value=mine["value"].astype(float).fillna(mine["floor"]))
    per_metric = []
    for metric in mine["metric"].unique():
        top = bottom = 0.0
        for setting in mine["setting"].unique():
            here = mine[(mine["metric"] == metric) & (mine["setting"] == setting)]
            for cell in cells:
                fooled = here[(here["twin"] == "fooled") & (here["cell"] == cell)]
                split = here[here["split"] == fooled["split"].iloc[0]]
                random = split[split["twin"] == "randomised"].groupby("draw")["value"].mean().mean()
                top += fooled["value"].mean() - random
                bottom += split[split["twin"] == "honest"]["value"].mean() - random
        per_metric.append(top / bottom)
    return float(np.mean(per_metric))


def test_scores_are_the_formula_written_again():
    noisy = (replace(REAL[0], silent=0.05, silent_fooled=0.2), *REAL[1:])
    world = replace(SMALL, truths=noisy, active=True)
    frame = rows(world)
    table = ranking.scores(frame, header(world)).set_index("interpreter")
    attacked = ["location:gradients", "top_k:gradients", "centre_mass:gradients", "active:gradients"]
    transfer = [name for name, family, _ in world.cells() if family != "gradients"]
    # values are float32: 1e-7 of a similarity, over a range of about 0.5
    assert table.loc["gradient", "attacked"] == pytest.approx(_reference(frame, "gradient", attacked), abs=1e-6)
    assert table.loc["gradient", "transfer"] == pytest.approx(_reference(frame, "gradient", transfer), abs=1e-6)


def test_the_truth_is_found(table):
    for truth in REAL:
        # per interpreter the settings' effects have a standard error of about 0.03, the images' of 0.02
        assert table.loc[truth.label, "transfer"] == pytest.approx(truth.transfer, abs=0.12)
        assert table.loc[truth.label, "attacked"] == pytest.approx(truth.attacked, abs=0.12)
    assert list(table.index[:4]) == ["smooth", "gradient", "cam", "lrp"]
    assert list(table["rank"][:4]) == [1, 2, 3, 4]


def test_canaries_are_listed_and_never_ranked(table):
    assert table.loc["sobel", "insensitive"]
    assert table.loc["sobel", "reason"] == "insensitive: 0 of 6 metrics tell the model from a random one"
    assert table.loc["constant", "coverage"] == 0
    assert table.loc["constant", "reason"].startswith("silent: its maps say something on 0% of the images")
    assert table.loc[["sobel", "constant"], ["rank", "transfer"]].isna().all(axis=None)
    assert ranking.canaries_exposed(table.reset_index()) == []


def test_a_canary_that_wins_is_named():
    world = replace(SMALL, truths=(*REAL, Truth("memoiser", "canary", 0.8)))
    found = ranking.canaries_exposed(ranking.scores(rows(world), header(world)))
    assert found == ["memoiser: a canary has rank 2 and 3 interpreters that look at the model are not above it"]


def test_a_canary_that_is_last_is_exposed():
    world = replace(SMALL, truths=(*REAL, Truth("memoiser", "canary", -0.5)))
    assert ranking.canaries_exposed(ranking.scores(rows(world), header(world))) == []


def test_adaptive_is_the_worst_manipulation_and_counts_nowhere_else(run, table):
    assert table.loc["gradient", "adaptive_worst"] == "location"
    assert table.loc["gradient", "adaptive"] == pytest.approx(0.0, abs=0.1)
    assert table["adaptive"].notna().sum() == 1
    assert not set(WORLD.adaptive) & set(ranking.by(*run, "cell")["cell"])
    frame, about = run
    without = ranking.scores(frame[~frame["cell"].str.contains("|", regex=False)], about).set_index("interpreter")
    pd.testing.assert_series_equal(without["transfer"], table["transfer"])
    pd.testing.assert_series_equal(without["attacked"], table["attacked"])


def test_each_number_tells_over_how_many_settings_it_is(run):
    frame, about = run
    there = frame["setting"].isin(["vgg-0", "vgg-1", "vgg-2"])
    gone = (frame["interpreter"] == "cam") & frame["setting"].isin(["vgg-0", "vgg-1", "resnet-0", "densenet-2"])
    fewer = frame[(there | ~frame["cell"].str.contains("|", regex=False)) & ~gone]
    columns = ["transfer_settings", "attacked_settings", "adaptive_settings"]
    table = ranking.scores(fewer, about).set_index("interpreter")[columns]
    assert table.loc["gradient"].tolist() == [9, 9, 3]
    assert table.loc["cam"].tolist() == [5, 5, 0]
    assert table.loc["sobel"].tolist() == [0, 0, 0]  # undefined
    shown = ranking.by(fewer, about, "manipulation").set_index(["interpreter", "manipulation"])
    assert set(shown.loc["cam", "transfer_settings"]) == {5}
    assert set(shown.loc["lrp", "transfer_settings"]) == {9}
    by_model = ranking.by(fewer, about, "model").set_index(["interpreter", "model"])["transfer_settings"]
    assert by_model.loc["cam"].to_dict() == {"densenet": 2, "resnet": 2, "vgg": 1}


def test_the_worst_cell_is_the_least_of_the_breakdown_by_cell(run, table):
    cells = ranking.by(*run, "cell").assign(value=lambda f: f["transfer"].fillna(f["attacked"]))
    own = cells[(cells["interpreter"] == "cam") & ~cells["cell"].str.contains("|", regex=False)]
    least = own.loc[own["value"].idxmin()]
    assert (least["cell"], least["value"]) == (table.loc["cam", "worst_cell"], table.loc["cam", "worst"])


def test_an_affine_change_of_a_metric_moves_nothing():
    frame, about = rows(SMALL), header(SMALL)
    changed = frame.assign(value=np.where(frame["metric"] == "mse", 0.5 * frame["value"] - 3, frame["value"]))
    a, b = ranking.scores(frame, about), ranking.scores(changed, about)
    pd.testing.assert_frame_equal(a[["interpreter", "transfer"]], b[["interpreter", "transfer"]], atol=1e-5)


def test_the_order_of_rows_and_other_interpreters_move_nothing():
    frame, about = rows(SMALL), header(SMALL)
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(ranking.scores(frame, about), ranking.scores(shuffled, about))
    fewer = frame[frame["interpreter"] != "smooth"]
    about_fewer = {**about, "interpreters": {k: v for k, v in about["interpreters"].items() if k != "smooth"}}
    columns = ["transfer", "transfer_low", "attacked", "worst", "coverage"]
    alone = ranking.scores(fewer, about_fewer).set_index("interpreter")[columns]
    among = ranking.scores(frame, about).set_index("interpreter").loc[alone.index, columns]
    pd.testing.assert_frame_equal(alone, among, rtol=1e-9)


def test_all_fooled_maps_silent_is_a_stability_of_zero():
    world = replace(SMALL, truths=(replace(REAL[0], silent_fooled=1.0), REAL[1]))
    table = ranking.scores(rows(world), header(world)).set_index("interpreter")
    assert table.loc["gradient", "transfer"] == 0
    assert table.loc["gradient", "silent"] == 9 * 3 * 8
    assert table.loc["gradient", "rank"] == 2


def test_images_with_a_silent_original_leave_for_all_twins():
    frame, about = rows(SMALL), header(SMALL)
    gone = (frame["image"] == 3) & (frame["interpreter"] == "cam")
    silent = frame.assign(
        silent_original=frame["silent_original"] | gone,
        value=frame["value"].mask(gone & (frame["twin"] != "randomised")),
    )
    a = ranking.scores(silent, about).set_index("interpreter").loc["cam"]
    b = ranking.scores(frame[~gone], about).set_index("interpreter").loc["cam"]
    assert a["coverage"] == pytest.approx(7 / 8)
    assert a["reason"].startswith("silent")
    assert np.isnan(a["rank"])
    assert b["missing"] > 0
    reference = frame[(frame["image"] != 3) & (frame["interpreter"] == "cam")]
    alone = {**about, "interpreters": {"cam": about["interpreters"]["cam"]}}
    assert a["transfer"] == pytest.approx(ranking.scores(reference, alone)["transfer"][0], rel=1e-9)


@pytest.mark.parametrize(("ruined", "insensitive"), [(("mse", "hog"), False), (("mse", "hog", "ssim"), True)])
def test_three_metrics_without_range_make_an_interpreter_insensitive(ruined, insensitive):
    world = replace(SMALL, metrics=SIX)
    frame, about = rows(world), header(world)
    flat = frame["metric"].isin(ruined) & (frame["interpreter"] == "lrp")
    table = ranking.scores(frame.assign(value=frame["value"].mask(flat, 0.7)), about).set_index("interpreter")
    assert table.loc["lrp", "metrics_counted"] == 6 - len(ruined)
    assert table.loc["lrp", "insensitive"] == insensitive
    assert np.isnan(table.loc["lrp", "rank"]) == insensitive
    shown = ranking.by(frame.assign(value=frame["value"].mask(flat, 0.7)), about, "metric")
    one = shown[(shown["interpreter"] == "lrp") & (shown["metric"] == "mse")].iloc[0]
    assert not one["range_ok"]
    assert np.isnan(one["transfer"])


def test_a_missing_cell_is_incomplete_and_a_failed_interpreter_is_listed():
    frame, about = rows(SMALL), header(SMALL)
    lost = (frame["interpreter"] == "cam") & (frame["cell"] == "top_k:gradients") & (frame["setting"] == "vgg-1")
    about["failures"] = [
        {"interpreter": "broken", "setting": s, "reason": "raised"} for s in ("vgg-0", "vgg-1", "res-0")
    ]
    table = ranking.scores(frame[~lost], about).set_index("interpreter")
    assert table.loc["cam", "reason"] == "incomplete: no maps for 1 of the fooled models"
    assert table.loc["broken", "reason"] == "failed in 3 of 3 settings"
    assert table.loc[["cam", "broken"], "rank"].isna().all()


def test_a_cell_with_some_images_missing_counts_as_missing():
    frame, about = rows(SMALL), header(SMALL)
    cell = (frame["interpreter"] == "cam") & (frame["cell"] == "top_k:gradients") & (frame["setting"] == "vgg-1")
    some = ranking.scores(frame[~(cell & (frame["image"] == 2))], about).set_index("interpreter").loc["cam"]
    whole = ranking.scores(frame[~cell], about).set_index("interpreter").loc["cam"]
    assert (some["missing"], some["transfer"]) == (1, whole["transfer"])


def test_a_cell_that_no_one_has_in_a_setting_is_no_ones_fault():
    frame, about = rows(SMALL), header(SMALL)
    refused = (frame["cell"] == "top_k:gradients") & (frame["setting"] == "vgg-1")
    assert (ranking.scores(frame[~refused], about)["reason"] == "").all()


def test_polarities_and_resolutions_are_kept_apart():
    world = replace(
        SMALL, polarities=("absolute", "signed"), truths=(*REAL, Truth("cam(at=T)", "activations", 0.2, at="T"))
    )
    frame, about = rows(world), header(world)
    assert set(ranking.scores(frame, about)["interpreter"]) == {t.label for t in REAL}
    assert list(ranking.scores(frame, about, at="T")["interpreter"]) == ["cam(at=T)"]
    signed = ranking.scores(frame, about, polarity="signed")
    assert signed.attrs["polarity"] == "signed"
    assert not np.allclose(signed["transfer"], ranking.scores(frame, about)["transfer"])


def test_the_family_other_has_no_kin_but_oneself():
    world = replace(SMALL, truths=(Truth("mine", "other", 0.7), Truth("yours", "other", 0.7)))
    about = header(world)
    about["cells"]["location:gradients"] |= {"against": "mine", "family": "other"}
    study = st.study(rows(world), about, "absolute", "input")
    attacked = st.columns(study)["attacked"]
    assert study.cells[attacked[:, 0].argmax()] == "location:gradients"
    np.testing.assert_array_equal(attacked.sum(0), [1, 0])


def test_controls_stand_beside_the_score(table):
    # the synthetic world puts self at 1.1 of a span of 0.5 above the floor of 0.3, another class at 0.5, the top at 0.4
    mine = table.loc["gradient"]
    np.testing.assert_allclose(
        mine[["self_noise", "wrong_class", "randomised_top"]].astype(float), [0.15, 0.55, 0.5], atol=0.01
    )
    np.testing.assert_allclose(mine[["raw_honest", "raw_randomised"]].astype(float), [0.8, 0.3], atol=0.01)


def test_a_small_range_is_found_over_images_too():
    world = replace(ONE, truths=(*REAL, Truth("edges", "other", 0.9, span=0.06)))
    table = ranking.scores(rows(world), header(world)).set_index("interpreter")
    assert table.loc["edges", "insensitive"]
    shown = ranking.by(rows(world), header(world), "metric").set_index(["interpreter", "metric"])
    # 64 images, noise of 0.1 of the span in honest and, averaged over three draws, in randomised similarities
    expected = 0.06 * (1 - 1.645 * 0.1 * np.sqrt((1 + 1 / 3) / 64))
    assert shown.loc[("edges", "mse"), "range_low"] == pytest.approx(expected, rel=0.05)


def test_one_setting_is_marked_conditional_and_its_interval_is_over_images():
    frame, about = rows(ONE), header(ONE)
    table = ranking.scores(frame, about)
    assert table.attrs["conditional"]
    assert (table["reason"] == "").all()
    study = st.study(frame, about, "absolute", "input")
    block, member = study.blocks[0], st.columns(study)["transfer"]
    for _, row in table.iterrows():
        i = study.interpreters.index(row["interpreter"])
        cells = [study.cells.index(c) for c in block.cells if member[study.cells.index(c), i]]
        top = (block.fooled[cells, i] - block.floor[i]).mean(0)
        bottom = block.honest[i] - block.floor[i]
        influence = ((top - bottom * (top.mean(1) / bottom.mean(1))[:, None]) / bottom.mean(1)[:, None]).mean(0)
        linear = influence.std(ddof=1) / np.sqrt(len(influence))
        half = (row["transfer_high"] - row["transfer_low"]) / 2
        # the delta method and 10,000 resamples (0.7 % Monte-Carlo error) agree to first order in 1 / 64 images
        assert half == pytest.approx(1.998 * linear, rel=0.06)


def test_scores_are_the_same_twice():
    frame, about = rows(ONE), header(ONE)
    pd.testing.assert_frame_equal(ranking.scores(frame, about), ranking.scores(frame, about), check_exact=True)


def test_the_bootstrap_over_settings_agrees_with_the_jackknife():
    settings = tuple((f"s-{i}", "vgg") for i in range(40))
    # Images without noise of their own: the bootstrap would count it twice, once in what the settings show.
    quiet = World(REAL, settings, ("location",), images=4, metrics=("mse",), image_sd=0, noise_sd=0.01)
    study = st.study(rows(quiet), header(quiet), "absolute", "input")
    member, counted = st.columns(study)["transfer"], np.ones((4, 1), bool)
    drawn = st.bootstrap(study, member, counted, 4000)
    jackknife = st.stability(study, member, counted)
    np.testing.assert_allclose(drawn.mean(0), jackknife.value, atol=0.002)
    # sqrt(39 / 40) between the two, and 1.1 % Monte-Carlo error
    np.testing.assert_allclose(drawn.std(0), jackknife.error(), rtol=0.05)


def test_summing_cells_before_resampling_is_resampling_every_twin():
    world = replace(SMALL, truths=(replace(REAL[0], silent=0.2, silent_fooled=0.1), *REAL[1:]), active=True)
    study = st.study(rows(world), header(world), "absolute", "input")
    member = st.columns(study)["transfer"]
    top, bottom = st.resampled_totals(study, member, 5)
    rng = seeding.numpy_generator("bootstrap", "0123")
    weights = intervals.resampling_counts(3, 5, rng).astype(int)
    expected = np.zeros((2, *top.shape))
    for block in study.blocks:
        counts = intervals.resampling_counts(8, 5, rng).astype(int)
        for r, i, (k, cell) in product(range(5), range(4), enumerate(block.cells)):
            drawn = np.repeat(np.arange(8), counts[r])
            drawn = drawn[block.valid[i][drawn]]
            if member[study.cells.index(cell), i] and len(drawn):
                floor = block.floor[i][:, drawn].mean(1)
                means = block.fooled[k, i][:, drawn].mean(1) - floor, block.honest[i][:, drawn].mean(1) - floor
                expected[:, r, i] += weights[r, study.settings.index(block.setting)] * np.array(means)
    # float32 sums of up to 36 numbers below 1
    np.testing.assert_allclose(top, expected[0], atol=1e-5)
    np.testing.assert_allclose(bottom, expected[1], atol=1e-5)


@pytest.mark.parametrize("group", ["manipulation", "model", "metric", "cell"])
def test_breakdowns_have_a_row_per_interpreter_and_member(run, group):
    frame, about = run
    found = ranking.by(frame, about, group)
    sizes = {"manipulation": 4, "model": 3, "metric": 6, "cell": 12}  # of 14 cells two are adaptive
    assert len(found) == sizes[group] * 6
    assert not found.duplicated(["interpreter", group]).any()


def test_a_breakdown_by_model_is_the_score_of_its_settings_alone():
    frame, about = rows(SMALL), header(SMALL)
    found = ranking.by(frame, about, "model").set_index(["model", "interpreter"])
    alone = ranking.scores(frame[frame["setting"] != "res-0"], about).set_index("interpreter")
    assert found.loc[("vgg", "lrp"), "transfer"] == pytest.approx(alone.loc["lrp", "transfer"])
    assert found.loc[("vgg", "lrp"), "transfer_low"] == pytest.approx(alone.loc["lrp", "transfer_low"])


def test_one_interpreter_alone_has_rank_one():
    world = replace(SMALL, truths=REAL[:1])
    table = ranking.scores(rows(world), header(world))
    assert (table["rank"][0], table["rank_low"][0], table["rank_high"][0], table["tie"][0]) == (1, 1, 1, "a")


def test_without_cells_against_others_there_is_no_rank():
    world = replace(SMALL, against=("gradients",), truths=REAL[:1])
    table = ranking.scores(rows(world), header(world))
    assert table["reason"][0] == "no cells against other families"
    assert np.isfinite(table["attacked"][0])


def test_a_run_in_which_all_failed_is_a_table_of_reasons():
    frame, about = rows(SMALL).iloc[:0], header(SMALL)
    assert (ranking.scores(frame, about)["reason"] == "no maps in this run").all()


def test_variants_do_not_enter_the_headline():
    assert st.headline_metrics([*SIX, "cosine", "top_k(fraction=0.05)"]) == list(SIX)
    assert st.headline_metrics(["top_k", "cosine", "top_k(fraction=0.05)"]) == ["cosine", "top_k"]
    assert st.headline_metrics(["ssim(window=uniform)"]) == ["ssim(window=uniform)"]


def test_rows_that_break_their_contract_are_refused():
    frame, about = rows(SMALL), header(SMALL)
    with pytest.raises(RowsError, match="rows: no column 'silent'; rows have setting, split"):
        ranking.scores(frame.drop(columns="silent"), about)
    with pytest.raises(RowsError, match="two rows for one twin, interpreter, metric and image; keys are unique"):
        ranking.scores(pd.concat([frame, frame.iloc[:1]], ignore_index=True), about)
    with pytest.raises(RowsError, match="is NaN for image 0 of the randomised twin; a number belongs where"):
        ranking.scores(frame.assign(value=frame["value"].mask(frame.index == 0)), about)
