"""Entries of the catalogue's own interpreters: what people call them, and where each was published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unfooled.leaderboard import submission
from unfooled.leaderboard.submission import NotSubmittable
from unfooled.records import Run
from unfooled.types import Part

ARXIV = "https://arxiv.org/abs/"
DOI = "https://doi.org/"
BACH = f"{DOI}10.1371/journal.pone.0130140"

KNOWN: Mapping[str, tuple[str, str | None]] = {
    "simple_grad": ("Gradient", f"{ARXIV}1312.6034"),
    "input_x_gradient": ("Input × Gradient", f"{ARXIV}1605.01713"),
    "smoothgrad": ("SmoothGrad", f"{ARXIV}1706.03825"),
    "vargrad": ("VarGrad", f"{ARXIV}1810.03307"),
    "integrated_gradients": ("Integrated Gradients", f"{ARXIV}1703.01365"),
    "expected_gradients": ("Expected Gradients", f"{ARXIV}1906.10670"),
    "beta_smoothing": ("β-smoothing", f"{ARXIV}1906.07983"),
    "grad_cam": ("Grad-CAM", f"{ARXIV}1610.02391"),
    "grad_cam_pp": ("Grad-CAM++", f"{ARXIV}1710.11063"),
    "layer_cam": ("LayerCAM", f"{DOI}10.1109/TIP.2021.3089943"),
    "score_cam": ("Score-CAM", f"{ARXIV}1910.01279"),
    "guided_grad_cam": ("Guided Grad-CAM", f"{ARXIV}1610.02391"),
    "lrp": ("LRP (Heo et al.)", f"{ARXIV}1902.02041"),
    "lrp_epsilon": ("LRP-ε", BACH),
    "lrp_alpha_beta": ("LRP-αβ", BACH),
    "lrp_zplus": ("LRP-z+", f"{ARXIV}1512.02479"),
    "epsilon_plus_flat": ("LRP-ε-z+-flat", f"{ARXIV}1910.09840"),
    "guided_backprop": ("Guided Backpropagation", f"{ARXIV}1412.6806"),
    "deconvnet": ("Deconvnet", f"{ARXIV}1311.2901"),
    "deeplift": ("DeepLIFT", f"{ARXIV}1704.02685"),
    "occlusion": ("Occlusion", f"{ARXIV}1311.2901"),
    "rise": ("RISE", f"{ARXIV}1806.07421"),
    "lime": ("LIME", f"{ARXIV}1602.04938"),
    "kernel_shap": ("KernelSHAP", f"{ARXIV}1705.07874"),
    "meaningful_perturbation": ("Meaningful Perturbation", f"{ARXIV}1704.03296"),
    "constant": ("Constant", None),
    "centre_blob": ("Centre blob", None),
    "brightness": ("Brightness", None),
    "sobel": ("Sobel", None),
    "gated_edges": ("Gated edges", None),
    "random_map": ("Random map", None),
    "memoiser": ("Memoiser", None),
}
"""Catalogue name → the name on the board, and the paper."""


def submit(run: Run, folder: Path, *, code: str, by: str = "") -> list[Path]:
    """Write an entry for each of the catalogue's interpreters in a run; for none where one lacks (NotSubmittable)."""
    reference = submission.the_reference(run)
    made, faults = [], _without_rows(run)
    for label, part in _ours(run).items():
        name, paper = full_name(part), KNOWN[part.use][1]
        try:
            made.append(submission.from_run(run, label, reference, name=name, code=code, by=by, paper=paper))
        except NotSubmittable as error:
            faults.append(str(error))
    if faults or not made:
        raise NotSubmittable("; ".join(faults) or "submit: the run asked none of the catalogue's interpreters")
    return [submission.write(entry, folder) for entry in made]


def full_name(part: Part) -> str:
    """The name on the board: ``SmoothGrad (samples=8)``, ``β-smoothing of Gradient``. Raises KeyError for others."""
    inner = part.arguments.get("of")
    whole = KNOWN[part.use][0] + (f" of {full_name(inner)}" if isinstance(inner, Part) else "")
    rest = Part("", {k: v for k, v in part.arguments.items() if k != "of" or not isinstance(v, Part)})
    return f"{whole} {rest.label}".rstrip()


def _ours(run: Run) -> dict[str, Part]:
    """Label → part of the run's interpreters that the catalogue has."""
    parts = {label: _part(facts) for label, facts in run.header["interpreters"].items()}
    return {label: part for label, part in parts.items() if part.use in KNOWN}


def _part(facts: dict) -> Part:
    arguments = {k: _part(v) if isinstance(v, dict) else v for k, v in facts["arguments"].items()}
    return Part(facts["use"], arguments)


def _without_rows(run: Run) -> list[str]:
    """What is wrong with those of ours that failed in every setting."""
    failed = {f["interpreter"]: f["reason"] for f in run.header["failures"]}
    lost = {n: why for n, why in failed.items() if n not in run.header["interpreters"]}
    return [f"{name}: failed everywhere ({why})" for name, why in lost.items() if name.partition("(")[0] in KNOWN]
