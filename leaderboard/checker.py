"""The rules of an entry. Submitting, checking, verifying and the board all ask here, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from unfooled import merkle
from unfooled.leaderboard import controls, names, reading
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.agreement import disagreements
from unfooled.leaderboard.complaints import MOST, Complaint, complaints_of
from unfooled.leaderboard.consistency import inconsistencies
from unfooled.leaderboard.entry import SUFFIX, VERIFIED, Entry
from unfooled.leaderboard.reference import Reference, shipped
from unfooled.leaderboard.verified import Verified
from unfooled.plugins import near_miss
from unfooled.types import UnfooledError


class Refused(UnfooledError):
    """An entry that does not pass."""

    exit_code = 1


@dataclass(frozen=True)
class Filed:
    """An entry that passed, the file it lies in, and its verification, if there is one."""

    path: Path
    content: bytes
    """the file's"""
    entry: Entry
    verified: Verified | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Checked:
    """What a check found: the entries that passed, and a complaint for everything that did not."""

    passed: list[Filed] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)


def check(paths: Iterable[Path], references: Mapping[str, Reference] | None = None) -> Checked:
    """Check entry files, and all of a folder's. ``references``: suites by name; None takes the shipped ones."""
    files = [file for path in paths for file in _files(path)]
    found, filed = Checked(), []
    for path in files:
        if not path.name.endswith(VERIFIED):
            filed += _read(path, found)
    known = shipped({f.entry.suite.name for f in filed}) if references is None else references
    faults = {f.path: list(_faults(f, known)) for f in filed}
    _add_inconsistencies([f for f in filed if not faults[f.path]], faults)
    _add_duplicates(filed, faults)
    for f in filed:
        found.complaints += [Complaint(f"{f.path.name}: {c.where}", c.what) for c in faults[f.path][:MOST]]
    found.passed = [_with_verification(f, found) for f in filed if not faults[f.path]]
    found.complaints += _strays(files)
    return found


def unverified(folder: Path) -> list[Path]:
    """The entries in a folder beside which no verification of this very file lies; unreadable ones too."""
    files = [p for p in _files(folder) if p.suffix == SUFFIX and not p.name.endswith(VERIFIED)]
    read = [filed for path in files for filed in _read(path, Checked())]
    done = {f.path for f in read if _with_verification(f, Checked()).verified}
    return [path for path in files if path not in done]


def named_suite(path: Path) -> str:
    """The suite that an entry's file names. Raises Refused for a file that is no entry."""
    found = Checked()
    filed = _read(path, found)
    if not filed:
        raise Refused(str(found.complaints[0]))
    return filed[0].entry.suite.name


def check_entry(entry: Entry, reference: Reference) -> list[Complaint]:
    """Every complaint about one entry, its file apart."""
    complaints = list(_about_names(entry)) + list(disagreements(entry, reference)) + list(_about_roots(entry))
    return complaints or list(inconsistencies([entry])[0])


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.name != "README.md")


def _read(path: Path, found: Checked) -> list[Filed]:
    """The file's entry, or a complaint and nothing."""
    shown = names.printable(path.name)
    if path.suffix != SUFFIX:
        found.complaints.append(Complaint(shown, "is no entry; entries are .json files"))
        return []
    try:
        content, value = reading.read(path)
        return [Filed(path, content, Entry.model_validate(value))]
    except reading.Unreadable as error:
        found.complaints.append(Complaint(shown, str(error)))
    except ValidationError as error:
        found.complaints += [Complaint(f"{shown}: {c.where}", c.what) for c in complaints_of(error)]
    return []


def _faults(filed: Filed, known: Mapping[str, Reference]) -> Iterator[Complaint]:
    """Everything about one entry but whether its numbers follow from one another."""
    entry = filed.entry
    yield from _about_names(entry)
    right = f"{entry.suite.name}-{names.slug(entry.name)}{SUFFIX}"
    if filed.path.name != right:
        yield Complaint("name", f"belongs into a file called {right}")
    reference = known.get(entry.suite.name)
    if reference is None:
        hint = near_miss(entry.suite.name, known) or f"; there are {', '.join(sorted(known)) or 'none'}"
        yield Complaint("suite.name", f"no suite {entry.suite.name!r}{hint}")
        return
    yield from disagreements(entry, reference)
    yield from _about_roots(entry)


