"""REBAR with a learned baseline, and DynamicREBAR with a learned temperature.

With b ~ q hard, S_k = f at the sample that is hard under layer k and relaxed from k on, c(x) a
baseline, e_l = d log q_l / d logits_l (b_l - sigmoid(logits_l) for Bernoulli units), and S~_k = S_k
with the noise of layer k redrawn given b_k:

    f-part   - mean_n [ (f(b) - c(x)) d log q + d log p ]
    h-part     mean_n sum_k [ S_k d log q_k - d S_k + d S~_k ]
    g        = f-part + eta * h-part           eta: one scale per weight tensor

Unbiased for the ELBO: E[h-part] = 0. Given the layers under k, E[S_k d log q_k] = E[S~_k d log q_k]
and d E[S~_k] + E[S~_k d log q_k] = d E[S_k] (Tucker et al. 2017, section 3). This requires that
only the noise of layer k depends on the parameters: noise of a layer above k, conditional on its
hard sample, would need a score term as well. The 2017 code couples these layers, too, so its
quadratic control variate is biased above one layer; `coupling="all"` does the same.

S~_k = S_k in value with the same noise, so no extra rollout is needed: only the path through layer
k's noise z_k differs, which depends on the hard logits alone (docs/design.md):

    d S~_k - d S_k = (d logits_k)' R_k' dS_k/dz_k,    R_k from `families.coupling`

1 + L evaluations of f per row and L derivatives; the paper's form takes three for one layer.
eta, c and (DynamicREBAR) log T are learned by gradient descent on mean_components g^2, the variance
up to a constant, as in the 2017 code; their gradients are products with Jacobians (docs/design.md).

The paper's form, as a readable reference: `literal_rebar.py`.

Source: Tucker et al. 2017 (arXiv 1703.07370), equations 6-10 and section 3.2-3.3.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar.core import families
from rebar.core.validity import positive
from rebar.errors import RebarError
from rebar.estimators import logit_products, relaxed_terms
from rebar.estimators.base import (
    Estimator,
    active_layers,
    hard_rollout,
    make_baseline,
    positive_scale,
)
from rebar.types import Estimate, Model, Noise, Rollout, Shapes


class REBAR(Estimator):
    """REBAR at a constant temperature (2017: SBNRebar). See the module's docstring.

    Args:
      temperature: T > 0 of the relaxation; the initial value for DynamicREBAR.
      quadratic: one relaxed rollout per layer, hard under it (L rollouts); else a single one,
        relaxed at every layer.
      muprop_relaxation: relaxation that tends to the mean as T grows, else Concrete.
      coupling: "switch" (unbiased) or "all" (2017; biased above one layer if quadratic).

    Metrics: eta per weight tensor of the model, in order. Those of p_* and prior, on which samples
    do not depend, have no effect and stay 1.
    """

    unbiased = True
    relaxes = True
    generator_at_hard = True
    verified: Sequence[Mapping[str, Any]] = (
        {},
        {"quadratic": False},
        {"muprop_relaxation": False},
        {"quadratic": False, "coupling": "all"},
    )
    control_off: Mapping[str, float] = {"raw_eta": -40.0}

    def __init__(
        self,
        temperature=0.5,
        quadratic=True,
        muprop_relaxation=True,
        coupling="switch",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if coupling not in ("switch", "all"):
            raise RebarError(f"coupling={coupling!r}: choose from switch, all")
        self.initial_temperature = float(positive(temperature, "temperature"))
        self.quadratic = quadratic
        self.muprop_relaxation = muprop_relaxation
        self.coupling = coupling

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return (1 + (len(shapes) if self.quadratic else 1)) * n_samples

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create the scales and the baseline."""
        if self.coupling == "all" and self.quadratic and len(model.n_units) > 1:
            self.unbiased = False
        self.eta_names = [
            "/".join(name.split("/")[-2:]) for name in logit_products.parameter_names(model)
        ]
        self.raw_eta = self.add_weight(
            shape=(len(self.eta_names),), initializer="zeros", name="raw_eta"
        )
        self.baseline = make_baseline(model, seed, f"{self.name}_baseline")

    def log_temperature_value(self) -> tf.Tensor:
        """log T, a scalar."""
        return tf.math.log(tf.constant(self.initial_temperature, self.compute_dtype))

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        return self._estimate(model, x, noise, with_temperature=False)

    def _estimate(self, model, x, noise, with_temperature):
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        space = logit_products.space(model, x, noise, hard, tape)
        with tf.GradientTape() as baseline_tape:
            baseline = self.baseline(x, n_samples=noise.n_samples)
        with tf.GradientTape() as eta_tape:
            eta = positive_scale(self.raw_eta)
        f = tf.stop_gradient(hard.objective)
        rows = tf.cast(tf.shape(f)[0], f.dtype)
        scores = relaxed_terms.scores(hard, active_layers(model, len(hard.logits)))

        # g of q's variables; p's have no h-part.
        signal = (baseline - f) / rows
        cotangents, cotangents_dt = self._control_variate(
            model, x, noise, hard, scores, with_temperature
        )
        q = space.scaled(
            [families.column(signal, e) * e for e in scores], [c / rows for c in cotangents], eta
        )

        # Gradients of V = mean g^2 w.r.t. eta and the baseline, in which g is linear.
        scale = space.factor
        eta_gradient = scale * space.eta_gradient(q.inner_with_h)
        baseline_gradient = scale / rows * _row_sums(q.along_g, scores)
        control = [
            (self.raw_eta, eta_tape.gradient(eta, self.raw_eta, eta_gradient)),
            *zip(
                self.baseline.trainable_variables,
                baseline_tape.gradient(
                    baseline, self.baseline.trainable_variables, baseline_gradient
                ),
                strict=True,
            ),
        ]
        if with_temperature:
            total = tf.reduce_sum(_row_sums(q.along_scaled_g, cotangents_dt))
            control.append((self.log_temperature, scale / rows * total))
        g = space.gradients(q.g)
        return Estimate(g, self.aligned(*control), f, self.metrics_at(model, x, noise, hard))

    def _control_variate(self, model, x, noise, hard, scores, with_temperature):
        """Cotangents L x [N, H] of the hard logits for the h-part, before the mean:

            S_l e_l + R_l' sum of dS_k/dz_l over the relaxed rollouts k coupled at l

        and optionally their derivatives with respect to log T.
        """
        layers = list(range(len(hard.logits)))
        active = active_layers(model, len(layers))
        coupled = {
            k: [k] if self.quadratic and self.coupling == "switch" else layers[k:]
            for k in (active if self.quadratic else [0])
        }
        terms, terms_dt = relaxed_terms.relaxed_objectives(
            model,
            x,
            noise,
            hard,
            coupled,
            self.log_temperature_value(),
            self.muprop_relaxation,
            with_temperature,
        )
        r = relaxed_terms.couplings(hard, noise)
        return (
            relaxed_terms.cotangents(terms, scores, r),
            relaxed_terms.cotangents(terms_dt, scores, r) if with_temperature else None,
        )

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        etas = tf.unstack(positive_scale(self.raw_eta))
        return {f"eta/{name}": eta for name, eta in zip(self.eta_names, etas, strict=True)}


class DynamicREBAR(REBAR):
    """REBAR with a learned log temperature (2017: SBNDynamicRebar).

    Metrics: temperature, then REBAR's.
    """

    verified: Sequence[Mapping[str, Any]] = ({},)

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create the scales, the baseline and the log temperature."""
        super().setup(model, seed)
        self.log_temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial_temperature)),
            name="log_temperature",
        )

    def log_temperature_value(self):
        """log T, a scalar."""
        return tf.convert_to_tensor(self.log_temperature)

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        return self._estimate(model, x, noise, with_temperature=True)

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        temperature = tf.exp(self.log_temperature_value())
        return {"temperature": temperature, **super().metrics_at(model, x, noise, hard)}


def _row_sums(a, b):
    """sum_l sum_units a_l b_l: [N]."""
    return tf.add_n([families.row_sum(u * v) for u, v in zip(a, b, strict=True)])
