"""What an entry is: one interpreter's run of one suite as a small JSON file. These types are the published schema.

What values must satisfy together, and against the suite, stands in ``checker.py``; how a run becomes an entry, in
``submission.py``.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from unfooled.types import Part

FORMAT = 1
"""raised when the meaning of a field changes"""

SUFFIX = ".json"
VERIFIED = ".verified.json"


def _text(pattern: str, most: int) -> StringConstraints:
    return StringConstraints(pattern=rf"^(?:{pattern})$", max_length=most, strict=True)


Name = Annotated[str, StringConstraints(min_length=1, max_length=60, strict=True)]
"""As people read it; ``names.fault`` says which characters it may hold."""
Word = Annotated[str, _text("[a-z0-9][a-z0-9_-]*", 40)]
Label = Annotated[str, _text("[A-Za-z0-9_][A-Za-z0-9_.:(), =+|-]*", 160)]
"""A cell, setting or metric, as suites name them."""
Identifier = Annotated[str, _text("[A-Za-z_][A-Za-z0-9_]*", 60)]
Reference = Annotated[str, _text("[A-Za-z_][A-Za-z0-9_.]*(?::[A-Za-z_][A-Za-z0-9_.]*)?", 160)]
"""``package.module:Name`` or a catalogue name."""
Https = Annotated[
    str, _text(r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/?#=&%+:@,-]*)?", 300)
]
Version = Annotated[str, _text(r"[A-Za-z0-9][A-Za-z0-9._+!-]*", 60)]
Moment = Annotated[str, _text(r"2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\+00:00", 25)]
Digest = Annotated[str, _text("[0-9a-f]{16}", 16)]
Root = Annotated[str, _text("[0-9a-f]{64}", 64)]
Count = Annotated[int, Field(ge=0, le=10**9, strict=True)]
Real = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Similarity = Annotated[float, Field(ge=-1.000001, le=1.000001, allow_inf_nan=False, strict=True)]
Similarities = Annotated[list[Similarity | None], Field(max_length=32)]
"""One mean for each of the entry's metrics, in their order; null where no image has one."""


class Model(BaseModel):
    """Frozen, without unknown fields, without conversions, every field's docstring in the schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


Scalar = (
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
    | Real
    | Annotated[str, _text(r"[A-Za-z0-9_.:+=, -]*", 100)]
    | None
)


class Wrapped(Model):
    """An interpreter as another one's argument."""

    use: Reference
    arguments: Annotated[dict[Identifier, Parameter], Field(max_length=32)] = {}


Parameter = Scalar | Annotated[list[Scalar], Field(max_length=64)] | Wrapped


class Method(Model):
    """What was asked, so that anyone can ask it again."""

    reference: Reference
    """importable name, or one of the catalogue"""
    parameters: Annotated[dict[Identifier, Parameter], Field(max_length=32)] = {}
    family: Literal["gradients", "activations", "propagation", "perturbation", "canary", "other"]
    at: Literal["input", "T"]
    """where its maps lie"""
    signed: bool
    stochastic: bool
    code: Https
    """where its source can be read"""
    paper: Https | None = None
    fingerprint: Digest
    """of the source that was run"""

    @property
    def part(self) -> Part:
        """The interpreter as suites and runs write it."""
        return _part(self.reference, self.parameters)


def _part(use: str, arguments: dict[str, Parameter]) -> Part:
    return Part(use, {k: _part(v.use, v.arguments) if isinstance(v, Wrapped) else v for k, v in arguments.items()})


class SuiteName(Model):
    """Which suite, to the digest: what differs here is not comparable."""

    name: Word
    version: Annotated[int, Field(ge=1, le=10**6, strict=True)]
    digest: Digest


class CellFacts(Model):
    """A cell: what fooled, and whom it was aimed at."""

    manipulation: Label
    against: Label
    family: Literal["gradients", "activations", "propagation", "perturbation", "canary", "other", ""]
    adaptive: bool = False
    """made against this very interpreter"""


class Controls(Model):
    """Means of the twins that calibrate nothing and explain much."""

    again: Similarities
    """the original under another random stream; 1 less this is the self-noise that verification allows for"""
    wrong_class: Similarities
    randomised_top: Similarities


