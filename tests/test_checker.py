"""The checker over folders, verifications, revealed maps; and fuzzed, since what it reads comes from strangers."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from dataclasses import replace

import entries
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from unfooled import merkle
from unfooled.leaderboard import checker, reveal, submission
from unfooled.leaderboard.entry import VERIFIED, as_json
from unfooled.leaderboard.reading import Unreadable, parse
from unfooled.leaderboard.verified import Enforced, Verified

EXAMPLES = int(os.environ.get("UNFOOLED_FUZZ", "300"))
KNOWN = {"synthetic": entries.reference()}
SMALL = {"synthetic": entries.reference(entries.SINGLE)}


@pytest.fixture(scope="module")
def packed():
    made = entries.run(replace(entries.WORLD, images=4))
    return [entries.entry(made, label, KNOWN["synthetic"]) for label in made.header["interpreters"]]


@pytest.fixture(scope="module")
def small():
    return entries.entry(entries.run(entries.SINGLE), "gradient", SMALL["synthetic"])


@pytest.fixture
def folder(packed, tmp_path):
    for one in packed:
        submission.write(one, tmp_path)
    return tmp_path


def verification(digest: str, outcome: str = "verified") -> Verified:
    return Verified(
        format=1, entry=digest, outcome=outcome, reasons=[], unchecked=["the moon"], nonce="n", cells=[], reported=0.5,
        recomputed=0.5, challenge=None, source="same", versions={"torch": "2.13.0"},
        created="2026-01-02T00:00:00+00:00", seconds=1.0,
        enforced=Enforced(process="separate", network="none", time="limited", memory="limited",
                          processes="own namespace", files="not enforced"),
    )  # fmt: skip


def test_a_folder_of_good_entries_has_no_complaint(folder, packed):
    (folder / "README.md").write_text("what lies here")
    found = checker.check([folder], KNOWN)
    assert found.complaints == []
    assert {f.entry.name for f in found.passed} == {e.name for e in packed}


def test_one_bad_entry_leaves_the_others(folder):
    (folder / "synthetic-cam.json").write_text("{")
    found = checker.check([folder], KNOWN)
    assert [c.where for c in found.complaints] == ["synthetic-cam.json"]
    assert "cam" not in {f.entry.name for f in found.passed}
    assert len(found.passed) == 5


def test_an_entry_is_the_same_alone_and_in_company(folder, packed):
    for one in packed:
        assert checker.check_entry(one, KNOWN["synthetic"]) == []


def test_a_verification_counts_for_the_very_file_it_was_made_of(folder):
    filed = checker.check([folder / "synthetic-cam.json"], KNOWN).passed[0]
    beside = folder / f"synthetic-cam{VERIFIED}"
    beside.write_bytes(as_json(verification(filed.digest)))
    found = checker.check([folder], KNOWN)
    assert found.complaints == []
    assert next(f for f in found.passed if f.entry.name == "cam").verified.outcome == "verified"
    beside.write_bytes(as_json(verification("0" * 64)))
    found = checker.check([folder], KNOWN)
    assert "verify it again" in str(found.complaints[0])
    assert next(f for f in found.passed if f.entry.name == "cam").verified is None


def test_a_verification_without_an_entry_or_with_script_is_complained_of(folder):
    (folder / f"synthetic-none{VERIFIED}").write_bytes(as_json(verification("0" * 64)))
    assert "verifies no entry" in str(checker.check([folder], KNOWN).complaints[0])
    plain = json.loads(as_json(verification("0" * 64))) | {"reasons": ["\x1b[31m"], "nonce": "../x"}
    (folder / f"synthetic-cam{VERIFIED}").write_text(json.dumps(plain))
    said = "\n".join(map(str, checker.check([folder], KNOWN).complaints))
    assert "reasons.0" in said
    assert "nonce" in said
    assert "\x1b" not in said


def test_what_is_no_json_file_is_complained_of(folder):
    (folder / "run.sh").write_text("echo")
    assert "run.sh: is no entry; entries are .json files" in map(str, checker.check([folder], KNOWN).complaints)


def test_why_an_entry_is_not_ranked(packed):
    reasons = {e.name: checker.unranked(e) for e in packed}
    assert reasons["constant"].startswith("silent")
    assert reasons["sobel"].startswith("insensitive: 0 of 6")
    assert not any(reasons[name] for name in ("gradient", "smooth", "cam", "lrp"))


@pytest.mark.parametrize("rounded", [False, True])
def test_revealed_maps_make_the_root_that_a_run_makes(rounded):
    """The runner's order (asking.Interview.rows) written again: chunks, in them questions, in them images."""
    maps = np.random.default_rng(0).normal(size=(5, 10, 4, 4)).astype(np.float32)
    leaves = [leaf for start in (0, 4, 8) for question in maps for leaf in merkle.leaves(question[start : start + 4])]
    pairs = maps[:2, :3]
    both = [merkle.root(leaves), merkle.root([leaf for question in pairs for leaf in merkle.leaves(question)])]
    right = merkle.root(bytes.fromhex(one) for one in both)
    assert reveal.root({"test": maps, "pairs": pairs}, 4) == right
    low, high = maps.min((2, 3), keepdims=True), maps.max((2, 3), keepdims=True)
    as_bytes = np.rint((maps - low) / (high - low) * 255).astype(np.uint8)
    assert reveal.root({"test": as_bytes, "pairs": as_bytes[:2, :3]}, 4) == right


