"""Disk: finished work under its key, written atomically, the hash of its content in its name, found by the next run.

A file is ``<kind>/<key>.<hash of the content><suffix>``. One rename publishes it, so a reader sees a whole file or
none, and a file that was damaged later does not match its own name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

from safetensors import SafetensorError

from unfooled.types import Part, UnfooledError

JOINED_LATER = frozenset({"precision", "tuned"})
"""fields that came when networks lay under keys already: while they hold None, they stand in no key"""


class Damaged(UnfooledError):
    """A frozen file does not match the hash in its name."""

    exit_code = 1


class Unwritable(UnfooledError):
    """The disk took no more, or not from this user."""


def plain(value: object) -> object:
    """Anything a key is made of, as JSON knows it."""
    if isinstance(value, Part):
        return {"use": value.use, "arguments": {k: plain(v) for k, v in sorted(value.arguments.items())}}
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **{k: plain(v) for k, v in asdict(value, dict_factory=_said).items()}}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"store: a key cannot hold {type(value).__name__}; it holds plain values and Parts")


def _said(fields: list[tuple[str, object]]) -> dict[str, object]:
    """A dataclass's fields as a key holds them."""
    return {name: value for name, value in fields if value is not None or name not in JOINED_LATER}


def digest(*words: object) -> str:
    """16 hex digits that stand for the words: plain values, Parts, dataclasses, and lists and mappings of them."""
    text = json.dumps(plain(words), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """16 hex digits of the file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Store:
    """A folder of finished work, and beneath it folders that are only read (what ships with the package)."""

    root: Path
    frozen: tuple[Path, ...] = ()

    def find(self, kind: str, key: str) -> Path | None:
        """The file under this key, whole, or None.

        A damaged file of our own is removed, to be made again; a damaged frozen file raises Damaged.
        """
        for path in self._candidates(self.root, kind, key):
            if _whole(path):
                return path
            with suppress(OSError):  # gone already, or another user's
                path.unlink()
        for folder in self.frozen:
            for path in self._candidates(folder, kind, key):
                if _whole(path):
                    return path
                raise Damaged(f"{path}: was changed after it was made; install the package again")
        return None

    def put(self, kind: str, key: str, suffix: str, write: Callable[[Path], object]) -> Path:
        """Let ``write`` fill a temporary file, then publish it under the key in one step."""
        _check_name(kind)
        _check_name(key)
        with _part(self.root / kind, suffix) as part:
            write(part)
            final = self.root / kind / f"{key}.{file_hash(part)}{suffix}"
            _move(part, final)
        # Work that was begun again may end in other bits (a GPU, another torch): what is said next is said of these.
        for older in self._candidates(self.root, kind, key):
            if older != final:
                with suppress(OSError):
                    older.unlink()
        return final

    def _candidates(self, folder: Path, kind: str, key: str) -> list[Path]:
        _check_name(kind)
        _check_name(key)
        return sorted((folder / kind).glob(f"{key}.*"))


def _whole(path: Path) -> bool:
    """Does the content still match the hash in the name?"""
    try:
        return path.name.split(".")[1] == file_hash(path)
    except (OSError, IndexError):
        return False


def _check_name(word: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", word):
        raise UnfooledError(f"store: {word!r} is no name for a file; letters, digits, _ and - are")


def write_json(path: Path, value: object) -> None:
    """Strict JSON: no NaN, keys in order."""
    path.write_text(
        json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file of a given name atomically: beside it first, then one rename."""
    with _part(path.parent, path.suffix) as part:
        write(part)
        _move(part, path)


@contextmanager
def _part(folder: Path, suffix: str) -> Iterator[Path]:
    """A new name in the folder for what is still being written; gone afterwards, whatever happened."""
    path = folder / f".part-{uuid.uuid4().hex}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield path
    except (OSError, SafetensorError) as error:  # safetensors wraps what the system says
        raise Unwritable(f"{folder}: cannot be written to ({error}); make room there, or name another place") from error
    finally:
        with suppress(OSError):
            path.unlink()


def _move(part: Path, final: Path) -> None:
    """Onto the disk first, so that not even a power failure leaves the name with half of the content."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, final)
