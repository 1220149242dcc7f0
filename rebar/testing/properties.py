"""Checks without statistics: each returns a detail for the report, or raises `Failure`."""

import functools
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bounds, families, gradients
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, checked_estimate, hard_rollout
from rebar.noise import Noise
from rebar.runs import checkpoint
from rebar.testing.comparison import Comparison
from rebar.testing.problems import LARGE, SMALL, Problem, draw, dtype_policy, images, noise_keys
from rebar.testing.subject import Subject
from rebar.training.learner import Learner
from rebar.types import capability

BATCH = 5


class Failure(Exception):
    """The estimator lacks a property.

    Args:
      message: what was computed, and what was expected.
      comparison: the comparison that shows it, if any.
    """

    def __init__(self, message: str, comparison: Comparison | None = None):
        super().__init__(message)
        self.comparison = comparison


def require(condition: Any, message: str) -> None:
    """Raise `Failure` with a message unless a condition holds."""
    if not condition:
        raise Failure(message)


class Case(NamedTuple):
    """An estimator on a batch."""

    model: Any
    estimator: Estimator
    x: tf.Tensor
    noise: Noise

    def estimate(self):
        """Return the validated estimate."""
        return checked_estimate(self.estimator, self.model, self.x, self.noise)


@functools.lru_cache
def _model(problem, dtype):
    """Return the model of all cases of a problem, in the dtype of Keras' policy."""
    return problem.model()


def make_case(subject, problem, settings, batch=BATCH, least=1, control=SMALL, position=0) -> Case:
    """Return an estimator on a batch, in the dtype of Keras' policy.

    The cases of one problem share a model, whose weights are reset.
    """
    model = _model(problem, keras.config.dtype_policy().name)
    problem.reset(model)
    estimator = subject.set_up(model, control, **settings)
    n_samples = subject.n_samples(estimator, least)
    x = tf.constant(images(batch), model.compute_dtype)
    noise = draw(estimator, model, noise_keys(11, position), n_samples, batch, x.dtype)
    return Case(model, estimator, x, noise)


def largest_difference(a: Any, b: Any) -> float:
    """Return the largest difference of all tensors, relative to the largest magnitude of each."""
    return max(
        (
            np.max(np.abs(np.subtract(x, y)), initial=0) / max(np.max(np.abs(x), initial=0), 1e-3)
            for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
        ),
        default=0.0,
    )


