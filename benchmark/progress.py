"""Progress on stderr: a bar with an estimate in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_EVERY = 5.0  # seconds between plain lines: a log should stay readable


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what was finished, how many are, of how many) that shows it."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda what, done, total: shown.update(task, description=what, completed=done, total=total)


def _plain() -> Callable[[str, int, int], None]:
    """Lines; the estimate goes by what was finished since the first of a series, which may have found much done."""
    begun = last = 0.0
    before = at_first = 0

    def show(what: str, done: int, total: int) -> None:
        nonlocal begun, before, at_first, last
        now = time.monotonic()
        if not before or done < before:  # another series
            begun, at_first = now, done
        before = done
        if now - last < PLAIN_EVERY and done not in (at_first, total):
            return
        last = now
        left = (now - begun) / max(done - at_first, 1) * (total - done)
        known = at_first < done < total
        print(f"{done}/{total} {what}" + (f", about {left:.0f} s left" if known else ""), file=sys.stderr)

    return show
