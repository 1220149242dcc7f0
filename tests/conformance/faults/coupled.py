"""Coupled samples, antithetic pairs and sets of codes of categorical layers."""

import pytest
import tensorflow as tf

from rebar.core import categorical, category_trees, coupled, swapped, without_replacement
from tests.conformance.faults.planting import Fault, Float64, biased, replace, times
from tests.estimators import test_categorical_layers

TWO_CATEGORICAL_LAYERS = "unbiased: categorical layers"
ONE_LAYER = "unbiased: categorical, 1 layer"
_TESTS = Float64(test_categorical_layers)


def _released_ratio(true):
    """The ratio of the released code: smoothed by 1e-3 and clipped to [0.01, 10]."""

    def ratio(p, other_p, pair, independent):
        total = tf.reduce_mean(pair, axis=-1)
        return tf.clip_by_value((p * other_p + 1e-3) / (total + 1e-3), 0.01, 10)

    return ratio


def _one_order(true):
    """All variables take the first order, but pairs are weighted by the mean over all."""
    return lambda z, pi, below, ranks, independent, u: true(
        z, pi, below[:, :, :1], ranks[:1], independent, u
    )


def _by_index(true):
    """Categories in the order of their numbers."""
    return lambda logits: tf.zeros_like(logits, tf.int32) + tf.range(logits.shape[-1])


def _without_half(true):
    """Twice the term of nodes that one of the samples passes alone."""

    def factor(phi, main, other):
        (_, active), (_, active_other) = main, other
        single = tf.where(active == active_other, 1.0, 2.0)
        return true(phi, main, other) * tf.cast(single, phi.dtype)

    return factor


def _independent(true):
    return lambda phi, turn, active: tf.sigmoid(phi)


def _set_of_others(true):
    """R_s(S, s') = R(S, s'): the baseline does not know that s was drawn first."""

    def unordered(f, log_p):
        weight, _ = true(f, log_p)
        return weight, f - tf.reduce_sum(weight * f, axis=0)

    return unordered


def _inclusion(true):
    """R = 1 / P(S): without the probability of S given its first code."""

    def log_set_probabilities(log_p):
        of_set, of_one, of_pair = true(log_p)
        return of_set, tf.zeros_like(of_one), of_pair

    return log_set_probabilities


def _with_replacement(true):
    def further_codes(code, pi, u):
        k = u.shape[2] - 1
        index = categorical.hard_sample(
            tf.math.log(pi)[:, None], categorical.gumbels(tf.transpose(u[:, :, :k], [1, 2, 0, 3]))
        )
        return tf.argmax(index, axis=-1, output_type=tf.int32)

    return further_codes


def _the_mean_is_not_exact(label, shapes):
    def seen():
        with pytest.MonkeyPatch.context() as patch:
            _TESTS.test_the_mean_over_all_pairs_is_exact(label, shapes, patch)

    return seen


COUPLED = [
    Fault(
        "CARMS with the released code's ratio, peaked posterior",
        replace(coupled, "ratio", _released_ratio),
        lambda: _TESTS.test_carms_golden("peaked", 2),
    ),
    Fault(
        "CARMS without the ratio",
        replace(coupled, "ratio", lambda true: lambda p, *rest: tf.ones_like(p)),
        biased("CatCARMS", ONE_LAYER),
    ),
    Fault(
        "CARMS with one order of the categories",
        replace(coupled, "coupled", _one_order),
        biased("CatCARMS", TWO_CATEGORICAL_LAYERS),
    ),
    Fault(
        "DisARM-IW, categories not sorted",
        replace(category_trees, "ascending", _by_index),
        _the_mean_is_not_exact("DisARM-IW", "2x3"),
    ),
    Fault(
        "DisARM-IW, categories in descending order",
        replace(category_trees, "ascending", lambda true: lambda logits: true(-logits)),
        _the_mean_is_not_exact("DisARM-IW", "1x4"),
    ),
    Fault(
        "DisARM-IW without the weight",
        replace(
            category_trees,
            "pair_weight",
            lambda true: lambda phi, *_: tf.ones_like(phi[..., 0]),
        ),
        biased("CatDisARMIW", TWO_CATEGORICAL_LAYERS),
    ),
    *(
        Fault(
            f"{name} without 1/2 of nodes that one sample passes alone",
            replace(category_trees, "node_factor", _without_half),
            _the_mean_is_not_exact(name, "2x3"),
        )
        for name in ("DisARM-SB", "DisARM-Tree")
    ),
    *(
        Fault(
            f"{name} with independent decisions",
            replace(category_trees, "antithetic_probability", _independent),
            biased(f"Cat{name.replace('-', '')}", TWO_CATEGORICAL_LAYERS),
        )
        for name in ("DisARM-SB", "DisARM-Tree")
    ),
    Fault(
        "ARSM with the wrong sign",
        replace(swapped, "swap_gradient", times(-1)),
        biased("CatARSM", ONE_LAYER),
    ),
    Fault(
        "ARSM with swaps of one number for two",
        replace(swapped, "swaps", lambda true: lambda n: (true(n)[0], true(n)[1] % 2)),
        biased("CatARSM", TWO_CATEGORICAL_LAYERS),
    ),
    Fault(
        "UNORD with the baseline of the other ratio",
        replace(without_replacement, "unordered", _set_of_others),
        lambda: _TESTS.test_the_mean_over_all_sets_is_exact(9, 2),
    ),
    Fault(
        "UNORD with a wrong probability of the set",
        replace(without_replacement, "log_set_probabilities", _inclusion),
        lambda: _TESTS.test_the_mean_over_all_sets_is_exact(9, 5),
    ),
    Fault(
        "UNORD with codes that repeat",
        replace(without_replacement, "further_codes", _with_replacement),
        biased("CatUNORD", TWO_CATEGORICAL_LAYERS),
    ),
]
