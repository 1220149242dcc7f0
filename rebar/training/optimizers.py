"""Adam as in TensorFlow 1, RAdam and gradient descent, for the parts of a model.

    Adam   m <- m + (1 - beta1) (g - m),    v <- v + (1 - beta2) (g^2 - v)
           w <- w - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)
    RAdam  the same step times the rectification r_t if rho_t > 5,
           else w <- w - lr / (1 - beta1^t) * m
           rho_t = rho - 2 t beta2^t / (1 - beta2^t),   rho = 2 / (1 - beta2) - 1
           r_t^2 = (rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)
    SGD    w <- w - lr g

Adam: Kingma & Ba 2015, the form at the end of section 2, in which epsilon is not bias-corrected.
Keras' Adam has the same form; its update takes twice as long where it is not compiled.
RAdam: Liu et al. 2020 (arXiv 1908.03265), algorithm 2, with threshold 5 instead of 4 and epsilon
added to sqrt(v) before the bias correction, as in PyTorch.
"""

import dataclasses

import keras
import tensorflow as tf

from rebar.core.gradients import variable_names
from rebar.errors import RebarError
from rebar.types import capability


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates of a model's parts; 0: that of the model.

    Attributes:
      generator: of p without the prior.
      prior: of p(b_L).
      prior_optimizer: of p(b_L), "adam" or "sgd".
      control: of the control variates; 0: ten times that of the model (2017).
      optimizer: of the model, "adam" or "radam".
    """

    generator: float = 0.0
    prior: float = 0.0
    prior_optimizer: str = "adam"
    control: float = 0.0
    optimizer: str = "adam"


def for_model(model, variables, learning_rate: float, beta2: float, rates: Rates) -> dict:
    """Name -> (optimizer, its variables): "optimizer", and one for each part with its own rate.

    Each of `variables` is in one list; "optimizer" has at least those of q.

    Raises:
      RebarError: a rate for the prior of a model that has no attribute `prior_variables`.
    """
    separate = rates.prior > 0 or rates.prior_optimizer == "sgd"
    prior = capability(model, "prior_variables")
    if separate and prior is None:
        raise RebarError(
            f"{type(model).__name__} has no attribute prior_variables, so its prior cannot have a "
            "separate optimizer; add it, or leave out learning_rate_prior and prior_optimizer"
        )
    names = {id(v): "optimizer" for v in model.inference_variables}
    names |= {id(v): "prior_optimizer" if separate else "optimizer" for v in prior or ()}
    generator = "generator_optimizer" if rates.generator > 0 else "optimizer"
    parts: dict = {}
    for v in variables:
        parts.setdefault(names.get(id(v), generator), []).append(v)
    kinds = {
        "optimizer": (rates.optimizer, learning_rate, beta2),
        "generator_optimizer": (rates.optimizer, rates.generator, beta2),
        "prior_optimizer": (rates.prior_optimizer, rates.prior or learning_rate, beta2),
    }
    return _of_parts(kinds, parts)


def for_control(estimator, learning_rate: float, beta2: float) -> dict:
    """Name -> (optimizer, its variables): "control_optimizer", and one for each of `control_rates`.

    Empty if the estimator learns nothing.

    Raises:
      RebarError: a part in `control_rates` occurs in no name of a remaining weight.
    """
    kinds, parts = {"control_optimizer": ("adam", learning_rate, beta2)}, {}
    for label, member in estimator.members().items():
        names = variable_names(member.trainable_variables)
        names = [name.removeprefix(f"{member.name}/") for name in names]
        owners = [next((p for p in member.control_rates if p in name), "") for name in names]
        for part, (factor, decay) in member.control_rates.items():
            if part not in owners:
                raise RebarError(
                    f"control_rates of {type(member).__name__}: {part!r} is the first match of no "
                    f"weight; use parts of the names {', '.join(names) or '(it has no weights)'}"
                )
            kinds[_path(label, part)] = "adam", factor * learning_rate, decay
        for owner, v in zip(owners, member.trainable_variables, strict=True):
            parts.setdefault(_path(label, owner) if owner else "control_optimizer", []).append(v)
    return _of_parts(kinds, parts)


def _path(label: str, part: str) -> str:
    return "/".join(filter(None, ("control_optimizer", label, part)))


def _of_parts(kinds: dict, parts: dict) -> dict:
    """Name -> (optimizer, its variables), of the names in `parts` and in the order of `kinds`."""
    return {
        name: (build(*kind, parts[name]), parts[name])
        for name, kind in kinds.items()
        if name in parts
    }


def build(kind: str, learning_rate: float, beta2: float, variables):
    """Return the optimizer "adam", "radam" or "sgd" for variables, with its state."""
    if kind == "sgd":
        optimizer = FusedSGD(learning_rate)
    else:
        make = FusedAdam if kind == "adam" else FusedRAdam
        optimizer = make(learning_rate, beta_1=0.9, beta_2=beta2, epsilon=1e-8)
    optimizer.build(variables)
    return optimizer


class _ApplyAfter:
    """Mixin that delays updates until a value is available."""

    _factor: tf.Tensor | float = 1.0

    def apply_after(self, finite, gradients, variables):
        """Apply after `finite`, a boolean scalar, is computed; with rate 0 if it is false.

        `finite` should depend on all reads of the variables: XLA orders by data alone, and copies
        a variable that it cannot update after the last read.
        """
        self._factor = tf.cast(finite, variables[0].dtype)
        self.apply(gradients, variables)
        self._factor = 1.0


class FusedAdam(_ApplyAfter, keras.optimizers.Adam):
    """Keras' Adam, updated by TensorFlow's kernel; same arguments and state."""

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
    """Rectified Adam, with the arguments and state of Adam."""

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
    """Keras' gradient descent without momentum, updated by TensorFlow's kernel."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle,
            alpha=self._factor * tf.cast(learning_rate, variable.dtype),
            delta=gradient,
        )
