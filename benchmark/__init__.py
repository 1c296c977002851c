"""unfooled: which interpreters stay honest when the model is made to lie?

The Python face: ``run`` a suite, ``load`` a run, ``rank`` its interpreters, ``compare`` two runs. Nothing heavy is
imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from unfooled.leaderboard.verdicts import Comparison
    from unfooled.records import Run


def run(
    suite: str | Path,
    interpreters: str | Iterable[str] = (),
    *,
    jobs: int = 1,
    device: str = "cpu",
    data: str | None = None,
    out: str | Path = "runs",
    store: str | Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    refit: bool = False,
) -> Run:
    """Run a suite, a file or a shipped one by name, with further interpreters beside its own, as ``unfooled run`` does.

    ``interpreters``: ``name``, ``module:Name`` or ``name?samples=32``, one or several. Failed ones stand in the run's
    header. Raises UnfooledError for what the caller can mend.
    """
    from unfooled import runner
    from unfooled.specs import as_part

    options = runner.Options(jobs, device, Path(store) if store else None, Path(out), refit)
    named = [interpreters] if isinstance(interpreters, str) else interpreters
    return runner.run(runner.prepared(suite, data, seed, limit), [as_part(i) for i in named], options)


def load(path: str | Path) -> Run:
    """A run from its folder or its rows.parquet."""
    from unfooled import records

    return records.load(path)


def rank(run: Run, *, polarity: str = "absolute", at: str = "input") -> pd.DataFrame:
    """The ranked table of a run as a pandas frame, one row per interpreter (docs/ranking.md)."""
    from unfooled.leaderboard import ranking

    return ranking.scores(run.rows, run.header, polarity=polarity, at=at)


def compare(base: Run, new: Run) -> Comparison:
    """What changed from one run to another on the same frozen twins, image by image."""
    from unfooled.leaderboard import regression

    return regression.compare(base, new)
