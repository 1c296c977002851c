"""Hostile entries, one by one: each is refused with one sentence, none with a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import entries
import pytest

from unfooled.leaderboard import checker, reading, submission
from unfooled.leaderboard.entry import as_json

KNOWN = {"synthetic": entries.reference(entries.SINGLE)}


@pytest.fixture(scope="module")
def good():
    return entries.entry(entries.run(entries.SINGLE), "gradient", KNOWN["synthetic"])


def complaints(folder: Path, content: bytes | dict, name: str = "synthetic-gradient.json") -> str:
    """What the checker says of a file; more than one complaint on as many lines."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    found = checker.check([path], KNOWN)
    assert bool(found.complaints) != bool(found.passed)
    assert all("\n" not in str(c) and str(c).isprintable() for c in found.complaints)
    return "\n".join(map(str, found.complaints))


def test_the_untouched_entry_passes(good, tmp_path):
    assert complaints(tmp_path, as_json(good)) == ""


def test_script_in_a_name(good, tmp_path):
    said = complaints(tmp_path, entries.plain(good) | {"name": "<script>alert(1)</script>"})
    assert "name: holds <; Latin and Greek letters" in said


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "http://a.org", "//a.org", " https://a.org",
        'https://a.org/"onload=', "https://a.org/\n", "https://user:pw@a.org", "https://", "https://a.org\\@b.org",
    ],
)  # fmt: skip
def test_links_that_are_no_https_links(good, tmp_path, link):
    plain = entries.plain(good)
    for field in ("code", "paper"):
        assert f"method.{field}: " in complaints(tmp_path, plain | {"method": plain["method"] | {field: link}})


@pytest.mark.parametrize("path", ["../../etc/passwd", "..", "/etc/passwd", "a/b", "a\\b", "C:", "a\0b", "con/../x"])
def test_path_tricks_in_identifiers(good, tmp_path, path):
    plain = entries.plain(good)
    spoilt = [
        plain | {"name": path},
        plain | {"suite": plain["suite"] | {"name": path}},
        plain | {"method": plain["method"] | {"reference": path}},
        plain | {"settings": dict.fromkeys([path], plain["settings"]["vgg-0"])},
        plain | {"cells": dict.fromkeys([path], plain["cells"]["location:gradients"])},
        plain | {"parts": [p | {"setting": path} for p in plain["parts"]]},
    ]
    for one in spoilt:
        assert complaints(tmp_path, one)


def test_a_file_under_another_name(good, tmp_path):
    assert "belongs into a file called synthetic-gradient.json" in complaints(tmp_path, as_json(good), "other.json")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":['])
def test_a_lot_of_nesting(tmp_path, opening):
    assert "nests deeper than 12" in complaints(tmp_path, opening * 10_000)


def test_a_gigabyte_of_nesting_is_never_read(tmp_path):
    path = tmp_path / "synthetic-gradient.json"
    with path.open("wb") as file:
        file.write(b"[" * 1000)
        file.truncate(2**30)  # sparse: it takes no room on disk, and would take 1 GiB in memory
    assert "more than 200 KiB" in str(checker.check([path], KNOWN).complaints[0])


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none(good, tmp_path, word):
    content = as_json(good).decode().replace('"runs_made": 3', f'"runs_made": {word}')
    said = complaints(tmp_path, content.encode())
    assert word in said or "is not JSON (Out of range float values" in said


def test_a_number_of_ten_thousand_digits(good, tmp_path):
    content = as_json(good).decode().replace('"runs_made": 3', '"runs_made": 1' + "0" * 10_000)
    assert "is not JSON" in complaints(tmp_path, content.encode())


def test_true_is_no_number_and_a_string_is_none(good, tmp_path):
    for value in (True, "3", 3.0, [3], None, -1, 0):
        assert "runs_made: " in complaints(tmp_path, entries.plain(good) | {"runs_made": value})


def test_duplicate_keys(good, tmp_path):
    content = as_json(good).decode().replace('"runs_made": 3', '"runs_made": 3, "runs_made": 1')
    assert "key 'runs_made' stands twice" in complaints(tmp_path, content.encode())


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"null", b"[]", b'"x"', b"{}", b"{'a': 1}", b'{"a": "\\ud800"}']
)
def test_what_is_no_entry_at_all(tmp_path, content):
    assert complaints(tmp_path, content)


