"""Names and settings that lead to another formula than the stated one."""

import pytest
import tensorflow as tf

from rebar.core import straight_through as kernels
from rebar.estimators import layerwise, vimco
from rebar.estimators.gumbel import GumbelSoftmax
from rebar.estimators.gumbel_rao import Averaged, GumbelRao
from rebar.estimators.local_disarm import LocalDisARM
from rebar.estimators.muprop import MuProp
from rebar.estimators.rebar import REBAR
from rebar.estimators.reinmax import ReinMax, ReinMaxCV, ReinMaxRao, ReinMaxRK2
from rebar.estimators.straight_through import GappedStraightThrough, StraightThroughGumbel
from rebar.functional import straight_through as layers
from rebar.hparams import HParams
from rebar.testing.problems import dtype_policy
from tests.conformance import test_functions, test_members, test_settings
from tests.conformance.faults.planting import Fault, module_with, replace
from tests.conformance.literal import models


class As:
    """An object with some attributes replaced."""

    def __init__(self, true, **changes):
        self.__dict__.update(changes, _true=true)

    def __getattr__(self, name):
        return getattr(self._true, name)


def ignores(cls, method: str, **values):
    """A method that has these values of settings, whatever they are."""

    def make(true):
        def with_values(self, *arguments, **options):
            return true(As(self, **values), *arguments, **options)

        return with_values

    return replace(cls, method, make)


def another_formula(name: str):
    """The estimate of a name is not that of its formula, at some value of a setting."""

    def seen():
        with pytest.MonkeyPatch.context() as patch, dtype_policy("float64"):
            models.narrow(patch)
            test_settings.test_each_setting_has_the_stated_effect_and_no_other(name)

    return seen


def members_by_settings():
    """A tracked estimator does not compute as it does alone."""
    with pytest.MonkeyPatch.context() as patch, dtype_policy("float64"):
        models.narrow(patch)
        test_members.test_a_tracked_estimator_computes_with_its_settings("CatTrackGradVariances")


def layers_by_formula(method: str):
    """The gradient of a public layer is not that of its formula, at some value of an option."""

    def seen():
        for case in test_functions.LAYER_CASES:
            name, options = getattr(case, "values", case)
            if name == method:
                test_functions.test_a_layer_has_the_gradient_of_its_formula(
                    name, options, "function"
                )

    return seen


def _arithmetic(f):
    """Logarithm of the mean of the others' exp f, not the mean of their f."""
    others = tf.eye(f.shape[0], dtype=tf.bool)[:, :, tf.newaxis]
    rows = tf.where(others, tf.constant(-1e30, f.dtype), f[tf.newaxis])
    return tf.reduce_logsumexp(rows, axis=1) - tf.math.log(tf.cast(f.shape[0] - 1, f.dtype))


def _of_half(true):
    def signals(self, x, f, *terms):
        return true(self, x, 0.5 * f, *terms)

    return signals


def _whole_second_term(logits, one_hot, g, exponentials, temperature=1):
    first = kernels.gumbel_rao(logits, one_hot, g, exponentials, temperature)
    return 2 * first - kernels.straight_through(logits, one_hot, g)


IGNORED = (
    ("CatGumbelRao", Averaged, "exponentials", {"mc_samples": 1}),
    ("CatGumbelRao", GumbelRao, "sample", {"temperature": 1.0}),
    ("CatGumbelST", StraightThroughGumbel, "sample", {"temperature": 1.0}),
    ("CatGST", GappedStraightThrough, "sample", {"gst_gap": 1.0}),
    ("CatZGR", ReinMax, "sample", {"temperature": 0.8}),
    ("CatReinMaxRao", ReinMaxRao, "sample", {"temperature": 1.0}),
    ("CatReinMaxCV", ReinMaxCV, "sample", {"cv_scale": 1.0}),
    ("CatReinMaxCV", ReinMaxCV, "sample", {"cv_form": "released"}),
    ("CatReinMaxRK2", ReinMaxRK2, "sample", {"rk2_beta": 0.5}),
    ("SBNGumbel", GumbelSoftmax, "_relaxed_sample", {"muprop_relaxation": True}),
    ("SBNRebar", REBAR, "_control_variate", {"muprop_relaxation": True}),
    ("SBNRebar", REBAR, "_control_variate", {"quadratic": True}),
    ("SBNLocalDisARM", LocalDisARM, "estimate", {"symmetrized": True}),
)
"""Name, owner and method of what reads a setting, and the value that it always has."""

SETTINGS = [
    *(
        Fault(
            f"{name} that ignores {', '.join(values)}",
            ignores(owner, method, **values),
            another_formula(name),
        )
        for name, owner, method, values in IGNORED
    ),
    Fault(
        "a shared continuation instead of an independent one",
        replace(
            layerwise,
            "chain_noise",
            lambda true: lambda noise, branches: noise._replace(branches=()),
        ),
        another_formula("SBNDisARM"),
    ),
    Fault(
        "a tracked estimator that ignores its settings",
        replace(
            HParams,
            "member",
            lambda true: lambda self, text: true(self, text.partition("(")[0]),
        ),
        members_by_settings,
    ),
    Fault(
        "ZGR with its first term alone",
        replace(kernels, "reinmax", lambda true: kernels.straight_through),
        another_formula("CatZGR"),
    ),
    Fault(
        "CatReinMaxRao that is Gumbel-Rao",
        replace(ReinMaxRao, "sample", lambda true: GumbelRao.sample),
        another_formula("CatReinMaxRao"),
    ),
    Fault(
        "ReinMax-Rao with the whole of its second term",
        replace(kernels, "reinmax_rao", lambda true: _whole_second_term),
        another_formula("CatReinMaxRao"),
    ),
    Fault(
        "an arithmetic mean of the weights in VIMCO",
        replace(
            vimco,
            "logit_gradients",
            lambda true: module_with(true, mean_of_others=_arithmetic),
        ),
        another_formula("SBNVIMCO"),
    ),
    Fault(
        "learning signals of MuProp of half of f",
        replace(MuProp, "_signals", _of_half),
        another_formula("SBNMuProp"),
    ),
    Fault(
        "a layer with the node of RK2 on the other side",
        replace(
            kernels,
            "reinmax_rk2",
            lambda true: lambda *arguments, beta, form: true(*arguments, 1 - beta, form),
        ),
        layers_by_formula("reinmax_rk2"),
    ),
    Fault(
        "layers that ignore the temperature",
        ignores(layers._Call, "sample", temperature=1.0),
        layers_by_formula("gumbel_rao"),
    ),
]
