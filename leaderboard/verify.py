"""Recompute what a submitter could not foresee, in a sandbox, and write what was found beside the entry.

Gradient-like methods take about two minutes. Of slower ones fewer of the drawn cells are asked again, and one that does
not answer within its limits has failed; whatever was left out is written down.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from unfooled import runner
from unfooled import suite as suites
from unfooled.leaderboard import checker, sandbox, spotcheck
from unfooled.leaderboard.checker import Filed
from unfooled.leaderboard.entry import SUFFIX, VERIFIED, as_json
from unfooled.leaderboard.names import printable
from unfooled.leaderboard.recompute import Options, Say, Work
from unfooled.leaderboard.reference import Reference, of_suite
from unfooled.leaderboard.verified import Enforced, Verified
from unfooled.store import Store, publish
from unfooled.suite import Suite
from unfooled.types import UnfooledError


class NotComparable(UnfooledError):
    """The twins that an entry was run on are not here."""

    exit_code = 4


def to_verify(paths: Iterable[Path]) -> list[Path]:
    """Files as they are named; of a folder the entries that are not verified yet. Raises UnfooledError for neither."""
    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise UnfooledError(f"{path}: no such file or folder; name entries, or the folder that holds them")
    return [file for path in paths for file in (checker.unverified(path) if path.is_dir() else [path])]


def verify_files(
    paths: Sequence[Path], suite: str | None, store: Path | None, options: Options, jobs: int, say: Say
) -> Iterator[tuple[Path, Verified | UnfooledError]]:
    """Verify entries in ``jobs`` processes, with one nonce, and so with the same new networks; outcomes as they come.

    The suite is a file, or None for the shipped one that each entry names; ``say`` can be pickled. An error is why an
    entry's verification could not be begun; nothing was written beside it then.
    """
    ask = functools.partial(_outcome, suite=suite, store=store, options=options, say=say)
    if min(jobs, len(paths)) <= 1:
        yield from ((path, ask(path)) for path in paths)
        return
    # Not joblib's processes: each of these starts another one, for the challenge's networks, which theirs cannot.
    with ProcessPoolExecutor(min(jobs, len(paths)), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield from zip(paths, pool.map(ask, paths), strict=True)


def _outcome(path: Path, suite: str | None, store: Path | None, options: Options, say: Say) -> Verified | UnfooledError:
    try:
        what = suites.load(suite or checker.named_suite(path))
        return verify(path, what, runner.open_store(runner.Options(store=store), what), options, say)
    except UnfooledError as error:
        return error


def verify(path: Path, suite: Suite, store: Store, options: Options, say: Say) -> Verified:
    """Verify the entry in a file and write the outcome beside it. Raises UnfooledError where that cannot be begun."""
    started = time.monotonic()
    filed = checked(path, of_suite(suite, store))
    settings = {s.name: s for s in suite.settings()}
    isolation = sandbox.prefix()
    found = Work(filed.entry, settings, store, options, isolation, say).done()
    verified = Verified(
        format=1,
        entry=filed.digest,
        outcome="failed" if found.failure else "differs" if found.reasons else "verified",
        reasons=[printable(r, 390) for r in ([found.failure] if found.failure else found.reasons)[:50]],
        unchecked=found.unchecked,
        nonce=options.nonce,
        cells=found.cells,
        **spotcheck.totals(filed.entry, found.cells),
        challenge=found.challenge,
        enforced=Enforced.model_validate(sandbox.enforced(isolation)),
        source=found.source,
        versions=_versions(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
    )
    beside = path.with_name(path.name.removesuffix(SUFFIX) + VERIFIED)
    publish(beside, lambda part: part.write_bytes(as_json(verified)))
    beside.chmod(0o644)
    return verified


def checked(path: Path, reference: Reference) -> Filed:
    """The file's entry. Raises UnfooledError with the checker's first complaint, NotComparable for other twins."""
    found = checker.check([path], {reference.name: reference})
    if not found.passed:
        raise checker.Refused(str(found.complaints[0]))
    entry = found.passed[0].entry
    for name, facts in sorted(entry.settings.items()):
        if reference.twins.get(name) != facts.twins:
            raise NotComparable(f"{path.name}: the twins of {name} are not in the store; run {reference.name} once")
    return found.passed[0]


def lines(path: Path, found: Verified | UnfooledError) -> list[str]:
    """What came of a file: a line for each reason, and one for the outcome."""
    if isinstance(found, UnfooledError):
        return [f"{path.name}: {found}"]
    return [f"{path.name}: {text}" for text in (*found.reasons, summary(found))]


def exit_code(found: Verified | UnfooledError) -> int:
    """0 verified, 1 differs, 3 failed; an error has its own."""
    if isinstance(found, UnfooledError):
        return found.exit_code
    return {"verified": 0, "differs": 1, "failed": 3}[found.outcome]


def summary(found: Verified) -> str:
    """The outcome in one line."""
    agreed = sum(cell.agrees for cell in found.cells)
    parts = [f"{found.outcome}: {agreed} of {len(found.cells)} cells agree"]
    if found.recomputed is not None:
        parts.append(f"stability on them {found.recomputed:.3f}, reported {found.reported:.3f}")
    if found.challenge and found.challenge.gap is not None:
        parts.append(f"gap on new networks {found.challenge.gap:.3f}, {found.challenge.allowed:.3f} allowed")
    unchecked = [f"unchecked: {text}" for text in found.unchecked]
    return "; ".join([*parts, *unchecked, f"network: {found.enforced.network}"])


def _versions() -> dict[str, str]:
    ours = {name: importlib.metadata.version(name) for name in ("unfooled", "torch", "torchvision", "numpy", "scipy")}
    return {"python": platform.python_version(), **ours}
