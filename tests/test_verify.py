"""Verification: an honest entry, edited ones, cheats, the sandbox and what it lets an interpreter do."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import entries
import numpy as np
import pytest
import strangers
import synthetic_rows as synthetic
import torch
from torch import nn

from unfooled import building, runner, seeding, suite
from unfooled.leaderboard import (
    challenge,
    checker,
    parts,
    recompute,
    reference,
    reveal,
    sandbox,
    showing,
    spotcheck,
    submission,
    verify,
)
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.entry import VERIFIED
from unfooled.leaderboard.sandbox import Limits, WorkerFailed
from unfooled.leaderboard.verified import Challenge
from unfooled.store import Store
from unfooled.types import Part, UnfooledError

TINY = """
name: tiny
version: 1
dataset: {use: scenes, train: 500, tune: 50, test: 60}
architectures: [{name: vgg, model: vgg, fit: {steps: 60, batch: 32, rate: 0.006}, recipe: {steps: 10}}]
cells: [{manipulation: location, against: grad_cam, weights: [5]}]
interpreters: ["strangers:gradient", "strangers:Remembers"]
metrics: [spearman, top_k, ssim, pearson, hog, mse]
images: 8
judged: 20
draws: 1
gates: {accuracy_drop: 1.0, agreement_drop: 1.0, fooled: 0.0}
"""
ISOLATION = sandbox.prefix()
QUIET = verify.Options(cells=1, nonce="n", with_challenge=False)


@pytest.fixture(scope="module", autouse=True)
def importable(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("UNFOOLED_SECRET", "hidden")
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A suite that is fitted in seconds, its store, and a folder of its run's entries."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY)
    what, store = suite.load(folder / "tiny.yaml"), folder / "store"
    made = runner.run(what, options=runner.Options(store=store, out=folder / "runs"))
    known = reference.of_suite(what, Store(store))
    (folder / "entries").mkdir()
    for label in made.header["interpreters"]:
        submission.write(entries.entry(made, label, known, label.split(":")[1]), folder / "entries")
    return what, Store(store), folder / "entries"


def outcome(tiny, path: Path, options: verify.Options = QUIET):
    what, store, _ = tiny
    return verify.verify(path, what, store, options, lambda text: None)


def test_an_honest_entry_is_verified(tiny):
    path = tiny[2] / "tiny-gradient.json"
    found = outcome(tiny, path)
    assert (tiny[2] / f"tiny-gradient{VERIFIED}").is_file()
    assert (found.outcome, found.reasons, found.source) == ("verified", [], "same")
    assert found.cells[0].worst[0] < 0.5  # the jitter of the weights is all that differs
    assert found.enforced.network == ("none" if "--net" in ISOLATION else "not enforced")
    known = {"tiny": reference.of_suite(tiny[0], tiny[1])}
    again = checker.check([tiny[2]], known)
    assert again.complaints == []
    assert next(f for f in again.passed if f.path == path).verified == found


def test_parts_that_were_edited_together_differ(tiny, tmp_path):
    """Every aggregate follows from the edited parts, so no checker can tell; whoever asks again can."""
    what, store, folder = tiny
    known = reference.of_suite(what, store)
    honest = checker.check([folder / "tiny-gradient.json"], {"tiny": known}).passed[0].entry
    block = honest.parts[0]
    better = {name: [round(m - 0.05, 6) for m in means] for name, means in block.cells.items()}
    edited = honest.model_copy(update={"parts": [block.model_copy(update={"cells": better})]})
    scores = entries.aggregated(edited, parts.aggregates([edited]), 0)["scores"]
    ends = {n: getattr(scores, n).model_copy(update={"low": None, "high": None}) for n in ("transfer", "attacked")}
    ends = {n: e.model_copy(update={"low": e.value, "high": e.value}) for n, e in ends.items()}
    path = submission.write(edited.model_copy(update={"scores": scores.model_copy(update=ends)}), tmp_path)
    assert checker.check([path], {"tiny": known}).complaints == []
    found = outcome(tiny, path)
    assert found.outcome == "differs"
    assert "vgg-0, location:grad_cam: differs by 0.05" in found.reasons[0]


def test_a_cheat_with_a_memory_has_none_here(tiny):
    found = outcome(tiny, tiny[2] / "tiny-remembers.json")
    assert found.outcome == "differs"
    assert found.cells[0].fooled.reported == [1.0] * 6
    assert max(found.cells[0].fooled.recomputed) < 1


def test_a_method_that_never_answers_has_failed(tiny, tmp_path):
    """An entry with good figures whose interpreter, when asked again, burns its time."""
    known = {"tiny": reference.of_suite(tiny[0], tiny[1])}
    one = checker.check([tiny[2] / "tiny-gradient.json"], known).passed[0].entry
    method = one.method.model_copy(update={"reference": "strangers:Stranger", "parameters": {"what": "loops"}})
    path = submission.write(one.model_copy(update={"method": method}), tmp_path)
    found = outcome(tiny, path, replace(QUIET, limits=Limits(6)))
    assert (found.outcome, found.cells) == ("failed", [])
    assert "6 s of processor time" in found.reasons[0] or "ended with signal" in found.reasons[0]


@dataclasses.dataclass(frozen=True)
class Slow(recompute.Work):
    """Work whose settings take 40 s each, by a clock of its own."""

    clock: list = dataclasses.field(default_factory=lambda: [0])

    @property
    def spent(self) -> float:
        return 40.0 * len(self.clock)

    def _ask_again(self, name, cells, worker, found):
        self.clock.append(0)
        found.cells += [f"{name} {cell}" for cell in cells]


@pytest.mark.parametrize(("enough", "settings"), [(0, 1), (79, 1), (80, 2), (10**6, 4)])
def test_of_a_slow_method_fewer_cells_are_asked_again_and_that_is_said(enough, settings):
    one = entries.many(1)[0]
    options = verify.Options(cells=5, enough=enough, nonce="n")
    drawn = spotcheck.drawn(one, 5, "n")
    assert len(drawn) == 4
    slow = Slow(one, {}, Store(Path()), options, [], lambda text: None)
    found = recompute.Found()
    assert slow._recompute(Asked(slow), found) == pytest.approx(40)
    assert found.cells == [f"{name} {cell}" for name in list(drawn)[:settings] for cell in drawn[name]]
    left = 5 - len(found.cells)
    assert found.unchecked == ([f"{left} of the drawn cells: slow, 40 s a setting"] if left else [])


@dataclasses.dataclass
class Asked:
    """A worker of whom only the time it took is known."""

    work: Slow
    traits: dict = dataclasses.field(default_factory=dict)

    @property
    def spent(self) -> float:
        return self.work.spent


def test_a_challenge_that_would_break_the_limit_is_left_out_and_that_is_said():
    slow = Slow(entries.many(1)[0], {}, Store(Path()), verify.Options(nonce="n", limits=Limits(100)), [], print)
    found = recompute.Found()
    assert slow._in_time(99, found)
    assert not slow._in_time(101, found)
    assert found.unchecked == ["the challenge: slow, 101 s expected in all"]


def test_adaptive_values_are_said_to_be_unverified(tiny, monkeypatch):
    monkeypatch.setattr(recompute.Work, "_recompute", lambda *_: 0.0)
    one = entries.entry(
        entries.run(replace(entries.WORLD, adaptive={"gradient|location": 0.2}, images=4)),
        "gradient",
        entries.reference(replace(entries.WORLD, adaptive={"gradient|location": 0.2}, images=4)),
    )
    settings = {s.name: s for s in tiny[0].settings()}
    with_it = recompute.Work(one, settings, tiny[1], QUIET, [], print).done()
    assert with_it.unchecked == ["adaptive stability: reported, not verified"]


def test_entries_of_a_folder_are_verified_with_one_nonce_and_only_once(tiny, tmp_path):
    _, store, folder = tiny
    for name in ("gradient", "remembers"):
        (tmp_path / f"tiny-{name}.json").write_bytes((folder / f"tiny-{name}.json").read_bytes())
    files = verify.to_verify([tmp_path])
    suite_file = folder.parent / "tiny.yaml"
    found = dict(verify.verify_files(files, str(suite_file), store.root, QUIET, 1, print))
    assert {path.name: v.outcome for path, v in found.items()} == {
        "tiny-gradient.json": "verified",
        "tiny-remembers.json": "differs",
    }
    assert {v.nonce for v in found.values()} == {"n"}
    assert verify.to_verify([tmp_path]) == []
    assert verify.to_verify(files) == files
    (tmp_path / "tiny-gradient.json").write_text("{}")
    assert [p.name for p in verify.to_verify([tmp_path])] == ["tiny-gradient.json"]
    ((_, error),) = verify.verify_files(verify.to_verify([tmp_path]), str(suite_file), store.root, QUIET, 1, print)
    assert verify.exit_code(error) == 1
    assert "is missing" in verify.lines(Path("x.json"), error)[0]


def test_entries_are_verified_side_by_side(tiny, tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in files:
        path.write_text("{}")
    found = verify.verify_files(files, None, tiny[1].root, QUIET, 2, print)
    assert [(path, type(error)) for path, error in found] == [(path, checker.Refused) for path in files]


@pytest.mark.parametrize("name", ["gradient", "remembers"])
def test_maps_that_are_drawn_again_make_the_entrys_root_and_a_pixel_shows(tiny, tmp_path, name):
    what, store, folder = tiny
    file = folder / f"tiny-{name}.json"
    assert showing.draw_again(file, str(folder.parent / "tiny.yaml"), store.root, tmp_path) == []
    known = {"tiny": reference.of_suite(what, store)}
    entry = checker.check([file], known).passed[0].entry
    with np.load(tmp_path / "vgg-0.npz") as arrays:
        maps = arrays["test"]
    # original, self, wrong class, honest, fooled, one randomised, one with a random top
    assert (maps.shape[0], maps.dtype) == (7, np.uint8)
    assert maps.shape[1] == min(entry.parts[0].images, what.images)
    maps[3, 2, 5, 5] ^= 1
    np.savez(tmp_path / "vgg-0.npz", test=maps)
    (complaint,) = reveal.check(entry, tmp_path, what.chunk)
    assert "vgg-0.npz: its maps make root" in str(complaint)


def test_an_entry_of_other_networks_cannot_be_compared(tiny, tmp_path):
    with pytest.raises(verify.NotComparable, match="are not in the store; run tiny once"):
        verify.verify(tiny[2] / "tiny-gradient.json", tiny[0], Store(tmp_path), QUIET, print)


def test_an_entry_that_the_checker_refuses_is_not_asked(tiny, tmp_path):
    (tmp_path / "tiny-gradient.json").write_text("{}")
    with pytest.raises(checker.Refused, match="is missing"):
        outcome(tiny, tmp_path / "tiny-gradient.json")
    with pytest.raises(UnfooledError, match="the nonce is"):
        replace(QUIET, nonce="../x")


def test_the_draw_hangs_on_the_entry_and_on_the_nonce():
    one = entries.many(1)[0]
    two = one.model_copy(update={"runs_made": 4})
    draws = [spotcheck.drawn(e, 5, nonce) for e in (one, two) for nonce in ("a", "b")]
    assert spotcheck.drawn(one, 5, "a") == draws[0]
    assert all(draws[i] != draws[j] for i in range(4) for j in range(i))
    assert sum(map(len, spotcheck.drawn(one, 999, "a").values())) == sum(len(b.cells) for b in one.parts)


def test_the_tolerance_follows_the_recorded_noise_up_to_an_end():
    one = entries.many(1)[0]
    one = one.model_copy(update={"parts": [b.model_copy(update={"valid": 50}) for b in one.parts]})
    assert spotcheck.tolerance(one, one.parts[0]) == pytest.approx([0.001 + 0.05 / 50] * 6)
    noisy = one.model_copy(update={"method": one.method.model_copy(update={"stochastic": True})})
    block = next(b for b in noisy.parts if b.controls)
    again = block.controls.model_copy(update={"again": [1.0, 0.99, 0.9, 0.0, 1.0, 1.0]})
    block = block.model_copy(update={"controls": again, "valid": 800})
    noisy = noisy.model_copy(update={"parts": [block]})
    # 0.05 / 800 = 0.0000625 for flips, 4 · √(2 / 800) = 0.2 of the noise
    right = np.array([0.001, 0.003, 0.021, 0.05, 0.001, 0.001]) + np.array([1, 1, 1, 0, 1, 1]) * 0.05 / 800
    assert spotcheck.tolerance(noisy, block) == pytest.approx(right, abs=1e-6)
    assert spotcheck.tolerance(noisy, block, shaken=[0.5] * 6) == pytest.approx(right, abs=1e-6), "its own noise counts"
    # What has no noise of its own is allowed what another jitter of the weights does, None: nothing to compare.
    assert spotcheck.tolerance(one, block, shaken=[1.0, 0.99, 0.9, 0.0, 1.0, None]) == pytest.approx(right, abs=1e-6)


@pytest.fixture(scope="module")
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8)).eval()


IMAGES = torch.rand(2, 3, 8, 8)


@contextlib.contextmanager
def stranger(limits: Limits = Limits(60), **arguments: object):  # noqa: B008
    with sandbox.worker({"use": "strangers:Stranger", **arguments}, "input", limits, "cpu", ISOLATION) as worker:
        yield worker


@pytest.fixture(scope="module")
def port():
    """Of a server on this machine that accepts whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: [server.accept() for _ in range(9)], daemon=True).start()
        socket.create_connection(server.getsockname(), 1).close()
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def worker(port, importable):
    with stranger(port=port) as started:
        yield started


