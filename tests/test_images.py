"""Images from outside: what is on disk comes back, splits are disjoint, and every fault is said in one line."""

from __future__ import annotations

import io
import itertools
import json
import re
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unfooled import plugins
from unfooled.datasets.images import Folder, Parquet, Torchvision
from unfooled.datasets.listing import decode
from unfooled.types import DataError, Part
from unfooled.vision import torchvision

CIFAR10 = Path(__file__).parents[2] / "shared" / "data" / "cifar10"


def said(message):
    return pytest.raises(DataError, match=f"^{re.escape(message)}$")


def png(number: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A flat image whose red value is its number, so that it can be told from the others."""
    out = io.BytesIO()
    Image.new("RGB", size, (number, 100, 200)).save(out, "PNG")
    return out.getvalue()


def numbers(batch) -> list[int]:
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


def write_folder(folder: Path, classes: dict[str, range]) -> Path:
    for name, held in classes.items():
        (folder / name).mkdir(parents=True)
        for number in held:
            (folder / name / f"{number:03}.png").write_bytes(png(number))
    return folder


def write_parquet(path: Path, labels: list, images: list | None = None, names: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(len(labels))] if images is None else images
    table = pa.table({"img": images, "label": labels})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=7)
    return path


# Folder


def test_a_folder_gives_its_images_with_their_labels(tmp_path):
    write_folder(tmp_path / "train", {"cat": range(10, 20), "dog": range(30, 40)})
    write_folder(tmp_path / "test", {"cat": range(50, 55), "dog": range(60, 65)})
    data = Folder(str(tmp_path), size=8, tune=6)()
    assert data.classes == ("cat", "dog")
    assert sorted(numbers(data.train) + numbers(data.tune)) == [*range(10, 20), *range(30, 40)]
    assert sorted(numbers(data.test)) == [*range(50, 55), *range(60, 65)]
    assert len(data.tune) == 6
    for batch in (data.train, data.tune):
        assert batch.labels.tolist() == [int(number >= 30) for number in numbers(batch)]
        assert batch.masks is None
        assert batch.images.shape[1:] == (3, 8, 8)
        assert batch.images.dtype == torch.float32
    assert data.test.labels.tolist() == [int(number >= 60) for number in numbers(data.test)]


def test_test_labels_are_those_of_the_train_classes_by_name(tmp_path):
    """A val folder without the first class: counted by itself, dog would be 0."""
    write_folder(tmp_path / "train", {"cat": range(5), "dog": range(5)})
    write_folder(tmp_path / "val", {"dog": range(5)})
    assert Folder(str(tmp_path), size=8)().test.labels.tolist() == [1] * 5


@settings(max_examples=15, deadline=None)
@given(train=st.integers(0, 20), tune=st.integers(0, 12), test=st.integers(0, 8), seed=st.integers(0, 3))
def test_one_folder_is_cut_into_disjoint_splits(tmp_path_factory, train, tune, test, seed):
    root = tmp_path_factory.getbasetemp() / "one"
    if not root.exists():
        write_folder(root, {"a": range(20), "b": range(20, 40)})
    data = Folder(str(root), size=8, train=train, tune=tune, test=test, seed=seed)()
    parts = [numbers(part) for part in (data.train, data.tune, data.test)]
    assert [len(part) for part in parts] == [train, tune, test]
    assert len(set(itertools.chain(*parts))) == train + tune + test
    again = Folder(str(root), size=8, seed=seed)()
    assert numbers(again.test)[:test] == parts[2]  # a longer split begins like a shorter one
    assert not set(parts[0] + parts[1]) & set(numbers(again.test))  # and no count moves the border to test


def test_another_seed_draws_others(tmp_path):
    write_folder(tmp_path, {"a": range(40)})
    drawn = [numbers(Folder(str(tmp_path), size=8, seed=seed)().train) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("shape", [(40, 64), (65, 41), (32, 32), (20, 27)])
def test_decoding_is_torchvisions_resize_and_centre_crop(shape):
    """To the bit: both resize with Pillow's anti-aliased bilinear filter and round the crop's corner the same way."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    functional = torchvision.transforms.functional
    expected = functional.center_crop(functional.resize(image, 36), 32)
    assert np.array_equal(decode("x", image, 32, 36), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_kind_of_image_becomes_rgb(mode):
    out = io.BytesIO()
    Image.new("L", (9, 12), 255).convert(mode).save(out, "PNG")
    assert np.array_equal(decode("x", out.getvalue(), 9, 9), np.full((9, 9, 3), 255))


def test_faults_of_a_folder(tmp_path):
    with said("nowhere: no such folder; root must be a folder with a folder a class, under --data where that is given"):
        Folder("nowhere")()
    with said(f"{tmp_path}: no class folders; it must hold one folder of images a class"):
        Folder(str(tmp_path))()
    write_folder(tmp_path / "train", {"cat": range(3), "dog": range(0)})
    with said(f"{tmp_path}/train/dog: no images; a class folder must hold at least one"):
        Folder(str(tmp_path))()
    (tmp_path / "train" / "dog" / "000.png").write_bytes(png(0))
    write_folder(tmp_path / "test", {"cats": range(1)})
    with said(f"{tmp_path}/test/cats: no such class in train; did you mean 'cat'?"):
        Folder(str(tmp_path))()


@pytest.mark.parametrize("content", [b"", b"hello", png(1, (64, 64))[:100]])
def test_a_broken_image_is_named(tmp_path, content):
    write_folder(tmp_path, {"cat": range(3)})
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(content)
    data = Folder(str(tmp_path), size=8, train=0, tune=0, test=1)
    with pytest.raises(
        DataError, match=rf"^{re.escape(str(tmp_path))}/cat/00\d.png: not a readable image; replace or remove it$"
    ):
        data()


def test_an_image_that_is_not_drawn_is_not_decoded(tmp_path):
    write_folder(tmp_path, {"cat": range(3)})
    (tmp_path / "cat" / "broken.png").write_bytes(b"hello")
    assert len(Folder(str(tmp_path), size=8, train=0, tune=0, test=0)().test) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 1}, "folder: size is 1; it must be at least 2"),
        ({"size": 32, "resize": 24}, "folder: resize is 24; it must be at least the size, 32"),
        ({"tune": -2}, "folder: tune is -2; a count must be 0 or more, or left out for all"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with said(message):
        Folder("x", **arguments)


def test_more_images_than_there_are(tmp_path):
    write_folder(tmp_path / "train", {"a": range(10)})
    write_folder(tmp_path / "test", {"a": range(3)})
    with said(f"{tmp_path}/train: tune asks for 11 images, 10 are there; ask for fewer"):
        Folder(str(tmp_path), tune=11)()
    with said(f"{tmp_path}/train: train asks for 8 images, 7 are there after tune; ask for fewer"):
        Folder(str(tmp_path), train=8, tune=3)()
    with said(f"{tmp_path}/test: test asks for 4 images, 3 are there; ask for fewer"):
        Folder(str(tmp_path), test=4)()


# Parquet


def test_parquet_gives_its_images_with_their_labels(tmp_path):
    """Two train files of several row groups; an image's number is its row, its label the row modulo 3 or 2."""
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [i % 3 for i in range(30)])
    write_parquet(
        tmp_path / "train-00001-of-00002.parquet",
        [i % 2 for i in range(20)],
        [{"bytes": png(100 + i), "path": None} for i in range(20)],
    )
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [1, 2, 0])
    data = Parquet(str(tmp_path), size=8, tune=10)()
    assert data.classes == ("0", "1", "2")
    assert sorted(numbers(data.train) + numbers(data.tune)) == [*range(30), *range(100, 120)]
    for batch in (data.train, data.tune):
        assert batch.labels.tolist() == [n % 3 if n < 100 else n % 2 for n in numbers(batch)]
    assert dict(zip(numbers(data.test), data.test.labels.tolist(), strict=True)) == {0: 1, 1: 2, 2: 0}


