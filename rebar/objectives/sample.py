"""Sample sites of an objective."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from rebar import noise
from rebar.core import families
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.types import Sampler

LOW_PRECISION = ("float16", "bfloat16")
"""Types of logits that are converted to float32 for samples and log q."""


class Site(NamedTuple):
    """A discrete sample site.

    Attributes:
      name: its name.
      shape: shape of a row of its logits, (H,) or (V, C).
    """

    name: str
    shape: tuple[int, ...]

    @property
    def family(self) -> str:
        """ "bernoulli" or "categorical"."""
        return "bernoulli" if len(self.shape) == 1 else "categorical"


class Sample:
    """Sampling operations of an objective, its first argument.

    Logits have N rows, the rows of the objective's arguments times the samples per example; a first
    axis of length 1 is repeated for all rows.
    """

    def __init__(
        self,
        sampler: Sampler,
        rows: Any,
        key: tf.Tensor,
        tape: tf.GradientTape,
        through: Mapping[str, Estimator],
        constant_log_q: bool = False,
        observe: Callable[[str, tf.Tensor], None] | None = None,
        temperature: Callable[[str], float] = lambda name: 1.0,
    ):
        self._through, self._observe, self._temperature = through, observe, temperature
        self._constant_log_q = constant_log_q
        self._sampler, self.rows, self._key, self._tape = sampler, rows, key, tape
        self._log_q_terms: list[tf.Tensor] = []
        self.sites: list[Site] = []
        self.names: list[str] = []
        self.logits: list[tf.Tensor] = []
        self.samples: list[tf.Tensor] = []
        self.log_q_of_sites: list[tf.Tensor] = []
        self.handles: list[tf.Tensor] = []
        self.shaped: dict[str, tf.Tensor] = {}
        self.integers: list[str] = []
        self._graph = _current_graph()

    def bernoulli(self, name: str, logits: Any) -> tf.Tensor:
        """Sample Bernoulli units: logits [N, ...] -> samples of the same shape and dtype.

        Args:
          name: name of the site.
          logits: log odds.
        """
        logits = self._rows_of(name, logits)
        width = _size(name, logits.shape[1:])
        return self._site(name, logits, (width,))

    def categorical(self, name: str, logits: Any) -> tf.Tensor:
        """Sample categorical variables: logits [N, ..., C] -> one-hot samples of the same shape.

        Args:
          name: name of the site.
          logits: unnormalized log probabilities; the last axis is the C >= 2 categories.
        """
        logits = self._rows_of(name, logits)
        if logits.shape.rank < 2 or (logits.shape[-1] or 0) < 2:
            raise RebarError(
                f"site {name!r}: categorical logits of shape {logits.shape}: must be [N, ..., C] "
                "with C >= 2 categories"
            )
        return self._site(name, logits, (_size(name, logits.shape[1:-1]), logits.shape[-1]))

    def __call__(self, name: str, distribution: Any) -> tf.Tensor:
        """Sample a distribution of TensorFlow Probability: [N, ...].

        Bernoulli, OneHotCategorical and Categorical, also Independent ones, are discrete sites.
        Their samples have the floating type of the logits instead of `distribution.dtype`, since
        some estimators relax them; those of Categorical are integers, which cannot be relaxed. All
        other distributions must be reparameterized: gradients flow through their samples. Their
        numbers for one seed differ between XLA and other modes.

        Args:
          name: name of the site.
          distribution: its batch shape is [N, ...], or [1, ...] or [] for parameters that all rows
            share; each row gets a separate sample.

        Raises:
          RebarError: an unsupported distribution, or a batch shape with another number of rows.
        """
        if hasattr(distribution, "experimental_pin"):
            raise RebarError(
                f"site {name!r}: {type(distribution).__name__} has several sites; pass it to "
                "rebar.tfp.loss, or sample its parts"
            )
        batch = distribution.batch_shape
        rows = self.rows if isinstance(self.rows, int) else None
        shared = batch.rank == 0 or (batch[0] == 1 and rows != 1)
        if not shared and rows is not None and batch[0] not in (None, rows):
            raise RebarError(
                f"site {name!r}: {type(distribution).__name__} of batch shape {batch}: must have "
                f"{rows} rows, 1 or none; repeat its parameters, or wrap it in tfd.Independent if "
                "these axes are part of one sample"
            )
        return self.draw(name, distribution, min(batch.rank, 1), self.rows if shared else None)

    def draw(self, name: str, distribution: Any, batch_ndims: int, repeats: Any = None) -> Any:
        """Sample a distribution whose rows are several axes: [N, ...].

        Args:
          name: name of the site.
          distribution: distribution of TensorFlow Probability.
          batch_ndims: number of its batch axes that are rows, the first ones.
          repeats: size of an axis of samples in front of them, or None.
        """
        axes = batch_ndims + (repeats is not None)
        kind, logits = kind_and_logits(distribution)
        if logits is not None:
            if repeats is not None:
                logits = tf.repeat(logits[tf.newaxis], repeats, axis=0)
            if kind == "Bernoulli":
                return self.bernoulli(name, _merged(logits, axes))
            one_hot = self.categorical(name, _merged(logits, axes))
            if kind == "Categorical":
                self.integers.append(name)
                self.shaped[name] = tf.cast(tf.argmax(one_hot, -1), distribution.dtype)
            return self.shaped[name]
        if "FULLY" not in repr(getattr(distribution, "reparameterization_type", None)):
            raise RebarError(
                f"site {name!r}: {kind} is not reparameterized; use a reparameterized "
                "distribution, or Bernoulli, Categorical or OneHotCategorical"
            )
        self._add_name(name)
        value = distribution.sample(() if repeats is None else repeats, seed=self._site_key())
        log_q = _merged(distribution.log_prob(value), axes)
        self._log_q_terms.append(families.row_sum(log_q) if log_q.shape.rank > 1 else log_q)
        self.shaped[name] = _merged(value, axes)
        return self.shaped[name]

    @property
    def log_q(self) -> tf.Tensor:
        """log q of all sites sampled so far, [N] in nats.

        The derivative of a discrete site's log q with respect to its own logits has mean zero at
        hard samples. It is left out of the gradient where it has the same factor in all rows, as
        in f = log p - log q; the path through relaxed samples is kept.
        """
        if not self._log_q_terms:
            raise RebarError("sample.log_q: no site has been sampled; call it after the sites")
        types = sorted({term.dtype.name for term in self._log_q_terms})
        if len(types) > 1:
            raise RebarError(
                f"sample.log_q: has terms of types {' and '.join(types)}; use one type for the "
                "parameters of all sites"
            )
        return tf.add_n(self._log_q_terms)

    def _site(self, name, logits, shape):
        """Sample a discrete site in its canonical shape, and return samples like the logits."""
        self._add_name(name)
        dtype = logits.dtype
        rows = tf.reshape(logits, [-1, *shape])
        if dtype.name in LOW_PRECISION:
            rows = tf.cast(rows, tf.float32)
        if (temperature := self._temperature(name)) != 1:
            rows /= temperature
        if self._observe is not None:
            self._observe(name, rows)
        if name in self._through:
            return self._through_site(name, rows, logits)
        sample = self._sampler(len(self.sites), rows)
        # A sample with a surrogate gradient is hard: log q is constant with respect to its logits.
        surrogate = getattr(self._sampler, "surrogate", False)
        log_q = families.of(rows).log_prob(sample, tf.stop_gradient(rows) if surrogate else rows)
        self.sites.append(Site(name, shape))
        self.logits.append(rows)
        self.samples.append(sample)
        self.log_q_of_sites.append(log_q)
        handle = tf.stop_gradient(log_q) if self._constant_log_q else tf.identity(log_q)
        self._tape.watch(handle)
        self.handles.append(handle)
        self._log_q_terms.append(handle)
        return self._shaped(name, sample, logits)

    def _through_site(self, name, rows, logits):
        """Sample a site through whose samples gradients flow, so that it is not a layer."""
        estimator = self._through[name]
        sample = estimator.sample_through(rows, self._site_key())
        constant = not estimator.relaxes  # hard samples
        log_q = families.of(rows).log_prob(sample, tf.stop_gradient(rows) if constant else rows)
        self._log_q_terms.append(log_q)
        return self._shaped(name, sample, logits)

    def _shaped(self, name, sample, logits):
        """Return samples in shape and dtype of the user's logits."""
        shaped = tf.reshape(tf.cast(sample, logits.dtype), tf.shape(logits))
        self.shaped[name] = tf.ensure_shape(shaped, logits.shape)
        return self.shaped[name]

    def _site_key(self):
        """Key of the latest site's noise, for sites that are not layers."""
        return noise.of_replica(noise.fold_in(self._key, len(self.names)))

    def _add_name(self, name):
        if not isinstance(name, str):
            raise RebarError(f"site {name!r}: its name must be a string, e.g. 'b'")
        if name in self.names:
            raise RebarError(f"site {name!r}: sampled twice; give each site another name")
        if _current_graph() is not self._graph:
            raise RebarError(
                f"site {name!r}: sampled within tf.cond, tf.while_loop or another graph; sample "
                "it outside, and write loops over sites in Python, e.g. for i in range(3)"
            )
        self.names.append(name)

    def _rows_of(self, name, logits):
        """Return logits with N rows."""
        logits = tf.convert_to_tensor(logits)
        if not logits.dtype.is_floating:
            raise RebarError(f"site {name!r}: logits of type {logits.dtype.name}: must be floats")
        if not logits.shape.rank:
            raise RebarError(
                f"site {name!r}: logits of shape {logits.shape}: must have rows, [N, ...]; "
                "use logits[tf.newaxis]"
            )
        if logits.shape[0] == 1 and not (isinstance(self.rows, int) and self.rows == 1):
            return tf.repeat(logits, self.rows, axis=0)
        if isinstance(self.rows, int) and logits.shape[0] not in (None, self.rows):
            raise RebarError(
                f"site {name!r}: logits of shape {logits.shape}: must have {self.rows} rows, "
                "those of the objective's arguments times the samples per example, or 1; use "
                "logits[tf.newaxis] for logits that all rows share"
            )
        return logits


