"""An objective as a model."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import families, gradients, samplers
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, InputBaseline
from rebar.noise import Noise
from rebar.objectives.sample import LOW_PRECISION, Sample, Site
from rebar.types import Rollout, Sampler


class ObjectiveModel:
    """An objective as a model of estimators, see `rebar.types.Model`; its input is the arguments.

    Args:
      objective: f(sample, *args) -> [N].
      key: [2], key of reparameterized sites.
      arguments: arguments of the objective.
      baseline: Keras layer or model (*args) -> [B], or None.
      observe: function of a site's name and its logits, called at each site of each rollout.

    Attributes:
      layers: discrete sites in the order of their calls; () before the first one.
      passes: evaluations of f per example until now.
    """

    input_mean = None
    omits_scores = True
    trainable_variables = inference_variables = gradients.EVERYTHING

    def __init__(
        self,
        objective: Callable,
        key: tf.Tensor,
        arguments: tuple = (),
        baseline: Any = None,
        observe: Callable[[str, tf.Tensor], None] | None = None,
    ):
        self._objective, self._key = objective, key
        self._arguments, self._baseline, self._observe = arguments, baseline, observe
        self.layers: tuple[Site, ...] | None = None
        self._first: Sample | None = None
        self._estimators: Mapping[str, Estimator] | Estimator | None = None
        self._through: dict[str, Estimator] = {}
        self.compute_dtype = "float32"
        self.passes = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the discrete sites."""
        return tuple(site.name for site in self.layers or ())

    @property
    def latent_shapes(self) -> tuple:
        """Shapes of a row of each discrete site."""
        return tuple(site.shape for site in self.layers or ())

    @property
    def n_units(self) -> tuple[int, ...]:
        """Numbers of logits per row of each discrete site."""
        return tuple(map(math.prod, self.latent_shapes))

    @property
    def continuous(self) -> bool:
        """True if there are continuous sites; False before the first rollout."""
        return len(self.samples) > len(self.layers or ())

    def encode(self, x: tuple) -> None:
        """Return None: nothing is known to depend on the arguments alone."""

    def rollout(
        self, x: tuple, sampler: Sampler, n_samples: int = 1, encoded: Any = None
    ) -> Rollout:
        """Call the objective once, with all samples of all examples as rows."""
        x, rows = _repeated(x, n_samples)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            sample = Sample(
                sampler,
                *(rows, self._key, tape, self._through),
                observe=self._observe,
                temperature=self._temperature,
            )
            f = _checked(self._objective(sample, *x), rows, sample)
        self._check_sites(sample)
        self.passes += n_samples
        self._first = self._first or sample
        log_joint = f
        if sample.handles:
            slopes = tape.gradient(f, sample.handles, unconnected_gradients="zero")
            terms = zip(slopes, sample.log_q_of_sites, strict=True)
            log_joint -= tf.add_n([_mean_of_others(slope) * log_q for slope, log_q in terms])
        return Rollout(
            f,
            log_joint,
            tuple(sample.log_q_of_sites),
            tuple(sample.logits),
            tuple(sample.samples),
        )

    @property
    def samples(self) -> dict[str, tf.Tensor]:
        """Site -> samples of the first rollout, shaped as the objective gets them."""
        return dict(self._first.shaped) if self._first else {}

    def serve(self, estimator: Estimator) -> None:
        """Name the estimator whose rollouts follow; one per site for `PerSite`."""
        self._estimators = getattr(estimator, "sites", estimator)
        if isinstance(self._estimators, Mapping):
            self._through = {n: e for n, e in self._estimators.items() if e.through}

    def prepare(self, estimator: Estimator, draws: Noise) -> None:
        """Call the objective once to find the sites, before `setup` of an estimator.

        Args:
          estimator: see `Estimator`.
          draws: noise of the estimate.

        Raises:
          RebarError: the sites are of an unsupported family, or the estimator relaxes a site and f
            has no derivative with respect to its samples.
        """
        other = ObjectiveModel(self._objective, self._key, self._arguments)
        other.serve(estimator)
        draws = draws._replace(uniforms=draws.uniforms.undrawn())
        if not estimator.relaxes:
            other.rollout(self._arguments, samplers.hard(draws), draws.n_samples)
        else:
            other._differentiate(draws)
        self.layers, self.compute_dtype = other.layers, other.compute_dtype

    def _differentiate(self, draws):
        """Raise RebarError unless f has a derivative with respect to relaxed samples of all sites.

        log q of later sites does not count: it hides an argmax in the objective.
        """
        args, rows = _repeated(self._arguments, draws.n_samples)
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:

            def relaxed(layer, logits):
                z = families.noise_at(draws, layer, logits)
                sample = families.of(logits).relaxed_sample(logits, z, 0.5, True)
                tape.watch(sample)
                return sample

            sample = Sample(relaxed, rows, self._key, tape, self._through, True)
            f = _checked(self._objective(sample, *args), rows, sample)
        self._check_sites(sample)
        derivatives = tape.gradient(f, sample.samples)
        relaxes = False
        for site, derivative in zip(sample.sites, derivatives, strict=True):
            estimator = self._estimator_of(site.name)
            relaxes = relaxes or estimator.relaxes
            if relaxes and derivative is None:
                raise RebarError(
                    f"site {site.name!r}: f has no derivative with respect to its samples, which "
                    f"{type(estimator).__name__} needs; use differentiable operations instead of "
                    "argmax, casts to integers, NumPy or sampling, or an estimator of values only: "
                    "REINFORCE, LOO, NVIL, or DisARM for Bernoulli sites"
                )

    def baseline(self, seed: int, name: str) -> keras.layers.Layer:
        """Return the user's baseline, or a network of the arguments."""
        if self._baseline is not None:
            self._baseline(*self._arguments)  # creates the weights of an unbuilt one
            return _Baseline(self._baseline, name, dtype=self.compute_dtype)
        return ArgumentsBaseline(self._arguments, seed, name, dtype=self.compute_dtype)

    def _check_sites(self, sample):
        """Check families, and compare the sites with those of earlier rollouts."""
        sites = tuple(sample.sites)
        if sample.logits:
            self.compute_dtype = sample.logits[0].dtype.name
        for name in self._estimators if isinstance(self._estimators, Mapping) else ():
            if name not in sample.names:
                raise RebarError(
                    f"estimator of site {name!r}: unknown; the sites are {', '.join(sample.names)}"
                )
        for name in sample.integers:
            estimator = self._estimator_of(name)
            if estimator is not None and (estimator.relaxes or estimator.through):
                raise RebarError(
                    f"site {name!r}: integers of a Categorical cannot be relaxed, which "
                    f"{type(estimator).__name__} needs; use tfd.OneHotCategorical, or an estimator "
                    "of hard samples such as LOO"
                )
        for site in sites:
            estimator = self._estimator_of(site.name)
            if estimator is not None and site.family not in estimator.families:
                raise RebarError(
                    f"site {site.name!r}: {type(estimator).__name__} does not support "
                    f"{site.family} sites; use e.g. LOO"
                )
        if self.layers is None:
            self.layers = sites
        elif sites != self.layers:
            before, now = (
                ", ".join(f"{s.name} {s.shape}" for s in part) or "none"
                for part in (self.layers, sites)
            )
            raise RebarError(
                f"sites of the objective: {now}, but in an earlier call {before}; sample the same "
                "sites in the same order at every call"
            )

    def _temperature(self, name):
        """Return `Estimator.posterior_temperature` of a site."""
        estimators = self._estimators
        of_site = estimators.get(name) if isinstance(estimators, Mapping) else estimators
        return getattr(of_site, "posterior_temperature", 1.0)

    def _estimator_of(self, name):
        """Return the estimator of a site."""
        if not isinstance(self._estimators, Mapping):
            return self._estimators
        if name not in self._estimators:
            raise RebarError(
                f"site {name!r}: has no estimator; add it, e.g. estimator={{..., {name!r}: 'LOO'}}"
            )
        return self._estimators[name]