def test_class_names_come_from_hugging_faces_metadata(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 0, 1, 0], names=["airplane", "automobile", "bird"])
    assert Parquet(str(tmp_path), size=8)().classes == ("airplane", "automobile", "bird")


def test_plain_bytes_and_other_columns_do_too(tmp_path):
    table = pa.table({"image": [png(i) for i in range(5)], "fine_label": pa.array(range(5), pa.int8())})
    pq.write_table(table, tmp_path / "train-0.parquet")
    data = Parquet(str(tmp_path), image="image", label="fine_label", size=8, tune=0)()
    assert sorted(numbers(data.train) + numbers(data.test)) == [0, 1, 2, 3, 4]
    assert data.train.labels.tolist() == numbers(data.train)


def test_faults_of_parquet_files(tmp_path):
    with said("nowhere: no such folder; root must be a folder with train-*.parquet, under --data where that is given"):
        Parquet("nowhere")()
    with said(f"{tmp_path}: no train-*.parquet; it must hold at least one"):
        Parquet(str(tmp_path))()
    path = tmp_path / "train-0.parquet"
    path.write_bytes(b"hello")
    with said(f"{path}: not a readable parquet file; replace it"):
        Parquet(str(tmp_path))()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"], "label": [0]}, "no column 'img'; did you mean 'image'?"),
        ({"img": [b"x"], "y": [0]}, "no column 'label'; it has img, y"),
        ({"img": [b"x"], "label": ["cat"]}, "column 'label' holds string; it must hold integers from 0"),
        ({"img": ["a.png"], "label": [0]}, "column 'img' holds string; it must hold bytes, or a struct with bytes"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, columns, message):
    path = tmp_path / "train-0.parquet"
    pq.write_table(pa.table(columns), path)
    with said(f"{path}: {message}"):
        Parquet(str(tmp_path))()


