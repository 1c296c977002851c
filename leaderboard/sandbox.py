"""An interpreter in a process of its own: without the network where the system lets us, with limits, killed when done.

What comes back is arrays and single lines of JSON; nothing of the interpreter's is ever unpickled or imported here.
"""

from __future__ import annotations

import copy
import json
import os
import queue
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import seeding
from unfooled.leaderboard.names import printable
from unfooled.types import UnfooledError

ISOLATED = ("--net", "--pid", "--fork", "--kill-child")
LEAST_ISOLATED = ("--net",)
JITTER = 1e-6
"""relative change of every weight and BatchNorm statistic, so that no file or hash of a known network is met again;
float32 resolves 1e-7. Rounded to half precision it is gone: who looks for that is left to the challenge"""


class WorkerFailed(UnfooledError):
    """The interpreter's process broke a limit, raised or answered nonsense."""

    exit_code = 3


@dataclass(frozen=True)
class Limits:
    """What an interpreter may take altogether."""

    seconds: int = 600
    """of processor time of the process and its children; on the clock four times that, since machines are shared"""
    memory: int = 4 * 2**30
    """resident bytes of the process and its children"""

    @property
    def clock(self) -> int:
        """Seconds on the clock."""
        return 4 * self.seconds


def prefix() -> list[str]:
    """What to put before a command so that it has no network, the strictest that works here; empty if none does."""
    tool = shutil.which("unshare")
    for flags in (("--user", "--map-root-user", *ISOLATED), ISOLATED, ("--user", "--map-root-user", *LEAST_ISOLATED)):
        if tool and subprocess.run([tool, *flags, "true"], capture_output=True).returncode == 0:
            return [tool, *flags]
    return []


def enforced(isolation: list[str]) -> dict[str, str]:
    """What is enforced around a worker with this prefix, as a verification records it."""
    on_linux = Path("/proc/self/status").exists()
    return {
        "process": "separate",
        "network": "none" if "--net" in isolation else "not enforced",
        "time": "limited",
        "memory": "limited" if on_linux else "not enforced",
        "processes": "own namespace" if "--pid" in isolation else "not enforced",
        "files": "not enforced",
    }


