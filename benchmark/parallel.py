"""Work in several processes of one thread each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    """Two processes of one thread beat one of two; the caller's own setting is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
