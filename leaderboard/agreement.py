"""Is an entry of the suite that it names, and whole: every setting, cell and image, and a mean for every metric?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unfooled.leaderboard.complaints import Complaint
from unfooled.leaderboard.entry import Block, Entry
from unfooled.leaderboard.reference import Reference
from unfooled.plugins import near_miss


def disagreements(entry: Entry, reference: Reference) -> Iterator[Complaint]:
    """What is not as the suite prescribes, from its version to the last list of means."""
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
        yield from _about_independent(f"{where}.independent", block, reference, len(entry.metrics))
        if not block.valid <= block.images <= reference.images:
            yield Complaint(where, f"{block.valid} of {block.images} images; the suite has {reference.images} at most")
        maps = block.valid * (len(block.cells) + 1)  # of the fooled twins and the honest one
        if block.silent > maps:
            yield Complaint(f"{where}.silent", f"{block.silent} maps of {maps} cannot be silent")


def _about_means(where: str, block: Block, metrics: int) -> Iterator[Complaint]:
    found = block.controls.model_dump() if block.controls else {}
    lists = {"honest": block.honest, "randomised": block.randomised, **found, **block.cells}
    for name, means in lists.items():
        yield from _about_list(f"{where}.{name}", means, metrics, block.valid)


def _about_independent(where: str, block: Block, reference: Reference, metrics: int) -> Iterator[Complaint]:
    """The other network stands on test images, on at least half of the valid ones, where the suite has one."""
    wanted = reference.independent and block.split == "test"
    if block.independent is None:
        yield from [Complaint(where, "is missing; every setting has another network in this suite")] * wanted
        return
    if not wanted:
        yield Complaint(where, "is not of this suite; leave it out")
        return
    means = block.independent.model_dump()
    images = means.pop("images")
    if not block.valid / 2 <= images <= block.valid:
        yield Complaint(f"{where}.images", f"is {images} of {block.valid} valid ones; half of them at least is right")
    for name, values in means.items():
        yield from _about_list(f"{where}.{name}", values, metrics, images)


def _about_list(where: str, means: list[float | None], metrics: int, images: int) -> Iterator[Complaint]:
    """Means over so many images: a number each, or all null where there is no image."""
    if len(means) != metrics:
        yield Complaint(where, f"has {len(means)} means for {metrics} metrics; one each is right")
    elif (None in means) != (images == 0) or (set(means) - {None} and None in means):
        right = "a number for each metric" if images else "null, as no image is valid"
        yield Complaint(where, f"has {means.count(None)} nulls; {right} is right")
