"""A run on disk is read back as it was, or refused in one line."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unfooled import records
from unfooled.records import Run, RunError


@pytest.fixture
def run(tmp_path):
    rows = pd.DataFrame(
        {
            "twin": pd.Categorical(["honest", "fooled", "honest"]),
            "image": pd.array([0, 1, 2], dtype="int32"),
            "value": pd.array([0.5, float("nan"), 1.0], dtype="float32"),
            "silent": [False, True, False],
        }
    )
    return Run(rows, {"suite": {"name": "é"}, "limit": None, "failures": []}, tmp_path / "run")


def test_a_run_is_read_back_as_it_was(run):
    records.save(run)
    for source in (run.folder, run.path, str(run.folder)):
        found = records.load(source)
        pd.testing.assert_frame_equal(found.rows, run.rows, check_categorical=False, check_dtype=False)
        assert found.header == {"format": records.FORMAT, **run.header}
        assert found.folder == run.folder
    assert [p.name for p in run.folder.iterdir()] == ["rows.parquet"]


def test_the_file_is_plain_parquet_with_a_json_header(run):
    records.save(run)
    file = pq.ParquetFile(run.path)
    assert file.read().num_rows == 3
    assert json.loads(file.schema_arrow.metadata[b"unfooled"])["suite"] == {"name": "é"}


def test_no_run_there(tmp_path):
    for source in (tmp_path, tmp_path / "gone", tmp_path / "gone.parquet"):
        with pytest.raises(RunError, match=r"no run there; name a run's folder, or its rows\.parquet"):
            records.load(source)


def test_another_table_and_another_format(run, tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(RunError, match=r"is not a run of unfooled, or was damaged \(KeyError\); run it again"):
        records.load(tmp_path / "other.parquet")
    records.write_rows(tmp_path / "old.parquet", run.rows, {"format": 0})
    with pytest.raises(RunError, match=r"has format 0; this version reads format 1"):
        records.load(tmp_path / "old.parquet")


@pytest.mark.parametrize("where", [4, 40, 0.3, 0.5, 0.8, -4])
def test_a_damaged_run_is_refused_in_one_line(run, where):
    """A byte spoilt in the data, in the footer, in the marks at both ends."""
    records.save(run)
    content = bytearray(run.path.read_bytes())
    position = int(where * len(content)) if isinstance(where, float) else where
    content[position] ^= 0xFF
    run.path.write_bytes(content)
    found, refused = None, ""
    try:
        found = records.load(run.folder)
    except RunError as error:
        refused = str(error)
    if found is None:
        assert "run it again" in refused or "format" in refused
        assert "\n" not in refused
    else:  # spoilt where nothing is kept: all that is read must be right
        pd.testing.assert_frame_equal(found.rows, run.rows, check_categorical=False, check_dtype=False)
        assert found.header == {"format": records.FORMAT, **run.header}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_half_a_file_is_refused(run, share):
    records.save(run)
    content = run.path.read_bytes()
    run.path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match="or was damaged"):
        records.load(run.folder)


def test_joining_unites_more_words_than_a_byte_can_number():
    frames = [pd.DataFrame({"word": pd.Categorical([f"{n:03}", "same"]), "value": [n, 0]}) for n in range(200)]
    both = records.joined([*frames[:100], *(pa.Table.from_pandas(f, preserve_index=False) for f in frames[100:])])
    assert both["word"].tolist() == [w for f in frames for w in f["word"]]
    assert both["word"].cat.categories.tolist() == sorted({w for f in frames for w in f["word"]})
    assert both["value"].tolist() == [v for f in frames for v in f["value"]]