def _mean_of_others(slopes):
    """Mean of the other rows' d f / d log q, [N], a constant; 0 for a single row.

    Subtracting its product with log q from f drops a derivative of mean zero, since the slope does
    not depend on the row's own samples. If all slopes are equal, as in the ELBO, it is all of it.
    """
    others = tf.cast(tf.maximum(tf.shape(slopes)[0] - 1, 1), slopes.dtype)
    return tf.stop_gradient((tf.reduce_sum(slopes) - slopes) / others)


def _repeated(args, n_samples):
    """Arguments with n_samples rows per example, and the number of rows."""
    leaves = [a for a in tf.nest.flatten(args) if _has_rows(a)]
    sizes = {leaf.shape[0] for leaf in leaves} - {None}
    if len(sizes) > 1:
        raise RebarError(
            f"arguments of the objective with {', '.join(map(str, sorted(sizes)))} rows: must have "
            "one row per example; pass others by a closure"
        )
    batch = (sizes or {None}).pop()
    if not leaves:
        batch = 1
    elif batch is None:
        batch = tf.shape(leaves[0])[0]

    def repeat(a):
        if not _has_rows(a):
            return a
        a = tf.convert_to_tensor(a)
        return a if n_samples == 1 else tf.tile(a, [n_samples, *[1] * (a.shape.rank - 1)])

    return tf.nest.map_structure(repeat, args), batch * n_samples


