"""The gradient of the reconstruction term by the posterior logits of each image.

    d / d logits_b  of  E_q log p(x_b | z),    q(z | x_b) = prod_l softmax(logits_b)_l

It is what Wang & Bui 2026 (arXiv 2603.08257, figure 1) look at: no network and no mean over images
lies between the estimator and what is measured. `AtLogits` is a model whose only variable is the
table of these logits, so that every estimator works on it as it is.
"""

import tensorflow as tf

from rebar.core import bernoulli, categorical, enumeration
from rebar.errors import RebarError
from rebar.types import Rollout

_CODES = 512
"""Codes that are decoded at once."""


class AtLogits:
    """A fixed batch with a table of posterior logits, in front of the decoder of a model.

    f(x, z) = log p(x | z). For estimators it is a model with one trainable variable, the table; an
    estimator's gradient, which is of -mean_B f, times -B is the gradient for each image.

    Args:
      model: a `CategoricalVAE`.
      x: [B, D] the only batch that it can be rolled out with.

    Raises:
      RebarError: the model has other latents than one layer of categorical variables.
    """

    objective_name = "log p(x | z)"

    def __init__(self, model, x):
        if not hasattr(model, "latent_shape"):
            raise RebarError(
                "the gradient by the logits is for categorical models (Cat...), which have one "
                "stochastic layer; for this one give --by=weights"
            )
        self._model = model
        self._x = x
        self.latent_shape = model.latent_shape
        self.n_units = model.n_units
        self.n_input = model.n_input
        self.compute_dtype = model.compute_dtype
        self.input_mean = model.input_mean
        self.gumbels = model.gumbels
        self.hard_sampler = model.hard_sampler
        self.table = tf.Variable(self._encoded(), name="logits")
        self.trainable_variables = self.inference_variables = [self.table]

    def refresh(self) -> None:
        """Take the logits from the encoder anew, after its weights have changed."""
        self.table.assign(self._encoded())

    def _encoded(self):
        return tf.reshape(self._model.encode(self._x), [-1, *self.latent_shape])

    def encode(self, x):
        """Nothing is computed from x."""
        del x

    def rollout(self, x, sampler, n_samples: int = 1, encoded=None) -> Rollout:
        """One pass; x [B, D] is the batch, rows are sample-major."""
        del encoded
        (logits,) = self.posterior_logits(x, (), n_samples)
        z = sampler(0, logits)
        f = bernoulli.log_prob(tf.tile(x, [n_samples, 1]), self._model.decode(z))
        log_q = tf.reduce_sum(categorical.log_prob(z, logits), axis=-1)
        return Rollout(f, f, (log_q,), (logits,), (z,))

    def posterior_logits(self, x, samples, n_samples: int = 1):
        """(logits [N, L, C],); they do not depend on samples."""
        del x, samples
        return (tf.tile(tf.convert_to_tensor(self.table), [n_samples, 1, 1]),)


def exact_gradient(model, x) -> tf.Tensor:
    """d E_q log p(x_b | z) / d logits_b of each image: [B, L, C] in float64.

        sum_z q(z | x_b) f(x_b, z) (z - pi_b),    pi = softmax(logits)

    A code is decoded once for all images, as p(x | z) does not depend on the encoder: 4096 passes
    through the decoder for 8x4, whatever B is.

    Args:
      model: a `CategoricalVAE`.
      x: [B, D].

    Raises:
      RebarError: there are more than `enumeration.MAX_STATES` codes.
    """
    codes = enumeration.all_codes(model.latent_shape, model.compute_dtype)
    (logits,) = model.posterior_logits(x, ())
    log_pi = tf.nn.log_softmax(tf.cast(logits, tf.float64))
    x = tf.cast(x, tf.float64)
    pixels = [tf.cast(model.decode(part), tf.float64) for part in _parts(codes)]
    f = [x @ tf.transpose(a) - tf.reduce_sum(bernoulli.softplus(a), axis=-1) for a in pixels]
    f = tf.concat(f, axis=1)  # [B, codes]
    codes = tf.cast(codes, tf.float64)
    weighted = tf.exp(tf.einsum("blc,mlc->bm", log_pi, codes)) * f
    mean = tf.reduce_sum(weighted, axis=1)[:, tf.newaxis, tf.newaxis]
    return tf.einsum("bm,mlc->blc", weighted, codes) - mean * tf.exp(log_pi)


def exact_gradient_of_q(model, x) -> list:
    """d(-mean_B ELBO) by q's variables, by way of the gradient by the logits.

    Args:
      model, x: see `exact_gradient`.

    Returns:
      Gradients aligned with model.inference_variables.
    """
    reconstruction = tf.cast(exact_gradient(model, x), model.compute_dtype)
    with tf.GradientTape() as tape:
        (logits,) = model.posterior_logits(x, ())
        divergence = tf.reduce_sum(categorical.kl_to(logits, model.prior_logits()), axis=-1)
        elbo = tf.reduce_sum(logits * reconstruction, axis=[1, 2]) - divergence
        loss = -tf.reduce_mean(elbo)
    return tape.gradient(loss, model.inference_variables)


def _parts(codes):
    return [codes[i : i + _CODES] for i in range(0, codes.shape[0], _CODES)]
