"""Interpreters against one another, and the multiverse of scores, on synthetic rows whose truth is known."""

from dataclasses import replace

import pandas as pd
import pytest
from synthetic_rows import CANARIES, REAL, SIX, World, header, rows

from unfooled.leaderboard import multiverse, pairing, ranking
from unfooled.types import UnknownPart

WORLD = World(REAL + CANARIES, images=24)
SMALL = World(REAL, settings=(("vgg-0", "vgg"), ("vgg-1", "vgg"), ("res-0", "res")), images=8, metrics=("mse", "hog"))


@pytest.fixture(scope="module")
def run():
    return rows(WORLD), header(WORLD)


@pytest.fixture(scope="module")
def table(run):
    return ranking.scores(*run).set_index("interpreter")


def test_pairs_are_the_tests_behind_the_letters(run, table):
    pairs = pairing.pairwise(*run).set_index(["a", "b"])
    assert len(pairs) == 6
    for (a, b), pair in pairs.iterrows():
        apart = not set(table.loc[a, "tie"]) & set(table.loc[b, "tie"])
        assert apart == (pair["p_holm"] < 0.05)
        assert pair["difference"] == pytest.approx(table.loc[a, "transfer"] - table.loc[b, "transfer"])
        assert pair["low"] <= pair["difference"] <= pair["high"]


def test_a_comparison_turns_with_its_order(run):
    forth, back = pairing.compare(*run, "lrp", "cam"), pairing.compare(*run, "cam", "lrp")
    assert forth["difference"] == -back["difference"] < 0
    assert (forth["low"], forth["p_holm"]) == (-back["high"], back["p_holm"])


def test_a_comparison_with_an_unknown_interpreter_says_what_there_is(run):
    with pytest.raises(UnknownPart, match="compare: 'gradeint' is not ranked in this run; did you mean 'gradient'"):
        pairing.compare(*run, "gradeint", "cam")
    with pytest.raises(UnknownPart, match="compare: 'cam' with itself; name two interpreters"):
        pairing.compare(*run, "cam", "cam")


def test_friedman_finds_that_interpreters_differ(run):
    names, found = pairing.friedman(*run)
    assert names == ["cam", "gradient", "lrp", "smooth"]
    assert found.p_value < 1e-3
    assert found.mean_ranks[3] < 1.5 < found.mean_ranks[1]


def test_the_multiverse_ranks_under_every_choice():
    variants = ("top_k(fraction=0.05)", "ssim(window=uniform)", "cosine")
    world = replace(SMALL, metrics=(*SIX, *variants), polarities=("absolute", "signed"), truths=REAL + CANARIES)
    frame, about = rows(world), header(world)
    ranks = multiverse.multiverse(frame, about)
    # two polarities × (2 choices of k × 2 of the window for the mean, six metrics, two variants, cosine)
    assert len(ranks) == 2 * (4 + 6 + 2 + 1)
    headline = ranking.scores(frame, about).set_index("interpreter")["rank"]
    pd.testing.assert_series_equal(ranks.loc[("absolute", "mean", "")], headline[ranks.columns], check_names=False)
    assert ranks[["sobel", "constant"]].isna().all(axis=None)
    ranges = multiverse.rank_ranges(ranks).set_index("interpreter")
    assert ranges.loc["smooth", "best_rank"] == 1
    assert ranges.loc["sobel", "specifications"] == 0


def test_the_multiverse_ranks_no_one_whose_maps_are_missing():
    frame, about = rows(SMALL), header(SMALL)
    lost = (frame["interpreter"] == "cam") & (frame["cell"] == "top_k:gradients")
    ranks = multiverse.multiverse(frame[~lost], about)
    assert ranks["cam"].isna().all()
    assert sorted(ranks.loc[("absolute", "mean", "")].dropna()) == [1, 2, 3]


def test_one_interpreter_has_no_pairs():
    world = replace(SMALL, truths=REAL[:1])
    assert pairing.pairwise(rows(world), header(world)).empty
