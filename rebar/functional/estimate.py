"""`estimate_gradient`: the gradient of E f by Bernoulli logits, for any f."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core.validity import Validity
from rebar.errors import RebarError
from rebar.functional import arguments, methods

_MOST_SAMPLES = 2**20


class BernoulliEstimate(NamedTuple):
    """What `estimate_gradient` returns.

    Attributes:
      gradient: shaped as the logits; an estimate of d E f / d logits, for ascent. A constant for
        tapes, unless differentiable=True.
      value: [B] mean of f at the hard samples drawn, an unbiased estimate of E f; a scalar for
        logits [H]. Tapes see in it the variables that f holds.
      evaluations: of f, each of B samples; one that is differentiated counts as one.
      unbiased: whether the mean of `gradient` is d E f / d logits.
    """

    gradient: tf.Tensor
    value: tf.Tensor
    evaluations: int
    unbiased: bool


def estimate_gradient(
    method: str,
    f: Callable[[tf.Tensor], tf.Tensor],
    logits: Any,
    *,
    noise: Any = None,
    seed: int | Sequence[int] | None = None,
    step: Any = None,
    **options,
) -> BernoulliEstimate:
    """An estimate of d E f(b) / d logits for independent units b ~ Bernoulli(sigmoid(logits)).

    A pure function: the same in eager mode, in tf.function and under XLA. f is called with samples
    [B, H] in the logits' dtype, once for each evaluation; a row of its result must depend on the
    same row of the samples alone. Where f depends on the logits themselves, too, as log q(b) does,
    that derivative is no part of `gradient`; differentiating `value` adds it.

    For rebar, relax and gumbel, f must be differentiable at b in (0, 1) and must not sample from b.
    A Bernoulli draw inside f makes rebar and relax biased, which nothing detects.

    Args:
      method: reinforce, loo, arm, disarm, rebar, relax or gumbel: `rebar.functional.methods` has
        their formulas, and in METHODS whether they are unbiased and how often they evaluate f.
      f: samples [B, H] -> values [B], to be ascended.
      logits: [B, H] or [H], float32 or float64. With [H], f sees [1, H].
      noise: uniforms in (0, 1) shaped as the logits, as `rebar.noise.uniforms` makes them; for loo
        n_samples sets of them, [K, B, H] or [K, H].
      seed, step: instead of noise: the numbers to draw it from. `seed` is an integer or several,
        `step` an integer, or a tensor so that a compiled loop can count; the same numbers give the
        same noise, except that each replica of a tf.distribute strategy draws its own. Do not use
        optimizer.iterations as the step with accumulated gradients: it changes less often than the
        minibatch.
      **options: those of the method:
        n_samples: loo: K, at least 2 (2).
        temperature: rebar, relax, gumbel: T > 0, a scalar, [B, 1] or [B, H] (0.5).
        muprop_relaxation: rebar, relax, gumbel: whether y is the relaxation of the 2017 paper that
          tends to the mean as T grows (True; relax: False), or sigmoid(z / T).
        scale: rebar, relax: s, a scalar or [B] (1).
        network: relax: r, z [B, H] -> [B], e.g. a `rebar.FreeForm`.
        v: rebar, relax: uniforms shaped as the logits for the noise drawn given b. If not given,
          those which make z~ = z: as valid, and an evaluation of f cheaper.
        differentiable: rebar, relax: let tapes differentiate `gradient` by temperature, scale, and
          what the network and f hold, to learn the former (False).

    Raises:
      RebarError: an unknown method or option, a wrong shape or dtype, or f without a derivative
        where the method needs one.
    """
    known = methods.named(method)
    methods.refuse_unknown_options(method, options)
    options = known.defaults | {name: o for name, o in options.items() if o is not None}
    logits = arguments.logits_of(logits)
    single = logits.shape.rank == 1
    rows = tf.stop_gradient(logits[tf.newaxis] if single else logits)
    validity = Validity()
    arguments.require_numbers(rows, validity)
    _check(options, rows, validity)
    n_samples = options.get("n_samples")

    def uniforms(value, name, *leading):
        shape = tf.concat([tf.constant(leading, tf.int32), tf.shape(logits)], axis=0)
        wanted = [*leading, *logits.shape]
        u = arguments.uniforms_of(value, name, shape, wanted, validity, rows.dtype)
        return tf.expand_dims(u, -2) if single else u

    if options.get("v") is not None:
        options["v"] = uniforms(options["v"], "v")

    if noise is not None:
        if seed is not None or step is not None:
            raise RebarError("give noise, or seed and step, not both")
        u = uniforms(noise, "noise", *([] if n_samples is None else [n_samples]))
        u = u[tf.newaxis] if n_samples is None else u
    elif seed is None or step is None:
        raise RebarError(
            "no noise to draw samples with; give seed=0, step=i, where i changes from call to "
            "call, or noise=uniforms shaped as the logits"
        )
    else:
        u = arguments.drawn(seed, step, n_samples or 1, rows)

    def checked(samples):
        return arguments.values_of(f, "f", samples)

    problem = methods.Problem(checked, rows, u, options)
    gradient, value, evaluations = known.compute(problem)
    gradient, value = validity.apply(gradient), validity.apply(value)
    if not options.get("differentiable"):
        gradient = tf.stop_gradient(gradient)
    if single:
        gradient, value = gradient[0], value[0]
    return BernoulliEstimate(gradient, value, evaluations, known.unbiased)


def _check(options, rows, validity) -> None:
    """Options that are numbers, made into tensors, or refused."""
    k = options.get("n_samples", 2)
    if not isinstance(k, numbers.Integral) or not 2 <= k <= _MOST_SAMPLES:
        raise RebarError(f"n_samples must be an integer from 2 to {_MOST_SAMPLES}, given: {k!r}")
    if "network" in options and not callable(options["network"]):
        raise RebarError(
            "relax needs network=r, a function from z [B, H] to [B], e.g. "
            "rebar.FreeForm(n_units); without one use rebar"
        )
    for name, shapes in {"temperature": ([0, None], [0, 1]), "scale": ([0],)}.items():
        if name in options:
            options[name] = arguments.option_of(
                options[name], name, rows, validity, *shapes, above_0=name == "temperature"
            )
