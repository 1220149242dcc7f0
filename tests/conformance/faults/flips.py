"""Chains with one unit flipped: LEG, BitFlip, UGC and tUGC."""

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import families, samplers
from rebar.estimators import bit_flip, leg
from rebar.models.sbn import SigmoidBeliefNetwork
from tests.conformance.faults.planting import (
    TWO_LAYERS,
    Fault,
    biased,
    module_with,
    replace,
    times,
)
from tests.estimators import test_flips


def _above_fixed(true):
    """Values of chains that keep the samples above the layer."""

    def values(model, x, noise, hard, layer, samples):
        copies = samples.shape[0]
        fixed = [families.repeated(b, copies) for b in hard.samples]
        fixed[layer] = tf.reshape(samples, fixed[layer].shape)
        f = model.rollout(x, samplers.fixed(fixed), copies * noise.n_samples).objective
        return tf.reshape(tf.concat([hard.objective, f], axis=0), [1 + copies, -1])

    return values


def _without_log_q(true):
    def flipped(self, x, rollout, *rest):
        return true(self, x, rollout._replace(logits=[0 * a for a in rollout.logits]), *rest)

    return flipped


def _one_draw(true):
    """The unit is drawn once, at tracing."""

    def uniforms(key, shape, dtype):
        return tf.fill(shape, tf.constant(0.7, dtype))

    return module_with(noise_module, uniforms=uniforms)


def _others(true):
    def units(self, rare):
        flips, _ = true(self, rare)
        return flips, 1 - flips

    return units


FLIPS = [
    Fault(
        "LEG with the flips of other units",
        replace(leg, "_flipped", lambda true: lambda *rest: tf.roll(true(*rest), 1, axis=1)),
        biased("SBNLEG"),
    ),
    Fault(
        "LEG with flips of the last layer without log q",
        replace(SigmoidBeliefNetwork, "flipped", _without_log_q),
        biased("SBNLEG"),
    ),
    Fault(
        "LEG whose flips leave the layers above as they are",
        replace(leg, "values", _above_fixed),
        biased("SBNLEG", TWO_LAYERS),
    ),
    *(
        Fault(
            f"a unit of {name} that is drawn once, as in published code",
            replace(bit_flip, "noise_module", _one_draw),
            biased(name),
        )
        for name in ("SBNBitFlip", "SBNUGC")
    ),
    Fault(
        "UGC with flips of another weight",
        replace(bit_flip, "_derivative", times(0.5)),
        biased("SBNUGC"),
    ),
    Fault(
        "tUGC that flips units which have DisARM's term",
        replace(bit_flip.TruncatedUGC, "_units", _others),
        biased("SBNtUGC"),
    ),
    Fault(
        "tUGC with as many flips as UGC",
        replace(bit_flip.TruncatedUGC, "_units", lambda true: bit_flip.UGC._units),
        lambda: test_flips.test_the_units_with_flips([0.2, 0.25, 0.1], [1, 0, 1]),
    ),
]
