"""Interpreters around another interpreter: its maps under noise, or of a smoother network."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unfooled import plugins, seeding
from unfooled.baselines import settings
from unfooled.baselines.gradients import SimpleGrad
from unfooled.baselines.hooks import declared
from unfooled.baselines.passes import accumulate, image_streams
from unfooled.types import Interpreter, UnfooledError

_PLAIN = SimpleGrad()


@dataclass(frozen=True)
class _Around:
    """What wrappers take over from the interpreter they wrap."""

    of: Interpreter = _PLAIN

    family = declared(lambda self: plugins.trait(self.of, "family", "other"))
    at = declared(lambda self: plugins.trait(self.of, "at", "input"))
    signed = declared(lambda self: plugins.trait(self.of, "signed", True))
    stochastic = declared(lambda self: plugins.trait(self.of, "stochastic", False))

    def __post_init__(self) -> None:
        settings.interpreter(self, "of")

    def inner(self, create_graph: bool) -> Interpreter:
        """The wrapped interpreter. Raises NotAttackable where it cannot carry the graph that is asked for."""
        return plugins.attackable(self.of, type(self.of).__name__) if create_graph else self.of


def _noise(streams: Sequence[torch.Generator], samples: int, shape: torch.Size) -> Iterator[Tensor]:
    """N(0, 1) noise of one image's shape for every image in turn, all its samples; one image's is held at a time."""
    for stream in streams:
        yield from torch.randn(samples, *shape, generator=stream)


class _Noisy(_Around):
    samples: int
    sigma: float
    chunk: int
    create_graph: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.whole(self, "samples", "chunk")
        settings.number(self, "sigma", least=0)

    def noisy_maps(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """(which images, which samples) → maps of noisy copies; to be called for all of them, in order."""
        noise = _noise(image_streams(inputs), self.samples, inputs.shape[1:])
        ask = functools.partial(self.inner(self.create_graph), model)
        ask = _by_sample(ask) if plugins.trait(self.of, "stochastic", False) else _whatever_sample(ask)

        def maps(image: Tensor, sample: Tensor) -> Tensor:
            copies = inputs[image] + self.sigma * torch.stack(list(itertools.islice(noise, len(image)))).to(inputs)
            return ask(copies, targets[image], sample)

        return maps


Asked = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy images, their targets, which samples they are) → maps"""


def _whatever_sample(ask: Callable) -> Asked:
    return lambda copies, targets, sample: torch.as_tensor(ask(copies, targets), device=copies.device)


def _by_sample(ask: Callable) -> Asked:
    """For an interpreter that draws: sample k of every image is asked in stream k, however the copies are cut.

    One number is taken from torch's global stream. The map of an image then depends on its sample alone, as far as
    under one seed the interpreter itself gives an image the same map in whatever batch.
    """
    seed = int(torch.randint(2**62, ()))
    plain = _whatever_sample(ask)

    def asked(copies: Tensor, targets: Tensor, sample: Tensor) -> Tensor:
        maps, order = [], []
        for k in sample.unique().tolist():
            some = (sample == k).nonzero()[:, 0]
            with seeding.forked("sample", seed, k):
                maps.append(plain(copies[some], targets[some], sample[some]))
            order.append(some)
        return torch.cat(maps)[torch.cat(order).argsort()]

    return asked


@dataclass(frozen=True)
class SmoothGrad(_Noisy):
    """The mean of an interpreter's maps over noisy copies of the image (Smilkov et al. 2017, 1706.03825).

    The noise is N(0, sigma²) in pixel units, [0, 1]; the copies are not clipped. Maps are as the wrapped interpreter
    returns them. Under one global seed of torch an image gets the same map in whatever batch it comes (see
    ``passes.image_streams``); an interpreter that itself draws gets a stream of its own for each sample. Memory is
    bounded by ``chunk`` images (with ``create_graph`` the graph of all samples is kept). Raises NotAttackable where
    ``create_graph`` is asked of an interpreter that has none.
    """

    samples: int = 16
    sigma: float = 0.1
    chunk: int = 64
    """noisy images in one pass of the model; the result does not depend on it"""
    create_graph: bool = False

    stochastic = True

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return accumulate(self.noisy_maps(model, inputs, targets), inputs, self.samples, self.chunk) / self.samples


@dataclass(frozen=True)
class VarGrad(_Noisy):
    """The variance of an interpreter's maps over noisy copies of the image (Adebayo et al. 2018, 1810.03307): ≥ 0.

    Divides by ``samples``. Noise, streams and memory as SmoothGrad's, the same copies under the same seed.
    """

    samples: int = 16
    sigma: float = 0.1
    chunk: int = 64
    """noisy images in one pass of the model; the result does not depend on it"""
    create_graph: bool = False

    stochastic = True
    signed = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        noisy_maps = self.noisy_maps(model, inputs, targets)

        def moments(image: Tensor, which: Tensor) -> Tensor:
            maps = noisy_maps(image, which).double()  # the difference of two large sums follows
            return torch.stack([maps, maps.square()], 1)

        mean, square = (accumulate(moments, inputs, self.samples, self.chunk) / self.samples).unbind(1)
        return (square - mean.square()).clamp(min=0).to(inputs.dtype)


class _Softening(TorchFunctionMode):
    """Within the block, ReLU is softplus_β, whether a module, a function or a method is called."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta
        self.met = False

    def __torch_function__(
        self, operation: Callable, types: object, args: tuple = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        if getattr(operation, "__name__", "") not in ("relu", "relu_"):
            return operation(*args, **(kwargs or {}))
        return self._soft(*args, **(kwargs or {}))

    def _soft(self, input: Tensor, inplace: bool = False) -> Tensor:
        self.met = True
        return F.softplus(input, beta=self.beta)


def _softly(beta: float, forward: Callable, *args: object) -> object:
    # The mode stands around the model and not around the interpreter: the innermost mode is asked first, so that an
    # interpreter with one of its own meets softplus and never learns of the ReLU.
    with _Softening(beta) as softening:
        answer = forward(*args)
    if not softening.met:
        raise UnfooledError("beta smoothing: the model calls no ReLU; only a network with ReLUs can be softened")
    return answer


@contextmanager
def softened(model: nn.Module, beta: float) -> Iterator[None]:
    """Within the block every ReLU that a call of the model meets is softplus_β. Raises UnfooledError if there is none.

    Like other interpreters, it takes ``F.relu(x, inplace=True)`` by its answer and leaves x as it is.
    """
    before = vars(model).get("forward")
    model.forward = functools.partial(_softly, beta, model.forward)  # no closure: a copy of the model calls its own
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before


@dataclass(frozen=True)
class BetaSmoothing(_Around):
    """An interpreter asked about the network with softplus_β for ReLU: a defence (Dombrowski et al. 2019).

    softplus_β(z) = log(1 + e^{βz}) / β. The smaller β, the smoother the network and its maps; β → ∞ is ReLU itself.
    ReLUs are found as modules, functions and methods. The model is as it was afterwards, errors included. Raises
    UnfooledError for a network without ReLU, which it would leave as it is.
    """

    beta: float = 10.0
    create_graph: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.number(self, "beta", above=0)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with softened(model, self.beta):
            return self.inner(self.create_graph)(model, inputs, targets)
