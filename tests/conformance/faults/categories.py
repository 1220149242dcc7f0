"""Estimators for categorical layers."""

import tensorflow as tf

from rebar.core import families, samplers
from rebar.estimators import sum_and_sample
from tests.conformance.faults.planting import Fault, biased, module_with, replace, times

ONE_LAYER = "unbiased: categorical, 1 layer"
TWO_LAYERS = "unbiased: categorical layers, 2 layers"


def _interleaved(values, n_samples):
    """Copies of each row next to each other."""
    return tf.repeat(values, n_samples, axis=0)


def _of_another_variable(true):
    return lambda z, others: true(z, tf.roll(others, 1, axis=1))


def _most_probable(true):
    return lambda logits, gumbels, top: true(logits, 0 * gumbels, top)


def _noise_of_another_variable(true):
    return lambda logits, gumbels, top: true(logits, tf.roll(gumbels, 1, axis=1), top)


CATEGORIES = [
    Fault(
        "chains with the lower layers and the noise of other rows",
        replace(samplers, "families", lambda true: module_with(families, repeated=_interleaved)),
        biased("CatIndeCateR", TWO_LAYERS),
    ),
    Fault(
        "IndeCateR with the categories of another variable",
        replace(sum_and_sample, "_with_others", _of_another_variable),
        biased("CatIndeCateR", ONE_LAYER),
    ),
    Fault(
        "IndeCateR with half of the mean over categories",
        replace(sum_and_sample, "_dot", times(0.5)),
        biased("CatIndeCateR", ONE_LAYER),
    ),
    Fault(
        "sum-and-sample with the most probable of the rest",
        replace(sum_and_sample, "_best_of_rest", _most_probable),
        biased("CatSumAndSample", ONE_LAYER),
    ),
    Fault(
        "sum-and-sample with the noise of another variable",
        replace(sum_and_sample, "_best_of_rest", _noise_of_another_variable),
        biased("CatSumAndSample", ONE_LAYER),
    ),
]
