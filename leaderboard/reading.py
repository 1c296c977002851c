"""A stranger's JSON file → plain values, or one sentence on why not. Nothing is parsed before its size is known."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

from unfooled.types import UnfooledError

LARGEST = 200 * 1024
DEEPEST = 12
STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')


class Unreadable(UnfooledError):
    """A file that is no entry in form: too large, no JSON, or JSON that two readers may read in two ways."""

    exit_code = 1


def read(path: Path) -> tuple[bytes, object]:
    """A file's bytes and what they say. Raises Unreadable."""
    content = _bytes(path)
    return content, parse(content)


def _bytes(path: Path) -> bytes:
    """At most LARGEST bytes of a regular file; a link is not followed, a pipe is never waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror}); a regular file is right") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("is no regular file; one JSON file is right")
    with os.fdopen(handle, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Unreadable(f"has more than {LARGEST // 1024} KiB; an entry has less")
    return content


def parse(content: bytes) -> object:
    """Strict JSON of limited depth: keys once, numbers finite, characters storable. Raises Unreadable."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start} is not UTF-8; JSON is UTF-8 text") from None
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # 1e999 is read as infinity, \\ud800 as is
    except UnicodeEncodeError:
        raise Unreadable("holds half of a surrogate pair; whole characters are right") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError is one; 5,000 digits and infinity end here too
        reason = " ".join(str(error).split())[:120]
        raise Unreadable(f"is not JSON ({reason}); an entry is") from None
    return value


def _check_depth(text: str) -> None:
    """Count brackets outside strings before a parser recurses into them."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise Unreadable(f"nests deeper than {DEEPEST} levels; an entry does not")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, unless a key stands in it twice: parsers differ on which one they keep."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise Unreadable(f"key {key[:40]!a} stands twice in one object; once is right")
        found[key] = value
    return found


def _no_constant(word: str) -> object:
    raise Unreadable(f"holds {word}, which is not JSON; a finite number or null is right")