class Independent(Model):
    """Means over the images that a network fitted from another seed classifies as the label too."""

    images: Count
    """how many of the valid ones these are"""
    independent: Similarities
    """the other network"""
    honest: Similarities
    randomised: Similarities
    """the draws averaged"""


class Block(Model):
    """The parts of one setting on one split. Every aggregate of an entry follows from these."""

    setting: Label
    split: Literal["test", "pairs"]
    images: Count
    """how many were asked about"""
    valid: Count
    """on how many of them the original's map says something"""
    honest: Similarities
    randomised: Similarities
    """the draws averaged"""
    controls: Controls | None = None
    """where the split has them"""
    independent: Independent | None = None
    """where the suite has another network and the split asks it"""
    cells: Annotated[dict[Label, Similarities], Field(max_length=200)]
    """the fooled twins judged on this split"""
    silent: Count
    """fooled maps, over all cells, that say nothing; each took the randomised twin's similarity"""


class Metric(Model):
    """A similarity, and whether it tells this interpreter's map of a model from that of a random one."""

    name: Label
    range: Real | None
    """honest less randomised, mean over cells and settings"""
    range_low: Real | None
    """its one-sided 95 % lower bound; the metric counts from 0.1 on"""


class Interval(Model):
    """A stability with the ends of its 95 % interval; null where undefined."""

    value: Real | None
    low: Real | None
    high: Real | None


class Scores(Model):
    """The aggregates: calibrated stability, absolute maps, the metrics that count averaged."""

    transfer: Interval
    """over cells against other families; what the board is ordered by"""
    attacked: Interval
    """over cells against its own family"""
    adaptive: Interval
    """over models fooled against itself, the worst manipulation"""
    independent: Interval
    """on a network fitted from another seed, which predicts the same: near 1 the map follows from the prediction"""
    adaptive_worst: Annotated[str, _text("[A-Za-z0-9_.:(), =+|-]*", 160)]
    worst: Real | None
    """in the least stable cell, adaptive ones apart"""
    worst_cell: Annotated[str, _text("[A-Za-z0-9_.:(), =+|-]*", 160)]
    coverage: Share | None
    """share of images whose original map says something"""


INTERVALS = tuple(name for name, field in Scores.model_fields.items() if field.annotation is Interval)
"""the scores that have an interval"""


class Cost(Model):
    """What one map takes."""

    forward: Annotated[Real, Field(ge=0)]
    backward: Annotated[Real, Field(ge=0)]
    memory: Annotated[float, Field(ge=0, le=1e13, allow_inf_nan=False, strict=True)]
    """MiB of live tensors at the peak, per image in the network, weights apart"""
    seconds: Annotated[Real, Field(ge=0)] | None = None


class Setting(Model):
    """Which very networks and images were asked about, and what the maps were."""

    model: Label
    twins: Digest
    """of the files of all networks and images"""
    root: Root
    """Merkle root over the rounded maps"""


class Entry(Model):
    """One interpreter's run of one suite."""

    format: Literal[1]
    name: Name
    by: Annotated[str, StringConstraints(max_length=60, strict=True)] = ""
    """who submits it"""
    method: Method
    suite: SuiteName
    created: Moment
    runs_made: Annotated[int, Field(ge=1, le=10**6, strict=True)]
    """runs of this suite that the submitter's store has seen"""
    versions: Annotated[dict[Annotated[str, _text("[a-z0-9_-]+", 40)], Version], Field(min_length=2, max_length=32)]
    cost: Cost
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=32)]
    settings: Annotated[dict[Label, Setting], Field(min_length=1, max_length=64)]
    cells: Annotated[dict[Label, CellFacts], Field(min_length=1, max_length=200)]
    scores: Scores
    root: Root
    """Merkle root over the roots of all settings, in the order of their names"""
    parts: Annotated[list[Block], Field(min_length=1, max_length=128)]

    @property
    def canary(self) -> bool:
        return self.method.family == "canary"


def schema() -> str:
    """The published JSON schema, made from these types."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Entry.model_json_schema()}
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def as_json(entry: Model) -> bytes:
    """A model as its file holds it; NaN is refused, the same model gives the same bytes."""
    text = json.dumps(entry.model_dump(mode="json"), ensure_ascii=False, allow_nan=False, indent=0, sort_keys=True)
    return text.encode() + b"\n"