def test_revealed_maps_are_held_against_the_entry(small, tmp_path):
    maps = np.random.default_rng(0).normal(size=(5, 10, 4, 4)).astype(np.float32)
    setting = small.settings["vgg-0"].model_copy(update={"root": reveal.root({"test": maps}, 32)})
    mine = small.model_copy(update={"settings": {"vgg-0": setting}})
    assert "cannot be read" in str(reveal.check(mine, tmp_path, 32)[0])
    np.savez(tmp_path / "vgg-0.npz", test=maps)
    assert reveal.check(mine, tmp_path, 32) == []
    maps[2, 3, 0, 0] += 10
    np.savez(tmp_path / "vgg-0.npz", test=maps)
    assert "the entry has" in str(reveal.check(mine, tmp_path, 32)[0])
    np.savez(tmp_path / "vgg-0.npz", test=np.array([object()]))
    assert "cannot be read" in str(reveal.check(mine, tmp_path, 32)[0])


def _places(value: object, here: tuple = ()) -> list[tuple]:
    """The path of every value within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, one in inner for place in _places(one, (*here, key)))]


def _put(value: object, place: tuple, new: object) -> object:
    if not place:
        return new
    parent = value
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = new
    return value


ODD = some.one_of(
    some.none(), some.booleans(), some.integers(), some.floats(allow_nan=False, allow_infinity=False),
    some.text(max_size=20),
    some.sampled_from(["", "../x", "<b>", "javascript:x", "\x00", "\u202e", "0" * 64, "vgg-0", "location:gradients"]),
    some.recursive(
        some.none(), lambda x: some.lists(x, max_size=3) | some.dictionaries(some.text(max_size=5), x, max_size=3)
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def plain(small):
    return entries.plain(small)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "synthetic-gradient.json"


quick = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(data=some.data())
def test_no_change_of_an_entry_makes_a_traceback(plain, bench, data):
    """Up to three values anywhere replaced by others: a complaint, or an entry that still means the same."""
    spoilt = copy.deepcopy(plain)
    for _ in range(data.draw(some.integers(1, 3))):
        spoilt = _put(spoilt, data.draw(some.sampled_from(_places(spoilt))), data.draw(ODD))
    bench.write_text(json.dumps(spoilt))
    found = checker.check([bench], SMALL)
    assert bool(found.complaints) != bool(found.passed)
    assert all(str(c).isprintable() and len(str(c)) < 1000 for c in found.complaints)
    for filed in found.passed:
        _means_the_same(entries.plain(filed.entry), plain)


def _means_the_same(passed: dict, plain: dict) -> None:
    """What may change without a complaint changes no score: they all follow from parts that nobody could edit alone."""
    for name in ("transfer", "attacked"):
        assert passed["scores"][name]["value"] == pytest.approx(plain["scores"][name]["value"], abs=1e-3)


@quick
@given(data=some.data())
def test_no_bytes_make_a_traceback(plain, bench, data):
    content = bytearray(json.dumps(plain).encode())
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, len(content)))
        content[at : at + data.draw(some.integers(0, 9))] = data.draw(some.binary(max_size=9))
    bench.write_bytes(bytes(content))
    found = checker.check([bench], SMALL)
    assert bool(found.complaints) != bool(found.passed)


@quick
@given(some.binary(max_size=200) | some.text('[]{}",:0123456789.eE+-\\ unltrefasNI', max_size=200).map(str.encode))
def test_reading_answers_as_pythons_parser_does_or_refuses(content):
    """Second source: whatever passes is what ``json.loads`` says."""
    with contextlib.suppress(Unreadable):
        assert parse(content) == json.loads(content)
