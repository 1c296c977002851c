"""The twins of a setting: found in the store, or made and put there, one file at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from unfooled import certificates, models, plugins, searching, seeding, training
from unfooled.manipulations import twins
from unfooled.searching import Judge
from unfooled.store import Store, digest, read_json, write_json
from unfooled.suite import CellSpec, Setting, located
from unfooled.types import DataError, Splits, Twin

Say = Callable[[str], None]


@dataclass(frozen=True)
class Images:
    """What every interpreter of a setting is asked about: (n, c, h, w) in [0, 1], and the targets (n,)."""

    split: str
    images: Tensor
    targets: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, some: slice | Tensor) -> Images:
        masks = None if self.masks is None else self.masks[some]
        return Images(self.split, self.images[some], self.targets[some], masks)


@dataclass(frozen=True)
class Builder:
    """Makes or finds the twins of one setting. The data set is only drawn when something has to be made."""

    setting: Setting
    store: Store
    device: str = "cpu"
    say: Say = print

    def all(self) -> None:
        """Everything that a run of this setting needs, on disk."""
        if finished(self.setting, self.store):
            return
        _check_weights(self.setting)
        data = splits(self.setting, self.device)
        original = self.original(data)
        _check_judged(self.setting, data)
        honest = self.honest(data, original)
        fooled = [self.fooled(cell, data, original, honest) for cell in self.setting.suite.cells]
        self._choose_images(data, [original, honest, *fooled])

    def original(self, data: Splits) -> nn.Module:
        return self._weights(self.setting.original_key, "original", data, lambda: self._fit(data))

    def honest(self, data: Splits, original: nn.Module) -> nn.Module:
        recipe, seed = self.setting.architecture.recipe, self.setting.seed
        key = self.setting.honest_key
        made = self._weights(key, "honest twin", data, lambda: twins.honest(original, data, recipe, seed))
        if not self.store.find("certificates", key):
            self._certify_honest(data, original, made)
        return made

    def _certify_honest(self, data: Splits, original: nn.Module, honest: nn.Module) -> None:
        content = {
            "setting": self.setting.name,
            "original_accuracy": training.accuracy(original, data.test),
            "classes": list(data.classes),
            **asdict(certificates.kept(original, honest, data.test)),
        }
        self.certify(self.setting.honest_key, content)

    def _fit(self, data: Splits) -> nn.Module:
        words = (self.setting.original_key,)
        model = fresh(self.setting, len(data.classes), self.device)
        recipe = self.setting.architecture.fit
        return training.freeze(model) if recipe is None else training.fit(model, data.train, recipe, *words)

    def _weights(self, key: str, what: str, data: Splits, make: Callable[[], nn.Module]) -> nn.Module:
        """The network under the key, always as reloaded from its file, so that nobody sees unrounded weights."""
        path = self.store.find("weights", key)
        if path is None:
            self.say(f"{self.setting.name}: {what}")
            path = self._keep(key, make())
        return self.load(path, len(data.classes))

    def _keep(self, key: str, model: nn.Module) -> Path:
        return self.store.put("weights", key, ".safetensors", lambda p: models.save_weights(model, p, half=True))

    def certify(self, key: str, content: dict[str, object]) -> None:
        """Put what is said of a twin under the key."""
        self.store.put("certificates", key, ".json", lambda p: write_json(p, content))

    def load(self, path: Path, classes: int) -> nn.Module:
        """The setting's network with the weights of a file."""
        model = fresh(self.setting, classes, self.device)
        models.load_weights(model, path)
        return training.freeze(model)

    def fooled(self, cell: CellSpec, data: Splits, original: nn.Module, honest: nn.Module) -> nn.Module:
        """The first twin of the cell's declared search that passes the gates and is fooled; else the nearest to it."""
        key, judge = self.setting.fooled_key(cell), Judge(self.setting, cell, data, original, honest)
        twin, key = self.searched(judge, key), self.setting.certificate_key(cell)
        if not self.store.find("certificates", key):
            self.certify(key, judge.test(twin))
        return twin

    def searched(self, judge: Judge, key: str) -> nn.Module:
        """What the judge's declared search came to, as reloaded; searched where twin or certificate is missing."""
        path = self.store.find("weights", key)
        if path is None or not self.store.find("certificates", key):
            chosen, outcome = searching.search(judge, self.say)
            path = self._keep(key, chosen)
            self.certify(key, outcome)
        return self.load(path, len(judge.data.classes))

    def _choose_images(self, data: Splits, networks: list[nn.Module]) -> None:
        """The first test images that original, honest and every fooled twin classify as the label."""
        suite = self.setting.suite
        right = torch.stack([training.predict(m, data.test.images).argmax(1) == data.test.labels for m in networks])
        index = right.all(0).nonzero()[: suite.images, 0]
        if len(index) == 0:
            raise DataError(
                f"{self.setting.name}: no test image is classified as its label by all twins; fit longer, or fool less"
            )
        chosen = data.test[index.cpu()]
        content = {"test.images": _bytes(chosen.images), "test.targets": chosen.labels}
        if chosen.masks is not None:
            content["test.masks"] = chosen.masks
        content |= self._choose_pairs(data, networks)
        self.store.put("images", self.setting.images_key, ".safetensors", lambda p: _save(content, p))

    def _choose_pairs(self, data: Splits, networks: list[nn.Module]) -> dict[str, Tensor]:
        """Two-object images on which every twin predicts one of the two classes, each for both targets."""
        suite = self.setting.suite
        active = [c for c in suite.cells if c.manipulation.use == "active"]
        if not active:
            return {}
        manipulation = plugins.build("manipulations", active[0].manipulation)
        images, targets = manipulation.judged_on(data, "test", 4 * suite.pairs)
        n = len(images) // 2
        pair = torch.stack([targets[:n], targets[n:]], 1)
        votes = [(training.predict(m, images[:n]).argmax(1)[:, None] == pair).any(1) for m in networks]
        index = torch.stack(votes).all(0).nonzero()[: suite.pairs, 0].cpu()
        if len(index) == 0:
            raise DataError(
                f"{self.setting.name}: on no image of two objects do all twins see either; fit longer, or fool less"
            )
        both = torch.cat([index, n + index])
        return {"pairs.images": _bytes(images[both]), "pairs.targets": targets[both]}


