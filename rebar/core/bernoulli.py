"""Bernoulli variables by their logits: likelihoods, samples, relaxations, the REBAR coupling.

A unit is on when its logit plus logistic noise is positive:

    b = 1[l + z > 0],   z = log u - log(1 - u),   u ~ U(0, 1)
"""

import numpy as np
import tensorflow as tf

from rebar.core.validity import positive


def softplus(a: tf.Tensor) -> tf.Tensor:
    """log(1 + exp(a)), finite for |a| up to 1e38; same shape.

    (a + |a|) / 2 + log(1 + exp(-|a|)) takes half the time of tf.nn.softplus
    (docs/performance.md). The gradient is sigmoid(a) everywhere; the second derivative is correct
    except at exactly 0, where it is 0 instead of .25.
    """
    magnitude = tf.abs(a)
    return 0.5 * (a + magnitude) + tf.math.log1p(tf.exp(-magnitude))


def log_prob(b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Sum over the last axis of b * logits - softplus(logits), in nats: [..., H] -> [...].

    For relaxed b in (0, 1) the same formula is used, which is not a density, as in the 2017 code
    and the papers.
    """
    return tf.reduce_sum(b * logits - softplus(logits), axis=-1)


def rare(logits: tf.Tensor) -> tf.Tensor:
    """min(p, 1 - p) for p = sigmoid(logits), exact for saturated units; same shape."""
    return tf.sigmoid(-tf.abs(logits))


def variance(logits: tf.Tensor) -> tf.Tensor:
    """p (1 - p) for p = sigmoid(logits), exact for saturated units; same shape."""
    m = rare(logits)
    return m * (1 - m)


def logistic(u: tf.Tensor) -> tf.Tensor:
    """Logistic noise z = log u - log(1 - u) from uniforms; same shape."""
    return tf.math.log(u) - tf.math.log1p(-u)


def hard_sample(logits: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """b = 1[logits + z > 0] in the dtype of logits, without a gradient; same shape.

    NaN where logits + z is NaN, so that invalid input does not become a valid sample.
    """
    a = logits + z
    one, zero, nan = (tf.constant(v, a.dtype) for v in (1, 0, np.nan))
    return tf.stop_gradient(tf.where(a > 0, one, tf.where(a <= 0, zero, nan)))


def antithetic_samples(u: tf.Tensor, further: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """b_2 ... b_n, jointly antithetic with the sample b_1 = 1[u > 1 - p]: [n - 1, N, H].

    With e of a flat Dirichlet distribution, v_m = (1 - e_m)^(n-1) is uniform, and b_m takes the
    less probable value where v_m < min(p, 1 - p). e_1 follows from u, and the others are a flat
    Dirichlet vector times 1 - e_1. Dimitriev & Zhou 2021 (arXiv 2105.14141).

    Args:
      u: [N, H] uniforms of b_1.
      further: [n - 1, N, H] independent uniforms.
      logits: [N, H].
    """
    n = 1 + further.shape[0]
    one_is_rare = logits < 0
    first = tf.where(one_is_rare, 1 - u, u) ** (1 / (n - 1))  # 1 - e_1
    e = -tf.math.log(further)
    v = (1 - first * e / tf.reduce_sum(e, axis=0)) ** (n - 1)
    return tf.cast(tf.equal(v < rare(logits), one_is_rare), u.dtype)


def relaxed_sample(
    logits: tf.Tensor, z: tf.Tensor, temperature: tf.Tensor, muprop_relaxation: bool = True
) -> tf.Tensor:
    """Relaxed sample in (0, 1), which tends to the hard sample as the temperature T tends to 0.

        Concrete: sigmoid((l + z) / T)
        muprop_relaxation: sigmoid((l + z) / T + l T / (T + 1)), which tends to the mean sigmoid(l)
        as T grows (Tucker et al. 2017, section 3.1 and appendix)

    Args:
      logits, z: [N, H].
      temperature: scalar or broadcastable to [N, H], above 0; see `validity.positive`.
    """
    temperature = positive(temperature, "temperature")
    a = (logits + z) / temperature
    if muprop_relaxation:
        a += logits * (temperature / (temperature + 1))
    return tf.sigmoid(a)


def coupling_derivative(b: tf.Tensor, u: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """d logit(v) / d logits at v = u, where v is noise given the hard sample b; [N, H].

    v reparameterizes the noise conditionally on b: with u' = sigmoid(-l),

        v = u' + (1 - u') w  if b = 1,    v = u' w  if b = 0,    w ~ U(0, 1) fixed

    (Tucker et al. 2017, equation 9 and appendix). With w such that v = u, only the dependence of
    the noise on the logits changes:

        d logit(v) / dl = -u' / u  if b = 1,    -(1 - u') / (1 - u)  if b = 0.
    """
    # sigmoid(l) instead of 1 - u', which loses all digits for negative logits.
    return -tf.where(b > 0.5, tf.sigmoid(-logits) / u, tf.sigmoid(logits) / (1 - u))


def noise_given_sample(b: tf.Tensor, v: tf.Tensor, logits: tf.Tensor) -> tuple:
    """Logistic noise z~ conditional on the hard sample b, and d z~/dl at fixed v; [N, H] each.

    With u' = sigmoid(-l): z~ = logit w, w = u' + (1 - u') v if b = 1, w = u' v if b = 0. w and
    1 - w are sums and products of positive numbers, so saturated units lose no digits.
    """
    on, low, p = b > 0.5, tf.sigmoid(-logits), tf.sigmoid(logits)
    w_if_on = low + p * v
    complement_if_off = p + low * (1 - v)
    log_w = tf.where(on, tf.math.log(w_if_on), tf.math.log(v) - softplus(logits))
    log_complement = tf.where(
        on, tf.math.log1p(-v) - softplus(-logits), tf.math.log(complement_if_off)
    )
    return log_w - log_complement, -tf.where(on, low / w_if_on, p / complement_if_off)
