"""RODEO: leave-one-out with control variates from a Stein operator (SBNRODEO).

For D units with means p, let y^i be b with unit i flipped, w_i = q(flipped value of unit i), and

    (A h)(b) = 1/D sum_i w_i [h(y^i) - h(b)],

the operator of a Gibbs sampler, whose mean under q is 0 for any h. With K samples b^1 ... b^K of
each example, complete chains through all layers, f_j and D_j = df/db_l^j, per layer l,

    h_k, r_k = functions of y: the mean over j != k of H(f_j, D_j . (y - b_l^j))
    s_k = f_k - mean_{j != k} (f_j + alpha (A h_j)(b_l^j))
    g = - mean_x 1/K sum_k [ sum_l ( s_k (b_l^k - p^k) + beta (A r_k(.) (. - p^k))(b_l^k) )
                                   . d logits_l^k
                             + d log p(x, b^k) ]

with a network H of two inputs and two outputs, and hidden units with slope 0.3 below 0. Unbiased
for the ELBO: h_k and r_k do not depend on sample k, so the term of beta has mean 0, and the mean of
(A h_j)(b^j) given the layers under l and the other samples is 0, although h_j depends on sample k.

As D_j . (y - b_l^j) at b and all y^i follows from D + 1 numbers, both terms cost O(D) per pair of
samples.

K evaluations of f, and their derivatives with respect to the samples (one backward pass). K >= 2.

Learned: alpha and beta, initially 0, and H, per layer, by minimizing the mean square of the logits'
gradient.

Source: Shi, Zhou, Hwang, Titsias & Mackey 2022 (Gradient Estimation with Discrete Stein Operators,
arXiv 2202.09497), the version that averages outputs of H. Differences from the published code: the
K samples are chains through all layers, K evaluations for any number of layers, where that code
draws K samples per layer from the main chain; memory linear in D; p follows log p at all samples;
10 hidden units instead of 100, with 0 to 3 % more variance in 40 % of the time, as measured in
docs/performance.md. Its version that averages inputs lacks a factor 1 / (K - 1) for K > 2.
"""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bounds, families
from rebar.core.initializers import FanInInitializer
from rebar.errors import integer
from rebar.estimators.double_cv import DerivativeControl
from rebar.types import Model, Noise, Rollout


class SteinNetwork(keras.layers.Layer):
    """H(f, s): two inputs, hidden units with slope 0.3 below 0, two linear outputs.

    Args:
      hidden: number of hidden units.
      seed: seed of the initial weights.
    """

    def __init__(self, hidden=10, seed=0, name="stein_network", **kwargs):
        super().__init__(name=name, **kwargs)

        def kernel(shape, part):
            initializer = FanInInitializer(noise_module.initializer_seed(seed, f"{name}_{part}"))
            return self.add_weight(shape=shape, initializer=initializer, name=f"{part}_kernel")

        self.hidden_kernel = kernel((2, hidden), "hidden")
        self.hidden_bias = self.add_weight((hidden,), "zeros", name="hidden_bias")
        self.output_kernel = kernel((hidden, 2), "output")
        self.output_bias = self.add_weight((2,), "zeros", name="output_bias")
        self.built = True

    def call(self, f: tf.Tensor, s: tf.Tensor) -> list:
        """Return h and r, [..., D] each, of f [...] and s [..., D], which are constants."""
        kernel, bias = map(tf.convert_to_tensor, (self.hidden_kernel, self.hidden_bias))
        weights = tf.concat([kernel, bias[tf.newaxis]], axis=0)
        columns = tf.broadcast_to(f[..., tf.newaxis], tf.shape(s)), s, tf.ones_like(s)
        inputs = tf.stack([tf.reshape(column, [-1]) for column in columns])
        outputs = _two_layers(weights, tf.convert_to_tensor(self.output_kernel), inputs)
        outputs += tf.convert_to_tensor(self.output_bias)[:, tf.newaxis]
        return [tf.reshape(output, tf.shape(s)) for output in tf.unstack(outputs)]