def _has_rows(value):
    """Return whether a value is an array or tensor; variables and numbers have no rows."""
    if isinstance(value, keras.Variable):
        return False
    array = tf.is_tensor(value) and not isinstance(value, tf.Variable)
    return (array or isinstance(value, np.ndarray)) and tf.TensorShape(value.shape).rank != 0


def _checked(f, rows, sample):
    """Return f as [N] in the dtype of the logits; RebarError for another shape."""
    if f is None or isinstance(f, tuple | dict):
        shape, result = None, "None" if f is None else f"a {type(f).__name__}"
    else:
        shape = tf.convert_to_tensor(f).shape
        result = f"shape {shape}"
    static = rows if isinstance(rows, int) else None
    if shape is None or shape.rank != 1 or not shape.is_compatible_with([static]):
        raise RebarError(
            f"the objective returned {result}: must be one value per row, shape "
            f"[{static or 'N'}]; sum over other axes, remove one of length 1 with "
            "tf.squeeze(..., axis=-1), or set an unknown shape with tf.ensure_shape(..., [None])"
        )
    f = tf.convert_to_tensor(f)
    dtype = sample.logits[0].dtype if sample.logits else f.dtype
    return tf.cast(f, tf.float32 if dtype.name in LOW_PRECISION else dtype)


class _Baseline(keras.layers.Layer):
    """A user's baseline (*args) -> [B] as one of estimators, (args, n_samples) -> [N]."""

    def __init__(self, baseline, name, **kwargs):
        super().__init__(name=name, **kwargs)
        self.inner = baseline
        self.built = True

    def call(self, x: tuple, n_samples: int = 1) -> tf.Tensor:
        values = tf.cast(self.inner(*x), self.compute_dtype)
        if values.shape.rank == 2 and values.shape[1] == 1:
            values = values[:, 0]
        gradients.require_rank(values, 1, "the baseline's result")
        return tf.tile(values, [n_samples])


class ArgumentsBaseline(keras.layers.Layer):
    """Baseline of an objective's arguments: an `InputBaseline` of all numbers of a row.

    Without numbers it is one learned constant.

    Args:
      arguments: arguments of the objective.
      seed: seed of the initial weights.
    """

    def __init__(self, arguments: tuple, seed: int, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        widths = [math.prod(a.shape[1:]) for a in _inputs(arguments)]
        self.network = None
        if sum(widths):
            mean = np.zeros([sum(widths)], self.compute_dtype)
            self.network = InputBaseline(mean, seed, name=name, dtype=self.dtype_policy)
        else:
            self.constant = self.add_weight(shape=(1,), initializer="zeros", name="constant")
        self.built = True

    def __call__(self, x: tuple, n_samples: int = 1) -> tf.Tensor:
        return super().__call__(_inputs(x), n_samples=n_samples)  # Keras takes tensors alone

    def call(self, x: list, n_samples: int = 1) -> tf.Tensor:
        if self.network is None:
            rows = n_samples * tf.shape(x[0])[0] if x else n_samples
            return tf.repeat(tf.convert_to_tensor(self.constant), rows)
        rows = [tf.cast(tf.reshape(a, [-1, math.prod(a.shape[1:])]), self.compute_dtype) for a in x]
        return self.network(tf.concat(rows, axis=1), n_samples=n_samples)


def _inputs(arguments: Sequence) -> list:
    """Arguments with rows of numbers of static shape."""
    return [
        a
        for a in tf.nest.flatten(arguments)
        if _has_rows(a) and None not in a.shape[1:] and tf.as_dtype(a.dtype) != tf.string
    ]