def ask(worker, network, behaviour: str) -> np.ndarray:
    return worker(network, IMAGES, torch.tensor([strangers.BEHAVIOURS.index(behaviour), 1]))


def test_the_worker_answers_what_the_interpreter_would(worker, network):
    """To the jitter: maps differ by a few millionths of themselves."""
    right = strangers.gradient(network, IMAGES, torch.tensor([0, 1])).numpy()
    np.testing.assert_allclose(ask(worker, network, ""), right, rtol=1e-4, atol=1e-7)
    assert worker.traits["family"] == "gradients"
    assert len(worker.traits["fingerprint"]) == 16


def test_the_worker_has_no_network_no_secrets_no_memory_and_the_callers_random_stream(worker, network):
    for _ in range(2):
        with seeding.forked("words"):
            right = torch.rand(()).item()
        with seeding.forked("words"):
            met, secret, reached, noise = ask(worker, network, "tells")[0, 0, 0]
        assert (met, secret) == (1, 0)
        assert noise == pytest.approx(right, abs=1e-7)
        if "--net" in ISOLATION:
            assert reached == 0


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("raises", r"raised ValueError: line one\\x0aline two \\x1b\[31m"),
        ("trains", "changed the values of"),
        ("mumbles", r"answered float32 \(1, 3, 8, 8\) for 2 images"),
        ("pickles", r"left no maps \(ValueError\)"),
        ("leaves", "ended with code 0, unanswered"),
    ],
)
def test_misbehaviour_ends_in_one_sentence_and_the_worker_goes_on(worker, network, behaviour, said):
    with pytest.raises(WorkerFailed, match=said):
        ask(worker, network, behaviour)
    assert ask(worker, network, "").shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("what", "limits", "said"),
    [
        ("hoards", Limits(60, 2**30), "took more than 1.0 GiB of memory"),
        ("loops", Limits(6), "ended with signal|took more than 6 s of processor time"),
    ],
)
def test_a_broken_limit_ends_it(network, what, limits, said):
    with pytest.raises(WorkerFailed, match=said), stranger(limits, what=what) as started:
        started(network, IMAGES, torch.tensor([0, 1]))


