"""A tracker returns what each of its estimators returns alone."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.estimators.rebar import REBAR
from rebar.hparams import HParams
from rebar.testing.problems import draw, images, noise_keys, randomize
from rebar.testing.properties import largest_difference
from tests.conformance.cases import hparams, tensor, tiny_model


def test_every_estimator_as_alone():
    model = tiny_model(2)
    settings = hparams("SBNTrackGradVariances", 2, track=tuple(registry.labels("binary")))
    tracked = registry.make_estimator("SBNTrackGradVariances", settings)
    tracked.setup(model, 2)
    randomize(tracked.trainable_variables, 3, 0.3)
    x = tensor(images(5), tf.float32)
    noise = draw(tracked, model, noise_keys(11, 0), settings.n_samples, 5)
    estimate = tracked.estimate(model, x, noise)
    assert list(estimate.tracked) == list(registry.labels("binary"))
    control = []
    for label, own in zip(estimate.tracked, tracked.estimators, strict=True):
        alone = own.estimate(model, x, noise)
        assert largest_difference(alone.gradients, estimate.tracked[label]) == 0
        control += alone.control_gradients
    assert largest_difference(control, estimate.control_gradients) == 0
    assert largest_difference(estimate.gradients, estimate.tracked[tracked.follow]) == 0


@pytest.mark.parametrize(
    ("n_layer", "coupling", "quadratic", "unbiased"),
    [
        (1, "all", True, True),
        (2, "all", True, False),
        (2, "all", False, True),
        (2, "switch", True, True),
    ],
)
def test_the_bias_of_coupled_layers_is_declared(n_layer, coupling, quadratic, unbiased):
    estimator = REBAR(coupling=coupling, quadratic=quadratic)
    estimator.setup(tiny_model(n_layer))
    assert estimator.unbiased == unbiased


def test_bounds_of_other_numbers_of_samples_have_other_means():
    track = "model=SBNTrackGradVariances,track=[VIMCO(n_samples=3),VIMCO,NVIL],multi_sample=true"
    for follow, averaged in [("VIMCO(n_samples=3)", 1), ("VIMCO", 2)]:
        settings = HParams.parse(track, f"follow={follow}")
        tracked = registry.make_estimator(settings.model, settings)
        assert tracked.averaged_labels()[0] == follow
        assert len(tracked.averaged_labels()) == averaged


def test_differences_are_relative_to_each_tensor():
    assert largest_difference([np.ones(2), 100 * np.ones(1)], [np.ones(2), 99 * np.ones(1)]) == 0.01
