"""Sites of distributions of TensorFlow Probability, also of joint and pinned ones.

TFP has no public iteration over the sites of a joint distribution: its methods `_model_coroutine`,
`_model_flatten`, `_model_unflatten` and `_flat_resolve_names` are those of all its joint classes.
"""

import inspect
import math
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.errors import RebarError
from rebar.objectives.sample import Sample, kind_and_logits, sample_dtype

_RANDOM = re.compile(r"Random|Multinomial|TruncatedNormal|Stateful(Uniform|StandardNormal)")
"""Types of operations that draw random numbers."""


class Sites(NamedTuple):
    """Sites of a distribution.

    Attributes:
      distribution: a distribution or a joint distribution.
      names: in the order of sampling.
      events: shape of a sample of each.
      batch: batch shape of all of them.
      named: whether the names are fields or keys of a sample.
    """

    distribution: Any
    names: list[str]
    events: list[tf.TensorShape]
    batch: tf.TensorShape
    named: bool

    @property
    def batch_tensor(self) -> tf.Tensor:
        """Batch shape of a site."""
        return tf.convert_to_tensor(tf.nest.flatten(self.distribution.batch_shape_tensor())[0])

    @property
    def size(self) -> Any:
        """Number of members of the batch, an integer if it is static."""
        if self.batch.is_fully_defined():
            return math.prod(self.batch)
        return tf.reduce_prod(self.batch_tensor)


def is_joint(distribution: Any) -> bool:
    """Return True for a joint distribution, also a pinned one."""
    return hasattr(distribution, "experimental_pin")


def sites_of(distribution: Any, argument: str) -> Sites:
    """Return the sites of a distribution, the value of an argument that errors name."""
    if not hasattr(distribution, "log_prob"):
        raise RebarError(
            f"{argument}={distribution!r}: must be a distribution of TensorFlow Probability"
        )
    if not is_joint(distribution):
        event, batch = distribution.event_shape, distribution.batch_shape
        return Sites(distribution, [distribution.name], [event], batch, False)
    names = list(distribution._flat_resolve_names())
    structure, batch = distribution.event_shape, distribution.batch_shape
    named = isinstance(structure, Mapping) or hasattr(structure, "_fields")
    events = list(distribution._model_flatten(structure))
    batches = [batch]
    if not isinstance(batch, tf.TensorShape):
        batches = list(distribution._model_flatten(batch))
    for name, event in zip(names, events, strict=True):
        if not isinstance(event, tf.TensorShape):
            raise RebarError(
                f"site {name!r} of {argument}: has several parts; make each of them a site"
            )
    for name, batch in zip(names[1:], batches[1:], strict=False):
        if not batch.is_compatible_with(batches[0]):
            raise RebarError(
                f"site {name!r} of {argument}: has batch shape {batch}, but site {names[0]!r} "
                f"{batches[0]}; use tfd.Independent, or an autobatched joint distribution"
            )
    return Sites(distribution, names, events, batches[0], named)


def log_prob_of(target: Any, sites: Sites) -> Callable[[list], tf.Tensor]:
    """Return the function of the values at all sites that returns log p of a target."""
    owner = getattr(target, "__self__", None)
    if hasattr(owner, "event_shape") and target.__name__ == "log_prob":
        target = owner
    if hasattr(target, "log_prob"):
        wanted = sites_of(target, "target")
        order = _matched(wanted, sites)
        _require_batch(target, sites)
        if not is_joint(target):
            return lambda values: _log_prob(target, *values)
        return lambda values: _joint_log_prob(
            target, {name: values[i] for name, i in zip(wanted.names, order, strict=True)}
        )
    if not callable(target):
        raise RebarError(
            f"target={target!r}: must be a joint distribution or a function that returns log p"
        )

    def log_prob(values):
        if is_joint(sites.distribution):
            values = sites.distribution._model_unflatten(values)
        args, named = ((), values) if isinstance(values, Mapping) else (values, {})
        try:
            inspect.signature(target).bind(*args, **named)
        except TypeError as error:
            raise RebarError(
                f"target: {error}; define it with the sites as arguments: {', '.join(sites.names)}"
            ) from error
        return target(*args, **named)

    return log_prob


def _joint_log_prob(target, values):
    """Return log p of a joint distribution; values maps unpinned sites to their values."""
    if hasattr(target, "pins"):
        joint, structure = target.distribution, target._add_pins(**values)
    else:
        joint, structure = target, target._resolve_value(**values)
    return joint._reduce_log_probs_over_dists(joint._map_measure_over_dists(_log_prob, structure))


def _log_prob(distribution, value):
    """Return log p; unlike TFP's, it has a derivative with respect to one-hot values."""
    kind, logits = kind_and_logits(distribution)
    if kind != "OneHotCategorical":
        return distribution.log_prob(value)
    terms = tf.math.multiply_no_nan(tf.nn.log_softmax(logits), tf.cast(value, logits.dtype))
    return tf.reduce_sum(terms, axis=list(range(-distribution.event_shape.rank, 0)))


