"""Methods of `rebar.estimate_gradient`: estimates of d E f(b) / d logits, for ascent.

With p = sigmoid(logits) or softmax(logits) per variable, noise zeta, samples b at z = logits +
zeta, z~ the same with noise redrawn given b, and relaxed samples y = sigmoid(z / T) or softmax(z /
T), or another relaxation (`rebar.core.families`):

    exact      sum over all states: q(b) f(b) (b - p)
    reinforce  (f(b) - baseline) (b - p)                                       Williams 1992
    loo        1/K sum_k (f(b_k) - mean of the others) (b_k - p)               Kool et al. 2019
    rebar      (f(b) - c(z~)) (b - p) + d c(z) - d c(z~),  c = s f(y)          Tucker et al. 2017
    relax      the same with c = s (f(y) + r(z)), or c = s r(z)                Grathwohl et al. 2018
    gumbel     d f(y)                                                          Jang et al. 2016

For binary units only, with uniforms u, b = 1[u > 1 - p], and b~ the same with 1 - u:

    arm        (f(b) - f(b~)) (u - 1/2)                                        Yin & Zhou 2019
    disarm     1/2 (f(b) - f(b~)) (-1)^b~ 1[b != b~] sigmoid(|logits|)         Dong et al. 2020

All but gumbel, whose mean is d E f(y), are unbiased for d E f(b). rebar, relax with f(y) and gumbel
differentiate f at relaxed samples: f must be differentiable and must not sample from b. If f
samples from b, rebar and relax are biased, which is not detected.

Every straight-through layer (`LAYERS`) is a method for categorical logits, which differentiates f
through it and is biased.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core import families, logit_gradients
from rebar.core.validity import Validity
from rebar.errors import RebarError, did_you_mean
from rebar.functional import arguments
from rebar.functional.control_variate import with_control_variate
from rebar.functional.straight_through import LAYERS

MAX_CODES = 2**16
"""Maximum number of states of `exact`, 2^H or C^V per row."""


_MAX_UNROLLED = 8
"""Maximum number of samples for which `loo` calls f without a loop, which runs up to twice as fast;
with a loop, compilation takes as long as for one call."""


class Problem(NamedTuple):
    """Arguments of a method.

    Attributes:
      f: samples [B, H] or [B, V, C] -> [B].
      logits: [B, H] or [B, V, C], a constant for tapes.
      source: uniforms shaped like the user's logits.
      validity: conditions of the call.
      options: the method's options.
    """

    f: Callable
    logits: tf.Tensor
    source: arguments.NoiseSource
    validity: Validity
    options: dict[str, Any]

    @property
    def family(self) -> families.Family:
        """Family of the logits."""
        return families.of(self.logits)

    def uniforms(self, *count: int) -> tf.Tensor:
        """Uniforms of a sample, shaped like `logits`, or of several, [K, ...]."""
        return arguments.shaped(self.source.samples(*count), self.logits, *count)

    def hard(self, u: tf.Tensor, sign: int = 1) -> tf.Tensor:
        """b (sign 1), or b~ (sign -1) for binary units."""
        return self.family.hard_sample(self.logits, sign * self.family.noise(u))

    def option(self, name: str, *shapes: Any, above_0: bool = False) -> tf.Tensor:
        """A numeric option: a scalar, or of one of the shapes, see `arguments.option_of`."""
        value = self.options[name]
        return arguments.option_of(
            value, name, self.logits, self.validity, *shapes, above_0=above_0
        )

    def relaxation(self) -> Callable:
        """Function (logits, noise) -> y."""
        rank = self.logits.shape.rank
        shapes = [0, *[None] * (rank - 1)], range(rank)
        temperature = self.option("temperature", *shapes, above_0=True)
        muprop = arguments.switch_of(self.options["muprop_relaxation"], "muprop_relaxation")
        return lambda logits, z: self.family.relaxed_sample(logits, z, temperature, muprop)


def _exact(problem):
    """One evaluation of f on all rows per state."""
    f, logits, family = problem.f, problem.logits, problem.family
    binary = family is families.BERNOULLI
    variables, n_categories = (logits.shape[1], 2) if binary else logits.shape[1:]
    if variables is None:
        raise RebarError("logits: exact needs a static number of latent variables; set their shape")
    n_codes = n_categories**variables
    if n_codes > MAX_CODES:
        raise RebarError(
            f"exact: {n_categories}^{variables} codes are more than {MAX_CODES}; use fewer latent "
            "variables, or loo with many samples"
        )
    place = tf.constant([n_categories**i for i in range(variables)], tf.int32)

    def add(code, gradient, value):
        index = code // place % n_categories
        state = tf.cast(index if binary else tf.one_hot(index, n_categories), logits.dtype)
        b = state + tf.zeros_like(logits)
        weighted = tf.exp(family.log_prob(b, logits)) * f(b)
        term = logit_gradients.reinforce(tf.stop_gradient(weighted), b, logits)
        return code + 1, gradient + term, value + weighted

    zeros = tf.zeros_like(logits)
    _, gradient, value = tf.while_loop(
        lambda code, *_: code < n_codes,
        add,
        (0, zeros, families.row_sum(zeros)),
        maximum_iterations=n_codes,
    )
    return gradient, value, n_codes, None


def _reinforce(problem):
    baseline = problem.option("baseline", [0])
    b = problem.hard(problem.uniforms())
    f = problem.f(b)
    gradient = logit_gradients.reinforce(tf.stop_gradient(f) - baseline, b, problem.logits)
    return gradient, f, 1, b


def _leave_one_out(problem):
    count = arguments.count_of(problem.options["n_samples"], "n_samples", 2)
    samples = problem.hard(problem.uniforms(count))
    f = _values(problem.f, samples, count)
    signals = logit_gradients.leave_one_out(tf.stop_gradient(f))
    axes = [tf.newaxis] * (problem.logits.shape.rank - 1)
    terms = signals[(..., *axes)] * problem.family.score(samples, problem.logits)
    return tf.reduce_mean(terms, axis=0), tf.reduce_mean(f, axis=0), count, samples


def _values(f, samples, count):
    """f at each of the samples [K, B, ...]: [K, B]."""
    if count <= _MAX_UNROLLED:
        return tf.stack([f(b) for b in tf.unstack(samples, count)])
    _, values = tf.while_loop(
        lambda k, _: k < count,
        lambda k, values: (k + 1, values.write(k, f(samples[k]))),
        (0, tf.TensorArray(samples.dtype, count, element_shape=samples.shape[1:2])),
        maximum_iterations=count,
    )
    return values.stack()


def _arm(problem):
    u = problem.uniforms()
    samples, f, f_antithetic, value = _pair(problem, u)
    return logit_gradients.arm(f, f_antithetic, u), value, 2, tf.stack(samples)


def _disarm(problem):
    (b, b_antithetic), f, f_antithetic, value = _pair(problem, problem.uniforms())
    gradient = logit_gradients.disarm(f, f_antithetic, b, b_antithetic, problem.logits)
    return gradient, value, 2, tf.stack([b, b_antithetic])


def _pair(problem, u):
    """b and b~, f at both as constants, and their mean."""
    samples = [problem.hard(u, sign) for sign in (1, -1)]
    f, f_antithetic = (problem.f(b) for b in samples)
    value = (f + f_antithetic) / 2
    return samples, tf.stop_gradient(f), tf.stop_gradient(f_antithetic), value


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
    "exact": Method(_exact, True, False, "2^H or C^V", {}),
    "reinforce": Method(_reinforce, True, False, "1", {"baseline": 0.0}),
    "loo": Method(_leave_one_out, True, False, "n_samples", {"n_samples": 2}),
    "arm": Method(_arm, True, False, "2", {}, ("bernoulli",)),
    "disarm": Method(_disarm, True, False, "2", {}, ("bernoulli",)),
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