def _check_weights(setting: Setting) -> None:
    """A file that is missing should end a build at once, not after all images were read. Raises DataError."""
    weights = located(setting.suite, setting.architecture.model).arguments.get("weights")
    if weights:
        models.weights_file(str(weights))


def _check_judged(setting: Setting, data: Splits) -> None:
    """A class that a split has no image of should end a build before anything is fooled. Raises DataError."""
    for cell in setting.suite.cells:
        manipulation = plugins.build("manipulations", cell.manipulation)
        for split in ("train", "tune", "test"):
            manipulation.judged_on(data, split, 1)


def splits(setting: Setting, device: str = "cpu") -> Splits:
    """The setting's data set, drawn, on the device."""
    drawn = plugins.build("datasets", located(setting.suite, setting.suite.dataset))()
    if device == "cpu":
        return drawn
    train, tune, test = (batch.to(device) for batch in (drawn.train, drawn.tune, drawn.test))
    return replace(drawn, train=train, tune=tune, test=test, pairs=lambda *words: drawn.pairs(*words).to(device))


def fresh(setting: Setting, classes: int, device: str = "cpu") -> nn.Module:
    """The setting's network as its layers initialise it, from the setting's own random stream."""
    named = located(setting.suite, setting.architecture.model)
    make = plugins.build("models", named)
    with seeding.forked("init", setting.original_key):
        return make(num_classes=classes).to(device)