def test_whoever_sleeps_is_ended_by_the_clock(network, monkeypatch):
    with stranger(what="sleeps") as started:
        end = started.clock + 1
        monkeypatch.setattr(Limits, "clock", property(lambda self: end))
        with pytest.raises(WorkerFailed, match="ran for more than"):
            started(network, IMAGES, torch.tensor([0, 1]))


def test_an_interpreter_that_is_not_there_is_said_to_be_so():
    part = {"use": "nobody:Home"}
    with (
        pytest.raises(WorkerFailed, match=r"no module 'nobody'"),
        sandbox.worker(part, "input", Limits(60), "cpu", ISOLATION),
    ):
        pass


def test_jitter_changes_every_weight_and_statistic_and_hardly(network):
    twin = sandbox.jittered(network, "words")
    told = [[*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())] for net in (network, twin)]
    for before, after in zip(*told, strict=True):
        assert (before != after).float().mean() > 0.5 or not before.any()
        assert ((before - after).abs() <= 1.2e-6 * before.abs()).all()


def test_the_resident_memory_of_a_process_is_what_the_kernel_says():
    """Second source: VmRSS of /proc/PID/status, of a process that waits."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc on this system")
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        kib = int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
        assert sandbox.usage(process.pid).memory == pytest.approx(kib * 1024, rel=0.05)
        process.communicate(b"\n")


def test_the_processor_time_of_a_process_counts_children_that_have_ended():
    """Second source: what the system says of ended children once all is over."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc on this system")
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    code = f"{child}\n{burn}\nprint(1, flush=True); input()"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        told = sandbox.usage(process.pid).seconds
        process.communicate(b"\n")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    right = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert told >= 0.55
    assert told == pytest.approx(right, abs=0.15)  # ticks of 10 ms, and the way out


