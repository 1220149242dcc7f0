"""The gradient of the reconstruction term with respect to the posterior logits of each image.

    d / d logits_b  of  E_q log p(x_b | z),    q(z | x_b) = prod_l softmax(logits_b)_l

Wang & Bui 2026 (arXiv 2603.08257, figure 1) measure it: it depends on no network and no mean over
images. `AtLogits` is a model whose only variable is the table of these logits, so that every
estimator works on it unchanged.
"""

import tensorflow as tf

from rebar.core import categorical, enumeration
from rebar.errors import RebarError
from rebar.types import Rollout

_CODES = 512
"""Maximum number of codes per pass of the decoder."""


class AtLogits:
    """A model of one batch: a table of posterior logits and the decoder of another model.

    f(x, z) = log p(x | z). The table holds -logits / B, so that the gradient of -mean_B f with
    respect to it is that of sum_B f with respect to the logits.

    Args:
      model: a `CategoricalVAE`.
      x: [B, D], the only batch for `rollout`.

    Raises:
      RebarError: the latents are not one layer of categorical variables.
    """

    objective_name = "log p(x | z)"

    def __init__(self, model, x):
        if not hasattr(model, "latent_shape"):
            raise RebarError(
                "--by=logits: only for categorical models (Cat...), which have one stochastic "
                "layer; give --by=weights"
            )
        self._batch = len(x)
        self.decode = model.decode
        self.likelihood = model.likelihood
        self.latent_shape = model.latent_shape
        self.n_units = model.n_units
        self.n_input = model.n_input
        self.compute_dtype = model.compute_dtype
        self.input_mean = model.input_mean
        self.latent_shapes = model.latent_shapes
        logits = tf.reshape(model.encode(x), [-1, *model.latent_shape])
        self.table = tf.Variable(-logits / len(x), name="logits")
        self.trainable_variables = self.inference_variables = [self.table]

    def encode(self, x):
        """Return None: nothing depends on x."""

    def rollout(self, x, sampler, n_samples: int = 1, encoded=None) -> Rollout:
        """One pass; x [B, D] is the batch, rows are sample-major."""
        (logits,) = self.posterior_logits(x, (), n_samples)
        z = sampler(0, logits)
        f = self.likelihood.log_prob(tf.tile(x, [n_samples, 1]), self.decode(z))
        log_q = tf.reduce_sum(categorical.log_prob(z, logits), axis=-1)
        return Rollout(f, f, (log_q,), (logits,), (z,))

    def posterior_logits(self, x, samples, n_samples: int = 1):
        """(logits [N, L, C],); they do not depend on samples."""
        return (tf.tile(-self._batch * self.table, [n_samples, 1, 1]),)


def exact_gradient(model, x) -> tf.Tensor:
    """d E_q log p(x_b | z) / d logits_b of each image: [B, L, C] in float64.

        sum_z q(z | x_b) f(x_b, z) (z - pi_b),    pi = softmax(logits)

    Every code is decoded once for all images x [B, D]: 4096 rows for 8x4, at any B.

    Raises:
      RebarError: there are more than `enumeration.MAX_STATES` codes.
    """
    codes = enumeration.states_of(model)[0]
    (logits,) = model.posterior_logits(x, ())
    log_pi = tf.nn.log_softmax(tf.cast(logits, tf.float64))
    x = tf.cast(x, tf.float64)
    parts = [codes[i : i + _CODES] for i in range(0, codes.shape[0], _CODES)]
    pixels = [tf.cast(model.decode(part), tf.float64) for part in parts]
    f = tf.concat([model.likelihood.of_pairs(x, a) for a in pixels], axis=1)  # [B, codes]
    codes = tf.cast(codes, tf.float64)
    weighted = tf.exp(tf.einsum("blc,mlc->bm", log_pi, codes)) * f
    mean = tf.reduce_sum(weighted, axis=1)[:, tf.newaxis, tf.newaxis]
    return tf.einsum("bm,mlc->blc", weighted, codes) - mean * tf.exp(log_pi)


def exact_gradient_of_q(model, x) -> list:
    """Gradients of -mean_B ELBO w.r.t. model.inference_variables, through `exact_gradient`."""
    reconstruction = tf.cast(exact_gradient(model, x), model.compute_dtype)
    with tf.GradientTape() as tape:
        (logits,) = model.posterior_logits(x, ())
        divergence = tf.reduce_sum(categorical.kl_to(logits, model.prior_logits()), axis=-1)
        elbo = tf.reduce_sum(logits * reconstruction, axis=[1, 2]) - divergence
        loss = -tf.reduce_mean(elbo)
    return tape.gradient(loss, model.inference_variables)
