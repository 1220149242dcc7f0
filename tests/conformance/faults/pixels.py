"""Likelihoods of pixels, the fixed prior, and E_q f in closed form."""

import functools

import tensorflow as tf

from rebar.core import families
from rebar.models import likelihoods
from rebar.models.likelihoods import Gaussian
from rebar.models.networks import LearnedPrior
from rebar.models.sbn import SigmoidBeliefNetwork
from tests.analysis import test_closed_form
from tests.conformance.faults.planting import Fault, replace, times
from tests.models import test_likelihoods


def _without_the_normalizer(true):
    def log_prob(self, x, outputs):
        return true(self, x, outputs) + 0.5 * tf.reduce_sum(tf.math.log(self.variance()))

    return log_prob


def _without_covariances(true):
    def variance(mean, kernel):
        return tf.linalg.matvec(
            families.flat(mean * (1 - mean)), tf.reduce_sum(tf.square(kernel), axis=1)
        )

    return variance


def _always_trained(true):
    def init(self, n_units, trainable=True, **options):
        true(self, n_units, **options)

    return init


def closed_form(name):
    return functools.partial(test_closed_form.test_the_closed_form_is_the_sum_over_all_states, name)


PIXELS = [
    Fault(
        "a variance without its floor",
        replace(likelihoods, "FLOOR", lambda true: 0.0),
        test_likelihoods.test_the_density_is_that_of_scipy,
    ),
    Fault(
        "squares that are not halved",
        replace(Gaussian, "log_prob", times(2)),
        test_likelihoods.test_the_density_is_that_of_scipy,
    ),
    Fault(
        "a density without the logarithm of its variance",
        replace(Gaussian, "log_prob", _without_the_normalizer),
        test_likelihoods.test_the_density_is_that_of_scipy,
    ),
    Fault(
        "Gaussian pixels in [0, 1]",
        replace(Gaussian, "modeled", lambda true: lambda self, x: x),
        test_likelihoods.test_the_density_is_that_of_scipy,
    ),
    Fault(
        "pictures of pixels in [-1, 1]",
        replace(Gaussian, "mean", lambda true: lambda self, outputs: outputs),
        test_likelihoods.test_means_are_on_the_scale_of_the_images,
    ),
    Fault(
        "an encoder that sees images minus their mean",
        replace(
            SigmoidBeliefNetwork, "network_input", lambda true: lambda self, x: x - self.input_mean
        ),
        test_likelihoods.test_the_input_of_the_encoder_is_the_modeled_image,
    ),
    Fault(
        "a fixed prior that is trained",
        replace(LearnedPrior, "__init__", _always_trained),
        test_likelihoods.test_a_fixed_prior_is_uniform_and_not_trained,
    ),
    Fault(
        "an expectation without the variance of the outputs",
        replace(Gaussian, "spread", times(0)),
        closed_form("units"),
    ),
    Fault(
        "an expectation with the variance of b instead of 2 b - 1",
        replace(Gaussian, "spread", times(0.25)),
        closed_form("conditional 2017"),
    ),
    Fault(
        "an expectation with independent categories",
        replace(families, "linear_variance", _without_covariances),
        closed_form("categorical VAE"),
    ),
]
