"""Variational inference with distributions of TensorFlow Probability that have discrete latents."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.errors import RebarError, integer
from rebar.objectives import joint
from rebar.objectives.estimate import ObjectiveEstimate, built, estimate
from rebar.objectives.sample import Sample


def elbo(target: Any, surrogate_posterior: Any) -> Callable[..., tf.Tensor]:
    """Return the ELBO, log p - log q in nats, as an objective of `rebar.estimate`.

    Each site of the surrogate posterior is a site of the objective, with the name of its
    distribution: Bernoulli, OneHotCategorical, Categorical, or reparameterized; see `Sample`.

    Args:
      target: a joint distribution whose unpinned sites are those of the surrogate posterior, e.g.
        `joint.experimental_pin(x=x)`; or a function of their values that returns log p, called as
        by `tfp.vi.fit_surrogate_posterior`. Sites are matched by name if both have names, otherwise
        by position.
      surrogate_posterior: a distribution or a joint distribution. With batch shape [B], it must be
        called with arguments of B rows, as in `loss`.

    Raises:
      RebarError: see `loss`.
    """
    if hasattr(surrogate_posterior, "pins"):
        raise RebarError("surrogate_posterior: is pinned; pass a joint distribution without pins")
    sites = joint.sites_of(surrogate_posterior, "surrogate_posterior")
    joint.require_no_other_randomness(sites, "surrogate_posterior")
    log_prob = joint.log_prob_of(target, sites)

    @tf.autograph.experimental.do_not_convert
    def objective(sample: Sample, *inputs: Any) -> tf.Tensor:
        copies = sample.rows
        if sites.batch.rank:
            size, rows = sites.size, joint.static(sample.rows)
            if not inputs or (rows is not None and rows % (joint.static(size) or 1)):
                raise RebarError(
                    f"surrogate_posterior of batch shape {sites.batch}: needs an argument with one "
                    "row per member of the batch, e.g. np.zeros([len(x), 0])"
                )
            copies //= size
        values = joint.sampled(sample, sites, copies)
        log_p = tf.convert_to_tensor(log_prob(values))
        expected = tf.TensorShape([joint.static(copies)]).concatenate(sites.batch)
        if not log_p.shape.is_compatible_with(expected):
            raise RebarError(
                f"target: returned log p of shape {log_p.shape}: must be {expected}, the samples "
                "and the batch of the surrogate posterior; use tfd.Independent or an autobatched "
                "joint distribution for axes that are part of one sample"
            )
        if log_p.dtype != sample.log_q.dtype:
            raise RebarError(
                f"target: returned log p of type {log_p.dtype.name}, but log q has type "
                f"{sample.log_q.dtype.name}; use the same type of parameters and observed values"
            )
        return tf.reshape(log_p, [-1]) - sample.log_q

    return objective


def loss(
    target: Any,
    surrogate_posterior: Any,
    *inputs: Any,
    estimator: Any = "REINFORCE",
    n_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    step: Any = None,
    baseline: Any = None,
) -> ObjectiveEstimate:
    """Estimate the gradient of the negative ELBO of a surrogate posterior.

        pinned = joint.experimental_pin(x=x)
        with tf.GradientTape() as tape:
            result = rebar.tfp.loss(pinned, surrogate, estimator="DisARM", seed=0, step=step)
        gradients = tape.gradient(result.loss, surrogate.trainable_variables)

    The gradient with respect to variables of the target is estimated, too. The only axis of the
    result's `value`, [B], is the batch of the posterior; the loss is minus its mean.

    Args:
      target, surrogate_posterior: see `elbo`.
      *inputs: arguments of the baseline, with one row per member of the posterior's batch.
      estimator, n_samples, seed, step, baseline: see `rebar.estimate`.

    Raises:
      RebarError: a distribution of an unsupported family, sites or event shapes of the target that
        are not those of the surrogate posterior, batch shapes that do not agree, or see
        `rebar.estimate`.
    """
    return estimate(
        elbo(target, surrogate_posterior),
        *(inputs or _rows_of_batch(surrogate_posterior)),
        estimator=estimator,
        n_samples=n_samples,
        seed=seed,
        step=step,
        baseline=baseline,
    )


def fit_surrogate_posterior(
    target_log_prob_fn: Any,
    surrogate_posterior: Any,
    optimizer: Any,
    num_steps: int,
    *,
    estimator: Any = "REINFORCE",
    sample_size: int = 1,
    control_optimizer: Any = None,
    convergence_criterion: Any = None,
    trace_fn: Callable = lambda traceable_quantities: traceable_quantities.loss,
    trainable_variables: Sequence | None = None,
    jit_compile: bool = False,
    seed: int | Sequence[int] = 0,
    name: str = "fit_surrogate_posterior",
) -> Any:
    """Maximize the ELBO of a surrogate posterior, which may have discrete sites.

    Like `tfp.vi.fit_surrogate_posterior`, but with a gradient estimator for discrete sites. For an
    importance-weighted bound of K samples use estimator="VIMCO" and sample_size=K. Call it in eager
    mode.

    Args:
      target_log_prob_fn, surrogate_posterior: target and posterior, see `elbo`.
      optimizer: Keras optimizer, its name, or an object with `apply_gradients`.
      num_steps: number of steps, at least 1.
      estimator: see `rebar.estimate`; names of estimators with learned parts are allowed, too.
      sample_size: samples per step.
      control_optimizer: Keras optimizer of the estimator's learned parts, by default Adam(0.01).
      convergence_criterion, trace_fn: see `tfp.math.minimize`, which runs the steps.
      trainable_variables: variables to train; by default all on which the ELBO depends, also those
        of the target.
      jit_compile: compile all steps with XLA.
      seed: non-negative integer or several; step i, from 1, has the noise of (seed, i).
      name: prefix of operations.

    Returns:
      Results of `trace_fn`, stacked over the steps; by default the losses, of shape [num_steps]
      followed by the batch shape of the posterior. As in TFP, the sum over the batch is minimized.

    Raises:
      RebarError: a call within tf.function, variables without a gradient, a control optimizer for
        an estimator that learns nothing, an initial loss that is not finite, or see `loss`.
    """
    from tensorflow_probability import math as tfp_math

    if not tf.executing_eagerly():
        raise RebarError(
            "fit_surrogate_posterior: called within tf.function; call it in eager mode, with "
            "jit_compile=True to compile its steps"
        )
    num_steps = integer(num_steps, "num_steps")
    optimizer = keras.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer
    chosen = built(estimator)
    objective = elbo(target_log_prob_fn, surrogate_posterior)
    inputs = _rows_of_batch(surrogate_posterior)
    batch = joint.sites_of(surrogate_posterior, "surrogate_posterior").batch
    step = tf.Variable(0, trainable=False)

    def negative_elbo():
        """Return the estimate and minus the ELBO, with its gradient and the batch shape."""
        result = estimate(
            objective,
            *inputs,
            estimator=chosen,
            n_samples=sample_size,
            seed=seed,
            step=step.read_value(),
        )
        gradient_only = result.loss - tf.stop_gradient(result.loss)
        return result, tf.reshape(gradient_only - result.value, batch)

    with tf.GradientTape() as tape:
        _, first = negative_elbo()  # creates the learned parts
    if not np.all(np.isfinite(first)):
        raise RebarError(
            "loss: not finite at the initial variables; check parameters, such as probabilities "
            "outside [0, 1], by validate_args=True, and observed values outside the support"
        )
    variables = _trainable(tape, first, trainable_variables)
    learned = chosen.trainable_variables
    if control_optimizer is not None and not learned:
        raise RebarError(
            f"control_optimizer: {type(chosen).__name__} has no learned parts; remove it"
        )
    control = control_optimizer or keras.optimizers.Adam(0.01)
    for trained, by in ((variables, optimizer), (learned, control)):
        if hasattr(by, "build") and trained:
            by.build(trained)

    def loss_fn(seed=None):
        del seed  # `step` takes its place
        step.assign_add(1)
        with tf.GradientTape() as tape:
            result, value = negative_elbo()
        if learned:
            control.apply(tape.gradient(result.control_loss, learned), learned)
        return value

    return tfp_math.minimize(
        loss_fn,
        num_steps=num_steps,
        optimizer=optimizer,
        convergence_criterion=convergence_criterion,
        trainable_variables=variables,
        trace_fn=trace_fn,
        jit_compile=jit_compile,
        name=name,
    )


def _trainable(tape: tf.GradientTape, loss: tf.Tensor, subset: Sequence | None) -> list:
    """Return the variables to train: the subset, or all that have a gradient."""
    if subset is None:
        watched = tape.watched_variables()
        gradients = tape.gradient(loss, watched)
        variables = [v for v, g in zip(watched, gradients, strict=True) if g is not None]
        if not variables:
            raise RebarError(
                "surrogate_posterior: does not depend on variables; compute its parameters from "
                "tf.Variable by tfp.util.TransformedVariable or within a joint distribution"
            )
        return variables
    variables = [v.value if isinstance(v, keras.Variable) else v for v in subset]
    for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
        if g is None:
            raise RebarError(f"trainable_variables: {v.name!r} has no gradient; remove it")
    return variables


def _rows_of_batch(surrogate_posterior: Any) -> tuple:
    """Return an argument without numbers that has one row per member of the batch, if any."""
    sites = joint.sites_of(surrogate_posterior, "surrogate_posterior")
    return (tf.zeros([sites.size, 0]),) if sites.batch.rank else ()