def _require_batch(target, sites):
    """Raise RebarError unless the batch of each site, also of pinned ones, broadcasts to ours."""
    target = target.distribution if hasattr(target, "pins") else target
    names, batches = [target.name], [target.batch_shape]
    if is_joint(target) and not isinstance(target.batch_shape, tf.TensorShape):
        names = target._flat_resolve_names()
        batches = target._model_flatten(target.batch_shape)
    for name, batch in zip(names, batches, strict=True):
        if not isinstance(batch, tf.TensorShape) or batch.num_elements() in (None, 1):
            continue
        try:
            common = tf.broadcast_static_shape(batch, sites.batch)
        except ValueError:
            common = None
        if common is None or not common.is_compatible_with(sites.batch):
            raise RebarError(
                f"{name!r} of target: has batch shape {batch}, but the surrogate posterior "
                f"{sites.batch}; use tfd.Independent or an autobatched joint distribution for axes "
                "that are part of one sample"
            )


def _matched(wanted: Sites, sites: Sites) -> list[int]:
    """Return the position of each wanted site among the sites."""
    by_name = wanted.named and sites.named
    if set(wanted.names) != set(sites.names) if by_name else len(wanted.names) != len(sites.names):
        raise RebarError(
            f"target: has the sites {', '.join(wanted.names)}, but the surrogate posterior has "
            f"{', '.join(sites.names)}; pin observed ones, e.g. joint.experimental_pin(x=x), and "
            "give the others the same names"
        )
    order = [sites.names.index(n) if by_name else i for i, n in enumerate(wanted.names)]
    for name, event, i in zip(wanted.names, wanted.events, order, strict=True):
        if not event.is_compatible_with(sites.events[i]):
            raise RebarError(
                f"site {name!r}: has event shape {event} in the target, but {sites.events[i]} in "
                "the surrogate posterior; use e.g. tfd.Independent or OneHotCategorical in both"
            )
    return order


def sampled(sample: Sample, sites: Sites, copies: Any) -> list[tf.Tensor]:
    """Sample all sites; return their values [copies, *batch, *event]."""
    values: list[tf.Tensor] = []
    walk = _distributions(sites.distribution)
    for name, event in zip(sites.names, sites.events, strict=True):
        distribution = walk.send(values[-1] if values else None)
        one = sites.batch.concatenate(event)
        expected = tf.TensorShape([static(copies)]).concatenate(one)
        shape = distribution.batch_shape.concatenate(distribution.event_shape)
        if not shape.is_compatible_with(one) and not shape.is_compatible_with(expected):
            raise RebarError(
                f"site {name!r}: batch and event shape {shape}: must be {one}, or {expected} given "
                "samples of earlier sites; let operations act on the last axes of samples"
            )
        repeats = copies if shape.rank == one.rank else None
        axes = sites.batch.rank + (repeats is None)
        value = sample.draw(name, distribution, axes, repeats)
        if sites.batch.rank:
            front = [[copies], sites.batch_tensor, tf.shape(value)[1:]]
            value = tf.reshape(value, tf.concat(front, axis=0))
        values.append(tf.ensure_shape(value, expected))
    return values


def _distributions(distribution: Any) -> Generator:
    """Yield the distribution of each site; expect the value of the previous site by send()."""
    if not is_joint(distribution):
        yield distribution
        return

    def without_root(site):
        return site.distribution if isinstance(site, distribution.Root) else site

    def after(values):
        """Return the distribution of the site that follows the sites with these values.

        Its parameters have the same rank, so that they still agree with an axis in front.
        """
        sites = distribution._model_coroutine()
        site = next(sites)
        for value in values:
            site = sites.send(value)
        site = without_root(site)
        return site._broadcast_parameters_with_batch_shape(tf.ones_like(site.batch_shape_tensor()))

    if distribution.use_vectorized_map:
        values = [(yield after(()))]
        while True:
            values.append((yield tf.vectorized_map(after, tuple(values))))
    sites, value = distribution._model_coroutine(), None
    while True:
        value = yield without_root(sites.send(value))


def require_no_other_randomness(sites: Sites, argument: str) -> None:
    """Raise RebarError if a joint distribution draws random numbers outside its sites.

    Its sites are traced with placeholders as values, so that all random numbers are others.
    """

    def trace():
        walk, value = _distributions(sites.distribution), None
        for event in sites.events:
            dtype = sample_dtype(walk.send(value))
            shape = tf.TensorShape([1]).concatenate(sites.batch).concatenate(event)
            value = tf.raw_ops.Placeholder(dtype=dtype, shape=shape)

    if not is_joint(sites.distribution):
        return
    graph = tf.function(trace, autograph=False).get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    for node in nodes:
        if _RANDOM.search(node.op):
            raise RebarError(
                f"{argument}: draws random numbers outside its sites ({node.name}); make each "
                "random variable a site, or pass random numbers as a tensor"
            )


def static(size: Any) -> int | None:
    """Return a size if it is an integer."""
    return size if isinstance(size, int) else None
