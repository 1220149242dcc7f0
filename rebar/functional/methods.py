"""Methods of `rebar.estimate_gradient`: estimates of d E f(b) / d logits, for ascent.

With p = sigmoid(logits) or softmax(logits) per variable, noise zeta, samples b at z = logits +
zeta, z~ the same with noise redrawn given b, and relaxed samples y = sigmoid(z / T) or softmax(z /
T), or another relaxation (`rebar.core.families`):

    exact      sum over all states: q(b) f(b) (b - p)
    reinforce  (f(b) - baseline) (b - p)                                       Williams 1992
    loo        1/K sum_k (f(b_k) - mean of the others) (b_k - p)               Kool et al. 2019
    double_cv  loo of f(b_k) + a c_k, minus a J mean_k D_k                     Titsias & Shi 2022
    rebar      (f(b) - c(z~)) (b - p) + d c(z) - d c(z~),  c = s f(y)          Tucker et al. 2017
    relax      the same with c = s (f(y) + r(z)), or c = s r(z)                Grathwohl et al. 2018
    gumbel     d f(y)                                                          Jang et al. 2016

For binary units only, with uniforms u, b = 1[u > 1 - p], and b~ the same with 1 - u:

    arm        (f(b) - f(b~)) (u - 1/2)                                        Yin & Zhou 2019
    disarm     1/2 (f(b) - f(b~)) (-1)^b~ 1[b != b~] sigmoid(|logits|)         Dong et al. 2020
    leg        p (1 - p) (1 - 2 b) (f with the unit flipped - f(b))  Titsias & Lazaro-Gredilla 2015
    arms       rho/(n-1) sum_m (f(b_m) - mean f) (b_m - p)                     Dimitriev & Zhou 2021

double_cv: D_k is the mean of the derivatives of f at the other samples, c_k = (b_k - p) . D_k, J
the covariance of b, and a the scale. arms: n antithetic samples b_m, and rho = p (1 - p) / (p -
P(two of them are 1)); with n = 2 it is disarm.

For categorical variables only, with several dependent samples (`rebar.estimators` of these names
has the formulas):

    carms                             leave-one-out of coupled samples        Dimitriev & Zhou 2021
    disarm_sb, disarm_tree, disarm_iw antithetic pairs                        Dong et al. 2021
    arsm                              samples of swapped noise                Yin et al. 2019
    unord                             codes without replacement               Kool et al. 2020
    indecater                         all categories of each variable         De Smet et al. 2023
    sum_and_sample                    the most probable ones, and a sample    Liu et al. 2019

All but gumbel, whose mean is d E f(y), are unbiased for d E f(b). rebar, relax with f(y) and gumbel
differentiate f at relaxed samples, double_cv at hard ones: f must be differentiable and must not
sample from b. If f samples from b, rebar and relax are biased, which is not detected.

RODEO is not a method: its network and two scales must be learned, or they add variance. It is an
estimator of `rebar.estimate`, as are those with learned baselines.

Every straight-through layer (`LAYERS`) is a method for categorical logits, which differentiates f
through it and is biased.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.errors import RebarError, did_you_mean
from rebar.functional import arguments, chains, scores
from rebar.functional.control_variate import with_control_variate
from rebar.functional.straight_through import LAYERS


def _relaxed_control_variate(problem):
    o = problem.options
    relaxed, scale, network = problem.relaxation(), problem.option("scale", [0]), o.get("network")
    relaxed_f = arguments.switch_of(o.get("relaxed_f", True), "relaxed_f")
    if "network" in o and not callable(network):
        raise RebarError(
            f"network={network!r}: must be a function from z [B, H] to [B] for relax; "
            "pass e.g. rebar.FreeForm(n_units), or use rebar"
        )

    def terms(logits, z):
        values = {}
        if relaxed_f:
            values["f"] = scale * problem.f(relaxed(logits, z))
        if network is not None:
            inputs = problem.family.noisy_logits(logits, z)
            values["network"] = scale * arguments.values_of(network, "network", inputs)
        return values

    v = o["v"]
    if v is not None:
        v = arguments.shaped(problem.source.custom(v, "v"), problem.logits)
    u = problem.uniforms()
    b = problem.hard(u)
    f = problem.f(b)
    gradient = with_control_variate(f, b, u, problem.logits, terms, v)
    return gradient, f, 1 + relaxed_f * (1 if v is None else 2), b


def _gumbel(problem):
    u, relaxed, logits = problem.uniforms(), problem.relaxation(), tf.identity(problem.logits)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(logits)
        values = problem.f(relaxed(logits, problem.family.noise(u)))
    gradient = tape.gradient(values, logits)
    arguments.require_derivative(gradient, "f")
    b = problem.hard(u)
    return gradient, problem.f(b), 2, b


class Method(NamedTuple):
    """A method and its properties.

    Attributes:
      compute: problem -> gradient shaped like its logits, value [B], number of evaluations of f,
        and the hard samples, shaped like its logits or [K, ...], or None.
      unbiased: for d E f / d logits.
      differentiates: f must have a derivative with respect to its samples.
      evaluations: evaluations of f, as text.
      defaults: options and their defaults.
      families: families of logits.
    """

    compute: Callable
    unbiased: bool
    differentiates: bool
    evaluations: str
    defaults: dict[str, Any]
    families: tuple[str, ...] = ("bernoulli", "categorical")


def _through(layer: Callable) -> Method:
    """Return the method that differentiates f through a straight-through layer."""

    def compute(problem):
        source, logits = problem.source, problem.source.logits
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(logits)
            sample = layer(
                logits, noise=source.noise, seed=source.seed, step=source.step, **problem.options
            )
            z = arguments.shaped(sample.z, problem.logits)
            value = problem.f(z)
        gradient = tape.gradient(value, logits)
        arguments.require_derivative(gradient, "f")
        return gradient, value, 1, tf.stop_gradient(z)

    options = {
        name: parameter.default
        for name, parameter in inspect.signature(layer).parameters.items()
        if name not in ("logits", "noise", "seed", "step")
    }
    return Method(compute, False, True, "1", options, ("categorical",))


_RELAXED = {"temperature": 0.5, "muprop_relaxation": True}
_REBAR = {**_RELAXED, "scale": 1.0, "v": None, "differentiable": False}
_RELAX = {**_REBAR, "muprop_relaxation": False, "network": None, "relaxed_f": True}
_COUPLED = "2, or 3 with v"

METHODS = {
    "exact": Method(scores.exact, True, False, "2^H or C^V", {}),
    "reinforce": Method(scores.reinforce, True, False, "1", {"baseline": 0.0}),
    "loo": Method(scores.leave_one_out, True, False, "n_samples", {"n_samples": 2}),
    "double_cv": Method(
        scores.double_cv,
        True,
        True,
        "n_samples",
        {"n_samples": 2, "scale": -1.0, "differentiable": False},
    ),
    "arm": Method(scores.arm, True, False, "2", {}, ("bernoulli",)),
    "disarm": Method(scores.disarm, True, False, "2", {}, ("bernoulli",)),
    "arms": Method(scores.arms, True, False, "n_antithetic", {"n_antithetic": 3}, ("bernoulli",)),
    "leg": Method(scores.leg, True, False, "1 + H", {}, ("bernoulli",)),
    "carms": Method(
        chains.carms, True, False, "n_antithetic", {"n_antithetic": 3}, ("categorical",)
    ),
    "disarm_sb": Method(chains.disarm_sb, True, False, "2", {}, ("categorical",)),
    "disarm_tree": Method(chains.disarm_tree, True, False, "2", {}, ("categorical",)),
    "disarm_iw": Method(chains.disarm_iw, True, False, "2", {}, ("categorical",)),
    "arsm": Method(chains.arsm, True, False, "1 + C (C - 1) / 2", {}, ("categorical",)),
    "unord": Method(chains.unord, True, False, "n_codes", {"n_codes": 3}, ("categorical",)),
    "indecater": Method(chains.indecater, True, False, "1 + V (C - 1)", {}, ("categorical",)),
    "sum_and_sample": Method(
        chains.sum_and_sample, True, False, "1 + V n_exact", {"n_exact": 1}, ("categorical",)
    ),
    "rebar": Method(_relaxed_control_variate, True, True, _COUPLED, _REBAR),
    "relax": Method(
        _relaxed_control_variate, True, True, f"{_COUPLED}, or 1 without relaxed_f", _RELAX
    ),
    "gumbel": Method(_gumbel, False, True, "2", _RELAXED),
    **{name: _through(layer) for name, layer in LAYERS.items()},
}
"""Name -> method."""


def of(family: str) -> dict[str, Method]:
    """Return the methods for logits of a family."""
    return {name: method for name, method in METHODS.items() if family in method.families}


def _letters(name):
    return name.lower().replace("_", "").replace("-", "")


_BY_LETTERS = {_letters(name): name for name in METHODS} | {"stgs": "st_gumbel", "zgr": "reinmax"}


def name_of(method: Any) -> Any:
    """Return the name of a method from its name or label in any case, e.g. "DisARM" or "ST-GS".

    Values that name no method are returned unchanged.
    """
    return _BY_LETTERS.get(_letters(method), method) if isinstance(method, str) else method


def choose(methods: dict[str, Method], name: str, options: dict[str, Any]) -> Method:
    """Return the method of that name; RebarError for an unknown name or option."""
    if not isinstance(name, str) or name not in methods:
        hint = did_you_mean(name, methods) if isinstance(name, str) else ""
        raise RebarError(f"unknown method {name!r}{hint}; available: {', '.join(methods)}")
    for option in options:
        if option not in methods[name].defaults:
            takes = ", ".join(methods[name].defaults) or "no options"
            takers = ", ".join(n for n, m in methods.items() if option in m.defaults)
            raise RebarError(
                f"{option}: unknown option of {name}; available: {takes}"
                + (f"; {option} is an option of: {takers}" if takers else "")
            )
    return methods[name]
