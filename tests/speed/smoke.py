"""CPU seconds of a smoke run by phase, in one process with one thread: `python -m tests.speed.smoke [--refit]`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = time.process_time()


@contextmanager
def phase(name: str, spent: dict[str, float]) -> Iterator[None]:
    before = time.process_time()
    yield
    spent[name] = time.process_time() - before


def main(refit: bool) -> None:
    spent: dict[str, float] = {}
    with phase("imports", spent):
        import torch

        from unfooled import report, runner
        from unfooled.leaderboard import ranking

        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        options = runner.Options(1, store=Path(folder) / "store", out=Path(folder) / "runs", refit=refit)
        suite = runner.prepared("smoke")
        store = runner.open_store(options, suite)
        with phase("twins", spent):
            runner.build(suite, store, options, lambda *_: None)
        with phase("asking and scoring", spent):
            made = runner.run(suite, (), options)
        with phase("ranking", spent):
            ranking.scores(made.rows, made.header)
        with phase("report and figures", spent):
            report.write(made)
    for name, seconds in {**spent, "all": time.process_time() - START}.items():
        print(f"{name:20} {seconds:7.1f} s")


if __name__ == "__main__":
    main("--refit" in sys.argv)
