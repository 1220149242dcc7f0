"""ReDGE and ReinDGE: straight-through at the end of a short diffusion (CatReDGE, CatReinDGE).

z is a sample of p, which n - 1 softmaxes compute from Gaussian noise x and the logits:

    p_t = softmax(logits + a_t x_t / s_t^2),    s_t = 1 - a_t
    x_{t-1} = a_{t-1} p_t + s_{t-1} (x_t - a_t p_t) / s_t,     x_{n-1} = x,     p = p_1

with a_t on a line from 1 - t_1 at t = 1 to 0 at t = n - 1, n = `redge_steps` and t_1 = `redge_end`.
With u = d log p(x | z) / dz and J(p) u = p (u - <p, u>), d E log p(x | z) / d logits is replaced by

    CatReDGE     d <p, u>, u constant: through the logits in p, and through the chain
    CatReinDGE   1/2 J(p) u + 1/2 (z - p) <z - p, u>, plus d <p, u> through the chain alone

THE SAMPLES DO NOT FOLLOW THE POSTERIOR: z ~ p, and the mean of p over x is not softmax(logits),
while log q, divergences and bounds are those of softmax(logits). The total variation distance is
.15 for n = 2, which has no chain, and .014 and .006 for n = 3 and 5 (t_1 = .5, logits 1, 0, -1).
So the objective in training is not the ELBO, and the gradient of p is not that at samples of q;
evaluation is at samples of q. BIASED for the encoder's parameters in addition. One evaluation of f
per row and its derivative w.r.t. z, n - 1 softmaxes and L C normal numbers. Nothing is learned.

Source: Gourevitch, Durmus, Moulines, Olsson & Janati 2026 (arXiv 2601.00781). Difference from the
authors' code: a_{n-1} is 0 instead of 1e-4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import straight_through
from rebar.errors import RebarError, integer, is_number
from rebar.estimators.straight_through import SampledThrough
from rebar.types import Noise

_FURTHER = 2
"""Index of the diffusion's noise key."""


class ReDGE(SampledThrough):
    """See the module's docstring.

    Args:
      redge_steps: n, at least 2.
      redge_end: t_1, between 0 and 1.
    """

    generator_at_hard = False
    follows_posterior = False
    second_order = False
    verified: Sequence[Mapping[str, Any]] = ({"redge_steps": 3}, {"redge_end": 0.8})

    def __init__(self, redge_steps=5, redge_end=0.5, **kwargs):
        super().__init__(**kwargs)
        self.redge_steps = integer(redge_steps, "redge_steps", 2, example=5)
        if not is_number(redge_end) or not 0 < redge_end < 1:
            raise RebarError(f"redge_end={redge_end!r}: must be between 0 and 1; use e.g. 0.5")
        self.redge_end = redge_end

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        key = noise_module.further_key(noise, _FURTHER)
        normals = tf.math.ndtri(noise_module.uniforms(key, tf.shape(logits), logits.dtype))
        options = self.redge_steps, self.redge_end, self.second_order
        return straight_through.diffused_sample(logits, gumbels, normals, *options)


class ReinDGE(ReDGE):
    """See `ReDGE`."""

    second_order = True
    verified: Sequence[Mapping[str, Any]] = ({"redge_steps": 3},)
