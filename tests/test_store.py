"""Finished work is whole or absent, is found again, and never under a name that leaves its folder."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unfooled import store
from unfooled.store import Damaged, Store, digest
from unfooled.types import Part, UnfooledError

KEY = "0123456789abcdef"


def text(word):
    return lambda path: path.write_text(word)


def test_what_was_put_is_found_by_the_next_process(tmp_path):
    path = Store(tmp_path).put("rows", KEY, ".txt", text("hello"))
    assert Store(tmp_path).find("rows", KEY) == path
    assert path.read_text() == "hello"
    assert path.name == f"{KEY}.{hashlib.sha256(b'hello').hexdigest()[:16]}.txt"
    assert Store(tmp_path).find("rows", "another") is None
    assert Store(tmp_path).find("weights", KEY) is None


def test_the_last_that_was_put_under_a_key_is_found(tmp_path):
    """Work that was begun again may end in other bits; what is said of it must not be said of the first."""
    kept = Store(tmp_path)
    for number in range(6):
        last = kept.put("weights", KEY, ".txt", text(f"version {number}"))
        assert kept.find("weights", KEY) == last
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_a_damaged_file_is_removed_and_made_again(tmp_path):
    kept = Store(tmp_path)
    path = kept.put("rows", KEY, ".txt", text("hello"))
    path.write_text("hellp")
    assert kept.find("rows", KEY) is None
    assert not path.exists()
    assert kept.put("rows", KEY, ".txt", text("hello")) == path
    assert kept.find("rows", KEY) == path


def test_a_damaged_frozen_file_is_refused_and_left(tmp_path):
    path = Store(tmp_path / "frozen").put("rows", KEY, ".txt", text("hello"))
    layered = Store(tmp_path / "own", (tmp_path / "frozen",))
    assert layered.find("rows", KEY) == path
    path.write_text("hellp")
    with pytest.raises(Damaged, match=r"was changed after it was made; install the package again") as refused:
        layered.find("rows", KEY)
    assert refused.value.exit_code == 1
    assert path.exists()


def test_own_work_lies_over_the_frozen(tmp_path):
    Store(tmp_path / "frozen").put("rows", KEY, ".txt", text("old"))
    layered = Store(tmp_path / "own", (tmp_path / "frozen",))
    mine = layered.put("rows", KEY, ".txt", text("new"))
    assert layered.find("rows", KEY) == mine
    assert mine.parent.parent == tmp_path / "own"


def test_work_that_fails_leaves_nothing(tmp_path):
    def half(path):
        path.write_text("half")
        raise RuntimeError("no more")

    kept = Store(tmp_path)
    with pytest.raises(RuntimeError, match="no more"):
        kept.put("rows", KEY, ".txt", half)
    assert list((tmp_path / "rows").iterdir()) == []
    store.publish(tmp_path / "named.txt", text("first"))
    with pytest.raises(RuntimeError, match="no more"):
        store.publish(tmp_path / "named.txt", half)
    assert (tmp_path / "named.txt").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["named.txt", "rows"]


def test_a_process_killed_in_mid_write_leaves_nothing_that_is_found(tmp_path):
    code = f"""
import time
from pathlib import Path
from unfooled.store import Store
def write(path):
    path.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
Store(Path({str(tmp_path)!r})).put("rows", {KEY!r}, ".txt", write)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert Store(tmp_path).find("rows", KEY) is None
    assert Store(tmp_path).put("rows", KEY, ".txt", text("whole")).read_text() == "whole"


def test_files_may_be_read_by_whom_the_user_lets(tmp_path):
    before = os.umask(0o022)
    try:
        path = Store(tmp_path).put("rows", KEY, ".txt", text("hello"))
        store.publish(tmp_path / "report.html", text("hello"))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, tmp_path / "report.html")] == [0o644, 0o644]


@given(st.text(min_size=1, max_size=100) | st.sampled_from(["..", "a/b", "a.b", "-", "x" * 81, "é", "a\n", "*", ""]))
def test_names_never_become_paths(tmp_path_factory, name):
    kept = Store(tmp_path_factory.getbasetemp() / "names")
    plain = 0 < len(name) <= 80 and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
    for ask in (lambda: kept.find(name, KEY), lambda: kept.find("rows", name)):
        if plain:
            assert ask() is None
        else:
            with pytest.raises(UnfooledError, match="is no name for a file"):
                ask()
    if not plain:
        with pytest.raises(UnfooledError, match="is no name for a file"):
            kept.put("rows", name, ".txt", text(""))


@dataclass(frozen=True)
class Thing:
    count: int
    parts: tuple[Part, ...] = ()


def test_a_digest_is_the_hash_of_canonical_json():
    """Pinned by writing it again: stored work would be lost if this moved."""
    words = ("rows", 1, Part("a", {"z": 1, "b": Part("c")}), Thing(2, (Part("d"),)), {"y": None, "x": [True, 0.5]})
    plain = [
        "rows",
        1,
        {"use": "a", "arguments": {"z": 1, "b": {"use": "c", "arguments": {}}}},
        {"type": "Thing", "count": 2, "parts": [{"use": "d", "arguments": {}}]},
        {"x": [True, 0.5], "y": None},
    ]
    wanted = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
    assert digest(*words) == wanted


def test_a_digest_is_the_same_in_every_process():
    code = (
        "from unfooled.store import digest; from unfooled.types import Part; print(digest(Part('a', {'b': 1, 'a': 2})))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {digest(Part("a", {"a": 2, "b": 1})) + "\n"}


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(VALUES, VALUES)
def test_what_differs_has_another_digest(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (digest(a) == digest(b)) == same


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), float("inf"), object()])
def test_what_no_key_can_hold_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        digest(value)


def test_json_is_strict_and_whole(tmp_path):
    content = {"b": [1, 0.25], "a": "é×σ"}
    store.write_json(tmp_path / "x.json", content)
    assert store.read_json(tmp_path / "x.json") == content
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "y.json", {"a": float("nan")})