def structure(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> None:
    """Check number, shapes and dtypes of all results, and that `metrics` agrees with them."""
    for dtype in ("float32", "float64"):
        with dtype_policy(dtype):
            case = make_case(subject, problem, settings, least=1 + problem.n_layer % 3)
            model, estimator, x, noise = case
            estimate = case.estimate()
            for owner, values in (
                (model, estimate.gradients),
                *((model, tracked) for tracked in estimate.tracked.values()),
                (estimator, estimate.control_gradients),
            ):
                names = gradients.variable_names(owner.trainable_variables)
                for name, value in zip(names, values, strict=True):
                    require(
                        value.dtype == dtype,
                        f"{name}: gradient of type {value.dtype.name} for a {dtype} model",
                    )
            hard = hard_rollout(model, x, noise)
            count = len(estimate.objective)
            hard_samples = estimator.follows_posterior
            if hard_samples and (estimator.objective == "bound" or count > BATCH):
                same = largest_difference(estimate.objective, hard.objective[:count])
                require(
                    same < 1e-5,
                    "objective: not f at the hard samples of the noise; return rollout.objective",
                )
            reported = estimator.metrics_at(model, x, noise, hard)
            common = [n for n in estimate.metrics if n in reported]
            require(
                common == list(reported),
                f"metrics_at() returned {', '.join(reported) or 'none'}: must be those of "
                f"estimate() in their order, {', '.join(estimate.metrics) or 'none'}",
            )
            for name in common:
                difference = largest_difference(estimate.metrics[name], reported[name])
                require(difference < 1e-4, f"metrics_at(): {name} differs from that of estimate()")
            shared = {id(v) for v in model.variables} & {id(v) for v in estimator.variables}
            require(
                not shared,
                "the estimator owns variables of the model; keep no reference to the model",
            )


def evaluations(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> str:
    """Compare `evaluations` with the number of rows of all rollouts."""
    seen = []
    for least in (1, 2, 3):
        case = make_case(subject, problem, settings, least=least)
        counting = _Counting(case.model)
        checked_estimate(case.estimator, counting, case.x, case.noise)
        made = counting.rows / BATCH
        shapes = families.shapes(case.model)
        claimed = case.estimator.evaluations(shapes, case.noise.n_samples)
        require(
            made == claimed,
            f"evaluations({shapes}, {case.noise.n_samples}) = {claimed:g}, but "
            f"{made:g} rollouts per example were made",
        )
        seen.append(f"{made:g}")
    return f"{', '.join(seen)} evaluations"


class _Counting:
    """A model that counts the rows of its rollouts."""

    def __init__(self, model):
        self._model, self.rows = model, 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def rollout(self, *arguments, **keywords):
        rollout = self._model.rollout(*arguments, **keywords)
        self.rows += int(rollout.objective.shape[0])
        return rollout

    def flipped(self, *arguments):
        method = capability(self._model, "flipped")
        f = method(*arguments) if method else None
        self.rows += 0 if f is None else int(tf.size(f))
        return f


def saturated(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> None:
    """Check that all results and their squares are finite, for large logits and extreme noise."""
    for scale in (40, 1e4):
        case = make_case(subject, problem, settings)
        for v in case.model.trainable_variables:
            v.assign(scale ** (1 / problem.depth) * v)
        rows = case.noise.uniforms[0].shape[0]
        extremes = np.resize([2.0**-24, 1 - 2.0**-24, np.nan, np.nan, np.nan], [rows, 1])
        uniforms = tuple(
            tf.where(np.isnan(extremes), u, extremes.astype(np.float32))
            for u in case.noise.uniforms
        )
        estimate = case._replace(noise=case.noise._replace(uniforms=uniforms)).estimate()
        for field, values in estimate._asdict().items():
            for value in tf.nest.flatten(values):
                require(
                    np.all(np.isfinite(np.square(value))),
                    f"{field}: not finite for logits {scale:g} times as large",
                )


def rows(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> str:
    """Check that the estimate of a batch is the mean of its examples' estimates, noise fixed.

    Then a control variate cannot see other rows, and an estimator that is unbiased for a large
    batch is unbiased for one row. Where an example's additional noise depends on the batch, only
    what changes with one example must not depend on the others.
    """
    with dtype_policy("float64"):
        case = make_case(subject, problem, settings, least=2, control=LARGE)
        batch = _part(case, range(4)).estimate().gradients
        first, second, both = (
            _part(case, examples).estimate().gradients
            for examples in ((4, 1, 2, 3), (0, 0, 2, 3), (4, 0, 2, 3))
        )
        effects = [(a - b, c - d) for a, b, c, d in zip(first, batch, both, second, strict=True)]
        difference = largest_difference(*zip(*effects, strict=True))
        advice = "; declare couples_rows = True if an example's estimate may depend on others"
        require(
            difference < 1e-7,
            f"what an example adds to the gradients differs by {difference:.1e} with another "
            f"example{advice}",
        )
        try:
            case._replace(noise=case.noise._replace(key=None)).estimate()
        except RebarError:
            return "effects of examples add"
        for size in (1, 2):
            parts = [
                _part(case, range(i, i + size)).estimate().gradients for i in range(0, 4, size)
            ]
            mean = [np.mean(values, axis=0) for values in zip(*parts, strict=True)]
            difference = largest_difference(batch, mean)
            require(
                difference < 1e-8,
                f"gradients of 4 examples differ by {difference:.1e} from the mean of those of "
                f"{size}{advice}",
            )
    return "batches of 1, 2 and 4"


def _part(case, examples):
    """Return the case of some examples of the batch, with their noise."""

    def of_examples(u):
        split = bounds.by_sample(u, case.noise.n_samples)
        return tf.reshape(tf.gather(split, list(examples), axis=1), [-1, u.shape[1]])

    uniforms, branches = tf.nest.map_structure(
        of_examples, (case.noise.uniforms, case.noise.branches)
    )
    noise = case.noise._replace(uniforms=uniforms, branches=branches)
    return case._replace(x=tf.gather(case.x, list(examples)), noise=noise)


def compiled(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> str:
    """Compare the estimate as a graph and compiled by XLA with that of eager mode."""
    with dtype_policy("float64"):
        case = make_case(subject, problem, settings, least=2)
        eager = case.estimate()._asdict()
        graph = tf.function(
            lambda x, noise: case.estimator.estimate(case.model, x, noise), autograph=False
        )
        xla = tf.function(graph, jit_compile=True, autograph=False)  # compiles the same trace
        differences = []
        for name, estimate in (("as a graph", graph), ("compiled", xla)):
            result = estimate(case.x, case.noise)._asdict()
            differences.append(largest_difference(eager, result))
            require(
                differences[-1] < 1e-9,
                f"{name}: differs by {differences[-1]:.1e} from eager mode",
            )
    return f"differences up to {max(differences):.0e}"


def generator(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> str:
    """Check what `generator_at_hard` declares about the gradient of p's variables."""
    case = make_case(subject, problem, settings, least=2)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(hard_rollout(case.model, case.x, case.noise).log_joint)
    inference = {id(v) for v in case.model.inference_variables}
    indices = [i for i, v in enumerate(case.model.trainable_variables) if id(v) not in inference]
    expected = tape.gradient(loss, [case.model.trainable_variables[i] for i in indices])
    values = case.estimate().gradients
    difference = largest_difference(expected, [values[i] for i in indices])
    if case.estimator.generator_at_hard:
        require(
            difference < 1e-4,
            "generator_at_hard = True, but the gradient of p's variables is not - mean d log_joint "
            f"at the hard samples: relative difference {difference:.1e}",
        )
    return f"generator_at_hard = {case.estimator.generator_at_hard}"


def restored(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> None:
    """Check that a run restored into another learner continues bit-exact."""

    def learner(control):
        model = problem.model()
        return Learner(model, subject.set_up(model, control, **settings), 0.01)

    def step(learner, position):
        case = make_case(subject, problem, settings, position=position)
        return learner.step(case.x, case.noise)

    first, second = learner(SMALL), learner(0.0)
    for position in (0, 1):
        step(first, position)
    for v in second.named_variables().values():
        v.assign(keras.ops.full_like(v, 3))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(folder, 2, first.named_variables(), {}, {})
        checkpoint.restore(folder, second.named_variables(), {})
    results = [tf.nest.flatten(step(each, 2)) for each in (first, second)]
    states = [each.named_variables() for each in (first, second)]
    same = all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    for name in states[0]:
        same = same and np.array_equal(states[0][name], states[1][name])
    require(
        same,
        "a restored run continues differently: keep everything that a step changes in "
        "weights created by setup()",
    )


def control_gradients(subject: Subject, problem: Problem, settings: Mapping[str, Any]) -> str:
    """Compare them with central differences of `control_objective`."""
    with dtype_policy("float64"):
        case = make_case(subject, problem, settings, least=2)
        variables = case.estimator.trainable_variables
        objective = tf.function(
            lambda: case.estimator.control_objective(case.model, case.x, case.noise),
            autograph=False,
        )
        step, generator = 1e-5, noise_module.generator(0)
        names = gradients.variable_names(variables)
        for name, v, g in zip(names, variables, case.estimate().control_gradients, strict=True):
            start, direction = v.numpy(), generator.normal(size=v.shape)
            values = []
            for sign in (1, -1):
                v.assign(start + sign * step * direction)
                values.append(float(objective()))
            v.assign(start)
            expected, seen = (values[0] - values[1]) / (2 * step), np.sum(g * direction)
            scale = max(abs(expected), 1e-3 * abs(values[0]))
            require(
                abs(seen - expected) <= 1e-4 * scale,
                f"{name}: {seen:.6g} along a direction, but control_objective() changes by "
                f"{expected:.6g}",
            )
    return f"{len(variables)} weights"
