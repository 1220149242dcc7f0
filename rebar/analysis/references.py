"""Gradients that estimates are compared with: the exact one, or a precise unbiased estimate."""

import time

import numpy as np
import tensorflow as tf

from rebar.analysis import at_logits
from rebar.analysis.bias_variance import Reference
from rebar.analysis.meter import Meter, Target, total
from rebar.core import enumeration
from rebar.errors import RebarError
from rebar.types import capability

_enumerated = tf.function(enumeration.elbo_and_gradient, autograph=False)


def exact(target: Target, model, x) -> Reference:
    """The exact gradient of the ELBO, by enumeration of the states of the latents.

    Raises:
      RebarError: there are more than `enumeration.MAX_STATES` states.
    """
    states = enumeration.count(model)
    if states > enumeration.MAX_STATES:
        number = str(states) if states < 10**9 else f"10^{len(str(states)) - 1} and more"
        raise RebarError(
            f"the exact gradient is a sum over all states of the latents: {number}, but at most "
            f"{enumeration.MAX_STATES} are enumerated (e.g. n_categories=8,n_latents=4, or 12 "
            "binary units in all layers together). Give --reference=loo to compare with a precise "
            "unbiased estimate instead"
        )
    start = time.perf_counter()
    if target.images:
        gradient = _flat([at_logits.exact_gradient(model, x)])
    elif capability(model, "latent_shape"):
        gradient = _flat(at_logits.exact_gradient_of_q(model, x))
    else:
        _, gradients = _enumerated(model, x)
        gradient = _flat([gradients[i] for i in target.indices])
    about = {"kind": "exact", "states": states, "seconds": time.perf_counter() - start}
    if target.images:
        about["effective_images"] = effective_images(gradient.reshape(len(x), -1))
    return Reference(gradient, about)


def effective_images(gradient) -> float:
    """(sum_b |e_b|^2)^2 / sum_b |e_b|^4 of [B, P]: number of images that the gradient comes from.

    B if all have the same norm, 1 if a single one is not zero, as where posteriors saturate.
    """
    squares = np.sum(np.square(gradient), axis=1)
    most = np.max(squares)
    return float(np.sum(squares / most) ** 2 / np.sum((squares / most) ** 2)) if most else 0.0


def exact_bound(target: Target, x, n_samples: int) -> Reference:
    """The exact gradient of the multi-sample bound; see `enumeration.bound_and_gradient`."""
    _, gradients = enumeration.bound_and_gradient(target.model, x, n_samples)
    gradient = _flat([gradients[i] for i in target.indices])
    return Reference(gradient, {"kind": "exact", "bound": n_samples})


def leave_one_out(meter: Meter, target: Target, x, n_draws: int, n_samples: int, seed) -> Reference:
    """The mean of leave-one-out estimates, independent of the draws that are compared with it.

    Args:
      meter: of the leave-one-out estimator with n_samples per example.
      target, x, n_draws, seed: see `Meter`.
      n_samples: recorded only.
    """
    start = time.perf_counter()
    groups, _ = meter(x, n_draws, seed, ("analysis", 1), c=np.zeros([sum(target.segments)]))
    complete = total(groups)
    error = float(np.sum(complete.variances)) / complete.n
    seconds = time.perf_counter() - start
    about = {"kind": "loo", "draws": n_draws, "samples": n_samples, "seconds": seconds}
    return Reference(complete.mean, about, error, groups)


def _flat(gradients) -> np.ndarray:
    """All components of a list of tensors, [P] in float64."""
    return np.concatenate([np.reshape(g, -1) for g in gradients]).astype(np.float64)