@tf.custom_gradient
def _two_layers(weights: tf.Tensor, output: tf.Tensor, inputs: tf.Tensor) -> tuple:
    """output' leaky(weights' inputs): [3, U], [U, 2], [3, M] -> [2, M]; inputs are f, s and ones.

    As leaky(a) = slope a with slopes of 0.3 or 1, both derivatives follow from the sums over points
    of slope x input x upstream, one matrix product. That takes half of the time of a tape.
    """
    # Hidden units are the first axis, so that points are contiguous in memory.
    of_f, of_s, bias = tf.unstack(weights[..., tf.newaxis])
    a = of_f * inputs[0] + of_s * inputs[1] + bias
    # tf.nn.leaky_relu rounds its slope to float32.
    values = tf.matmul(output, tf.maximum(a, 0.3 * a), transpose_a=True)

    def backward(upstream):
        slopes = tf.where(a > 0, tf.ones_like(a), 0.3 * tf.ones_like(a))
        products = tf.reshape(inputs[:, tf.newaxis] * upstream, [6, -1])
        sums = tf.reshape(tf.matmul(slopes, products, transpose_b=True), [-1, 3, 2])
        of_weights = tf.einsum("uo,uio->iu", output, sums)
        return of_weights, tf.einsum("iu,uio->uo", weights, sums), tf.zeros_like(inputs)

    return values, backward


class RODEO(DerivativeControl):
    """See the module's docstring; n_samples >= 2.

    Args:
      rodeo_hidden: hidden units of H, at least 1.

    Metrics: alpha and beta per layer.
    """

    families = ("bernoulli",)
    control_off: Mapping[str, float] = {"alpha": 0.0, "beta": 0.0}

    def __init__(self, rodeo_hidden=10, **kwargs):
        super().__init__(**kwargs)
        self.rodeo_hidden = integer(rodeo_hidden, "rodeo_hidden", example=10)

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create alpha, beta and H per layer."""
        layers = range(len(model.n_units))
        self.scales: list[Any] = [
            tuple(self.add_weight((), "zeros", name=f"{name}_{i}") for name in ("alpha", "beta"))
            for i in layers
        ]
        self.networks = [
            SteinNetwork(
                self.rodeo_hidden, seed, name=f"{self.name}_h_{i}", dtype=self.dtype_policy
            )
            for i in layers
        ]

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return {
            f"{name}_{layer}": tf.convert_to_tensor(value)
            for layer, values in enumerate(self.scales)
            for name, value in zip(("alpha", "beta"), values, strict=True)
        }

    def _cotangent(self, layer, n_samples, f, b, logits, derivative):
        alpha, beta = map(tf.convert_to_tensor, self.scales[layer])
        f = bounds.split_samples(f, n_samples)
        b, a, d = (bounds.by_sample(values, n_samples) for values in (b, logits, derivative))
        (h, h_flipped), (r, r_flipped) = self._surrogates(layer, f, b, d)
        sign = 1 - 2 * b
        flipped = tf.sigmoid(sign * a)  # w
        units = tf.cast(tf.shape(b)[-1], b.dtype)

        def operator(value, at_flipped):
            return tf.reduce_sum(flipped * (at_flipped - value[..., tf.newaxis]), axis=-1) / units

        controlled = f + alpha * operator(h, h_flipped)
        others = (tf.reduce_sum(controlled, axis=0) - controlled) / (n_samples - 1)
        score = families.BERNOULLI.score(b, a)
        signal = f - others + beta * operator(r, r_flipped)
        cotangent = signal[..., tf.newaxis] * score + beta / units * flipped * sign * r_flipped
        return tf.reshape(cotangent, tf.shape(logits))

    def _surrogates(self, layer, f, b, d):
        """Yield h and r, each at b^k [K, B] and at its D neighbors [K, B, D]."""
        n_samples = f.shape[0]
        values = []
        for k in range(n_samples):
            others = [j for j in range(n_samples) if j != k]
            f_j, b_j, d_j = (tf.gather(v, others) for v in (f, b, d))  # [K - 1, B, ...]
            s = tf.reduce_sum(d_j * (b[k] - b_j), axis=-1, keepdims=True)
            s = tf.concat([s, s + d_j * (1 - 2 * b[k])], axis=-1)  # at b^k and its neighbors
            values.append([tf.reduce_mean(v, axis=0) for v in self.networks[layer](f_j, s)])
        for outputs in zip(*values, strict=True):
            stacked = tf.stack(outputs)
            yield stacked[..., 0], stacked[..., 1:]
