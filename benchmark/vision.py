"""torchvision, importable beside a CPU build of torch. Write ``from unfooled.vision import torchvision``.

A torchvision compiled for CUDA registers no operators beside a CPU torch, and its import fails with
``operator torchvision::nms does not exist``: it describes to the tracer two operators, ``nms`` and ``qnms``, that its
compiled library would have defined. Their schemas are all that the import needs; detection alone calls the operators.

Nor is torch's compiler imported with it, which takes longer than torch itself: ``torchvision.ops.roi_align`` has one
question to it, when it is called, and imports it for that at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _forget_half_import() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Within the block ``is_compile_supported`` is to be had without the module that it lies in."""
    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.is_compile_supported = lambda device: importlib.import_module(name).is_compile_supported(device)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _import() -> tuple[ModuleType, torch.library.Library | None]:
    try:
        return importlib.import_module("torchvision"), None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _forget_half_import()
    # FRAGMENT adds to the namespace without claiming it, so a real build is never in our way, nor we in its.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _BOXES)
    return importlib.import_module("torchvision"), library


# The schemas vanish with the library object, so the module holds on to it.
with _without_compiler():
    torchvision, _schemas = _import()
