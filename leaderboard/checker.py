"""The rules of an entry. Submitting, checking, verifying and the board all ask here, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from unfooled import merkle
from unfooled.leaderboard import names, reading
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.complaints import MOST, Complaint, complaints_of
from unfooled.leaderboard.consistency import inconsistencies
from unfooled.leaderboard.entry import SUFFIX, VERIFIED, Block, Entry
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
    complaints = list(_about_names(entry)) + list(_about_suite(entry, reference)) + list(_about_roots(entry))
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
    yield from _about_suite(entry, reference)
    yield from _about_roots(entry)


def _about_names(entry: Entry) -> Iterator[Complaint]:
    if fault := names.fault(entry.name):
        yield Complaint("name", fault)
    if entry.by and (fault := names.fault(entry.by)):
        yield Complaint("by", fault)


def _about_suite(entry: Entry, reference: Reference) -> Iterator[Complaint]:
    """Is the entry of this very suite, and whole?"""
    if (entry.suite.version, entry.suite.digest) != (reference.version, reference.digest):
        said, right = (f"version {s.version} ({s.digest})" for s in (entry.suite, reference))
        yield Complaint(
            "suite", f"is {said} of {reference.name}, the current one is {right}; run that and submit again"
        )
        return
    yield from _same("metrics", [m.name for m in entry.metrics], list(reference.metrics))
    yield from _same("settings", sorted(entry.settings), sorted(reference.settings))
    yield from _same("cells", sorted(n for n, c in entry.cells.items() if not c.adaptive), sorted(reference.cells))
    for name, facts in sorted(entry.cells.items()):
        right = reference.cells.get(name)
        if right and (facts.manipulation, facts.against, facts.family) != right:
            yield Complaint(
                f"cells.{name}", f"is not what the suite says; manipulation, against and family are {', '.join(right)}"
            )
    for name, digest in sorted(reference.twins.items()):
        if name in entry.settings and entry.settings[name].twins != digest:
            yield Complaint(
                f"settings.{name}.twins",
                f"is {entry.settings[name].twins}, the shipped ones are {digest}; run on those",
            )
    for name, model in sorted(reference.settings.items()):
        if name in entry.settings and entry.settings[name].model != model:
            yield Complaint(f"settings.{name}.model", f"the suite says {model}")
    yield from _about_parts(entry, reference)


def _same(where: str, found: Sequence[str], right: Sequence[str]) -> Iterator[Complaint]:
    for name in sorted(set(right) - set(found)):
        yield Complaint(where, f"{name} is missing; the suite has it")
    for name in sorted({name for name in found if found.count(name) > 1}):
        yield Complaint(where, f"{name} stands there twice; once is right")
    for name in sorted(set(found) - set(right)):
        yield Complaint(where, f"{name} is not of this suite{near_miss(name, right) or '; leave it out'}")
    if sorted(found) == sorted(right) and list(found) != list(right):
        yield Complaint(where, f"stand in another order; {', '.join(right)} is right")


def _about_parts(entry: Entry, reference: Reference) -> Iterator[Complaint]:
    """One block for each setting and split, each with its cells and a mean for every metric."""
    splits = {name: reference.splits.get(name, "test") for name in entry.cells}
    wanted = sorted({(s, "test") for s in entry.settings} | {(s, p) for s in entry.settings for p in splits.values()})
    found = sorted((b.setting, b.split) for b in entry.parts)
    yield from _same("parts", [" ".join(b) for b in found], [" ".join(b) for b in wanted])
    for block in entry.parts:
        where = f"parts.{block.setting} {block.split}"
        # Adaptive cells may be made in some settings only; the suite's own stand in all.
        absent = {name for name, cell in entry.cells.items() if cell.adaptive} - set(block.cells)
        mine = sorted(name for name, split in splits.items() if split == block.split and name not in absent)
        yield from _same(f"{where}.cells", sorted(block.cells), mine)
        yield from _about_means(where, block, len(entry.metrics))
        if not block.valid <= block.images <= reference.images:
            yield Complaint(where, f"{block.valid} of {block.images} images; the suite has {reference.images} at most")
        maps = block.valid * (len(block.cells) + 1)  # of the fooled twins and the honest one
        if block.silent > maps:
            yield Complaint(f"{where}.silent", f"{block.silent} maps of {maps} cannot be silent")


def _about_means(where: str, block: Block, metrics: int) -> Iterator[Complaint]:
    controls = block.controls.model_dump() if block.controls else {}
    lists = {"honest": block.honest, "randomised": block.randomised, **controls, **block.cells}
    for name, means in lists.items():
        if len(means) != metrics:
            yield Complaint(f"{where}.{name}", f"has {len(means)} means for {metrics} metrics; one each is right")
        elif (None in means) != (block.valid == 0) or (set(means) - {None} and None in means):
            right = "a number for each metric" if block.valid else "null, as no image is valid"
            yield Complaint(f"{where}.{name}", f"has {means.count(None)} nulls; {right} is right")


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
    return "" if entry.scores.transfer.value is not None else "no cells against other families"
