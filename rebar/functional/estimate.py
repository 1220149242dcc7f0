"""`estimate_gradient`: the gradient of E f with respect to logits, for any f."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core.validity import Validity
from rebar.errors import RebarError, did_you_mean
from rebar.functional import arguments, bernoulli, categorical
from rebar.functional.method import choose

_FAMILIES: dict[str, Any] = {"bernoulli": bernoulli, "categorical": categorical}


class GradientEstimate(NamedTuple):
    """Result of `estimate_gradient`.

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
    family: str = "bernoulli",
    noise: Any = None,
    seed: int | Sequence[int] | None = None,
    step: Any = None,
    **options: Any,
) -> GradientEstimate:
    """Estimate d E f(b) / d logits for independent units b.

    A pure function: the same in eager mode, in tf.function and under XLA. f is called with samples
    in the logits' dtype, once per evaluation; a row of its result must depend on the same row of
    the samples alone. Where f depends on the logits themselves, too, as log q(b) does, that
    derivative is not part of `gradient`; differentiating `value` adds it.

    For methods that differentiate f (rebar, relax, gumbel, and the straight-through family) f must
    be differentiable and must not sample from b. A Bernoulli draw inside f makes rebar and relax
    biased, which nothing detects.

    Args:
      method: a name of METHODS in `rebar.functional.bernoulli` (reinforce, loo, arm, disarm, rebar,
        relax, gumbel) or `rebar.functional.categorical` (exact, reinforce, loo, st, st_gumbel,
        gumbel_rao, gst, reinmax, ...), which have their formulas, whether they are unbiased and how
        often they evaluate f.
      f: samples [B, H] or one-hot [B, ..., C] -> values [B], to be ascended.
      logits: float32 or float64; [B, H] or [H] of binary units (with [H], f sees [1, H]), or
        [B, ..., C] of variables with C categories.
      family: "bernoulli" or "categorical".
      noise: uniforms in (0, 1) shaped as the logits, as `rebar.noise.uniforms` makes them; for loo
        n_samples sets of them, [K, ...] (not needed by exact).
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
        those of the straight-through layer, see `rebar.straight_through`.

    Raises:
      RebarError: an unknown method or option, a wrong shape or dtype, or f without a derivative
        where the method needs one, or too many codes for exact.
    """
    if family not in _FAMILIES:
        raise RebarError(
            f"unknown family {family!r}{did_you_mean(str(family), _FAMILIES)}; "
            f"available: {', '.join(_FAMILIES)}"
        )
    known = _FAMILIES[family]
    chosen = choose(known.METHODS, method, options)
    options = chosen.defaults | {name: o for name, o in options.items() if o is not None}
    logits = known.logits_of(logits)
    single = logits.shape.rank == 1
    rows = tf.stop_gradient(logits[tf.newaxis] if single else logits)
    validity = Validity()
    arguments.require_numbers(rows, validity)
    source = arguments.NoiseSource(tf.stop_gradient(logits), noise, seed, step, validity)

    def checked(samples):
        return arguments.values_of(f, "f", samples)

    gradient, value, evaluations = chosen.compute(
        known.problem(checked, rows, source, validity, options)
    )
    gradient, value = validity.apply(gradient), validity.apply(value)
    if not options.get("differentiable"):
        gradient = tf.stop_gradient(gradient)
    if single:
        gradient, value = gradient[0], value[0]
    return GradientEstimate(gradient, value, evaluations, chosen.unbiased)
