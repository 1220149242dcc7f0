"""`rebar.estimate`."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from rebar import noise, registry
from rebar.core import bounds, gradients, samplers
from rebar.errors import RebarError, did_you_mean, integer
from rebar.estimators.base import Estimator
from rebar.objectives.model import ObjectiveModel
from rebar.objectives.per_site import PerSite
from rebar.plugins import with_plugins

_SITES = "_sites_of_objective"
"""Attribute of an estimator: sites and dtype of the objective for which it was set up."""


class ObjectiveEstimate(NamedTuple):
    """Result of `rebar.estimate`.

    Attributes:
      loss: scalar -mean f, or minus the mean of the multi-sample bound if the estimator follows
        it. Its gradient with respect to any variable is the estimate of the gradient of its mean.
        Use it like an ordinary loss; second derivatives are not available.
      value: [B] mean of f over the samples of each example, or their multi-sample bound; a
        constant for tapes.
      samples: site -> hard samples of the main chain, N rows, sample-major.
      evaluations: evaluations of f per example.
      unbiased: the mean of the gradient of `loss` is that of the mean of f (or of the bound).
      control_loss: scalar, whose gradient trains the estimator's learned parts,
        `estimator.trainable_variables`; only its gradient is meaningful.
      metrics: name -> scalar, of the estimator.
    """

    loss: tf.Tensor
    value: tf.Tensor
    samples: dict[str, tf.Tensor]
    evaluations: float
    unbiased: bool
    control_loss: tf.Tensor
    metrics: Mapping[str, tf.Tensor]


def estimator(name: str, **options: Any) -> Estimator:
    """Return a new estimator by its label, such as "DisARM", or the name of a model.

    Args:
      name: e.g. "LOO", "NVIL", "DynamicREBAR", "SBNDisARM" or "CatReinMax".
      **options: arguments of its class, e.g. temperature=0.5, and of a Keras layer, e.g. dtype.

    Raises:
      RebarError: an unknown name or option.
    """
    model = with_plugins(lambda: _model_of(name))
    if "n_samples" in options:
        raise RebarError(
            f"rebar.estimator({name!r}): n_samples is no option of an estimator; pass it to "
            "rebar.estimate or to compile, as sample_size to fit_surrogate_posterior"
        )
    try:
        return registry.target(model)(**{"dtype": "float32", **options})
    except RebarError:
        raise
    except (TypeError, ValueError) as error:
        fixed = re.search("multiple values for argument '(.*)'", str(error))
        problem = (
            f"{fixed[1]} is fixed in {name}; remove it" if fixed else f"invalid option; {error}"
        )
        raise RebarError(f"rebar.estimator({name!r}): {problem}") from error


def _model_of(name):
    """Return the name of a model from that of an estimator."""
    targets = {
        label: n for latents in registry.LATENTS for label, n in registry.labels(latents).items()
    }
    names = [n for n in registry.names() if not registry.entry(n).tracks]
    choices = targets | {n: n for n in names}
    if name not in choices:
        raise RebarError(
            f"unknown estimator {name!r}{did_you_mean(str(name), choices)}; available: "
            f"{', '.join(targets)}"
        )
    return choices[name]


def estimate(
    objective: Callable[..., tf.Tensor],
    *args: Any,
    estimator: str | Estimator | Mapping[str, str | Estimator] = "REINFORCE",
    n_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    step: Any = None,
    baseline: Any = None,
) -> ObjectiveEstimate:
    """Estimate the gradient of -mean f for an objective with discrete sample sites.

    Works in eager mode, in tf.function, under XLA and with unknown batch sizes, and must be called
    inside the tape. f is called once per rollout with all rows; each value must depend on its own
    row alone. Randomness inside f must come from `sample`.

    Args:
      objective: f(sample, *args) -> [N]; see `Sample`.
      *args: arguments of f. Arrays and tensors have one row per example, and are repeated for
        several samples per example; variables, numbers and other objects are passed unchanged.
      estimator: an instance, e.g. rebar.estimator("DynamicREBAR"), whose learned parts persist from
        call to call; or the name of one without learned parts; or site -> instance or name, e.g.
        {"b": "DisARM", "c": "LOO"}, see `PerSite`.
      n_samples: samples per example.
      seed, step: numbers that determine the noise. The step, an integer or an integer tensor, must
        change from call to call.
      baseline: Keras layer (*args) -> [B] as the baseline of NVIL, MuProp and REBAR, unused by
        others; by default a network of the arguments.

    Raises:
      RebarError: an unknown or unsuitable estimator, missing seed or step, sites that differ
        between calls, or a result whose shape is not [N].
    """
    return observed_estimate(
        convertible(objective, args), args, estimator, n_samples, seed, step, baseline
    )


def convertible(objective: Callable, args: tuple, always: bool = False) -> Callable:
    """Return a function of a sample and arguments that AutoGraph converts.

    It does so always, or where it converts the caller.
    """
    if hasattr(objective, "get_concrete_function"):
        raise RebarError("objective: is a tf.function; pass the Python function that it wraps")
    signature = inspect.signature(objective)
    try:
        signature.bind(None, *args)
    except TypeError as error:
        raise RebarError(
            f"objective{signature} with {len(args)} arguments after the first, sample: {error}; "
            "pass one array per parameter"
        ) from error
    context = tf.__internal__.autograph.control_status_ctx()
    if not always and context.status.name != "ENABLED":
        return objective
    return tf.__internal__.autograph.tf_convert(objective, context)


@tf.autograph.experimental.do_not_convert
def observed_estimate(
    objective: Callable[..., tf.Tensor],
    args: tuple,
    estimator: Any,
    n_samples: int,
    seed: Any,
    step: Any,
    baseline: Any = None,
    observe: Callable[[str, tf.Tensor], None] | None = None,
) -> ObjectiveEstimate:
    """Return the estimate; AutoGraph converts the objective alone.

    observe(name, logits [N, ...]) is called at each discrete site of each rollout.
    """
    draws = _draws(seed, step, n_samples)
    n_samples = draws.n_samples
    model = ObjectiveModel(objective, noise.further_key(draws, 2), args, baseline, observe)
    chosen = _set_up(estimator, model, draws)
    result = chosen.estimate(model, args, draws)
    if not model.samples:
        raise RebarError(
            "the objective has no sample site: its gradient is that of an ordinary loss; draw its "
            "latent variables by sample.bernoulli or sample.categorical"
        )
    (loss,) = result.gradients
    f = bounds.split_samples(result.objective, n_samples // chosen.samples_per_chain)
    follows_bound = chosen.objective == "bound"
    value = bounds.multi_sample(f) if follows_bound else tf.reduce_mean(f, axis=0)
    value = tf.stop_gradient(value)
    variables = [tf.convert_to_tensor(v) for v in chosen.trainable_variables]
    return ObjectiveEstimate(
        loss - tf.reduce_mean(value),
        value,
        model.samples,
        model.passes,
        chosen.unbiased,
        gradients.loss_of(variables, list(result.control_gradients)),
        result.metrics,
    )


@tf.autograph.experimental.do_not_convert
def values(
    objective: Callable[..., tf.Tensor],
    *args: Any,
    n_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    step: Any = None,
) -> tf.Tensor:
    """Return f at hard samples, [n_samples, B], whose noise differs from that of `estimate`.

    Args and errors are those of `estimate`.
    """
    draws = _draws(seed, step, n_samples, "evaluate")
    model = ObjectiveModel(objective, noise.further_key(draws, 2), args)
    rollout = model.rollout(args, samplers.hard(draws), draws.n_samples)
    return bounds.split_samples(rollout.objective, draws.n_samples)


def prepare(
    objective: Callable[..., tf.Tensor], *args: Any, estimator: Estimator, n_samples: int = 1
) -> None:
    """Create the learned parts of an estimator for an objective, before its first estimate.

    Args and errors are those of `estimate`.
    """
    draws = _draws(0, 0, n_samples)
    _set_up(estimator, ObjectiveModel(objective, noise.further_key(draws, 2), args), draws)


def _draws(seed, step, n_samples, stream="latents") -> noise.Noise:
    if seed is None or step is None:
        raise RebarError(
            "seed and step: missing; pass seed=0, step=i, where i changes from call to call"
        )
    return noise.of_sites(seed, step, integer(n_samples, "n_samples"), stream)


def _set_up(given: Any, model: ObjectiveModel, draws: noise.Noise) -> Estimator:
    """Return the estimator, set up for the sites of the objective."""
    chosen = built(given)
    model.serve(chosen)
    members = chosen.distinct if isinstance(chosen, PerSite) else [chosen]
    fresh = [member for member in members if not hasattr(member, _SITES)]
    if any(m.relaxes or type(m).setup is not Estimator.setup for m in fresh):
        for member in fresh:
            if member.trainable_variables:
                raise RebarError(f"{member.name}: set up for another model; create another one")
        model.prepare(chosen, draws)
        for member in fresh:
            member.setup(model, noise.initializer_seed(0, "objective"))
            if member.trainable_variables or type(member).setup is Estimator.setup:
                setattr(member, _SITES, (model.layers, model.compute_dtype))
    named = given.values() if isinstance(given, Mapping) else [given]
    for member in members:
        if not member.trainable_variables:
            continue
        model.layers, dtype = getattr(member, _SITES)
        label = next((n for n in named if isinstance(n, str) and _is_named(member, n)), None)
        if label is not None:
            raise RebarError(
                f"estimator={label!r}: has learned parts, which must persist; create "
                f"rebar.estimator({label!r}) once, pass it in every call, and minimize control_loss"
            )
        if member.compute_dtype != dtype:
            raise RebarError(
                f"{type(member).__name__} of type {member.compute_dtype}: must be that of the "
                f"logits; use rebar.estimator(..., dtype={dtype!r})"
            )
    return chosen


def _is_named(member: Estimator, name: str) -> bool:
    return type(member) is type(estimator(name))


def built(given: Any, **options: Any) -> Estimator:
    """Return the estimator of a name, an instance, or a mapping from sites to either.

    Args:
      given: see `estimate`.
      **options: options for those given by name, e.g. dtype.

    Raises:
      RebarError: an unknown name, or something else.
    """
    if isinstance(given, Mapping):
        if not given:
            raise RebarError("estimator={}: must have an estimator per site, e.g. {'b': 'LOO'}")
        return PerSite({site: built(member, **options) for site, member in given.items()})
    if isinstance(given, str):
        return estimator(given, **options)
    if not isinstance(given, Estimator):
        raise RebarError(
            f"estimator={given!r}: must be a name or an instance; pass e.g. 'DisARM' or "
            "rebar.estimator('DynamicREBAR')"
        )
    return given