@pytest.mark.parametrize(("label", "names", "last"), [(2, ["a", "b"], 1), (-1, None, 1), (None, None, 1)])
def test_labels_out_of_range(tmp_path, label, names, last):
    path = write_parquet(tmp_path / "train-0.parquet", [0, 1, 0, label], names=names)
    shown = -1 if label is None else label
    with said(f"{path}: label {shown} in row 3; labels must go from 0 to {last}"):
        Parquet(str(tmp_path))()


def test_a_test_label_that_train_never_shows(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [0, 1])
    path = write_parquet(tmp_path / "test-0.parquet", [5])
    with said(f"{path}: label 5 in row 0; labels must go from 0 to 1"):
        Parquet(str(tmp_path))()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"bytes": b"hello", "path": "x"}, "not a readable image; replace or remove it"),
        ({"bytes": None, "path": "x"}, "no bytes; images must be embedded in the file"),
    ],
)
def test_a_row_without_an_image_is_named(tmp_path, cell, message):
    images = [{"bytes": png(i), "path": "x"} for i in range(9)] + [cell]
    path = write_parquet(tmp_path / "train-0.parquet", [0] * 10, images)
    with said(f"{path}: row 9: {message}"):
        Parquet(str(tmp_path), size=8)()


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="no shared/data/cifar10")
def test_cifar10_reads_the_rows_it_names():
    """Of the file's first 400 rows about 40 are among 1,000 images drawn; each must carry its own row's label."""
    data = Parquet(str(CIFAR10), train=300, tune=100, test=1000)()
    assert data.train.images.shape == (300, 3, 32, 32)
    assert len(data.classes) == 10
    drawn = {(image * 255).round().byte().numpy().tobytes(): label for image, label in _rows(data.test)}
    rows = next(pq.ParquetFile(CIFAR10 / "test-00000-of-00001.parquet").iter_batches(400)).to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(row["img"]["bytes"]))).transpose(2, 0, 1).tobytes() for row in rows]
    found = [(row["label"], drawn[key]) for row, key in zip(rows, pixels, strict=True) if key in drawn]
    assert len(found) > 15
    assert all(written == read for written, read in found)


def _rows(batch):
    return zip(batch.images, batch.labels.tolist(), strict=True)


# torchvision


