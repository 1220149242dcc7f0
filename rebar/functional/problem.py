"""Arguments of a method of `rebar.estimate_gradient`, and its noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core import families
from rebar.core.validity import Validity
from rebar.functional import arguments

_MAX_UNROLLED = 8
"""Maximum number of samples for which f is called without a loop, which runs up to twice as fast.

With a loop, compilation takes as long as for one call.
"""


class Problem(NamedTuple):
    """Arguments of a method.

    Attributes:
      f: samples [B, H] or [B, V, C] -> [B].
      logits: [B, H] or [B, V, C], a constant for tapes.
      source: uniforms shaped like the user's logits.
      validity: conditions of the call.
      options: the method's options.
    """

    f: Callable
    logits: tf.Tensor
    source: arguments.NoiseSource
    validity: Validity
    options: dict[str, Any]

    @property
    def family(self) -> families.Family:
        """Family of the logits."""
        return families.of(self.logits)

    def uniforms(self, *count: int) -> tf.Tensor:
        """Uniforms of a sample, shaped like `logits`, or of several, [K, ...]."""
        return arguments.shaped(self.source.samples(*count), self.logits, *count)

    def hard(self, u: tf.Tensor, sign: int = 1) -> tf.Tensor:
        """b (sign 1), or b~ (sign -1) for binary units."""
        return self.family.hard_sample(self.logits, sign * self.family.noise(u))

    def option(self, name: str, *shapes: Any, above_0: bool = False) -> tf.Tensor:
        """A numeric option: a scalar, or of one of the shapes, see `arguments.option_of`."""
        value = self.options[name]
        return arguments.option_of(
            value, name, self.logits, self.validity, *shapes, above_0=above_0
        )

    def relaxation(self) -> Callable:
        """Function (logits, noise) -> y."""
        rank = self.logits.shape.rank
        shapes = [0, *[None] * (rank - 1)], range(rank)
        temperature = self.option("temperature", *shapes, above_0=True)
        muprop = arguments.switch_of(self.options["muprop_relaxation"], "muprop_relaxation")
        return lambda logits, z: self.family.relaxed_sample(logits, z, temperature, muprop)


def values(f, samples, count):
    """f at each of the samples [K, B, ...]: [K, B]."""
    if count <= _MAX_UNROLLED:
        return tf.stack([f(b) for b in tf.unstack(samples, count)])
    _, values = tf.while_loop(
        lambda k, _: k < count,
        lambda k, values: (k + 1, values.write(k, f(samples[k]))),
        (0, tf.TensorArray(samples.dtype, count, element_shape=samples.shape[1:2])),
        maximum_iterations=count,
    )
    return values.stack()
