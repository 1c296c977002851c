"""What every data set from outside shares: a list of labelled images, of which only those drawn are decoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from unfooled.datasets.scenes import check_classes
from unfooled.seeding import numpy_generator
from unfooled.types import Batch, DataError, Pairs, SplitName, Splits

Encoded = tuple[str, Path | bytes | Image.Image]
"""An image's name, for errors, and where its pixels come from."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Labels of all images, and a way to fetch some of them."""

    where: str
    """for errors: the file or folder"""
    labels: np.ndarray
    """int64 (n,)"""
    fetch: Callable[[np.ndarray], Iterable[Encoded]]
    """positions → the images there, in that order"""

    def part(self, positions: np.ndarray) -> Listing:
        return Listing(self.where, self.labels[positions], lambda chosen: self.fetch(positions[chosen]))


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How many images are drawn, which, and at what size; the same for every data set from outside.

    Only the images drawn are decoded; they are kept in memory as RGB, 12 · size² bytes each. Raises DataError for a
    size below 2, a ``resize`` below the size, a negative count, or one beyond what is there.
    """

    size: int = 32
    """side of the centre crop"""
    resize: int | None = None
    """the shorter side before the crop; None: ``size``. ImageNet is usually read with 256 and a size of 224."""
    train: int | None = None
    """None: all that tune leaves"""
    tune: int | None = None
    """cut from the train files before train is; None: a tenth of them"""
    test: int | None = None
    """None: all"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 2:
            raise DataError(f"{self.where}: size is {self.size}; it must be at least 2")
        if self.resize is not None and self.resize < self.size:
            raise DataError(f"{self.where}: resize is {self.resize}; it must be at least the size, {self.size}")
        for name in ("train", "tune", "test"):
            count = getattr(self, name)
            if count is not None and count < 0:
                raise DataError(f"{self.where}: {name} is {count}; a count must be 0 or more, or left out for all")

    @property
    def where(self) -> str:
        return type(self).__name__.lower()

    def draw(self, classes: tuple[str, ...], train: Listing, test: Listing | None) -> Splits:
        """The splits. Without a test listing a fifth of the other becomes one, the same whatever the counts."""
        if test is None:
            order = self._order("test", len(train.labels))
            fifth = -(-len(order) // 5)
            train, test = train.part(np.sort(order[fifth:])), train.part(np.sort(order[:fifth]))
        positions = self._order("train", len(train.labels))
        tuned = self._count("tune", train, len(positions), len(positions) // 10)
        fitted = self._count("train", train, len(positions) - tuned, len(positions) - tuned)
        tested = self._count("test", test, len(test.labels), len(test.labels))
        batches: dict[SplitName, Batch] = {
            "train": self._batch(train, positions[tuned : tuned + fitted]),
            "tune": self._batch(train, positions[:tuned]),
            "test": self._batch(test, self._order("test", len(test.labels))[:tested]),
        }
        mosaics = Mosaics(self.where, batches, len(classes), self.seed)
        return Splits(classes, batches["train"], batches["tune"], batches["test"], mosaics)

    def _order(self, part: str, length: int) -> np.ndarray:
        return numpy_generator("images", self.seed, part).permutation(length)

    def _count(self, name: str, listing: Listing, held: int, default: int) -> int:
        asked = getattr(self, name)
        if asked is not None and asked > held:
            left = " after tune" if name == "train" else ""
            raise DataError(f"{listing.where}: {name} asks for {asked} images, {held} are there{left}; ask for fewer")
        return default if asked is None else asked

    def _batch(self, listing: Listing, positions: np.ndarray) -> Batch:
        pixels = np.empty((len(positions), self.size, self.size, 3), np.uint8)
        for row, (name, source) in enumerate(listing.fetch(positions)):
            pixels[row] = decode(name, source, self.size, self.resize or self.size)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
        return Batch(images, torch.from_numpy(listing.labels[positions]))


def decode(name: str, source: Path | bytes | Image.Image, size: int, shorter: int) -> np.ndarray:
    """An image's middle in RGB, after its shorter side was scaled to ``shorter``: uint8 (size, size, 3).

    Scaling is bilinear and anti-aliased, as torchvision's. Raises DataError, with the image's name, where it is broken.
    """
    try:
        if not isinstance(source, Image.Image):
            source = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        with source:
            image = source.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: not a readable image; replace or remove it") from error
    least = min(image.size)
    if least != shorter:
        image = image.resize([int(shorter * side / least) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@dataclass(frozen=True, slots=True)
class Mosaics:
    """2 × 2 mosaics: two images of one class on a diagonal, two of another on the other (Heo et al. 2019, D_fool)."""

    where: str
    batches: dict[SplitName, Batch]
    classes: int
    seed: int

    def __call__(self, first: int, second: int, split: SplitName, count: int) -> Pairs:
        """Tiles are a split's images at half their side; masks are True on a class's two tiles.

        Raises DataError where the classes are one or not classes, the split has no image of one, or the side is odd.
        """
        check_classes(self.where, first, second, self.classes)
        batch = self.batches[split]
        if batch.images.shape[-1] % 2:
            raise DataError(f"{self.where}: mosaics of a side of {batch.images.shape[-1]}; the size must be even")
        draws = numpy_generator("mosaics", self.seed, split, first, second).random((count, 5))
        tiles = [self._tiles(split, label, draws[:, 2 * i : 2 * i + 2]) for i, label in enumerate((first, second))]
        turned = torch.from_numpy(draws[:, 4] < 0.5)
        labels = torch.tensor([first, second]).repeat(count, 1)
        return Pairs(_quarter(*tiles, turned), labels, _quarter_masks(turned, batch.images.shape[-1]))

    def _tiles(self, split: SplitName, label: int, draws: np.ndarray) -> Tensor:
        """Two images of a class a mosaic, different ones where there are two: (count, 2, c, h / 2, w / 2)."""
        batch = self.batches[split]
        rows = torch.nonzero(batch.labels == label)[:, 0].numpy()
        if not len(rows):
            raise DataError(f"{self.where}: {split} drew no image of class {label}; draw more images")
        one = (draws[:, 0] * len(rows)).astype(int)
        other = (one + 1 + (draws[:, 1] * (len(rows) - 1)).astype(int)) % len(rows)
        small = F.avg_pool2d(batch.images[torch.from_numpy(rows)], 2)
        return small[torch.from_numpy(np.stack([one, other], 1))]


def _quarter(first: Tensor, second: Tensor, turned: Tensor) -> Tensor:
    """Tiles (n, 2, c, h, w) of two classes as (n, c, 2h, 2w): the first on the main diagonal, turned on the other."""
    swap = turned[:, None, None, None, None]
    main, other = torch.where(swap, second, first), torch.where(swap, first, second)
    upper, lower = torch.cat([main[:, 0], other[:, 0]], -1), torch.cat([other[:, 1], main[:, 1]], -1)
    return torch.cat([upper, lower], -2)


def _quarter_masks(turned: Tensor, side: int) -> Tensor:
    """bool (n, 2, side, side): the tiles of the first and of the second class."""
    half = torch.arange(side) < side // 2
    main = half[:, None] == half[None, :]
    first = main[None] ^ turned[:, None, None]
    return torch.stack([first, ~first], 1)
