"""Who updates what: Adam as TensorFlow 1 had it, RAdam or gradient descent, for a model's parts.

    Adam   m <- m + (1 - beta1) (g - m),    v <- v + (1 - beta2) (g^2 - v)
           w <- w - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)
    RAdam  the same step times the rectification r_t if rho_t > 5,
           else w <- w - lr / (1 - beta1^t) * m
           rho_t = rho - 2 t beta2^t / (1 - beta2^t),   rho = 2 / (1 - beta2) - 1
           r_t^2 = (rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)
    SGD    w <- w - lr g

Adam: Kingma & Ba 2015, the form at the end of section 2, in which epsilon is not bias-corrected.
Keras' Adam has the same form; its update takes twice as long where it is not compiled.
RAdam: Liu et al. 2020 (arXiv 1908.03265), algorithm 2, with PyTorch's threshold 5 instead of 4, and
epsilon added to sqrt(v) before the bias correction, as there.
"""

import dataclasses

import keras
import tensorflow as tf

from rebar.errors import RebarError
from rebar.types import capability


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates of a model's parts, where they are not that of the model; 0: they are.

    Attributes:
      generator: of p but for the prior.
      prior: of p(b_L).
      prior_optimizer: of p(b_L), "adam" or "sgd".
      control: of the control variates; 0: ten times that of the model (2017).
      optimizer: of the model but for a prior that has its own, "adam" or "radam".
    """

    generator: float = 0.0
    prior: float = 0.0
    prior_optimizer: str = "adam"
    control: float = 0.0
    optimizer: str = "adam"


def for_model(model, learning_rate: float, beta2: float, rates: Rates) -> dict:
    """Name -> (optimizer, its variables): "optimizer", and one for each part that has its own.

    Each trainable variable of the model is in one list. "optimizer" has those of q at least.

    Raises:
      RebarError: an unknown `prior_optimizer`, or a rate for the prior of a model that has no
        attribute `prior_variables`.
    """
    if rates.prior_optimizer not in ("adam", "sgd"):
        raise RebarError(f"prior_optimizer={rates.prior_optimizer!r}: choose from adam, sgd")
    if rates.optimizer not in MODEL_OPTIMIZERS:
        raise RebarError(
            f"optimizer={rates.optimizer!r}: choose from {', '.join(MODEL_OPTIMIZERS)}"
        )
    own_prior = rates.prior > 0 or rates.prior_optimizer == "sgd"
    prior = capability(model, "prior_variables")
    if own_prior and prior is None:
        raise RebarError(
            f"{type(model).__name__} does not say which variables are its prior's, so they cannot "
            "have an optimizer of their own; give the model an attribute prior_variables"
        )
    names = {id(v): "optimizer" for v in model.inference_variables}
    names |= {id(v): "prior_optimizer" if own_prior else "optimizer" for v in prior or ()}
    rest = "generator_optimizer" if rates.generator > 0 else "optimizer"
    parts: dict = {}
    for v in model.trainable_variables:
        parts.setdefault(names.get(id(v), rest), []).append(v)
    make = {
        "optimizer": lambda v: MODEL_OPTIMIZERS[rates.optimizer](learning_rate, beta2, v),
        "generator_optimizer": lambda v: MODEL_OPTIMIZERS[rates.optimizer](
            rates.generator, beta2, v
        ),
        "prior_optimizer": lambda v: (
            sgd(rates.prior or learning_rate, v)
            if rates.prior_optimizer == "sgd"
            else adam(rates.prior, beta2, v)
        ),
    }
    return {name: (make[name](parts[name]), parts[name]) for name in make if name in parts}


def adam(learning_rate: float, beta2: float, variables):
    """Adam for these variables, with the state made; None if there are none."""
    return _adaptive(FusedAdam, learning_rate, beta2, variables)


def radam(learning_rate: float, beta2: float, variables):
    """RAdam for these variables, with the state made; None if there are none."""
    return _adaptive(FusedRAdam, learning_rate, beta2, variables)


def _adaptive(kind, learning_rate, beta2, variables):
    if not variables:
        return None
    optimizer = kind(learning_rate, beta_1=0.9, beta_2=beta2, epsilon=1e-8)
    optimizer.build(variables)
    return optimizer


def sgd(learning_rate: float, variables):
    """Gradient descent for these variables."""
    optimizer = FusedSGD(learning_rate)
    optimizer.build(variables)
    return optimizer


class _ApplyAfter:
    """What both have in common: updates that wait for a value."""

    _factor: tf.Tensor | float = 1.0

    def apply_after(self, finite, gradients, variables):
        """Apply, but only once `finite`, a boolean scalar, is known; with rate 0 if it is false.

        `finite` should depend on all that reads the variables. XLA orders by data alone, and copies
        a variable whose update it cannot place after the last use of the old value.
        """
        self._factor = tf.cast(finite, variables[0].dtype)
        self.apply(gradients, variables)
        self._factor = 1.0


class FusedAdam(_ApplyAfter, keras.optimizers.Adam):
    """Keras' Adam with the update done by TensorFlow's kernel; same arguments, same state."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable and its moments."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=self._factor * tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=gradient,
        )


class FusedRAdam(FusedAdam):
    """Rectified Adam; arguments and state are those of Adam."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable and its moments."""
        dtype = variable.dtype
        # In float64: at the first steps rho_t is a small difference of large numbers.
        step = tf.cast(self.iterations + 1, tf.float64)
        beta_1, beta_2 = (tf.cast(b, tf.float64) for b in (self.beta_1, self.beta_2))
        decayed = tf.pow(beta_2, step)
        longest = 2 / (1 - beta_2) - 1
        length = longest - 2 * step * decayed / (1 - decayed)
        rectified = length > 5
        safe = tf.where(rectified, length, 5)
        rectification = tf.sqrt(
            (safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)
        )
        adaptive = tf.cast(rectification * tf.sqrt(1 - decayed), dtype)
        rate = (
            self._factor * tf.cast(learning_rate, dtype) / tf.cast(1 - tf.pow(beta_1, step), dtype)
        )
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        beta_1, beta_2 = tf.cast(beta_1, dtype), tf.cast(beta_2, dtype)
        m.assign(m + (1 - beta_1) * (gradient - m))
        v.assign(v + (1 - beta_2) * (tf.square(gradient) - v))
        divisor = (tf.sqrt(tf.convert_to_tensor(v)) + self.epsilon) / adaptive
        variable.assign(variable - rate * m / tf.where(rectified, divisor, 1))


class FusedSGD(_ApplyAfter, keras.optimizers.SGD):
    """Keras' gradient descent, without momentum, with the update done by TensorFlow's kernel."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle,
            alpha=self._factor * tf.cast(learning_rate, variable.dtype),
            delta=gradient,
        )


MODEL_OPTIMIZERS = {"adam": adam, "radam": radam}
"""What the hparam `optimizer` can say -> the function that makes it."""