def _size(name, shape):
    """Number of elements of a row."""
    if None in shape.as_list():
        raise RebarError(
            f"site {name!r}: logits with rows of shape {shape}: must be static; use tf.ensure_shape"
        )
    return math.prod(shape)


def sample_dtype(distribution: Any) -> tf.DType:
    """Return the type of samples of a distribution, see `Sample`."""
    kind, logits = kind_and_logits(distribution)
    return distribution.dtype if logits is None or kind == "Categorical" else logits.dtype


def kind_and_logits(distribution: Any) -> tuple[str, tf.Tensor | None]:
    """Return the class of a distribution within Independent, and the logits of a discrete one."""
    while type(distribution).__name__ in ("Independent", "_Independent"):
        distribution = distribution.distribution
    kind = type(distribution).__name__
    discrete = kind in ("Bernoulli", "Categorical", "OneHotCategorical")
    return kind, distribution.logits_parameter() if discrete else None


def _merged(values, axes):
    """Flatten the first axes of values to rows."""
    if axes == 1:
        return values
    shape = tf.concat([[-1], tf.shape(values)[axes:]], axis=0)
    return tf.ensure_shape(tf.reshape(values, shape), [None, *values.shape[axes:]])


def _current_graph():
    """Graph that is being traced, or None in eager mode."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
