"""Families of latent variables: what estimators need to know of a layer.

A layer of Bernoulli units has logits and samples [N, H]; one of V categorical variables of C
categories has logits and one-hot samples [N, V, C]. Samples are deterministic functions of the
logits and of noise z that is added to them, so that the rank of the logits names the family:

                  noise z          hard sample               relaxed sample at temperature T
    Bernoulli     logit u          1[logits + z > 0]         sigmoid((logits + z) / T)
    categorical   -log(-log u)     argmax(logits + z)        softmax((logits + z) / T)

Both relaxed samples tend to the hard one as T tends to 0. With `muprop_relaxation` the argument is
(logits + z) / T + logits T / (T + 1), with which they tend to the mean as T grows (Tucker et al.
2017, section 3.1 and appendix, for Bernoulli units).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rebar.core import bernoulli, categorical
from rebar.noise import Noise, SiteUniforms
from rebar.types import Model, capability


class Family(NamedTuple):
    """Functions of a layer's logits, [N, H] or [N, V, C], here called [N, ...].

    Attributes:
      noise: uniforms [N, ...] -> z [N, ...].
      hard_sample: (logits, z) -> samples, without a gradient.
      relaxed_sample: (logits, z, temperature, muprop_relaxation) -> relaxed samples.
      mean: logits -> means of the samples.
      mean_product: (logits, g) -> J' g with J = d mean / d logits.
      log_prob: (samples, logits) -> log q [N] in nats; the same formula at relaxed samples.
      score: (samples, logits) -> d log q / d logits.
      coupling: (samples, u, logits) -> function of g that returns J' g, with J the derivative with
        respect to the logits of the noise given the sample, at that with the value z.
      noise_given_sample: (samples, uniforms, logits) -> noise given the sample, and the function of
        g that returns J' g for it.
      noisy_logits: (logits, z) -> [N, width], their sum as an input of networks.
    """

    noise: Callable[[tf.Tensor], tf.Tensor]
    hard_sample: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    relaxed_sample: Callable[..., tf.Tensor]
    mean: Callable[[tf.Tensor], tf.Tensor]
    mean_product: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    log_prob: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    coupling: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Callable[[tf.Tensor], tf.Tensor]]
    noise_given_sample: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple]
    noisy_logits: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _bernoulli_coupling(b, u, logits):
    derivative = bernoulli.coupling_derivative(b, u, logits)
    return lambda g: derivative * g


def _bernoulli_noise_given_sample(b, v, logits):
    z, derivative = bernoulli.noise_given_sample(b, v, logits)
    return z, lambda g: derivative * g


def _categorical_noise_given_sample(b, v, logits):
    z = categorical.conditional_logits(logits, b, categorical.exponentials(v)) - logits
    return z, categorical.coupling(b, z, logits)


BERNOULLI = Family(
    noise=bernoulli.logistic,
    hard_sample=bernoulli.hard_sample,
    relaxed_sample=bernoulli.relaxed_sample,
    mean=tf.sigmoid,
    mean_product=lambda logits, g: g * bernoulli.variance(logits),
    log_prob=bernoulli.log_prob,
    score=lambda b, logits: b - tf.sigmoid(logits),
    coupling=_bernoulli_coupling,
    noise_given_sample=_bernoulli_noise_given_sample,
    noisy_logits=tf.add,
)

CATEGORICAL = Family(
    noise=categorical.gumbels,
    hard_sample=categorical.hard_sample,
    relaxed_sample=categorical.relaxed_sample,
    mean=tf.nn.softmax,
    mean_product=lambda logits, g: categorical.softmax_product(tf.nn.softmax(logits), g),
    log_prob=lambda b, logits: tf.reduce_sum(categorical.log_prob(b, logits), axis=-1),
    score=categorical.score,
    coupling=lambda b, u, logits: categorical.coupling(b, categorical.gumbels(u), logits),
    noise_given_sample=_categorical_noise_given_sample,
    noisy_logits=lambda logits, z: flat(tf.nn.log_softmax(logits) + z),
)


def of(logits: tf.Tensor) -> Family:
    """Return the family of a layer's logits or samples, [N, H] or [N, V, C]."""
    return BERNOULLI if logits.shape.rank == 2 else CATEGORICAL


