"""Images from outside: a folder of classes, Hugging Face's parquet files, torchvision's own sets. None has masks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unfooled.datasets.listing import Drawn, Encoded, Listing
from unfooled.plugins import near_miss
from unfooled.types import DataError, Splits


@dataclass(frozen=True)
class Folder(Drawn):
    """A folder with one subfolder a class (torchvision's ImageFolder layout).

    ``root``, absolute or relative to the working directory, holds the class folders, or ``train`` and ``test`` (or
    ``val``) folders that hold them. Without one for test, a fifth of the images is put aside for it. Labels follow the
    sorted names of the train classes. Raises DataError where a folder, a class's images or a readable image is missing,
    or a test class is not among the train classes.
    """

    root: str

    def __call__(self) -> Splits:
        root = _folder(self.root, "with a folder a class")
        if not (root / "train").is_dir():
            classes, listing = _image_folder(root)
            return self.draw(classes, listing, None)
        classes, train = _image_folder(root / "train")
        held_out = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
        test = None if held_out is None else _renumbered(held_out, *_image_folder(held_out), classes)
        return self.draw(classes, train, test)


def _folder(root: str, holding: str) -> Path:
    path = Path(root)
    if not path.is_dir():
        raise DataError(f"{root}: no such folder; root must be a folder {holding}, under --data where that is given")
    return path


def _image_folder(folder: Path) -> tuple[tuple[str, ...], Listing]:
    from unfooled.vision import torchvision  # imported late: it takes longer than reading a small data set

    if not any(child.is_dir() for child in folder.iterdir()):
        raise DataError(f"{folder}: no class folders; it must hold one folder of images a class")
    found = torchvision.datasets.ImageFolder(str(folder), allow_empty=True)
    labels = np.array(found.targets, np.int64)
    for name, count in zip(found.classes, np.bincount(labels, minlength=len(found.classes)), strict=True):
        if not count:
            raise DataError(f"{folder / name}: no images; a class folder must hold at least one")
    paths = [Path(path) for path, _ in found.samples]
    return tuple(found.classes), Listing(str(folder), labels, lambda rows: [(str(paths[i]), paths[i]) for i in rows])


def _renumbered(folder: Path, names: tuple[str, ...], listing: Listing, classes: tuple[str, ...]) -> Listing:
    """A test listing whose labels count its own folders, with the labels that those classes have in train."""
    for name in names:
        if name not in classes:
            raise DataError(f"{folder / name}: no such class in train{near_miss(name, classes)}")
    labels = np.array([classes.index(name) for name in names], np.int64)[listing.labels]
    return Listing(listing.where, labels, listing.fetch)


@dataclass(frozen=True)
class Parquet(Drawn):
    """Hugging Face's parquet layout: ``train-*.parquet`` and ``test-*.parquet`` in the folder ``root``.

    The column ``image`` holds encoded images (bytes, or a struct with ``bytes``), the column ``label`` integers from 0.
    Class names are read from the files' metadata, else they are the labels. Without test files, a fifth of the images
    is put aside. Raises DataError where the folder, its train files, a column or an image is missing or broken, or a
    label is out of range.
    """

    root: str
    image: str = "img"
    label: str = "label"

    def __call__(self) -> Splits:
        root = _folder(self.root, "with train-*.parquet")
        train, test = (sorted(root.glob(f"{part}-*.parquet")) for part in ("train", "test"))
        if not train:
            raise DataError(f"{root}: no train-*.parquet; it must hold at least one")
        labels = {path: _labels(path, self.image, self.label) for path in [*train, *test]}
        names = _class_names(train[0], self.label)
        classes = names or tuple(str(i) for i in range(max(labels[path].max(initial=0) for path in train) + 1))
        for path, held in labels.items():
            _check_labels(path, held, len(classes))
        listings = [_parquet_listing({p: labels[p] for p in paths}, self.image) for paths in (train, test) if paths]
        return self.draw(classes, listings[0], listings[1] if test else None)


def _labels(path: Path, image: str, label: str) -> np.ndarray:
    """A file's labels, int64; a missing one is -1."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file; replace it") from error
    for column in (image, label):
        if column not in schema.names:
            hint = near_miss(column, schema.names) or f"; it has {', '.join(schema.names)}"
            raise DataError(f"{path}: no column {column!r}{hint}")
    if not pa.types.is_integer(schema.field(label).type):
        raise DataError(f"{path}: column {label!r} holds {schema.field(label).type}; it must hold integers from 0")
    kind = schema.field(image).type
    if not _is_bytes(kind) and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        raise DataError(f"{path}: column {image!r} holds {kind}; it must hold bytes, or a struct with bytes")
    column = pq.read_table(path, columns=[label])[label]
    return column.fill_null(-1).to_numpy().astype(np.int64)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _check_labels(path: Path, labels: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        row = wrong[0]
        raise DataError(f"{path}: label {labels[row]} in row {row}; labels must go from 0 to {classes - 1}")


def _class_names(path: Path, label: str) -> tuple[str, ...]:
    """The names that Hugging Face writes into a file's metadata, or none."""
    written = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(json.loads(written)["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def _parquet_listing(labels: dict[Path, np.ndarray], column: str) -> Listing:
    paths, lengths = list(labels), [len(held) for held in labels.values()]
    starts = np.concatenate([[0], np.cumsum(lengths)])

    def fetch(rows: np.ndarray) -> Iterable[Encoded]:
        found: dict[int, Encoded] = {}
        for path, start, stop in zip(paths, starts, starts[1:], strict=False):
            wanted = np.sort(rows[(rows >= start) & (rows < stop)]) - start
            found |= {row + start: encoded for row, encoded in _read_rows(path, column, wanted)}
        return [found[row] for row in rows]

    return Listing(str(paths[0].parent), np.concatenate(list(labels.values())), fetch)


def _read_rows(path: Path, column: str, rows: np.ndarray) -> Iterable[tuple[int, Encoded]]:
    """The sorted rows of one file; only the row groups that hold one are read, one at a time."""
    file, start = pq.ParquetFile(path), 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        inside = rows[(rows >= start) & (rows < stop)]
        if len(inside):
            cells = file.read_row_group(group, columns=[column])[column].take(inside - start).to_pylist()
            for row, cell in zip(inside, cells, strict=True):
                yield row, (f"{path}: row {row}", _bytes(f"{path}: row {row}", cell))
        start = stop


def _bytes(name: str, cell: bytes | dict | None) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not content:
        raise DataError(f"{name}: no bytes; images must be embedded in the file")
    return content


@dataclass(frozen=True)
class Torchvision(Drawn):
    """One of torchvision's own data sets, by name (``CIFAR10``, ``SVHN``, ``MNIST``, …), from the folder ``root``.

    With ``download`` it is fetched where it is missing; that is the only way in which this package ever asks for data.
    Raises DataError for an unknown name, a data set that is not there, or one that lists no labels.
    """

    name: str
    root: str
    download: bool = False

    def __call__(self) -> Splits:
        from unfooled.vision import torchvision

        offered = torchvision.datasets
        if self.name not in offered.__all__:
            raise DataError(f"torchvision: no data set {self.name!r}{near_miss(self.name, offered.__all__)}")
        kind = getattr(offered, self.name)
        choices = _split_arguments(kind)
        built = [self._build(kind, choice) for choice in choices]
        listings = [_listing(self.name, data) for data in built]
        names = getattr(built[0], "classes", None) or range(max(lst.labels.max() for lst in listings) + 1)
        return self.draw(tuple(map(str, names)), listings[0], listings[1] if len(listings) == 2 else None)

    def _build(self, kind: type, choice: dict[str, object]) -> object:
        taken = inspect.signature(kind).parameters
        download = {"download": self.download} if "download" in taken else {}
        try:
            return kind(self.root, **choice, **download)
        except (RuntimeError, OSError) as error:
            fetch = "; set download: true to fetch it" if download and not self.download else ""
            raise DataError(f"torchvision: {self.name} is not in {self.root!r}{fetch}") from error
        except TypeError as error:
            raise DataError(
                f"torchvision: {self.name} needs more than a root and a split; use another, or a folder of classes"
            ) from error


def _split_arguments(kind: type) -> list[dict[str, object]]:
    """The arguments that give a data set's train and test part, or one without arguments where it has but one."""
    taken = inspect.signature(kind).parameters
    if "train" in taken:
        return [{"train": True}, {"train": False}]
    if "split" in taken:
        held_out = "val" if kind.__name__ in ("ImageNet", "Imagenette") else "test"
        return [{"split": "train"}, {"split": held_out}]
    return [{}]


def _listing(name: str, data: object) -> Listing:
    for attribute in ("targets", "labels", "_labels"):
        labels = getattr(data, attribute, None)
        if labels is not None:
            numbers = np.asarray(labels).astype(np.int64)
            return Listing(name, numbers, lambda rows: ((f"{name}: image {i}", data[int(i)][0]) for i in rows))
    raise DataError(f"torchvision: {name} lists no labels; use one that does, such as CIFAR10, or a folder of classes")
