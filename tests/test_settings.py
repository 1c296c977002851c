"""Settings that cannot work are refused when an interpreter is made, in one line that says where and what is right."""

import pytest
from click.testing import CliRunner

from unfooled import cli, plugins
from unfooled.baselines.activations import GradCAM, ScoreCAM
from unfooled.baselines.deeplift import DeepLIFT
from unfooled.baselines.gradients import ExpectedGradients, IntegratedGradients, SimpleGrad
from unfooled.baselines.perturbation import RISE, MeaningfulPerturbation, Occlusion
from unfooled.baselines.propagation import LRP, EpsilonPlusFlat, LRPAlphaBeta, LRPEpsilon, LRPZPlus
from unfooled.baselines.smoothing import BetaSmoothing, SmoothGrad, VarGrad
from unfooled.baselines.surrogates import LIME, KernelSHAP
from unfooled.types import Part, UnknownPart

WHOLE = "it must be a whole number of at least"
IMPOSSIBLE = [
    (SmoothGrad, {"samples": 0}, f"samples is 0; {WHOLE} 1"),
    (SmoothGrad, {"samples": 2.5}, f"samples is 2.5; {WHOLE} 1"),
    (SmoothGrad, {"chunk": 0}, f"chunk is 0; {WHOLE} 1"),
    (SmoothGrad, {"sigma": -1}, "sigma is -1; it must be a number of at least 0"),
    (SmoothGrad, {"sigma": float("inf")}, "sigma is inf; it must be a number of at least 0"),
    (SmoothGrad, {"of": 3}, "of is 3; it must be an interpreter"),
    (SmoothGrad, {"of": GradCAM}, "of is the class GradCAM; it must be an instance, GradCAM()"),
    (VarGrad, {"samples": 0}, "samples is 0"),
    (BetaSmoothing, {"beta": 0}, "beta is 0; it must be a number above 0"),
    (BetaSmoothing, {"of": "lrp"}, "of is 'lrp'; it must be an interpreter"),
    (SimpleGrad, {"at": "t"}, "at is 't'; it must be 'input' or 'T'"),
    (IntegratedGradients, {"steps": 0}, "steps is 0"),
    (IntegratedGradients, {"chunk": 0}, "chunk is 0"),
    (IntegratedGradients, {"baseline": float("nan")}, "baseline is nan; it must be a number"),
    (ExpectedGradients, {"samples": 0}, "samples is 0"),
    (ExpectedGradients, {"chunk": -1}, "chunk is -1"),
    (ExpectedGradients, {"background": 0.5}, "background is 0.5; it must be a function"),
    (ScoreCAM, {"chunk": 0}, "chunk is 0"),
    (DeepLIFT, {"baseline": "grey"}, "baseline is 'grey'; it must be a number"),
    (LRP, {"at": "t"}, "at is 't'; it must be 'input' or 'T'"),
    (LRP, {"epsilon": 0}, "epsilon is 0; it must be a number above 0"),
    (LRPEpsilon, {"epsilon": 0}, "epsilon is 0"),
    (LRPEpsilon, {"epsilon": "1e-6"}, "epsilon is '1e-6'; it must be a number above 0 (in YAML 1.0e-6"),
    (LRPZPlus, {"epsilon": 0}, "epsilon is 0"),
    (EpsilonPlusFlat, {"epsilon": -1e-6}, "epsilon is -1e-06"),
    (LRPAlphaBeta, {"epsilon": 0}, "epsilon is 0"),
    (LRPAlphaBeta, {"alpha": 2.0, "beta": 0.5}, "alpha is 2.0; it must be beta + 1, 1.5"),
    (LRPAlphaBeta, {"alpha": 0.5, "beta": -0.5}, "beta is -0.5; it must be a number of at least 0"),
    (Occlusion, {"patch": 0}, f"patch is 0; {WHOLE} 1"),
    (Occlusion, {"stride": 0}, "stride is 0"),
    (Occlusion, {"chunk": 0}, "chunk is 0"),
    (Occlusion, {"fill": None}, "fill is None; it must be a number"),
    (RISE, {"masks": 0}, "masks is 0"),
    (RISE, {"grid": 0}, "grid is 0"),
    (RISE, {"probability": 1}, "probability is 1; it must be between 0 and 1"),
    (RISE, {"estimator": "mean"}, "estimator is 'mean'; it must be 'ratio' or 'paper'"),
    (MeaningfulPerturbation, {"steps": 0}, "steps is 0"),
    (MeaningfulPerturbation, {"grid": 1}, f"grid is 1; {WHOLE} 2"),
    (MeaningfulPerturbation, {"rate": 0}, "rate is 0; it must be a number above 0"),
    (MeaningfulPerturbation, {"power": 0.5}, "power is 0.5; it must be a number of at least 1"),
    (MeaningfulPerturbation, {"jitter": -1}, "jitter is -1"),
    (LIME, {"segments": "voronoi"}, "segments is 'voronoi'; it must be 'grid', 'slic' or 'quickshift'"),
    (LIME, {"side": 0}, "side is 0"),
    (LIME, {"samples": 1}, f"samples is 1; {WHOLE} 2"),
    (LIME, {"kernel_width": 0}, "kernel_width is 0; it must be a number above 0"),
    (LIME, {"fill": "grey"}, "fill is 'grey'"),
    (KernelSHAP, {"samples": 3}, f"samples is 3; {WHOLE} 4"),
    (KernelSHAP, {"chunk": 0}, "chunk is 0"),
]


@pytest.mark.parametrize(("kind", "settings", "said"), IMPOSSIBLE, ids=lambda v: getattr(v, "__name__", None))
def test_impossible_settings_are_refused_by_name(kind, settings, said):
    with pytest.raises(ValueError, match=f"^{kind.__name__}: ") as caught:
        kind(**settings)
    assert said in str(caught.value)
    with pytest.raises(UnknownPart) as caught:
        plugins.build("interpreters", Part(f"{kind.__module__}:{kind.__name__}", settings))
    assert said.partition(";")[0] in str(caught.value)  # what is of no fitting type is refused before it is made
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("use", ["smoothgrad?samples=0", "smoothgrad?of=3", "lrp?at=t", "score_cam?chunk=0"])
def test_on_the_command_line_they_are_one_line_and_exit_code_2(use):
    asked = CliRunner().invoke(cli.main, ["doctor", use])
    assert asked.exit_code == 2
    assert len((asked.stdout + asked.stderr).splitlines()) == 1
    assert "; it must be " in asked.stderr


def test_what_may_be_left_out_may():
    assert Occlusion(patch=None, stride=None).patch is None
    assert LIME(fill=None).fill is None
    assert SmoothGrad(sigma=0).sigma == 0
