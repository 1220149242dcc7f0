"""Workers that share a minibatch get the estimate of one process, for every registered estimator.

The workers are threads here; tests/training/test_workers.py has processes.
"""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise, registry
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.noise import Noise, Part
from rebar.training.learner import of_all_rows

from ..threaded import together
from . import cases
from .cases import float64  # noqa: F401

BATCH = 5
SPLITS = {2: [(0, 2), (2, 5)], 3: [(0, 1), (1, 3), (3, 5)]}
EXTRA = {
    "SBNTrackGradVariances": "track=[REINFORCE,NVIL,DynamicREBAR,RELAX,LOO],follow=RELAX",
    "CatTrackGradVariances": "track=[REINFORCE,ST,ReinMaxCV],follow=ReinMaxCV",
    "CatReinMaxCV": "cv_form=stgs",
}


def shared(model, estimator, x, drawn, parts):
    """The estimate of each worker."""

    def work(team):
        first, end = parts[team.index]
        weight = (end - first) / len(x)
        part = Part(first, end - first, len(x), weight, team.sum)
        uniforms, branches = tf.nest.map_structure(
            lambda u: part.take(u, drawn.n_samples), (drawn.uniforms, drawn.branches)
        )
        own = Noise(uniforms, drawn.n_samples, branches, drawn.key, part)
        return of_all_rows(estimator.estimate(model, x[first:end], own), part)

    estimates = together(len(parts), work)
    assert len({type(estimate) for estimate in estimates}) == 1, estimates
    return estimates


def problem(name, extra=""):
    """Model, estimator with random control variates, images and noise."""
    binary = registry.entry(name).latents == "binary"
    sizes = (
        "n_layer=2,n_hidden=3,n_samples=2" if binary else "n_categories=3,n_latents=2,n_samples=2"
    )
    hparams = HParams.parse(f"model={name}", sizes, EXTRA.get(name, ""), extra)
    learner = make_learner(hparams, np.linspace(0.2, 0.7, cases.N_INPUT), False)
    cases.randomize(learner.model.trainable_variables, 3, 0.7)
    cases.randomize(learner.estimator.trainable_variables, 4, 0.3)
    keys = cases.noise_keys(5, 0)
    drawn = cases.draw(learner.estimator, learner.model, keys, 2, BATCH, tf.float64)
    return learner.model, learner.estimator, cases.tensor(cases.images(BATCH)), drawn


def numbers(estimate):
    """Everything in an estimate but the rows of its objective."""
    mean = tf.reduce_mean(estimate.objective)
    return cases.flat([mean, *tf.nest.flatten(estimate._replace(objective=mean))])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", registry.names())
def test_parts_make_the_estimate_of_one_process(name):
    model, estimator, x, drawn = problem(name)
    expected = numbers(estimator.estimate(model, x, drawn))
    for estimate in shared(model, estimator, x, drawn, SPLITS[2 + (len(name) % 2)]):
        np.testing.assert_allclose(numbers(estimate), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("SBN", "multi_sample=true"),
        ("SBNNVIL", "multi_sample=true"),
        ("SBNDynamicRebar", "nonlinear=true"),
        ("SBNDynamicRebar", "quadratic=false"),
        ("SBNRelax", "nonlinear=true"),
        ("SBNDisARM", "continuation=independent"),
    ],
)
def test_settings_that_take_another_path(name, extra):
    model, estimator, x, drawn = problem(name, extra)
    expected = numbers(estimator.estimate(model, x, drawn))
    for estimate in shared(model, estimator, x, drawn, SPLITS[3]):
        np.testing.assert_allclose(numbers(estimate), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["SBN", "SBNReinforceLOO", "SBNDynamicRebar", "SBNRelax"])
def test_a_worker_that_takes_its_part_for_the_whole_is_caught(name, monkeypatch):
    model, estimator, x, drawn = problem(name)
    expected = numbers(estimator.estimate(model, x, drawn))
    estimate_whole = type(estimator).estimate
    monkeypatch.setattr(
        type(estimator),
        "estimate",
        lambda self, model, x, own: estimate_whole(self, model, x, own._replace(share=noise.WHOLE)),
    )
    for estimate in shared(model, estimator, x, drawn, SPLITS[2]):
        assert not np.allclose(numbers(estimate), expected, rtol=1e-3)
