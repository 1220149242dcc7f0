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
      gradient: shaped like the logits; an estimate of d E f / d logits, for ascent. A constant for
        tapes, unless differentiable=True.
      value: [B] mean of f at the hard samples, an unbiased estimate of E f; a scalar for logits
        [H]. Differentiable w.r.t. the variables of f.
      evaluations: evaluations of f, each of B samples; one with a derivative counts as one.
      unbiased: True if the mean of `gradient` is d E f / d logits.
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

    A pure function: the same in eager mode, in tf.function and under XLA. f is called once per
    evaluation, with samples in the logits' dtype; each row of its result must depend on the same
    row of the samples alone. If f also depends on the logits directly, as log q(b) does, that
    derivative is not part of `gradient`; differentiating `value` adds it.

    For methods that differentiate f (rebar, relax, gumbel, and the straight-through family) f must
    be differentiable and must not sample from b. A Bernoulli draw inside f makes rebar and relax
    biased, which is not detected.

    Args:
      method: a name of METHODS in `rebar.functional.bernoulli` (reinforce, loo, arm, disarm, rebar,
        relax, gumbel) or `rebar.functional.categorical` (exact, reinforce, loo, st, st_gumbel,
        gumbel_rao, gst, reinmax, ...), which list formulas, bias and evaluations of f.
      f: samples [B, H] or one-hot [B, ..., C] -> values [B], to be maximized.
      logits: float32 or float64; [B, H] or [H] of binary units (with [H], f sees [1, H]), or
        [B, ..., C] of variables with C categories.
      family: "bernoulli" or "categorical".
      noise: uniforms in (0, 1) shaped like the logits, e.g. from `rebar.noise.uniforms`; for loo
        [K, ...] with K = n_samples (not used by exact).
      seed, step: instead of noise, numbers that determine it. `seed` is an integer or several,
        `step` an integer or an integer tensor. Replicas of a tf.distribute strategy draw different
        noise. Do not use optimizer.iterations as the step with accumulated gradients: it changes
        less often than the minibatch.
      **options: options of the method, with defaults:
        n_samples: loo: K, at least 2 (2).
        temperature: rebar, relax, gumbel: T > 0, a scalar, [B, 1] or [B, H] (0.5).
        muprop_relaxation: rebar, relax, gumbel: y is the relaxation of the 2017 paper that tends to
          the mean as T grows (True; relax: False), or sigmoid(z / T).
        scale: rebar, relax: s, a scalar or [B] (1).
        network: relax: r, z [B, H] -> [B], e.g. a `rebar.FreeForm`.
        v: rebar, relax: uniforms shaped like the logits for the noise conditional on b. By default
          those with z~ = z, which are valid too and save an evaluation of f.
        differentiable: rebar, relax: make `gradient` differentiable w.r.t. temperature, scale, and
          the variables of the network and f, e.g. to learn them (False).
        those of the straight-through layer, see `rebar.straight_through`.

    Raises:
      RebarError: an unknown method or option, an invalid shape or dtype, f without a derivative
        where the method needs one, or too many codes for exact.
    """
    if family not in _FAMILIES:
        raise RebarError(
            f"unknown family {family!r}{did_you_mean(str(family), _FAMILIES)}; "
            f"available: {', '.join(_FAMILIES)}"
        )
    module = _FAMILIES[family]
    others = [name for name, m in _FAMILIES.items() if name != family and method in [*m.METHODS]]
    if others and method not in [*module.METHODS]:
        raise RebarError(
            f"{method!r} is a method for {others[0]} logits, given: family={family!r}; use "
            f"family={others[0]!r}"
        )
    chosen = choose(module.METHODS, method, options)
    options = chosen.defaults | {name: o for name, o in options.items() if o is not None}
    logits = module.logits_of(logits)
    single = logits.shape.rank == 1
    rows = tf.stop_gradient(logits[tf.newaxis] if single else logits)
    validity = Validity()
    arguments.require_numbers(rows, validity)
    source = arguments.NoiseSource(tf.stop_gradient(logits), noise, seed, step, validity)

    def checked(samples):
        return arguments.values_of(f, "f", samples)

    gradient, value, evaluations = chosen.compute(
        module.problem(checked, rows, source, validity, options)
    )
    gradient, value = validity.apply(gradient), validity.apply(value)
    if not options.get("differentiable"):
        gradient = tf.stop_gradient(gradient)
    if single:
        gradient, value = gradient[0], value[0]
    return GradientEstimate(gradient, value, evaluations, chosen.unbiased)
