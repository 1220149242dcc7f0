"""Measurements warn of untrained control variates, and can train them first."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.analysis.variance import estimator_variance
from rebar.errors import RebarError
from rebar.estimators.rebar import DynamicREBAR
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.training.learner import Learner


def test_untrained_control_variates():
    model = make_model(HParams(n_layer=1, n_hidden=8), np.full(6, 0.4), False)
    x = np.random.default_rng(0).integers(0, 2, [20, 6]).astype(np.float32)
    estimator = DynamicREBAR()
    estimator.setup(model)
    estimator.baseline.trainable_variables[-1].assign([40.0])  # far from f, as a random baseline is
    start = [v.numpy() for v in estimator.trainable_variables]
    with pytest.warns(RuntimeWarning, match="untrained.*fit_steps=200"):
        fresh = estimator_variance(model, estimator, x, 100)
    as_it_is = estimator_variance(model, estimator, x, 100, fit_steps=0)
    fitted = estimator_variance(model, estimator, x, 100, fit_steps=300)
    variances = [r["DynamicREBAR"].variance["q"] for r in (fresh, as_it_is, fitted)]
    assert variances[0] == variances[1]
    assert variances[2] < variances[0] / 3
    for v, value in zip(estimator.trainable_variables, start, strict=True):
        np.testing.assert_array_equal(v, value)
    learner = Learner(model, estimator, 0.01)
    learner.step(tf.constant(x), noise.latents(noise.key(0, "latents"), 1, 20, model.n_units))
    estimator_variance(model, estimator, x, 100)  # a warning would be an error
    with pytest.raises(RebarError, match="fit_steps=-1"):
        estimator_variance(model, estimator, x, 100, fit_steps=-1)
