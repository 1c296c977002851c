"""What the harness costs beyond an interpreter's bare calls, and how long a new interpreter waits for the ranked suite.

``python -m tests.speed.standard [--no-run]`` prints two tables and asserts nothing. First, in this process with one
thread and in CPU seconds, least of two rounds: a whole unit of work (one interpreter in the first setting of
``standard``: twins loaded, maps asked and checked, similarities, rows and gallery written) beside the interpreter's
calls within it, and where the difference goes. The aim is at most 20 % over the bare calls. Then the wall clock of the
command that a researcher gives, from its start to the ranked table and to the report behind it, with two processes and
an empty store, so that nothing but the baselines' shipped rows is there: a gradient's aim is 20 s, SmoothGrad-16's 150.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from unfooled import asking, building, cost, gathering, localisation, merkle, plugins, records, runner, scoring
from unfooled.baselines.gradients import SimpleGrad
from unfooled.baselines.smoothing import SmoothGrad
from unfooled.suite import Setting
from unfooled.types import Part

PARTS = (Part("simple_grad"), Part("grad_cam"), Part("smoothgrad"))
AIMS = {"NewGradient": 20, "NewSmoothGrad": 150}


@dataclass(frozen=True)
class NewGradient(SimpleGrad):
    """One that no shipped row belongs to."""


@dataclass(frozen=True)
class NewSmoothGrad(SmoothGrad):
    """16 samples, and no shipped row either."""


def watched(part: Part) -> dict[str, list[tuple[object, str]]]:
    """Step → the functions whose time it is, less that of other steps within."""
    return {
        "bare calls": [(type(plugins.build("interpreters", part)), "__call__")],
        "loading twins and images": [(building, "load_twins"), (building, "images"), (gathering, "unit_key")],
        "checks around the calls": [(asking.Interview, "_maps")],
        "similarities": [(scoring.Ruler, "of"), (scoring.Ruler, "measure")],
        "localisation": [(localisation, "figures")],
        "hashes of maps": [(merkle, "leaves")],
        "counting passes": [(cost, "measure")],
        "rows and files": [(asking.Interview, "_frame"), (records, "write_rows")],
    }


@contextmanager
def clocked(part: Part, spent: Counter) -> Iterator[None]:
    """Within the block, CPU seconds of the harness's steps add up in ``spent``, each second in one step."""
    with ExitStack() as patches:
        for step, places in watched(part).items():
            for where, name in places:
                patches.enter_context(mock.patch.object(where, name, _timed(getattr(where, name), step, spent)))
        yield


def _timed(function: Callable, step: str, spent: Counter) -> Callable:
    @functools.wraps(function)
    def timed(*words: object) -> object:
        start, before = time.process_time(), spent.total()
        try:
            return function(*words)
        finally:
            spent[step] += time.process_time() - start - (spent.total() - before)

    return timed


def unit(part: Part, setting: Setting) -> tuple[float, Counter]:
    """CPU seconds of a whole unit of work in a fresh store, and where they went."""
    spent: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        store = runner.open_store(runner.Options(store=Path(folder)), setting.suite)
        with clocked(part, spent):
            start = time.process_time()
            runner._interview(setting, part, store, "cpu", gathering.unit_key(setting, part, store))
            return time.process_time() - start, spent


def overhead() -> None:
    """The first table."""
    setting = runner.prepared("standard").settings()[0]
    print(f"{setting.name}: a unit of work, CPU seconds of one thread, and each step's share of the bare calls")
    for part in PARTS:
        whole, spent = min((unit(part, setting) for _ in range(2)), key=lambda found: found[0])
        calls = spent.pop("bare calls")
        print(f"{part.label:14} bare calls {calls:6.2f}   unit {whole:6.2f}   ratio {whole / calls:.2f} (aim 1.20)")
        spent["everything else"] = whole - calls - spent.total()
        for step, seconds in spent.most_common():
            print(f"    {step:26} {seconds:6.2f}   {100 * seconds / calls:5.0f} %")


def wall() -> None:
    """The second table."""
    for name, aim in AIMS.items():
        with tempfile.TemporaryDirectory() as folder:
            words = ["run", "standard", "--interpreter", f"tests.speed.standard:{name}", "--jobs", "2"]
            places = ["--store", f"{folder}/store", "--out", f"{folder}/runs"]
            start = time.perf_counter()
            command = [sys.executable, "-m", "unfooled.cli", *words, *places]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as made:
                table = next(time.perf_counter() - start for line in made.stdout if line.startswith("run:"))
                made.stdout.read()
            whole = time.perf_counter() - start
            if made.returncode:
                raise SystemExit(f"{' '.join(command)}: exit code {made.returncode}")
            print(f"{name:14} ranked table after {table:.1f} s, report after {whole:.1f} s of wall clock (aim {aim})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-run", action="store_true", help="the first table alone")
    torch.set_num_threads(1)
    chosen = parser.parse_args()
    overhead()
    if not chosen.no_run:
        wall()


if __name__ == "__main__":
    main()