def _about_names(entry: Entry) -> Iterator[Complaint]:
    if fault := names.fault(entry.name):
        yield Complaint("name", fault)
    if entry.by and (fault := names.fault(entry.by)):
        yield Complaint("by", fault)


def _about_roots(entry: Entry) -> Iterator[Complaint]:
    right = merkle.root(bytes.fromhex(entry.settings[s].root) for s in sorted(entry.settings))
    if entry.root != right:
        yield Complaint(
            "root", f"is {entry.root[:16]}…, the settings' roots make {right[:16]}…; both come from one run"
        )


def _add_inconsistencies(filed: Sequence[Filed], faults: dict[Path, list[Complaint]]) -> None:
    """Entries of one suite are recomputed together, which is as quick as one of them."""
    suites: dict[str, list[Filed]] = {}
    for f in filed:
        suites.setdefault(f.entry.suite.digest, []).append(f)
    for group in suites.values():
        for f, complaints in zip(group, inconsistencies([f.entry for f in group]), strict=True):
            faults[f.path] += complaints


def _add_duplicates(filed: Sequence[Filed], faults: dict[Path, list[Complaint]]) -> None:
    """Within one suite no two entries look alike or hold the same maps; both hear of it, as dates prove nothing."""
    seen: dict[tuple[str, str, str], list[Filed]] = {}
    for f in filed:
        seen.setdefault((f.entry.suite.name, "name", names.skeleton(f.entry.name)), []).append(f)
        seen.setdefault((f.entry.suite.name, "root", f.entry.root), []).append(f)
    for (_, where, _), alike in seen.items():
        what = "looks like the name" if where == "name" else "is the root, so the maps,"
        for f, other in [(f, other) for f in alike for other in alike if other is not f]:
            faults[f.path].append(Complaint(where, f"{what} of {other.path.name}; every entry has its own"))


def _with_verification(filed: Filed, found: Checked) -> Filed:
    """The entry with what lies beside it, where that is of this very file."""
    path = filed.path.with_name(filed.path.name.removesuffix(SUFFIX) + VERIFIED)
    if not path.exists():
        return filed
    try:
        verified = Verified.model_validate(reading.read(path)[1])
    except reading.Unreadable as error:
        found.complaints.append(Complaint(path.name, str(error)))
        return filed
    except ValidationError as error:
        found.complaints += [Complaint(f"{path.name}: {c.where}", c.what) for c in complaints_of(error)]
        return filed
    if verified.entry != filed.digest:
        found.complaints.append(Complaint(f"{path.name}: entry", "is of another version of the entry; verify it again"))
        return filed
    return replace(filed, verified=verified)


def _strays(files: Sequence[Path]) -> list[Complaint]:
    """Verifications without an entry."""
    known = {p.name for p in files}
    found = [p for p in files if p.name.endswith(VERIFIED) and p.name.removesuffix(VERIFIED) + SUFFIX not in known]
    return [Complaint(names.printable(p.name), "verifies no entry; its entry lies beside it") for p in found]


def unranked(entry: Entry) -> str:
    """Why an entry is not ranked, in words; empty if it is."""
    coverage = entry.scores.coverage
    if coverage is None or coverage < st.LEAST_COVERAGE:
        return f"silent: its maps say something on {coverage or 0:.0%} of the images; {st.LEAST_COVERAGE:.0%} needed"
    counted = np.array([m.range_low is not None and m.range_low >= st.LEAST_RANGE for m in entry.metrics])
    if not st.sensitive(counted[None])[0]:
        return f"insensitive: {counted.sum()} of {len(counted)} metrics tell the model from a random one"
    if alone := controls.prediction_alone(entry.scores.independent.value):
        return alone
    return "" if entry.scores.transfer.value is not None else "no cells against other families"