@pytest.mark.parametrize(
    "name", ["grаdient", "gradient\u200b", "\u202egradient", "ｇradient", "gradient ", "gra\u0301dient", "gradient\n"]
)
def test_letters_and_marks_that_names_do_not_hold(good, tmp_path, name):
    assert "name: " in complaints(tmp_path, entries.plain(good) | {"name": name})


@pytest.mark.parametrize("name", ["grad ient", "gradıent", "grαdient", "gradiεnt", "grad1ent"])
def test_look_alikes_of_an_existing_name(good, tmp_path, name):
    submission.write(good, tmp_path)
    twin = good.model_copy(update={"name": name, "root": "0" * 64})
    path = submission.write(twin, tmp_path)
    found = checker.check([tmp_path], KNOWN)
    assert path.name != "synthetic-gradient.json"
    assert any("looks like the name of synthetic-gradient.json" in str(c) for c in found.complaints)


def test_an_edited_score(good, tmp_path):
    plain = entries.plain(good)
    plain["scores"]["transfer"]["value"] += 0.001
    plain["scores"]["transfer"]["high"] += 0.001
    assert "scores.transfer.value: is 0." in complaints(tmp_path, plain)
    assert "follows from the parts" in complaints(tmp_path, plain)


def test_an_edited_part(good, tmp_path):
    plain = entries.plain(good)
    cells = plain["parts"][0]["cells"]
    cells[next(iter(cells))][0] -= 0.1
    assert "follows from the parts" in complaints(tmp_path, plain)


def test_an_entry_for_another_suite_version(good, tmp_path):
    plain = entries.plain(good)
    for change in ({"version": 2}, {"digest": "0" * 16}):
        assert "run that and submit again" in complaints(tmp_path, plain | {"suite": plain["suite"] | change})
    assert "no suite 'synthetik'; did you mean 'synthetic'?" in complaints(
        tmp_path, plain | {"suite": plain["suite"] | {"name": "synthetik"}}
    )


def test_other_twins_than_the_shipped_ones(good, tmp_path):
    plain = entries.plain(good)
    plain["settings"]["vgg-0"]["twins"] = "0" * 16
    assert "run on those" in complaints(tmp_path, plain)


def test_a_swapped_merkle_root(good, tmp_path):
    plain = entries.plain(good)
    assert "both come from one run" in complaints(tmp_path, plain | {"root": "0" * 64})
    plain["settings"]["vgg-0"]["root"] = "0" * 64
    assert "both come from one run" in complaints(tmp_path, plain)


def test_the_root_of_somebody_else(good, tmp_path):
    submission.write(good, tmp_path)
    submission.write(good.model_copy(update={"name": "mine"}), tmp_path)
    found = [str(c) for c in checker.check([tmp_path], KNOWN).complaints]
    assert any("synthetic-mine.json: root: is the root, so the maps, of synthetic-gradient.json" in c for c in found)


def test_missing_and_foreign_and_doubled_parts(good, tmp_path):
    plain = entries.plain(good)
    part = plain["parts"][0]
    spoilt = {
        "is missing": plain | {"parts": [part | {"split": "pairs"}]},
        "stands there twice": plain | {"parts": [part, part]},
        "is not of this suite": plain | {"settings": plain["settings"] | {"vgg-9": plain["settings"]["vgg-0"]}},
        "one each is right": plain | {"parts": [part | {"honest": part["honest"][:-1]}]},
        "a number for each metric is right": plain | {"parts": [part | {"honest": [None, *part["honest"][1:]]}]},
        "the suite has 12 at most": plain | {"parts": [part | {"images": 13}]},
        "cannot be silent": plain | {"parts": [part | {"silent": 999}]},
        "is no field; did you mean 'scores'": plain | {"score": 1},
        "is missing; every entry has it": {k: v for k, v in plain.items() if k != "scores"},
    }
    for said, one in spoilt.items():
        assert said in complaints(tmp_path, one)


def test_links_folders_and_pipes_are_not_followed(good, tmp_path):
    target = tmp_path / "secret"
    target.write_bytes(as_json(good))
    (tmp_path / "synthetic-gradient.json").symlink_to(target)
    os.mkfifo(tmp_path / "synthetic-pipe.json")
    (tmp_path / "synthetic-folder.json").mkdir()
    found = checker.check([tmp_path], KNOWN)
    assert not found.passed
    assert len(found.complaints) == 4  # and the secret, which is no .json


def test_brackets_in_strings_are_no_nesting():
    assert reading.parse(b'["[[[[[[[[[[[[[[[[[[\\"[[[[[[[[[[[[["]') == ['[[[[[[[[[[[[[[[[[["[[[[[[[[[[[[[']
