"""Chains that leave the main one at a site have its noise at all others."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import samplers
from rebar.estimators.layerwise import values
from rebar.objectives.model import ObjectiveModel
from tests.objectives import problems


@pytest.mark.parametrize(
    "problem", [problems.mixed(), problems.two_binary_sites()], ids=lambda p: p.name
)
@pytest.mark.parametrize("layer", [0, 1])
def test_chains_with_the_samples_of_the_main_one_have_its_value(problem, layer):
    draws = noise.of_sites(0, 0, 2)
    model = ObjectiveModel(problem.objective, noise.further_key(draws, 2), problem.args)
    hard = model.rollout(problem.args, samplers.hard(draws), 2)
    assert model.continuous == (problem.name == "mixed")
    same = tf.stack([hard.samples[layer]] * 3)
    f = values(model, problem.args, draws._replace(branches=()), hard, layer, same)
    np.testing.assert_allclose(f, np.tile(hard.objective, [4, 1]), rtol=1e-12)
    other = tf.reverse(same, axis=[-1])
    assert (
        np.ptp(values(model, problem.args, draws._replace(branches=()), hard, layer, other)) > 0.1
    )
