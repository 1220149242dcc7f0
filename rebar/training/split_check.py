"""Whether an estimator's numbers can be put together from the parts of a minibatch.

An estimator of the user's own may mix rows without asking its noise's share; its gradients would be
wrong with several workers, and nothing else would show it. So a run of several workers begins by
estimating at a few images both ways.
"""

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.core import gradients
from rebar.errors import RebarError
from rebar.training.learner import of_all_rows
from rebar.training.workers import Team, telling_of_loss

_RELATIVE, _OF_ALL = 1e-2, 1e-4
"""Allowed distance of a tensor: relative to its norm, plus relative to that of all together. Far
above rounding; a centring over the wrong rows changes a gradient by as much as it is large."""


def check_split(model, estimator, images, n_samples: int, team: Team) -> None:
    """Compare the estimate of 2 images a worker with that put together from the workers' parts.

    Args:
      model, estimator: set up, with the same values on all workers.
      images: of the training set, as it is.
      n_samples: S.
      team: all of which call this alike.

    Raises:
      RebarError: a gradient differs; names the estimator.
    """
    images = images[: min(len(images), 2 * team.size)]
    part = team.part(len(images))
    keys = [noise.key(0, "analysis", i) for i in range(2)]

    def distances():
        x = tf.cast(images, model.compute_dtype)
        drawn = noise.latents(keys[0], n_samples, len(images), model.n_units, x.dtype)
        if estimator.branches:
            drawn = noise.with_branches(drawn, keys[1])
        uniforms, branches = tf.nest.map_structure(
            lambda u: part.take(u, n_samples), (drawn.uniforms, drawn.branches)
        )
        own = drawn._replace(uniforms=uniforms, branches=branches, share=part)
        of_part = estimator.estimate(model, x[part.first : part.first + part.images], own)
        return [
            (_squares([a - b for a, b in zip(one, other, strict=True)]), _squares(one))
            for one, other in zip(
                _tensors(estimator.estimate(model, x, drawn)),
                _tensors(of_all_rows(of_part, part)),
                strict=True,
            )
        ]

    with telling_of_loss():
        found = tf.function(distances, autograph=False)()
    for distance, norm in found:
        distance, norm = np.sqrt(distance), np.sqrt(norm)
        if np.any(distance > _RELATIVE * norm + _OF_ALL * np.linalg.norm(norm)):
            raise RebarError(
                f"{type(estimator).__name__} gives other gradients when workers share a minibatch: "
                "it mixes rows without asking noise.share (docs/workers.md). Mend it, or train "
                "with --workers=1"
            )


def _tensors(estimate) -> list:
    """Lists of gradients that are compared, each with a norm of its own."""
    lists = [estimate.gradients, *estimate.tracked.values(), estimate.control_gradients]
    return [values for values in lists if len(values)]


def _squares(values) -> tf.Tensor:
    return tf.stack([gradients.sum_of_squares(v) for v in values])
