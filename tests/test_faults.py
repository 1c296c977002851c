"""What can happen to a machine: kill -9 at any moment, damaged files, a full disk, two processes on one store.

``UNFOOLED_FAULTS=50`` repeats what happens at random moments fifty times; five are the rule.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unfooled import records, runner, suite
from unfooled.records import Run
from unfooled.store import Damaged, file_hash

REPETITIONS = int(os.environ.get("UNFOOLED_FAULTS", "5"))

SUITE = """
name: brief
version: 1
dataset: {use: scenes, train: 96, tune: 24, test: 64}
architectures:
  - {name: vgg, model: vgg, fit: {steps: 12, batch: 16, rate: 0.003}, recipe: {steps: 3}}
cells:
  - {manipulation: location, against: grad_cam, weights: [1]}
interpreters: [grad_cam, random_map]
metrics: [spearman, mse]
images: 8
chunk: 4
draws: 1
judged: 8
aopc_images: 0
"""


def options(folder: Path) -> runner.Options:
    return runner.Options(store=folder / "store", out=folder / "runs")


def run(folder: Path) -> Run:
    return runner.run(suite.load(folder / "brief.yaml"), (), options(folder))


def fresh(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "brief.yaml").write_text(SUITE)
    return folder


@contextmanager
def apart(work: Callable[[], object]) -> Iterator[int]:
    """The work in a process of its own: the same as a command's, but torch is there already. Its exit status is 0, or
    1 where the work raised; a killed one's is negative."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    yield child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finished(folder: Path) -> dict[str, bytes]:
    """Every published file of the store and its content; each one whole."""
    found = [p for p in (folder / "store").rglob("*") if p.is_file() and p.parent.name != "runs"]
    published = [p for p in found if not p.name.startswith(".")]
    assert all(p.name.split(".")[1] == file_hash(p) for p in published)
    return {str(p.relative_to(folder)): p.read_bytes() for p in published}


def assert_same(made: Run, reference: Run) -> None:
    """Bit for bit, but for what tells one run from another: when it was made, and how long it took."""
    pd.testing.assert_frame_equal(made.rows, reference.rows, check_exact=True)
    for column in made.rows:
        values, wanted = (np.asarray(r.rows[column]) for r in (made, reference))
        assert values.tolist() == wanted.tolist() or values.tobytes() == wanted.tobytes()
    for word in ("suite", "settings", "cells", "roots", "metrics", "failures"):
        assert made.header[word] == reference.header[word], word


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Run, float, dict[str, bytes]]:
    """The run that nothing happened to, how long it takes when repeated, and its store."""
    folder = fresh(tmp_path_factory.mktemp("undisturbed"))
    made = run(folder)
    content = finished(folder)
    shutil.rmtree(folder / "store")
    started = time.monotonic()
    with apart(lambda: run(folder)) as child:
        assert status(child) == 0
    return made, time.monotonic() - started, content


@pytest.mark.parametrize("repetition", range(REPETITIONS))
def test_killed_at_random_moments_it_resumes(undisturbed, tmp_path, repetition):
    reference, duration, _ = undisturbed
    folder, moments = fresh(tmp_path), np.random.default_rng(repetition)
    kept: dict[str, bytes] = {}
    for _ in range(2):
        with apart(lambda: run(folder)) as child:
            time.sleep(moments.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            assert status(child) in (-signal.SIGKILL, 0)
        now = finished(folder)
        assert kept.items() <= now.items()  # what was finished once stays as it was
        kept = now
        for path in (folder / "runs").glob("*/rows.parquet"):
            assert_same(records.load(path), reference)
    assert_same(run(folder), reference)
    assert kept.items() <= finished(folder).items()


def killed_at(publication: int, before: bool, work: Callable[[], object]) -> None:
    """The work, in a process that kills itself at its n-th publication: just before it, or just after."""
    real, left = os.replace, iter(range(publication, -1, -1))

    def replace(*names: object, **places: object) -> None:
        last = next(left) == 0
        if last and before:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*names, **places)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
    work()


