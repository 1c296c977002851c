"""A run on disk: one Parquet file of rows, its header as JSON in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from unfooled.store import publish
from unfooled.types import UnfooledError

FORMAT = 1
"""of rows and header; raised when their meaning changes"""

KEY = b"unfooled"


class RunError(UnfooledError):
    """A run's file is missing, damaged or of another format."""


@dataclass(frozen=True)
class Run:
    """A suite's scores: rows and header (docs/design.md), and the folder they came from."""

    rows: pd.DataFrame
    header: dict
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "rows.parquet"


def gallery_name(split: str, what: str) -> str:
    """What a gallery file calls something of a split: bare on the test images, ``pairs:what`` on images of two."""
    return what if split == "test" else f"{split}:{what}"


def joined(parts: Sequence[pa.Table | pd.DataFrame]) -> pd.DataFrame:
    """Rows one below the other as one frame, the words of each column united and in order."""
    tables = [pa.Table.from_pandas(p, preserve_index=False) if isinstance(p, pd.DataFrame) else p for p in parts]
    frame = pa.concat_tables([t.cast(_wide(t.schema)) for t in tables]).unify_dictionaries().to_pandas()
    for name in frame.columns[frame.dtypes == "category"]:
        frame[name] = frame[name].cat.reorder_categories(sorted(frame[name].cat.categories))
    return frame


def _wide(schema: pa.Schema) -> pa.Schema:
    """Room for all tables' words: one alone may number its own in a byte, and hold them as it likes."""
    words = pa.dictionary(pa.int16(), pa.string())
    return pa.schema([(f.name, words if pa.types.is_dictionary(f.type) else f.type) for f in schema])


def write_rows(path: Path, rows: pd.DataFrame, header: dict) -> None:
    """One Parquet file: words by their numbers, similarities byte by byte, every page with a checksum."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    text = json.dumps({"format": FORMAT, **header}, sort_keys=True, allow_nan=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: text.encode()})
    words = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    pq.write_table(
        table, path, compression="zstd", use_dictionary=words, column_encoding={"value": "BYTE_STREAM_SPLIT"},
        write_page_checksum=True,
    )  # fmt: skip


def save(run: Run) -> None:
    """Publish the run's file in its folder, in one step."""
    publish(run.path, lambda path: write_rows(path, run.rows, run.header))


def load(source: str | Path) -> Run:
    """A run from its folder or its Parquet file. Raises RunError."""
    path = Path(source)
    path = path / "rows.parquet" if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"{source}: no run there; name a run's folder, or its rows.parquet")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        header = json.loads((file.schema_arrow.metadata or {})[KEY])
        rows = file.read().to_pandas()
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        raise RunError(
            f"{path}: is not a run of unfooled, or was damaged ({type(error).__name__}); run it again"
        ) from error
    if header.get("format") != FORMAT:
        raise RunError(f"{path}: has format {header.get('format')}; this version reads format {FORMAT}")
    return Run(rows, header, path.parent)
