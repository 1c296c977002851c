"""A whole run with a known truth, on disk: the rows of synthetic_rows, certificates, and maps that were fooled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import synthetic_rows

from unfooled import records
from unfooled.records import Run
from unfooled.store import publish

SIDE = 32
FAMILY_OF = {"gradients": "simple_grad", "activations": "grad_cam", "propagation": "lrp"}


def write(folder: Path, world: synthetic_rows.World, seed: int = 0, gallery: bool = True, **header: object) -> Run:
    """Save the world's run in the folder, as the runner does."""
    run = Run(synthetic_rows.rows(world, seed), {**full_header(world), **header}, folder)
    records.save(run)
    if gallery:
        content = maps(world, run.header)
        publish(folder / "gallery.npz", lambda path: np.savez_compressed(path.open("wb"), **content))
    return records.load(folder)


def full_header(world: synthetic_rows.World) -> dict:
    """What the runner's header holds beside the rows."""
    found = synthetic_rows.header(world)
    labels = list(dict.fromkeys(FAMILY_OF.get(f, f) for _, f, _ in world.cells()))
    for settings in found["settings"].values():
        settings["honest"] = kept(0.99, 0.98, 0.01, 1.5) | {"original_accuracy": 0.99, "classes": list("abcdefghij")}
        settings |= {"twins": "00ff00ff00ff00ff", "images": {"test": world.images}}
    for number, (name, cell) in enumerate(found["cells"].items()):
        cell["against"] = FAMILY_OF.get(cell["family"], cell["against"])
        fooled = number % 4 != 3
        cell["certificates"] = {
            s: certificate(fooled, cell["against"], labels) | {"aopc": curves(fooled)} for s in found["settings"]
        }
        del name
    for number, about in enumerate(found["interpreters"].values()):
        canary = about["family"] == "canary"
        passes = {"forward": 0, "backward": 0} if canary else {"forward": 2**number, "backward": number % 2}
        about |= {"canary": canary, "source": "abc123", "signed": False, "stochastic": False}
        about["cost"] = {**passes, "memory": 0.4}
    return {
        **found,
        "limit": None,
        "created": "2026-01-01T00:00:00+00:00",
        "machine": {"system": "Linux", "machine": "x86_64", "cores": 2},
        "versions": {"python": "3.11", "unfooled": "0.1.0", "torch": "2.13.0"},
        "roots": {},
        "runs_made": 3,
    }


def kept(accuracy: float, agreement: float, divergence: float, distance: float) -> dict[str, float]:
    return {"accuracy": accuracy, "agreement": agreement, "divergence": divergence, "distance": distance}


def certificate(fooled: bool, against: str, labels: list[str]) -> dict:
    def rates(rate: float) -> dict[str, float]:
        return {"published": rate, "on_kept": rate, "not_silent": rate, "null": 0.1, "silent": 0.0} | {
            "corrected": (rate - 0.1) / 0.9
        }

    own = 0.93 if fooled else 0.31
    return {
        "status": "fooled" if fooled else "resisted",
        "weight": 5.0 if fooled else None,
        "kept": kept(0.985, 0.97, 0.03, 2.25),
        "rates": rates(own),
        "transfer": {label: rates(own if label == against else 0.2) for label in labels},
    }


def curves(fooled: bool) -> dict[str, list[float]]:
    """Six curves, as deletion makes them."""
    steps = np.arange(1, 33)
    orders = {"original map": 8.0, "fooled map": 3.0 if fooled else 7.0, "random": 2.5}
    return {
        f"{network}/{order}": (scale * (1 - np.exp(-steps / 12)) * height).tolist()
        for network, scale in (("original", 1.0), ("fooled", 0.9))
        for order, height in orders.items()
    }


def maps(world: synthetic_rows.World, header: dict, count: int = 4) -> dict[str, np.ndarray]:
    """Images of a disc, original maps on it, fooled ones on a frame where the interpreter's family is attacked.

    Where the world has active cells, images of two discs too, whose maps lie on the one and are fooled to the other.
    """
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centres = rng.uniform(10, 22, (count, 2))
    disc = np.exp(-((rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2) / 40)
    frame = np.ones((SIDE, SIDE))
    frame[4:-4, 4:-4] = 0
    content: dict[str, np.ndarray] = {}
    for setting in dict.fromkeys(model for _, model in world.settings):
        name = next(s for s, m in world.settings if m == setting)
        content[f"{name}//image"] = np.stack([disc, disc * 0.6 + 0.2, 1 - disc], 1).astype(np.float32)
        content[f"{name}//target"] = np.arange(count)
        two = disc + disc[:, ::-1, ::-1]
        if world.active:
            content[f"{name}//pairs:image"] = np.stack([two, two * 0.6 + 0.2, 1 - two], 1).astype(np.float32)
            content[f"{name}//pairs:target"] = np.arange(count) + 1
        for truth in world.truths:
            noise = lambda: 0.15 * rng.random((count, SIDE, SIDE))  # noqa: E731
            content[f"{name}/{truth.label}/original/"] = disc + noise()
            content[f"{name}/{truth.label}/honest/"] = disc + noise()
            content[f"{name}/{truth.label}/randomised/"] = disc if truth.family == "canary" else noise()
            if world.active:
                content[f"{name}/{truth.label}/pairs:original/"] = disc + noise()
                content[f"{name}/{truth.label}/pairs:honest/"] = disc + noise()
                content[f"{name}/{truth.label}/pairs:randomised/"] = noise()
            for cell, about in header["cells"].items():
                if about["family"] != "":
                    level = truth.attacked if about["family"] == truth.family else truth.transfer
                    active = cell.startswith("active")
                    kind, other = ("pairs:fooled", disc[:, ::-1, ::-1]) if active else ("fooled", frame)
                    content[f"{name}/{truth.label}/{kind}/{cell}"] = level * disc + (1 - level) * other + noise()
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in content.items()}
