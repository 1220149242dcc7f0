"""RELAX: REBAR with a free-form network in addition to the relaxed f (SBNRelax).

With b ~ q hard, noise z_k of the logits, and S_k = f at the sample that is hard under layer k and
relaxed, sigmoid((logits + z) / T) or softmax, from k on, the control variate of layer k is

    c_k  = s [ S_k + r_k(in_k, logits_k + z_k) ]    in_k: input of q's layer k, x - mean or 2 b - 1;
                                                    the logits for objectives
    c~_k = c_k with the noise of layer k redrawn given b_k

    g = - mean_n [ sum_k ( (f(b) - c~_k) d log q_k + d c_k - d c~_k )  +  d log p ]

with total derivatives d c, d c~ at fixed hard samples. Each r_k is a separate network,
Dense(137) - LeakyReLU(0.3) - Dense(1).

Unbiased for the ELBO at every layer: given the layers under k, r_k is a function of layer k's noise
alone, and S_k of that and of unconditional noise above it, so the proof for REBAR (docs/design.md)
holds for c_k with any s, T and r_k.

The noise given b_k is coupled such that it equals z_k, so c~_k = c_k in value. The direct paths of
the logits into r_k cancel; the path through the noise remains, as in S_k:

    d c~_k - d c_k = (d logits_k)' R_k' s (dS_k/dz_k + dr_k/dz_k),    R_k from `families.coupling`

1 + L evaluations of f per row and L derivatives; the papers' form takes three for one layer.
T, s and all weights of r are learned by gradient descent on mean_components g^2.

The papers' form, as a readable reference: `literal_relax.py`.

Source: Grathwohl et al. 2018 (arXiv 1711.00123), the estimator g_RELAX; form of c and sizes of r as
in Dong, Mnih & Tucker 2020 (arXiv 2006.10680). Differences from the latter's code: the noise given
b is that of b instead of an independent one; the layers above k are relaxed (there they are sampled
hard, without a score, which biases all layers but the last); mean instead of sum of squares; the
inputs of r are those of q, and its initial weights those of other networks here. The relaxation is
Concrete, as there, for any value of the hyperparameter muprop_relaxation.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import families, gradients
from rebar.core.initializers import FanInInitializer
from rebar.core.validity import positive
from rebar.estimators import logit_products, relaxed_terms
from rebar.estimators.base import Estimator, active_layers, flat_rows, hard_rollout
from rebar.types import Estimate, Model, Noise, Rollout, Shapes


class ControlNetwork(keras.layers.Layer):
    """Network r(inputs, z) of the inputs of a layer of q and its noisy logits.

    Args:
      n_input, n_units: widths of inputs and z.
      seed: seed of the initial weights.
      hidden: number of LeakyReLU units.
    """

    def __init__(self, n_input, n_units, seed=0, hidden=137, name="free_form", **kwargs):
        super().__init__(name=name, **kwargs)
        self._widths = [n_input, n_units]

        def kernel(shape, part):
            initializer = FanInInitializer(noise_module.initializer_seed(seed, f"{name}_{part}"))
            return self.add_weight(shape=shape, initializer=initializer, name=f"{part}_kernel")

        self.hidden_kernel = kernel((n_input + n_units, hidden), "hidden")
        self.hidden_bias = self.add_weight((hidden,), "zeros", name="hidden_bias")
        self.output_kernel = kernel((hidden, 1), "output")
        self.output_bias = self.add_weight((1,), "zeros", name="output_bias")
        self.built = True

    def call(self, inputs: tf.Tensor, z: tf.Tensor, copies: int = 1) -> tf.Tensor:
        """inputs [N / copies, n_input], repeated `copies` times, and z [N, n_units] -> [N]."""
        of_inputs, of_z = tf.split(tf.convert_to_tensor(self.hidden_kernel), self._widths)
        a = tf.tile(tf.matmul(inputs, of_inputs) + self.hidden_bias, [copies, 1])
        a += tf.matmul(z, of_z)
        # tf.nn.leaky_relu rounds its slope to float32.
        hidden = tf.maximum(a, 0.3 * a)
        return (tf.matmul(hidden, self.output_kernel) + self.output_bias)[:, 0]


class RELAX(Estimator):
    """See the module's docstring.

    Args:
      temperature: initial T > 0 (0.1 in the papers).
      hidden: hidden units per r_k.

    Metrics: temperature T, scale s.
    """

    unbiased = True
    relaxes = True
    generator_at_hard = True
    verified: Sequence[Mapping[str, Any]] = ({"hidden": 10},)  # enough for two units per layer
    control_off: Mapping[str, float] = {"log_scale": -40.0}

    def __init__(self, temperature=0.1, hidden=137, **kwargs):
        super().__init__(**kwargs)
        self.initial_temperature = float(positive(temperature, "temperature"))
        self.hidden = hidden

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return (1 + len(shapes)) * n_samples

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create log T, log s and the networks."""
        self.log_temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial_temperature)),
            name="log_temperature",
        )
        self.log_scale = self.add_weight(shape=(), initializer="zeros", name="log_scale")
        self.input_mean = model.input_mean
        inputs = list(model.n_units)  # of objectives: logits
        if self.input_mean is not None:
            inputs = [math.prod(model.input_mean.shape), *model.n_units[:-1]]
        self.networks = [
            ControlNetwork(
                n_input,
                width,
                seed,
                self.hidden,
                name=f"{self.name}_r_{k}",
                dtype=self.dtype_policy,
            )
            for k, (n_input, width) in enumerate(zip(inputs, model.n_units, strict=True))
        ]

    def log_temperature_value(self) -> tf.Tensor:
        """log T, a scalar."""
        return tf.convert_to_tensor(self.log_temperature)

    def scale(self) -> tf.Tensor:
        """s, a scalar."""
        return tf.exp(tf.convert_to_tensor(self.log_scale))

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        f = tf.stop_gradient(hard.objective)
        rows = tf.cast(tf.shape(f)[0], f.dtype)
        active = active_layers(model, len(hard.logits))
        scores = relaxed_terms.scores(hard, active)
        rho = relaxed_terms.couplings(hard, noise)
        relaxed, relaxed_dt = relaxed_terms.relaxed_objectives(
            model,
            x,
            noise,
            hard,
            coupled={k: [k] for k in active},
            log_temperature=self.log_temperature_value(),
            muprop_relaxation=False,
            with_temperature=True,
        )
        with tf.GradientTape() as control_tape:
            scale = self.scale()
            free = self.free_form_terms(x, noise, hard, active)
            total = tf.nest.map_structure(tf.add, relaxed, free)
            control = [scale * k for k in relaxed_terms.cotangents(total, scores, rho)]
        space = logit_products.space(model, x, noise, hard, tape)
        of_q, along_g = space.plain(
            [(k - families.column(f, e) * e) / rows for k, e in zip(control, scores, strict=True)]
        )
        g = space.gradients(of_q)

        # dV = <2 J g / (P N), d control> for V = mean g^2.
        along = [space.factor / rows * t for t in along_g]
        weights = [v for v in self.trainable_variables if v is not self.log_temperature]
        control_dt = relaxed_terms.cotangents(relaxed_dt, scores, rho)
        gradient = self.aligned(
            (self.log_temperature, scale * gradients.inner(along, control_dt)),
            *zip(
                weights,
                gradients.gradient_or_zero(control_tape, control, weights, along),
                strict=True,
            ),
        )
        return Estimate(g, gradient, f, self.metrics_at(model, x, noise, hard))

    def free_form_terms(self, x, noise, hard, active):
        """Return r_k [N] and dr_k/dz_k [N, ...] per layer."""
        if self.input_mean is None:
            inputs = [families.flat(tf.stop_gradient(a)) for a in hard.logits]
        else:
            below = [families.inputs(b) for b in hard.samples[:-1]]
            inputs = [flat_rows(x - self.input_mean), *below]
        values, derivatives = {}, {}
        for k in active:
            network = self.networks[k]
            logits = tf.stop_gradient(hard.logits[k])
            z = families.noise_at(noise, k, logits)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(z)
                noisy = families.of(logits).noisy_logits(logits, z)
                per_example = k == 0 and self.input_mean is not None
                values[k] = network(inputs[k], noisy, copies=noise.n_samples if per_example else 1)
            derivatives[k] = {k: tape.gradient(values[k], z)}
        return relaxed_terms.Terms(values, derivatives)

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return {"temperature": tf.exp(self.log_temperature_value()), "scale": self.scale()}
