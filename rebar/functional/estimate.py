"""`estimate_gradient`: the gradient of E f with respect to logits, for any f."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core.validity import Validity
from rebar.errors import RebarError, did_you_mean
from rebar.functional import arguments, methods, problem


class GradientEstimate(NamedTuple):
    """Result of `estimate_gradient`.

    Attributes:
      gradient: shaped like the logits; an estimate of d E f / d logits, for ascent. A constant for
        tapes, unless differentiable=True.
      value: [B] mean of f at the hard samples, or f at the first of them; a scalar for logits [H].
        An unbiased estimate of E f, except for decoupled_st, redge and reindge, whose samples have
        another distribution. Differentiable w.r.t. the variables of f.
      evaluations: evaluations of f, each of B samples; one with a derivative counts as one.
      unbiased: True if the mean of `gradient` is d E f / d logits.
      samples: hard samples shaped like the logits; of loo, double_cv, arm, disarm, arms and
        those with several dependent samples with a leading axis; None for exact.
    """

    gradient: tf.Tensor
    value: tf.Tensor
    evaluations: int
    unbiased: bool
    samples: tf.Tensor | None


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
    """Estimate d E f(b) / d logits for independent binary units or categorical variables b.

    A pure function: the same in eager mode, in tf.function and under XLA. f is called once per
    evaluation, with samples in the logits' dtype; each row of its result must depend on the same
    row of the samples alone. If f also depends on the logits directly, as log q(b) does, that
    derivative is not part of `gradient`; differentiating `value` adds it.

    For methods that differentiate f (double_cv, rebar, relax, gumbel, and the straight-through
    family) f must be differentiable and must not sample from b. A draw inside f makes rebar and
    relax biased, which is not detected.

    Args:
      method: a name in `rebar.functional.methods`, which lists formulas, bias and evaluations of f:
        exact, reinforce, loo, double_cv, rebar, relax, gumbel; for binary units arm, disarm, arms,
        leg; for categorical variables carms, disarm_sb, disarm_tree, disarm_iw, arsm, unord,
        indecater, sum_and_sample, and st, st_gumbel, gumbel_rao, gst, reinmax, ... Labels of
        estimators, such as "DisARM" and "ST-GS", are accepted too, in upper or lower case.
      f: samples [B, H] or one-hot [B, ..., C] -> values [B], to be maximized.
      logits: float32 or float64; [B, H] or [H] of binary units (with [H], f sees [1, H]), or
        [B, ..., C] of variables with C categories.
      family: "bernoulli" or "categorical".
      noise: uniforms in (0, 1) shaped like the logits, e.g. from `rebar.noise.uniforms`; for loo
        and double_cv [K, ...] with K = n_samples, for arms [n, ...], for carms
        [1 + n, ...], for unord [1 + k, ...], for disarm_sb, disarm_tree and disarm_iw [2, ...] (not
        used by exact).
      seed, step: instead of noise, numbers that determine it. `seed` is an integer or several,
        `step` an integer or an integer tensor. Replicas of a tf.distribute strategy draw different
        noise. Do not use optimizer.iterations as the step with accumulated gradients: it changes
        less often than the minibatch.
      **options: options of the method, with defaults:
        baseline: reinforce: subtracted from f; a scalar or [B] that is independent of b (0).
        n_samples: loo, double_cv: K, at least 2 (2).
        n_antithetic: arms, carms: n, at least 2 (3).
        n_codes: unord: k, from 2 to 7 (3).
        n_exact: sum_and_sample: categories of each variable that are summed, at least 1 (1).
        temperature: rebar, relax, gumbel: T > 0, a scalar, [B, 1] or [B, H]; for categorical logits
          a scalar, or [B, 1, 1] with all variables of a row on one axis (0.5).
        muprop_relaxation: rebar, relax, gumbel: y is the relaxation of the 2017 paper that tends to
          the mean as T grows (True; relax: False), or sigmoid(z / T) or softmax(z / T).
        scale: rebar, relax: s, a scalar or [B] (1); double_cv: a, a scalar (-1, with which the
          gradient of a linear f is exact).
        network: relax: r, inputs [B, H] or [B, V C] -> [B], e.g. a `rebar.FreeForm`. The inputs are
          z, for categorical logits of normalized logits, flattened.
        relaxed_f: relax: if False, the network alone is the control variate, f is evaluated once
          and needs no derivative (True).
        v: rebar, relax: uniforms shaped like the logits for the noise conditional on b. By default
          those with z~ = z, which are valid too and save an evaluation of f.
        differentiable: rebar, relax: make `gradient` differentiable w.r.t. temperature, scale, and
          the variables of the network and f, e.g. to learn them; double_cv: w.r.t. scale (False).
        those of the straight-through layer, see `rebar.straight_through`.

    Raises:
      RebarError: an unknown method or option, an invalid shape or dtype, f without a derivative
        where the method needs one, or too many states for exact.
    """
    if family not in arguments.FORMS:
        raise RebarError(
            f"unknown family {family!r}{did_you_mean(str(family), arguments.FORMS)}; "
            f"available: {', '.join(arguments.FORMS)}"
        )
    available, method = methods.of(family), methods.name_of(method)
    others = [name for name in arguments.FORMS if name != family and method in [*methods.of(name)]]
    if others and method not in available:
        raise RebarError(
            f"{method!r} is a method for {others[0]} logits, given: family={family!r}; use "
            f"family={others[0]!r}"
        )
    chosen = methods.choose(available, method, options)
    options = chosen.defaults | {name: o for name, o in options.items() if o is not None}
    differentiable = arguments.switch_of(options.get("differentiable", False), "differentiable")
    logits = arguments.logits_of(logits, *arguments.FORMS[family])
    constant = tf.stop_gradient(logits)
    batch = constant if logits.shape.rank > 1 else constant[tf.newaxis]
    rows = batch if family == "bernoulli" else _variables(batch)
    validity = Validity()
    arguments.require_numbers(rows, validity)
    source = arguments.NoiseSource(constant, noise, seed, step, validity)

    def checked(samples):
        return arguments.values_of(f, "f", arguments.shaped(samples, batch))

    gradient, value, evaluations, samples = chosen.compute(
        problem.Problem(checked, rows, source, validity, options)
    )
    gradient, value = validity.apply(arguments.shaped(gradient, logits)), validity.apply(value)
    if samples is not None:
        leading = samples.shape[: samples.shape.rank - rows.shape.rank]
        samples = validity.apply(arguments.shaped(samples, logits, *leading))
    return GradientEstimate(
        gradient if differentiable else tf.stop_gradient(gradient),
        value if logits.shape.rank > 1 else value[0],
        evaluations,
        chosen.unbiased,
        samples,
    )


def _variables(logits):
    """[B, ..., C] as [B, V, C]."""
    n_variables = logits.shape[1:-1].num_elements()
    sizes = tf.shape(logits)
    shape = [sizes[0], n_variables or tf.reduce_prod(sizes[1:-1]), logits.shape[-1]]
    return tf.ensure_shape(tf.reshape(logits, shape), [logits.shape[0], n_variables, shape[-1]])