def images(setting: Setting, store: Store) -> list[Images]:
    """The chosen images of a built setting: one object each ("test") and, where asked, two ("pairs")."""
    path = store.find("images", setting.images_key)
    content = safetensors.torch.load_file(path)
    limit = setting.suite.limit
    found = []
    for split in ("test", "pairs"):
        if f"{split}.images" in content:
            x, y = _floats(content[f"{split}.images"]), content[f"{split}.targets"]
            found.append(_limited(Images(split, x, y, content.get(f"{split}.masks")), limit))
    return found


def _limited(chosen: Images, limit: int | None) -> Images:
    if limit is None:
        return chosen
    n = len(chosen) // 2 if chosen.split == "pairs" else len(chosen)
    keep = torch.arange(min(n, limit))
    if chosen.split == "pairs":
        keep = torch.cat([keep, n + keep])
    return chosen[keep]


def load_twins(setting: Setting, store: Store, chosen: Images, device: str = "cpu") -> list[Twin]:
    """Original, honest and fooled twins from the store, randomised ones from their seeds, and another's original."""
    classes = class_count(setting, store)
    original = _original(setting, store, classes, device)

    def stored(key: str) -> nn.Module:
        twin = copy.deepcopy(original)  # quicker than another one made from nothing
        return training.freeze(models.load_weights(twin, store.find("weights", key)))

    found = [Twin("original", original), Twin("honest", stored(setting.honest_key))]
    found += [Twin("fooled", stored(setting.fooled_key(c)), cell=c.name) for c in setting.suite.cells]
    words = (setting.original_key,)
    for draw in range(setting.suite.draws):
        found.append(Twin("randomised", twins.randomised(original, chosen.images, *words, draw), draw=draw))
    found.append(Twin("randomised_top", twins.randomised_top(original, chosen.images, *words, "top")))
    if setting.other:
        found.append(Twin("independent", _original(setting.other, store, classes, device)))
    return found


def _original(setting: Setting, store: Store, classes: int, device: str) -> nn.Module:
    return Builder(setting, store, device).load(store.find("weights", setting.original_key), classes)


def needed(setting: Setting) -> list[tuple[str, str]]:
    """(kind, key) of every file that a run of the setting reads: networks and images first, then certificates."""
    cells = setting.suite.cells
    told = [setting.honest_key, *(key(c) for key in (setting.fooled_key, setting.certificate_key) for c in cells)]
    return made(setting) + [("certificates", k) for k in told]


def made(setting: Setting) -> list[tuple[str, str]]:
    """(kind, key) of the setting's own networks and images."""
    fooled = [setting.fooled_key(c) for c in setting.suite.cells]
    networks = [("weights", k) for k in (setting.original_key, setting.honest_key, *fooled)]
    return [*networks, ("images", setting.images_key)]


def finished(setting: Setting, store: Store) -> bool:
    """Is there all that a run of the setting reads?"""
    return all(store.find(kind, key) for kind, key in needed(setting))


def class_count(setting: Setting, store: Store) -> int:
    """How many classes the networks of a built setting tell apart."""
    return len(certificate(setting, store, setting.honest_key)["classes"])


def certificate(setting: Setting, store: Store, *keys: str) -> dict[str, object]:
    """What stands under these keys, in one; empty where nothing was found."""
    paths = [store.find("certificates", key) for key in keys]
    return {name: value for path in paths if path for name, value in read_json(path).items()}


def twins_digest(setting: Setting, store: Store) -> str:
    """Stands for the very files that a setting's rows were computed on."""
    other = [("weights", setting.other.original_key)] if setting.other else []
    files = [store.find(kind, key) for kind, key in made(setting) + other]
    return digest("files", [f.name if f else "" for f in files])


def _bytes(images: Tensor) -> Tensor:
    """Images as bytes where that loses nothing (they came from 8-bit files), else as they are."""
    rounded = (images * 255).round().to(torch.uint8)
    return rounded if torch.equal(rounded.float() / 255, images) else images


def _floats(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _save(content: dict[str, Tensor], path: Path) -> None:
    safetensors.torch.save_file({k: v.cpu().contiguous() for k, v in content.items()}, path)
