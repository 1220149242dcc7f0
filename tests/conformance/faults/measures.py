"""Measured variances and biases, comparisons of runs, and data sets."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rebar.analysis import meter, objective_meter, variance
from rebar.analysis.meter import Draws, Meter
from rebar.analysis.objective_meter import ObjectiveMeter
from rebar.compare import tables
from rebar.data import datasets
from tests.analysis import test_bias_variance, test_comparison, test_fit_steps, test_variance
from tests.compare import test_curves, test_tables
from tests.conformance.faults.planting import Fault, Float64, module_with, replace
from tests.data import test_datasets


def in_folder(test):
    """Call a test with an empty folder."""

    def seen():
        with tempfile.TemporaryDirectory() as folder:
            test(Path(folder))

    return seen


def csv_of_runs(folder):
    """The test of compare.csv, on runs in a folder."""
    test_tables.test_csv(test_tables.write_runs(folder))


def _error_without_root(true):
    def mean(numbers=()):
        value, error = true(numbers)
        return value, error / np.sqrt(len(numbers))

    return mean


def _inverted_price(true):
    def row(comparison, line, reference):
        result = true(comparison, line, reference)
        for name in ("variance_ratio", "estimator_variance_ratio"):
            result[f"{name}_equal_cost"] = result[name] ** 2 / result[f"{name}_equal_cost"]
        return result

    return row


def _one_position(true):
    def call(self, x, n_draws, seed, position=("variance",), groups=meter.GROUPS):
        return true(self, x, n_draws, seed, (position[0], 0), groups)

    return call


def _one_seed(true):
    def init(self, objective, args, estimator, variables, n_samples, seed, *more):
        true(self, objective, args, estimator, variables, n_samples, seed[:1], *more)

    return init


def _own_noise_of_a_reference():
    with pytest.MonkeyPatch.context() as patch:
        test_comparison.test_a_reference_has_noise_of_its_own(patch)


def _divided_by_n(true):
    def moments(self, groups=slice(None)):
        n, mean, variances = true(self, groups)
        return n, mean, variances * (n - 1) / n

    return moments


def _tested_on_training_images(true):
    def gray_images(name, arrays):
        images, tests = true(name, arrays)
        return images, images[: len(tests)]

    return gray_images


MEASURES = [
    Fault(
        "a standard error without the square root",
        replace(tables, "mean", _error_without_root),
        in_folder(csv_of_runs),
    ),
    Fault(
        "an inverted ratio of costs",
        replace(tables, "_row", _inverted_price),
        in_folder(csv_of_runs),
    ),
    Fault(
        "an inverted ratio of variances",
        replace(
            tables,
            "ratio",
            lambda true: lambda line, reference, name: true(reference, line, name),
        ),
        in_folder(csv_of_runs),
    ),
    Fault(
        "the best test bound instead of that at the best validation bound",
        replace(
            tables,
            "pick",
            lambda true: lambda line, name, highest=None: true(line, name, highest and name),
        ),
        in_folder(test_curves.test_best_and_the_test_bound_at_the_best_valid_one),
    ),
    Fault(
        "a standard error of a variance without the square root",
        replace(
            variance,
            "math",
            lambda true: module_with(true, sqrt=lambda n: n),
        ),
        test_variance.test_few_draws_are_unbiased_and_the_standard_error_is_the_spread,
    ),
    Fault(
        "a variance divided by the number of draws",
        replace(Draws, "moments", _divided_by_n),
        Float64(test_bias_variance).test_the_numbers_are_those_of_numpy,
    ),
    Fault(
        "one noise in all draws",
        replace(
            meter,
            "noise_keys",
            lambda true: lambda seed, *position: true(seed, position[0]),
        ),
        Float64(test_bias_variance).test_known_noise,
    ),
    Fault(
        "a leave-one-out reference that shares draws with the estimates",
        replace(Meter, "__call__", _one_position),
        Float64(test_bias_variance).test_a_reference_has_its_own_draws,
    ),
    Fault(
        "a reference of an objective that shares draws with the estimates",
        replace(ObjectiveMeter, "__init__", _one_seed),
        _own_noise_of_a_reference,
    ),
    Fault(
        "gradients of logits averaged over the samples of an example",
        replace(objective_meter, "tf", lambda true: module_with(true, reduce_sum=tf.reduce_mean)),
        test_comparison.test_draws_are_those_of_estimate,
    ),
    Fault(
        "control variates that are not trained before a measurement",
        replace(variance, "fit_controls", lambda true: lambda *arguments: None),
        test_fit_steps.test_untrained_control_variates,
    ),
    Fault(
        "test images that are training images",
        replace(datasets, "_gray_images", _tested_on_training_images),
        test_datasets.test_the_sets_of_the_digits_are_disjoint,
    ),
    Fault(
        "pixels that are on with the probability of being off",
        replace(datasets, "binarize", lambda true: lambda gray, stream: 1 - true(gray, stream)),
        test_datasets.test_binary_digits_are_on_where_they_are_bright,
    ),
]