def test_the_challenge_is_new_for_every_nonce_and_aims_elsewhere():
    one = entries.many(2)
    metrics = [Part(m) for m in entries.synthetic.SIX]
    a, b = (challenge.setting(one[0], metrics, nonce) for nonce in ("a", "b"))
    assert len({s.original_key for s in (a, b)}) == 2
    assert a.suite.dataset.arguments["seed"] != b.suite.dataset.arguments["seed"]
    assert one[0].method.family == "gradients"
    assert a.suite.cells[0].against.label == "grad_cam"
    cam = one[1].model_copy(update={"method": one[1].method.model_copy(update={"family": "activations"})})
    assert challenge.setting(cam, metrics, "a").suite.cells[0].against.label == "simple_grad(at=T)"


def test_what_the_challenge_is_compared_with_is_written_again_from_the_parts():
    one = entries.many(1)[0]
    cell = challenge.setting(one, [Part("spearman")], "a").suite.cells[0]
    found = challenge.comparable(one, cell, np.ones((1, 6), bool))
    blocks = [b for b in one.parts if b.setting.startswith("vgg") and b.split == "test"]
    cells = [c for c in one.cells if c.startswith("location")]
    top = sum(np.array(b.cells[c]) - np.array(b.randomised) for b in blocks for c in cells)
    bottom = sum(np.array(b.honest) - np.array(b.randomised) for b in blocks for _ in cells)
    assert found.value[0] == pytest.approx((top / bottom).mean())
    assert found.degrees == 2