def uniforms_at(noise: Noise, layer: int, logits: tf.Tensor) -> tf.Tensor:
    """Return a layer's uniforms, shaped like its logits."""
    uniforms = noise.uniforms
    if isinstance(uniforms, SiteUniforms):
        return uniforms.at(layer, tf.shape(logits), logits.dtype)
    return like_logits(uniforms[layer], logits)


def like_logits(uniforms: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Reshape uniforms [N, width] like a layer's logits."""
    return shaped(uniforms, logits.shape[1:])


def noise_at(noise: Noise, layer: int, logits: tf.Tensor) -> tf.Tensor:
    """Return a layer's z, shaped like its logits."""
    return of(logits).noise(uniforms_at(noise, layer, logits))


def flat(values: tf.Tensor) -> tf.Tensor:
    """Flatten a layer's [N, ...] to [N, width]."""
    if len(values.shape) == 2:
        return values
    return tf.reshape(values, [-1, math.prod(values.shape[1:])])


def shaped(values: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Reshape [N, width] to [N, *shape] for a layer of shape (H,) or (V, C)."""
    return values if len(shape) == 1 else tf.reshape(values, [-1, *shape])


def inputs(samples: tf.Tensor) -> tf.Tensor:
    """Inputs 2 b - 1 of networks for a layer's samples, flattened: [N, width]."""
    return flat(2 * samples - 1)


def repeated(values: tf.Tensor, n_samples: int) -> tf.Tensor:
    """Repeat values [B, ...] for the samples of each example: [N, ...]."""
    if n_samples == 1:
        return values
    return tf.tile(values, [n_samples, *[1] * (values.shape.rank - 1)])


def column(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Add axes to per-row values [N], so that they multiply a layer's tensors [N, ...]."""
    return values[:, tf.newaxis] if like.shape.rank == 2 else values[:, tf.newaxis, tf.newaxis]


def row_sum(values: tf.Tensor) -> tf.Tensor:
    """Sum a layer's [N, ...] over all axes but the rows: [N]."""
    return tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))


def linear_variance(mean: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Sum over outputs d of Var[(b W)_d], for independent units or variables b: [N].

    Args:
      mean: mean of b, [N, H] or [N, V, C].
      kernel: W [width, D].
    """
    if mean.shape.rank == 2:
        return tf.linalg.matvec(mean * (1 - mean), tf.reduce_sum(tf.square(kernel), axis=1))
    w = tf.reshape(kernel, [*mean.shape[1:], kernel.shape[-1]])
    gram = tf.matmul(w, w, transpose_b=True)  # [V, C, C]
    of_squares = tf.einsum("nvc,vc->n", mean, tf.linalg.diag_part(gram))
    return of_squares - tf.einsum("nvc,vce,nve->n", mean, gram, mean)


def log_probs(samples: Sequence[tf.Tensor], logits: Sequence[tf.Tensor]) -> tuple:
    """Return log q of each layer: L x [N] in nats."""
    return tuple(of(a).log_prob(b, a) for b, a in zip(samples, logits, strict=True))


def shapes(model: Model) -> list[tuple[int, ...]]:
    """Return the shapes of a model's layers without rows: (H,) or (V, C)."""
    return list(capability(model, "latent_shapes") or [(width,) for width in model.n_units])


def kinds(model: Model) -> set[str]:
    """Return the families of a model's layers: "bernoulli", "categorical" or both."""
    return {"bernoulli" if len(shape) == 1 else "categorical" for shape in shapes(model)}


def states(shape: Sequence[int], dtype: Any = tf.float32) -> tf.Tensor:
    """All states of a layer of shape (H,) or (V, C): [n_states, *shape], first variable slowest."""
    binary = len(shape) == 1
    codes = np.indices([2 if binary else shape[1]] * shape[0]).reshape(shape[0], -1).T
    return tf.constant(codes, dtype) if binary else tf.one_hot(codes, shape[1], dtype=dtype)


def n_states(shape: Sequence[int]) -> int:
    """Return the number of states of a layer of shape (H,) or (V, C)."""
    return (2 if len(shape) == 1 else shape[1]) ** shape[0]
