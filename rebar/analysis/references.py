"""The exact gradient that estimates are compared with."""

import numpy as np
import tensorflow as tf

from rebar.analysis.at_logits import AtLogits, exact_gradient, exact_gradient_of_q
from rebar.analysis.bias_variance import Reference
from rebar.core import enumeration
from rebar.errors import RebarError
from rebar.types import capability

SAMPLES = 32
"""Samples per example of the leave-one-out estimates of a reference."""

_exact = tf.function(enumeration.exact_elbo_and_gradient, autograph=False)


def exact(model, x, bound: int = 0) -> Reference:
    """The exact gradient of -mean f w.r.t. the variables of q.

    It is in closed form if the model has one, see `Capabilities.expected_objective`, else by
    enumeration of the states.

    Args:
      model: see `rebar.types.Model`; an `AtLogits` for the gradient of the reconstruction term.
      x: [B, D] in the model's dtype.
      bound: K, for the gradient of the K-sample bound; 0: of the ELBO.

    Raises:
      RebarError: there are more than `enumeration.MAX_STATES` states, and no closed form.
    """
    if capability(model, "continuous"):
        raise RebarError(
            "the exact gradient is a sum over states, but this model has continuous latents, too; "
            "use --reference=loo"
        )
    states = enumeration.count(model)
    closed_form = not bound and capability(model, "expected_objective") is not None
    if states > enumeration.MAX_STATES and not closed_form:
        number = str(states) if states < 10**9 else f"10^{len(str(states)) - 1} and more"
        raise RebarError(
            f"the exact gradient is a sum over all states of the latents: {number}, but at most "
            f"{enumeration.MAX_STATES} are enumerated (e.g. n_categories=8,n_latents=4, or 12 "
            "binary units in all layers together). For one layer with a linear decoder and "
            "likelihood=gaussian it is known at any size. Give --reference=loo to compare with a "
            "precise unbiased estimate instead"
        )
    about = {"kind": "exact", "states": None if closed_form else states}
    if isinstance(model, AtLogits):
        gradients = [exact_gradient(model, x)]
        about["effective_images"] = effective_images(np.reshape(gradients[0], [len(x), -1]))
    elif hasattr(model, "latent_shape") and not bound and not closed_form:
        gradients = exact_gradient_of_q(model, x)
    else:
        result = enumeration.bound_and_gradient(model, x, bound) if bound else _exact(model, x)
        ids = {id(v) for v in model.inference_variables}
        every = zip(model.trainable_variables, result.gradients, strict=True)
        gradients = [gradient for v, gradient in every if id(v) in ids]
    flat = np.concatenate([np.reshape(g, -1) for g in gradients])
    return Reference(flat.astype(np.float64), about)


def effective_images(gradient) -> float:
    """(sum_b |e_b|^2)^2 / sum_b |e_b|^4 of [B, P]: number of images that the gradient comes from.

    B if all have the same norm, 1 if a single one is not zero, as where posteriors saturate.
    """
    squares = np.sum(np.square(gradient), axis=1)
    shares = squares / (np.max(squares) or 1)
    return float(np.sum(shares) ** 2 / (np.sum(shares**2) or 1))