def test_the_challenge_shows_a_gap(tiny, monkeypatch):
    """The honest entry's gap is within what is allowed; its maps' stability on new networks has an interval."""
    monkeypatch.setattr(challenge, "SCENES", {"train": 500, "tune": 50, "test": 60})
    monkeypatch.setattr(challenge, "FIT", replace(challenge.FIT, steps=60))
    monkeypatch.setattr(challenge, "RECIPE", replace(challenge.RECIPE, steps=10))
    what, store, folder = tiny
    known = reference.of_suite(what, store)
    honest = checker.check([folder / "tiny-gradient.json"], {"tiny": known}).passed[0].entry
    if checker.unranked(honest):
        pytest.skip(f"the tiny suite's gradient is {checker.unranked(honest)}")
    fresh = challenge.setting(honest, what.metrics, QUIET.nonce)
    assert not building.finished(fresh, store)
    found = outcome(tiny, folder / "tiny-gradient.json", replace(QUIET, with_challenge=True))
    assert building.finished(fresh, store)  # for the next entry with this nonce
    assert found.challenge.low <= found.challenge.stability <= found.challenge.high
    assert found.challenge.gap == pytest.approx(found.challenge.reported - found.challenge.stability, abs=1e-5)


@pytest.mark.parametrize(("level", "held"), [(0.05, True), (0.95, False)])
def test_stability_that_does_not_carry_over_is_held_against_an_entry(level, held):
    """An entry of stability 0.9 on the suite, on new networks as unstable as a random one, or as stable."""
    one = next(e for e in entries.many(30) if 0.85 < e.scores.transfer.value < 0.95)
    label = one.method.part.label
    truth = synthetic.Truth(label, one.method.family, transfer=level, attacked=level)
    world = synthetic.World((truth,), (("vgg-0", "vgg"),), ("location",), ("activations",), images=40)
    made = st.study(synthetic.rows(world), synthetic.header(world), "absolute", "input", list(synthetic.SIX))
    certificate = {"kept": {"accuracy": 0.98}, "rates": {"corrected": 0.9}}
    fresh = challenge.setting(one, [Part("spearman")], "a")
    found = challenge.judged(one, fresh, challenge.Outcome(made, certificate, 40))
    assert found.stability == pytest.approx(level, abs=0.2)
    assert (found.gap > found.allowed) == held
    assert bool(list(challenge.complaints(found, 1.0))) == held


def test_who_keeps_silent_on_new_networks_does_not_evade_the_challenge():
    told = {"against": "grad_cam", "images": 40, "accuracy": 0.98, "success": 0.9, "low": None, "high": None}
    fine = Challenge(**told, stability=0.8, reported=0.9, gap=0.1, allowed=0.4)
    mute = Challenge(**told, stability=None, reported=0.9, gap=None, allowed=0.4)
    assert list(challenge.complaints(fine, 0.5)) == []
    assert list(challenge.complaints(fine, 0.4)) == [
        "challenge: on new networks its maps say something on 40% of the images; 50% needed"
    ]
    assert list(challenge.complaints(mute, 0.0)) == [
        "challenge: on new networks its maps say something on 0% of the images; 50% needed"
    ]
    assert list(challenge.complaints(mute, float("nan")))
    assert list(challenge.complaints(mute, 1.0)) == ["challenge: its stability on new networks is undefined"]


def test_images_that_were_left_out_are_counted_again():
    one = entries.many(1)[0]
    block = next(b for b in one.parts if b.split == "test")
    cell = next(iter(block.cells))

    def said(valid):
        again = block.model_copy(update={"valid": valid})
        return list(spotcheck.silenced(one, block.setting, cell, {"test": again}))

    assert said(block.valid) == []
    assert said(block.valid // 2) == [
        f"{block.setting}, {cell}: the original's maps say something on {block.valid // 2} images, "
        f"{block.valid} reported"
    ]