def write_mnist(folder: Path, train: int, test: int) -> None:
    """The four IDX files: a magic number with type 8 and the number of axes, the axes, the bytes."""
    folder.mkdir(parents=True)
    for part, count, start in (("train", train, 0), ("t10k", test, 100)):
        pixels = np.repeat(np.arange(start, start + count, dtype=np.uint8), 28 * 28).tobytes()
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels)
        labels = bytes(i % 10 for i in range(count))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)


def test_a_data_set_of_torchvisions(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw", 20, 10)
    data = Torchvision("MNIST", str(tmp_path), size=28, tune=5)()
    assert data.classes[7] == "7 - seven"
    assert sorted(numbers(data.train) + numbers(data.tune)) == list(range(20))
    assert data.train.labels.tolist() == [n % 10 for n in numbers(data.train)]
    assert sorted(numbers(data.test)) == list(range(100, 110))


def test_faults_of_torchvisions(tmp_path):
    with said("torchvision: no data set 'CIFAR11'; did you mean 'CIFAR10'?"):
        Torchvision("CIFAR11", str(tmp_path))()
    for name in ("CIFAR10", "SVHN"):
        with said(f"torchvision: {name} is not in {str(tmp_path)!r}; set download: true to fetch it"):
            Torchvision(name, str(tmp_path))()
    with said("torchvision: DatasetFolder needs more than a root and a split; use another, or a folder of classes"):
        Torchvision("DatasetFolder", str(tmp_path))()
    with said("torchvision: FakeData lists no labels; use one that does, such as CIFAR10, or a folder of classes"):
        Torchvision("FakeData", 10)()


# Mosaics


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory):
    root = write_folder(
        tmp_path_factory.mktemp("mosaics"), {"a": range(40), "b": range(100, 140), "c": range(200, 201)}
    )
    return Folder(str(root), size=8)().pairs


def test_mosaics_show_two_of_each_on_a_diagonal(mosaics):
    pairs = mosaics(0, 1, "train", 60)
    assert pairs.images.shape == (60, 3, 8, 8)
    assert torch.equal(pairs.labels, torch.tensor([[0, 1]]).repeat(60, 1))
    corners = (pairs.images[:, 0, ::4, ::4] * 255).round()  # one pixel a tile; tiles are flat
    main = torch.eye(2, dtype=torch.bool)
    turned = corners[:, 0, 0] >= 100
    for image, mask, turn in zip(corners, pairs.masks, turned, strict=True):
        first = ~main if turn else main
        assert torch.equal(mask[0, ::4, ::4], first)
        assert image[first].max() < 100 <= image[~first].min()
        assert len(image.unique()) == 4  # four different images
    assert 10 < turned.sum() < 50  # 60 fair draws: five standard deviations
    assert torch.equal(pairs.masks[:, 0], ~pairs.masks[:, 1])


def test_mosaics_are_the_same_at_every_call(mosaics):
    assert torch.equal(mosaics(0, 1, "train", 5).images, mosaics(0, 1, "train", 9).images[:5])


def test_faults_of_mosaics(mosaics, tmp_path):
    with said("folder: no class 3 for pairs; labels go from 0 to 2"):
        mosaics(0, 3, "train", 1)
    with said("folder: pairs of class 1 with itself; the two classes must differ"):
        mosaics(1, 1, "train", 1)
    with said("folder: tune drew no image of class 2; draw more images"):
        mosaics(0, 2, "tune", 1)
    write_folder(tmp_path, {"a": range(20), "b": range(20)})
    with said("folder: mosaics of a side of 7; the size must be even"):
        Folder(str(tmp_path), size=7)().pairs(0, 1, "train", 1)


def test_the_catalogue_builds_all_three(tmp_path):
    write_folder(tmp_path, {"a": range(10)})
    for use, more in (("image_folder", {}), ("parquet", {}), ("torchvision", {"name": "MNIST"})):
        part = Part(use, {"root": str(tmp_path), "size": 8, "train": 4, **more})
        assert plugins.build("datasets", part).train == 4
