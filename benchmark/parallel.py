"""Work in several processes of one thread each."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from unfooled.types import UnfooledError


class Killed(UnfooledError):
    """A worker process ended in mid-work."""

    exit_code = 3


def results(work: Sequence[tuple], jobs: int) -> Iterator:
    """What each piece of ``joblib.delayed`` work returns, in the order of the work, from no more processes than pieces.

    One job, or one piece, stays in this process. Raises Killed where a worker process did not survive.
    """
    jobs = min(jobs, len(work))
    if jobs <= 1:
        yield from (function(*arguments, **keywords) for function, arguments, keywords in work)
        return
    try:
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            yield from joblib.Parallel(return_as="generator")(work)
    except TerminatedWorkerError as error:
        raise Killed(
            f"run: a worker process was killed, as a system short of memory does; with --jobs {max(jobs // 2, 1)} the "
            "same command goes on from what is finished"
        ) from error


@contextmanager
def one_thread() -> Iterator[None]:
    """How work on networks is done: two processes of one thread beat one of two, and freed memory is kept.

    The caller's own number of threads is put back.
    """
    _keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Let glibc keep what tensors free for the next ones, for as long as the process lives.

    It would give every large block back to the system, which then hands it out again page by page, emptied: a tenth of
    a fooling step. Peaks of memory were measured the same. Other C libraries are left as they are.
    """
    with suppress(AttributeError, OSError, TypeError):  # no glibc: no such function, or no library to look it up in
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
