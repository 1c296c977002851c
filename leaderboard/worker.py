"""The process in which a stranger's interpreter runs: it is told which file to answer, and answers with a file.

Started by ``sandbox.py`` as ``python -m unfooled.leaderboard.worker FOLDER``. The first line on standard input says
whom to ask and within which limits; each further one asks for maps. Every line is answered by one line on what was
standard output, which the interpreter itself cannot print to by accident.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

LARGEST_FILE = 2**30
LONGEST_LINE = 2**14


def main(folder: Path) -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    first = json.loads(sys.stdin.readline())
    _limit(first["seconds"])
    asked: list[_Asked] = []
    if _answered(channel, lambda: asked.append(_Asked(folder, first)) or asked[0].traits()):
        for line in sys.stdin:
            _apart(channel, asked[0], json.loads(line))


def _apart(channel: TextIO, asked: _Asked, question: dict) -> None:
    """Answer in a fork, so that the interpreter remembers no earlier question: it must be a function of the model."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        channel.close()
        with os.fdopen(writing, "w") as pipe:
            _answered(pipe, lambda: asked.answer(question))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        line = pipe.readline(LONGEST_LINE)
    _, status = os.waitpid(child, 0)
    ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.WEXITSTATUS(status)}"
    _say(channel, json.loads(line) if line else {"error": f"the interpreter's process ended with {ended}, unanswered"})


def _answered(channel: TextIO, answer: Callable[[], dict]) -> bool:
    """Say what a call returns, or in one line what it raised."""
    from unfooled.types import UnfooledError

    try:
        _say(channel, answer())
    except UnfooledError as error:
        _say(channel, {"error": str(error)[:500]})
    except Exception as error:
        _say(channel, {"error": f"raised {type(error).__name__}: {error}"[:500]})
    else:
        return True
    return False


def _limit(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))


def _say(channel: TextIO, content: dict) -> None:
    channel.write(json.dumps(content) + "\n")
    channel.flush()


class _Asked:
    """The interpreter, built once and never called in this very process."""

    def __init__(self, folder: Path, first: dict):
        import torch

        from unfooled import blocks, plugins, sentinel  # noqa: F401  what forks would else import again, each of them
        from unfooled.specs import part

        torch.set_num_threads(1)
        self.folder, self.device = folder, first["device"]
        self.part = part(first["part"])
        self.interpreter = plugins.build("interpreters", self.part)

    def traits(self) -> dict:
        from unfooled import plugins, sources

        defaults = {"family": "other", "at": "input", "signed": False, "stochastic": False}
        declared = {name: plugins.trait(self.interpreter, name, value) for name, value in defaults.items()}
        return {**declared, "fingerprint": sources.fingerprint(self.part)}

    def answer(self, question: dict) -> dict:
        import numpy as np
        import torch

        from unfooled import sentinel

        # What the verifier wrote may be unpickled; what comes back from here never is.
        model = torch.load(self.folder / question["model"], map_location=self.device, weights_only=False)
        images, targets = (torch.from_numpy(np.load(self.folder / question[k])) for k in ("images", "targets"))
        images, targets = images.to(self.device), targets.to(self.device)
        seed = question["seed"]
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        with sentinel.untouched(model, images, targets, self.part.label):
            maps = self.interpreter(model, images, targets)
        maps = torch.as_tensor(maps).detach().float().cpu().numpy()
        np.save(self.folder / question["answer"], maps)
        return {"shape": list(maps.shape)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