@dataclass
class Worker:
    """The other process: an interpreter to whoever calls it."""

    process: subprocess.Popen
    folder: Path
    limits: Limits
    at: str
    """where the maps lie, as the caller takes it"""
    traits: dict = field(default_factory=dict)
    """what the interpreter declares of itself"""
    began: float = field(default_factory=time.monotonic)
    lines: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    models: dict[int, tuple[str, nn.Module]] = field(default_factory=dict)
    broke: str = ""
    """which limit was broken"""

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
        """The interpreter's maps, drawn from the random stream that the caller has forked (``seeding.forked``)."""
        name = secrets.token_hex(8)
        question = {"model": self._sent(model), "images": f"{name}.x.npy", "targets": f"{name}.y.npy"}
        np.save(self.folder / question["images"], inputs.cpu().numpy())
        np.save(self.folder / question["targets"], targets.cpu().numpy())
        answer = self.folder / f"{name}.npy"
        self.ask({**question, "seed": torch.initial_seed(), "answer": answer.name})
        maps = _maps(answer, len(inputs))
        for path in (answer, self.folder / question["images"], self.folder / question["targets"]):
            path.unlink(missing_ok=True)
        return maps

    def _sent(self, model: nn.Module) -> str:
        """The model's file, its name without meaning, its weights jittered; the model is kept, so ids stay true."""
        if id(model) not in self.models:
            name = f"{secrets.token_hex(8)}.pt"
            torch.save(jittered(model, name), self.folder / name)
            self.models[id(model)] = name, model
        return self.models[id(model)][0]

    def ask(self, content: dict) -> dict:
        """One line there, one line back. Raises WorkerFailed."""
        try:
            self.process.stdin.write(json.dumps(content) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=self.limits.clock)
        except OSError:
            line = None
        except queue.Empty:
            line, self.broke = None, self.broke or f"ran for more than {self.limits.clock} s"
        try:
            reply = json.loads(line or "")
        except ValueError:
            raise WorkerFailed(f"the interpreter's process {self.broke or self._end()}") from None
        if not isinstance(reply, dict) or "error" in reply:
            raise WorkerFailed(printable(str(reply.get("error", reply) if isinstance(reply, dict) else reply), 300))
        return reply

    def _end(self) -> str:
        """How the process ended, in words."""
        self.kill()
        said = (self.folder / "stderr").read_bytes()[-300:].decode("utf-8", "replace").strip().splitlines()
        return f"ended without an answer ({printable(said[-1], 200) if said else 'it said nothing'})"

    @property
    def clock(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.began

    @property
    def spent(self) -> float:
        """Seconds of processor time so far; seconds on the clock where the system does not tell."""
        return usage(self.process.pid).seconds or self.clock

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def jittered(model: nn.Module, *words: object) -> nn.Module:
    """A copy whose weights and floating buffers differ by a millionth of themselves."""
    twin = copy.deepcopy(model)
    stream = seeding.generator("jitter", *words)
    with torch.no_grad():
        for values in (*twin.parameters(), *(b for b in twin.buffers() if b.is_floating_point())):
            noise = torch.rand(values.shape, generator=stream).to(values.device) * 2 - 1
            values.mul_(1 + JITTER * noise)
    return twin


def _maps(path: Path, count: int) -> np.ndarray:
    """The answer's array. Raises WorkerFailed for a file that is none of ``count`` maps."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a pipe would be waited for
            raise ValueError
        maps = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise WorkerFailed(f"the interpreter's process left no maps ({type(error).__name__})") from None
    if maps.dtype != np.float32 or maps.ndim not in (3, 4) or len(maps) != count or not 0 < maps.nbytes < 2**30:
        raise WorkerFailed(f"the interpreter's process answered {maps.dtype} {maps.shape} for {count} images")
    return np.array(maps)


@contextmanager
def worker(part: dict, at: str, limits: Limits, device: str, isolation: list[str]) -> Iterator[Worker]:
    """A process with this interpreter (as suites write it), killed at the end of the block. Raises WorkerFailed."""
    folder = Path(tempfile.mkdtemp(prefix="unfooled-verify-"))
    started = None
    try:
        with (folder / "stderr").open("wb") as stderr:
            command = [*isolation, sys.executable, "-m", "unfooled.leaderboard.worker", str(folder)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=_environment(folder),
                start_new_session=True,
            )
        started = Worker(process, folder, limits, at)
        for task in (_listen, _watch):
            threading.Thread(target=task, args=(started,), daemon=True).start()
        started.traits = started.ask({"part": part, "seconds": limits.seconds, "device": device})
        yield started
    finally:
        if started:
            started.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of ours but where programs and modules lie: a stranger's code shall find no secrets in it."""
    needed = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **threads, "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def _listen(worker: Worker) -> None:
    """Put every line that arrives, cut at 64 KiB, where ``ask`` waits for it; an empty one at the end."""
    while line := worker.process.stdout.readline(2**16):
        worker.lines.put(line)
    worker.lines.put("")


def _watch(worker: Worker) -> None:
    """Kill the process once its tree holds more memory, or has run longer, than its limits say."""
    limits = worker.limits
    while worker.process.poll() is None:
        used = usage(worker.process.pid)
        if used.memory > limits.memory:
            worker.broke = f"took more than {limits.memory / 2**30:.1f} GiB of memory"
        elif used.seconds > limits.seconds:
            worker.broke = f"took more than {limits.seconds} s of processor time"
        elif worker.clock > limits.clock:
            worker.broke = f"ran for more than {limits.clock} s"
        if worker.broke:
            worker.kill()
            return
        time.sleep(0.1)


@dataclass(frozen=True)
class Usage:
    """What a process and all its descendants take; zeros where the system does not tell."""

    memory: int = 0
    """resident bytes"""
    seconds: float = 0.0
    """of processor time, that of descendants that have ended included"""


def usage(pid: int) -> Usage:
    """What ``/proc`` says of a process and its descendants now."""
    parents, sizes, ticks = {}, {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        one = int(path.parent.name)
        parents[one], sizes[one] = int(fields[1]), int(fields[21])
        ticks[one] = sum(map(int, fields[11:15]))  # its own, in user and system mode, then its ended children's
    family = {pid} & parents.keys()
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    memory, time_taken = sum(sizes[p] for p in family), sum(ticks[p] for p in family)
    return Usage(memory * os.sysconf("SC_PAGE_SIZE"), time_taken / os.sysconf("SC_CLK_TCK"))
