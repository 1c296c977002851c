"""The declared search of a cell: fool with one weight after another until a twin passes the gates and is fooled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from unfooled import aopc, certificates, plugins, seeding, training
from unfooled.certificates import Kept
from unfooled.manipulations.fooling import attacked_maps
from unfooled.suite import CellSpec, Setting
from unfooled.training import Recipe
from unfooled.types import Batch, Manipulation, Splits, UnfooledError


class BrokenManipulation(UnfooledError):
    """A manipulation raised, or answered with no network."""

    exit_code = 3


@dataclass(frozen=True)
class Judge:
    """Makes twins of one cell and says what each kept and changed."""

    setting: Setting
    cell: CellSpec
    data: Splits
    original: nn.Module
    honest: nn.Module

    @property
    def manipulation(self) -> Manipulation:
        return plugins.build("manipulations", self.cell.manipulation)

    @property
    def recipe(self) -> Recipe:
        return self.setting.recipe(self.cell)

    def twin(self, weight: float) -> nn.Module:
        against = plugins.attackable(plugins.build("interpreters", self.cell.against), self.cell.against.label)
        manipulation = replace(self.manipulation, weight=weight)
        return manipulation(self.original, self.data, against, self.recipe, self.setting.seed)

    def _kept(self, twin: nn.Module, batch: Batch) -> Kept:
        return certificates.kept(self.original, twin, batch)

    def tune(self, twin: nn.Module) -> dict[str, object]:
        """The gates and the rates on the tuning split."""
        suite, tune = self.setting.suite, self.data.tune
        kept, honest = self._kept(twin, tune), self._kept(self.honest, tune)
        refused = certificates.refused(kept, honest, training.accuracy(self.original, tune), suite.gates)
        return {"refused": refused, **asdict(kept), **asdict(self._rates(twin, self.cell, "tune"))}

    def test(self, twin: nn.Module) -> dict[str, object]:
        """The certificate's figures, on the test split: kept, rates, transfer to the others that the suite attacks."""
        transfer = {c.against.label: c for c in self.setting.suite.cells}
        return {
            **self.figures(twin),
            "honest": asdict(self._rates(self.honest, self.cell, "test")),
            "transfer": {label: asdict(self._rates(twin, c, "test")) for label, c in transfer.items()},
            "aopc": self._aopc(twin),
        }

    def figures(self, twin: nn.Module) -> dict[str, dict[str, float]]:
        """What the twin kept on the test split, and how well it fools whom it was made against."""
        kept, rates = self._kept(twin, self.data.test), self._rates(twin, self.cell, "test")
        return {"kept": asdict(kept), "rates": asdict(rates)}

    def _aopc(self, twin: nn.Module) -> dict[str, list[float]]:
        """Deletion curves of both networks in the order of either's map; about half of the cells, at most 100."""
        count = self.setting.suite.aopc_images
        if not count:
            return {}
        manipulation, interpreter = self.manipulation, plugins.build("interpreters", self.cell.against)
        images, targets = manipulation.judged_on(self.data, "test", -(-count // manipulation.groups))
        images, targets = (t.to(next(twin.parameters()).device) for t in (images, targets))
        networks = {"original": self.original, "fooled": twin}
        orders = {f"{k} map": attacked_maps(interpreter, m, images, targets) for k, m in networks.items()}
        side = aopc.target_side(self.original, images)
        stream = seeding.generator("aopc", self.setting.suite.seed)
        found = aopc.curves(networks, images, targets, orders, side, min(100, side * side // 2), stream)
        return {name: [round(v, 4) for v in curve] for name, curve in found.items()}

    def _rates(self, twin: nn.Module, cell: CellSpec, split: str) -> certificates.Rates:
        interpreter = plugins.build("interpreters", cell.against)
        judged = self.manipulation.judged_on(self.data, split, self.setting.suite.judged)
        return certificates.rates(self.manipulation, interpreter, self.original, twin, judged)


def search(judge: Judge, say: Callable[[str], None]) -> tuple[nn.Module, dict[str, object]]:
    """The first twin that passes the gates and is fooled, else the one nearest to it, and how it was found.

    Weights are tried in their declared order. Where every twin was refused the honest one stands in: a network that
    cannot be fooled within the gates resisted, and dropping its cell would erase that.
    """
    gates, tries = judge.setting.suite.gates, []
    best, best_rate, weight_of_best, status = judge.honest, -math.inf, None, "resisted"
    for weight in judge.setting.weights(judge.cell) or (judge.manipulation.weight,):
        say(f"{judge.setting.name}: {judge.cell.name}, weight {weight:g}")
        twin = rounded(_made(judge, weight))
        outcome = judge.tune(twin)
        tries.append({"weight": weight, **_finite(outcome)})
        fooled = outcome["corrected"] >= gates.fooled and outcome["silent"] <= gates.silent
        if outcome["refused"] or not (fooled or outcome["corrected"] > best_rate):
            continue
        best, best_rate, weight_of_best = twin, outcome["corrected"], weight
        if fooled:
            status = "fooled"
            break
    return best, {
        "cell": judge.cell.name,
        "setting": judge.setting.name,
        "status": status,
        "weight": weight_of_best,
        "tries": tries,
        "recipe": asdict(judge.recipe),
    }


def _made(judge: Judge, weight: float) -> nn.Module:
    try:
        twin = judge.twin(weight)
    except UnfooledError:
        raise
    except Exception as error:
        told = plugins.raised(judge.cell.name, error)
        raise BrokenManipulation(f"{told}; the manipulation, or whom it attacks, must be mended") from error
    if not isinstance(twin, nn.Module):
        raise BrokenManipulation(
            f"{judge.cell.name}: answered with {type(twin).__name__}; a fooled copy of the model is right"
        )
    return twin


def _finite(outcome: dict[str, object]) -> dict[str, object]:
    """Figures as JSON can hold them: a twin that diverged has a distance of NaN, told as null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in outcome.items()}


def rounded(model: nn.Module) -> nn.Module:
    """The model through the rounding of a stored twin, in place, so that a certificate describes the file."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model
