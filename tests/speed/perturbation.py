"""Maps a second of the interpreters that hide parts of the image, beside captum's and beside a plain loop over masks.

``python -m tests.speed.perturbation [vgg] [resnet] [densenet]`` prints one table a network. All run in this process on
one core, in turns, and the least process CPU time of several rounds counts: on a shared machine the ratios hold better
than the times. Asserts nothing.

32 images of 32 × 32, frozen weights. ``/ bound`` is the cost over that of the forward passes alone, in batches of 64,
measured in the same rounds. ``captum`` is as its documentation calls it (one perturbation at a time; its LIME and
KernelSHAP, image by image, need scikit-learn), ``captum, batched`` with as many at once as suit it. The loop masks all
images alike, one mask after another. Meaningful perturbation is bound to forward and backward passes, one a step.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import argparse
import importlib.util
import time
from collections.abc import Callable

import captum.attr
import torch
from torch import Tensor, nn

from unfooled import models, seeding
from unfooled.baselines.perturbation import RISE, MeaningfulPerturbation, Occlusion
from unfooled.baselines.segments import segment
from unfooled.baselines.surrogates import LIME, KernelSHAP

Asked = Callable[[nn.Module, Tensor, Tensor], object]
IMAGES = 32


def captum_occlusion(at_once: int) -> Asked:
    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        windows = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4), "perturbations_per_eval": at_once}
        return captum.attr.Occlusion(net).attribute(x, target=y, baselines=0.5, **windows)

    return ask


def captum_pieces(name: str, at_once: int) -> dict[str, Asked]:
    if importlib.util.find_spec("sklearn") is None:
        return {}

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        grid = segment(x[:1], "grid", 4)[:, None]
        options = {"n_samples": 128, "feature_mask": grid, "perturbations_per_eval": at_once}
        return getattr(captum.attr, name)(net).attribute(x, target=y, **options)

    return {"captum" if at_once == 1 else "captum, batched": ask}


@torch.no_grad()
def rise_loop(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Petsiuk et al. as one would write it: all images under one mask, then the next."""
    masks, total, shown = RISE().draw(*x.shape[2:]), 0, 0
    for mask in masks:
        total = total + net(x * mask + 0.5 * (1 - mask)).gather(1, y[:, None])[:, :, None] * mask
        shown = shown + mask
    return total / shown


def races() -> dict[str, tuple[Asked, str, int, dict[str, Asked]]]:
    """Ours, the kind of pass it is bound to and how many of them an image, its peers."""
    occlusion = {"captum": captum_occlusion(1), "captum, batched": captum_occlusion(4)}
    lime, shap = ({**captum_pieces(name, 1), **captum_pieces(name, 64)} for name in ("Lime", "KernelShap"))
    return {
        "occlusion": (Occlusion(), "forward", 50, occlusion),
        "rise 128": (RISE(), "forward", 128, {"loop": rise_loop}),
        "lime 128": (LIME(), "forward", 128, lime),
        "kernel_shap 128": (KernelSHAP(), "forward", 128, shap),
        "meaningful 20": (MeaningfulPerturbation(steps=20), "both", 20, {}),
    }


@torch.no_grad()
def forward(net: nn.Module, x: Tensor, y: Tensor) -> None:
    net(x.repeat(64 // IMAGES, 1, 1, 1))


def both(net: nn.Module, x: Tensor, y: Tensor) -> None:
    leaf = x.detach().requires_grad_()
    torch.autograd.grad(net(leaf).gather(1, y[:, None]).sum(), leaf)


def least(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Each work's least CPU seconds over the rounds, taken in turns."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return best


def race(name: str, rounds: int) -> None:
    with seeding.forked("speed", name):
        net = getattr(models, name)(10).eval().requires_grad_(False)
        x, y = torch.rand(IMAGES, 3, 32, 32), torch.arange(IMAGES) % 10
    print(f"\n{name:<18} {'maps/s':>8} {'/ bound':>8}   peers: maps/s (ours is so many times as fast)")
    for label, (ours, kind, count, peers) in races().items():
        asked = {"ours": ours, **peers}
        works = {who: lambda ask=ask: ask(net, x, y) for who, ask in asked.items()}
        works |= {"forward": lambda: forward(net, x, y), "both": lambda: both(net, x, y)}
        seconds = least(works, rounds)
        bound = count * seconds[kind] * (IMAGES / 64 if kind == "forward" else 1)
        shown = ", ".join(f"{w} {IMAGES / seconds[w]:.0f} ({seconds[w] / seconds['ours']:.2f})" for w in peers)
        print(f"{label:<18} {IMAGES / seconds['ours']:>8.0f} {seconds['ours'] / bound:>8.2f}   {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=["vgg", "resnet", "densenet"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        race(name, options.rounds)


if __name__ == "__main__":
    main()
