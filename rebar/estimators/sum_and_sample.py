"""Local expectations of categorical variables, exact or in part (CatIndeCateR, CatSumAndSample).

Along the main chain z_1 ... z_L, let F_vc be f of the chain that has variable v of layer l in
category c, agrees with the main chain elsewhere up to layer l, and continues above with its noise.
With pi = softmax(logits_l), the gradient with respect to the logits of v is

    CatIndeCateR      g_vc = pi_vc (F_vc - sum_c' pi_vc' F_vc')
    CatSumAndSample   g_vc = w_vc (F_vc - b_v) - pi_vc sum_c' w_vc' (F_vc' - b_v)

In the latter, w_vc = pi_vc at the k most probable categories, w_vr = the probability of all others
at one of them, r, drawn in proportion to pi, and w_vc = 0 elsewhere; b_v is the mean of F_vc over
the k categories, weighted by pi. With k = C - 1, w = pi, and both are equal. f follows d log p at
the main chain.

Unbiased for the ELBO: given the other variables of layers 1 to l and the noise above, F_vc is a
function of the category of v, whose mean has the gradient of the first line. w is an unbiased
estimate of pi, and b_v is independent of r. r is the category outside the k whose logit plus noise
is largest: that of the main chain, if it is outside. So no other noise is needed, and no value is
computed twice.

1 + sum_l V_l (C_l - 1) evaluations of f per row, or 1 + sum_l V_l min(k, C_l - 1): the main chain's
value is that of its own category for all variables. The evaluations of a layer are one rollout.
Nothing is learned.

Source: IndeCateR, De Smet, Sansone & Zuidberg Dos Martires 2023 (arXiv 2311.12569); sum-and-sample,
Liu, Regier, Tripuraneni, Jordan & McAuliffe 2019 (arXiv 1810.04777). Differences from the papers:
any number of layers; the values share the samples of the other variables, and the main chain's
value is reused; sums of k categories are per variable, with the other variables sampled, where the
paper has one variable or sums over joint states, and b_v is subtracted.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import families, local_expectation
from rebar.errors import integer
from rebar.estimators.layerwise import Layerwise, values


class SumAndSample(Layerwise):
    """See the module's docstring.

    Args:
      n_exact: the number k of categories of each variable that are summed, at least 1; C - 1 or
        more sum over all.

    Metrics: none.
    """

    families = ("categorical",)
    verified: Sequence[Mapping[str, Any]] = ({}, {"n_exact": 2})

    def __init__(self, n_exact=1, **kwargs):
        super().__init__(**kwargs)
        self.n_exact = integer(n_exact, "n_exact", example=1)

    def _chains(self, shape):
        n_variables, n_categories = shape
        return n_variables * self._count(n_categories)

    def _count(self, n_categories):
        """Return k for variables of C categories."""
        return min(self.n_exact, n_categories - 1)

    def _cotangent(self, model, x, noise, hard, layer):
        z, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        gumbels = families.noise_at(noise, layer, logits)
        count = self._count(z.shape[2])
        others, gradient = local_expectation.chains(z, logits, gumbels, count)
        return gradient(values(model, x, noise, hard, layer, others))


class IndeCateR(SumAndSample):
    """See the module's docstring. Metrics: none."""

    verified: Sequence[Mapping[str, Any]] = ({},)

    def __init__(self, **kwargs):
        super().__init__(sys.maxsize, **kwargs)