def test_killed_around_every_publication_it_resumes(undisturbed, tmp_path):
    """Again and again, before and after the first and the second publication that is left, until all are there."""
    reference, _, content = undisturbed
    folder, ends = fresh(tmp_path), []
    for publication, before in itertools.islice(itertools.cycle(itertools.product((0, 1), (True, False))), 60):
        with apart(lambda p=publication, b=before: killed_at(p, b, lambda: run(folder))) as child:
            ends.append(status(child))
        if len(finished(folder)) == len(content):
            break
    assert set(ends) == {-signal.SIGKILL}
    assert finished(folder).keys() == content.keys()
    assert len(ends) > len(content) / 2
    assert_same(run(folder), reference)


@pytest.mark.parametrize("damage", ["a bit turned", "cut short", "emptied"])
def test_damaged_files_of_the_store_are_made_again(undisturbed, tmp_path, damage):
    reference, _, content = undisturbed
    folder = fresh(tmp_path)
    for number, (name, whole) in enumerate(sorted(content.items())):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        place = (7919 * number) % len(whole)
        broken = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        (folder / name).write_bytes({"a bit turned": broken, "cut short": whole[:place], "emptied": b""}[damage])
    assert_same(run(folder), reference)
    finished(folder)


@pytest.mark.parametrize("kind", ["weights", "certificates", "images", "rows"])
def test_one_damaged_file_is_made_again(undisturbed, tmp_path, kind):
    reference, _, content = undisturbed
    folder = fresh(tmp_path)
    for name, whole in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(whole)
    one = sorted((folder / "store" / kind).iterdir())[0]
    one.write_bytes(one.read_bytes()[:-1] + b"?")
    assert_same(run(folder), reference)


def test_a_damaged_frozen_file_is_refused_by_name(undisturbed, tmp_path, monkeypatch):
    _, _, content = undisturbed
    folder, frozen = fresh(tmp_path), tmp_path / "frozen"
    for name, whole in content.items():
        path = frozen / Path(name).relative_to("store")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
    monkeypatch.setattr(runner, "frozen_folder", lambda: frozen)
    one = sorted((frozen / "weights").iterdir())[0]
    one.write_bytes(one.read_bytes()[:-1] + b"?")
    with pytest.raises(Damaged, match=f"{one.name}: was changed after it was made; install the package again"):
        run(folder)


def limited(work: Callable[[], object], size: int) -> None:
    """The work where no file grows beyond this many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    work()


@pytest.mark.parametrize("size", [1_000, 20_000, 400_000])
def test_where_files_cannot_grow_nothing_is_torn(undisturbed, tmp_path, size):
    """RLIMIT_FSIZE: a write fails in the middle, as on a full disk, wherever these tests run."""
    reference, _, _ = undisturbed
    folder = fresh(tmp_path)
    with apart(lambda: limited(lambda: run(folder), size)) as child:
        assert status(child) in (0, 1)
    kept = finished(folder)
    assert not list((folder / "store").rglob(".part-*"))
    assert_same(run(folder), reference)
    assert kept.items() <= finished(folder).items()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a disk of a given size needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_full_disk_is_said_in_a_line_and_survived(undisturbed, tmp_path):
    reference, _, _ = undisturbed
    folder = fresh(tmp_path)
    (folder / "store").mkdir()
    with small_disk(folder / "store", "500k"):
        command = ["run", folder / "brief.yaml", "--store", folder / "store", "--out", folder / "runs", "-j", "1"]
        ended = subprocess.run(["unfooled", *command], capture_output=True, text=True, env=with_scripts())
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
        assert "No space left on device" in ended.stderr
        assert len(finished(folder)) > 0
        subprocess.run(["mount", "-o", "remount,size=50m", folder / "store"], check=True)
        kept = finished(folder)
        assert_same(run(folder), reference)
        assert kept.items() <= finished(folder).items()


def with_scripts() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_two_processes_on_one_store(undisturbed, tmp_path):
    reference, _, content = undisturbed
    folder = fresh(tmp_path)
    with apart(lambda: run(folder)) as one, apart(lambda: run(folder)) as other:
        assert [status(one), status(other)] == [0, 0]
    made = list((folder / "runs").glob("*/rows.parquet"))
    assert len(made) == 1
    assert_same(records.load(made[0]), reference)
    assert len(finished(folder)) >= len(content)
    assert not list((folder / "store").rglob(".part-*"))
