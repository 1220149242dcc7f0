"""An objective and its variables as a model that is trained by name: `network=...` in --hparams."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar import noise
from rebar.core import families, samplers
from rebar.core.gradients import variable_name
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.objectives.estimate import convertible
from rebar.objectives.model import ObjectiveModel
from rebar.types import Model, Rollout, Sampler

_PROTOCOL = (
    *("rollout", "encode", "posterior_logits", "n_units", "compute_dtype"),
    *("trainable_variables", "inference_variables", "input_mean"),
)


class ObjectiveNetwork(ObjectiveModel):
    """An objective f(sample, x) with its variables, see `rebar.types.Model`.

    The objective is called once at the mean of the training images, which creates the weights of
    unbuilt layers.

    Args:
      objective: f(sample, x) -> [N]; x is [N, D].
      parts: variables, layers and models that it uses.
      input_mean: [D].
      source: object with the objective, which may have the methods `sample` and `reconstruct` of
        `rebar.models`, for pictures.

    Attributes:
      source: the argument; by default the objective.

    Raises:
      RebarError: no discrete site, a variable that is not in `parts`, or see `rebar.estimate`.
    """

    baseline = None
    sites = ()  # the weights are the parameters, as for other models

    def __init__(self, objective: Callable, parts: Sequence, input_mean: Any, source: Any = None):
        policy = keras.config.dtype_policy().compute_dtype
        mean = tf.constant(input_mean, policy)
        key = tf.constant(noise.key(0, "further"))
        super().__init__(convertible(objective, (mean,), always=True), key, (mean[tf.newaxis],))
        self.source = objective if source is None else source
        self.objective_name = f"objective of {_name(self.source)}"
        draws = noise.of_sites(0, 0)
        with tf.GradientTape(persistent=True) as tape:
            logits = self.rollout(mean[tf.newaxis], samplers.hard(draws)).logits
        if not self.layers:
            raise RebarError("the objective has no sample site; draw latents by sample.bernoulli")
        self.input_mean = tf.cast(mean, self.compute_dtype)
        self.trainable_variables = _variables(parts, "trainable_variables")
        self.variables = _variables(parts, "variables")
        _require_listed(tape.watched_variables(), self.variables)
        slopes = tape.gradient(logits, self.trainable_variables)
        pairs = zip(self.trainable_variables, slopes, strict=True)
        self.inference_variables = [v for v, slope in pairs if slope is not None]
        for name in ("sample", "reconstruct"):
            if method := getattr(source, name, None):
                setattr(self, name, method)

    def rollout(
        self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1, encoded: Any = None
    ) -> Rollout:
        """Call the objective once, with all samples of all images x [B, D] as rows."""
        return super().rollout((x,), sampler, n_samples)

    def with_noise(self, draws: noise.Noise) -> "ObjectiveNetwork":
        """Return this model with the noise of continuous sites; it shares all variables."""
        model = copy.copy(self)
        if self.continuous:
            model._key = noise.further_key(draws, 2)
        return model

    def posterior_logits(self, x: tf.Tensor, samples: tuple, n_samples: int = 1) -> tuple:
        """Return L x [N, ...] logits of the sites along samples; graphs omit all else."""
        return self.rollout(x, samplers.fixed(samples), n_samples).logits

    def check(self, estimator: Estimator) -> None:
        """Raise RebarError if the estimator cannot be used, see `ObjectiveModel.prepare`."""
        for member in estimator.members().values():
            self.prepare(member, noise.of_sites(0, 0))


def network(name: str, result: Any, input_mean: Any) -> Model:
    """Return the model of a factory's result; see `rebar.register_model`.

    Raises:
      RebarError: a result of an unsupported type, an incomplete one, or see `ObjectiveNetwork`.
    """
    try:
        if hasattr(result, "rollout"):
            return _complete(result)
        if callable(getattr(result, "objective", None)):
            return ObjectiveNetwork(result.objective, [result], input_mean, result)
        if isinstance(result, tuple) and len(result) == 2 and callable(result[0]):
            return ObjectiveNetwork(*result, input_mean)
        raise RebarError(
            f"its factory returned {type(result).__name__}; return a model with rollout(), an "
            "object with objective(sample, x) and trainable_variables, or (objective, [variables])"
        )
    except RebarError as error:
        raise RebarError(f"network={name}: {error}") from error


def _complete(model):
    """Return a model; RebarError if it lacks a part of the protocol."""
    missing = [name for name in _PROTOCOL if not hasattr(model, name)]
    if missing:
        raise RebarError(
            f"{type(model).__name__} has no {', '.join(missing)}; add it, see rebar.types.Model"
        )
    if "encoded" not in inspect.signature(model.rollout).parameters:
        raise RebarError(f"rollout of {type(model).__name__} has no argument encoded=None; add it")
    return model


def check_estimator(name: str, model: Model, estimator: Estimator) -> None:
    """Raise RebarError if the estimator does not support the layers of a model."""
    try:
        if isinstance(model, ObjectiveNetwork):
            model.check(estimator)
    except RebarError as error:
        raise RebarError(f"network={name}: {error}") from error
    for member in estimator.members().values():
        if missing := families.kinds(model).difference(member.families):
            raise RebarError(
                f"network={name}: {type(member).__name__} does not support {min(missing)} layers; "
                "choose e.g. model=SBNReinforceLOO"
            )


def _name(source):
    return getattr(source, "__name__", type(source).__name__)


def _variables(parts, kind):
    """Return the variables of layers, models and single variables, without repetition."""
    if not isinstance(parts, list | tuple):
        raise RebarError("the second item must be a list of variables, layers and models")
    variables: dict[int, Any] = {}
    for part in parts:
        one = isinstance(part, tf.Variable | keras.Variable)
        if not one and not hasattr(part, "trainable_variables"):
            raise RebarError(f"{part!r}: must be a variable or have trainable_variables")
        if one:
            of_part = [part] if part.trainable or kind == "variables" else []
        else:
            of_part = getattr(part, kind, part.trainable_variables)
        variables |= {id(v): v for v in of_part}
    if not variables and kind == "trainable_variables":
        raise RebarError("it has no trainable variables; pass those that the objective uses")
    return list(variables.values())


def _require_listed(watched, variables):
    """Raise RebarError for a variable that the objective uses and that would not be trained."""
    listed = {id(v.value if isinstance(v, keras.Variable) else v) for v in variables}
    if others := [variable_name(v) for v in watched if id(v) not in listed]:
        raise RebarError(
            f"the objective uses {', '.join(others)}: not among the variables of the model; add "
            "them, or the layers that have them"
        )
