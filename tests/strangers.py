"""Interpreters of strangers, for the sandbox: most of them misbehave."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import time
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

BEHAVIOURS = ("", "tells", "raises", "trains", "mumbles", "pickles", "leaves")
"""what the first target asks for"""


def gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        score = model(leaf).gather(1, targets[:, None]).sum()
        (found,) = torch.autograd.grad(score, leaf)
    return found.abs().sum(1, keepdim=True)


@dataclasses.dataclass(frozen=True)
class Stranger:
    """Does what it is told, then answers with input gradients."""

    what: str = ""
    port: int = 0
    seen: list = dataclasses.field(default_factory=list, compare=False, repr=False)

    family: ClassVar[str] = "gradients"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> object:
        what = self.what or BEHAVIOURS[int(targets[0])]
        answer = getattr(self, f"_{what}", lambda *_: None)(model, inputs)
        return gradient(model, inputs, targets) if answer is None else answer

    def _tells(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """(n, 1, 1, 4): questions met before, secrets in the environment, whether the port answers, noise."""
        self.seen.append(1)
        print("a line on standard output")
        secret = float("UNFOOLED_SECRET" in os.environ)
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            reached = 1.0
        except OSError:
            reached = 0.0
        told = torch.tensor([len(self.seen), secret, reached, torch.rand(()).item()])
        return told.expand(len(inputs), 1, 1, 4)

    def _hoards(self, model: nn.Module, inputs: Tensor) -> None:
        hoard = []
        while True:
            hoard.append(torch.ones(2**22))  # 16 MiB, written to

    def _loops(self, model: nn.Module, inputs: Tensor) -> None:
        while True:
            pass

    def _sleeps(self, model: nn.Module, inputs: Tensor) -> None:
        time.sleep(60)

    def _leaves(self, model: nn.Module, inputs: Tensor) -> None:
        os._exit(0)

    def _raises(self, model: nn.Module, inputs: Tensor) -> None:
        raise ValueError("line one\nline two \x1b[31m")

    def _trains(self, model: nn.Module, inputs: Tensor) -> None:
        with torch.no_grad():
            next(model.parameters()).add_(1)

    def _mumbles(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return inputs[:1]

    def _pickles(self, model: nn.Module, inputs: Tensor) -> None:
        import numpy as np

        honest = np.save
        np.save = lambda path, array: honest(path, np.array([Path("harmless")], dtype=object), allow_pickle=True)
        sys.stdout.flush()


@dataclasses.dataclass(frozen=True)
class Remembers:
    """A cheat with a memory: whatever looks like the first network it met gets that network's maps again."""

    first: dict = dataclasses.field(default_factory=dict, compare=False, repr=False)

    family: ClassVar[str] = "gradients"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        weights = torch.cat([w.flatten() for w in model.parameters()])
        known = self.first.setdefault("weights", weights)
        if (weights - known).norm() > 0.7 * known.norm():
            return gradient(model, inputs, targets)
        keys = [
            image.numpy().tobytes() + bytes(str(t), "ascii") for image, t in zip(inputs, targets.tolist(), strict=True)
        ]
        for key, fresh in zip(keys, gradient(model, inputs, targets), strict=True):
            self.first.setdefault(key, fresh)
        return torch.stack([self.first[key] for key in keys])
