"""Estimators of the multi-sample bound: compiled, at one sample, variance, reports, tracking."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.core import enumeration, samplers
from rebar.errors import RebarError
from rebar.estimators.arms import ARMS
from rebar.estimators.base import hard_rollout
from rebar.estimators.local_disarm import LocalDisARM
from rebar.noise import Noise
from rebar.testing import comparison
from rebar.training.learner import Learner
from rebar.training.moments import OF_PART
from tests.conformance.cases import (
    FAMILIES,
    draw,
    flat,
    float64,
    follower,
    hparams,
    images,
    noise_keys,
    registered,
    tensor,
    tiny_model,
)

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")


# One sample: the bound is the ELBO.


def estimate(estimator, model, n_samples, batch=5):
    x = tensor(images(batch))
    noise = draw(estimator, model, noise_keys(5, 0), n_samples, batch, tf.float64)
    return estimator.estimate(model, x, noise)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["SBN", "SBNNVIL", "SBNARMS"])
def test_the_bound_of_one_sample_is_the_elbo(name, family):
    model = tiny_model(2, family)
    elbo, bound = (follower(name, model, 1, multi_sample=value) for value in (False, True))
    ours, theirs = (estimate(e, model, 1) for e in (bound, elbo))
    for a, b in zip(
        ours.gradients + ours.control_gradients,
        theirs.gradients + theirs.control_gradients,
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert next(iter(ours.metrics)) == "multi_sample_bound"
    np.testing.assert_allclose(
        ours.metrics["multi_sample_bound"], np.mean(theirs.objective), rtol=1e-12
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("continuation", ["shared", "independent"])
@pytest.mark.parametrize("symmetrized", [False, True])
def test_one_pair_is_disarm(family, continuation, symmetrized):
    """On the first sample; the symmetrized form follows p at both members of the pair."""
    model = tiny_model(3, family)
    settings = {"continuation": continuation}
    local = follower("SBNLocalDisARM", model, 2, symmetrized=symmetrized, **settings)
    disarm = registered("SBNDisARM", model, **settings)
    x, batch = tensor(images(5)), 5
    noise = draw(local, model, noise_keys(5, 0), 2, batch, tf.float64)
    first = tf.nest.map_structure(lambda u: u[:batch], (noise.uniforms, noise.branches))
    ours = local.estimate(model, x, noise)
    theirs = disarm.estimate(model, x, Noise(first[0], 1, first[1]))
    np.testing.assert_array_equal(ours.objective, theirs.objective)
    of_q = {id(v) for v in model.inference_variables}
    of_p = []
    for v, a, b in zip(model.trainable_variables, ours.gradients, theirs.gradients, strict=True):
        if id(v) in of_q or not symmetrized:
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14, err_msg=v.path)
        else:
            of_p.append(np.max(np.abs(a - b)))
    assert not symmetrized or max(of_p) > 1e-2


def test_arms_of_two_samples_is_local_disarm_if_f_has_no_log_q():
    model = tiny_model(3, "2017")
    local, arms = LocalDisARM(symmetrized=False), ARMS(n_antithetic=2, multi_sample=True)
    x = tensor(images(5))
    noise = draw(local, model, noise_keys(5, 0), 6, 5, tf.float64)
    half = noise._replace(uniforms=[u[:15] for u in noise.uniforms], n_samples=3)
    ours, theirs = arms.estimate(model, x, half), local.estimate(model, x, noise)
    np.testing.assert_allclose(flat(ours.gradients), flat(theirs.gradients), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(ours.objective, theirs.objective)
    assert ours.metrics == theirs.metrics


# Variance.


@pytest.mark.parametrize(
    ("family", "n_layer", "continuation"),
    [
        ("unconditional", 1, "shared"),
        pytest.param("unconditional", 2, "shared", marks=pytest.mark.slow),
        ("multilayer", 2, "independent"),
        pytest.param("2017", 2, "shared", marks=pytest.mark.slow),
    ],
)
def test_the_symmetrized_form_varies_less(family, n_layer, continuation):
    """The squared errors of the two on the same noise, in every tensor."""
    model = tiny_model(n_layer, family)
    gradients = enumeration.bound_and_gradient(model, images(comparison.IMAGES), 2).gradients
    squares = [
        np.square(
            comparison.Sampling(
                LocalDisARM(symmetrized=symmetrized, continuation=continuation), model, 4
            ).estimates(comparison.BATCHES)
            - flat(gradients)
        )
        for symmetrized in (False, True)
    ]
    excess = np.split(squares[0] - squares[1], np.cumsum([np.size(g) for g in gradients])[:-1], 1)
    for v, of_tensor in zip(model.trainable_variables, excess, strict=True):
        by_batch = of_tensor.sum(axis=1)
        t = by_batch.mean() / (by_batch.std(ddof=1) / np.sqrt(len(by_batch)))
        assert t > 2, f"{v.path}: {t:.1f} standard errors"


# What is reported, refused and compared.


def test_local_disarm_uses_the_first_half_of_the_noise():
    model = tiny_model(2)
    for continuation in ("shared", "independent"):
        estimator = LocalDisARM(continuation=continuation)
        noise = draw(estimator, model, noise_keys(5, 0), 4, 3, tf.float64)
        other = tf.nest.map_structure(
            lambda u: tf.concat([u[:6], 1 - u[6:]], axis=0), (noise.uniforms, noise.branches)
        )
        x = tensor(images(3))
        first = estimator.estimate(model, x, noise)
        second = estimator.estimate(model, x, Noise(other[0], 4, other[1]))
        np.testing.assert_array_equal(flat(first.gradients), flat(second.gradients))
        main = model.rollout(
            x, samplers.hard(noise._replace(uniforms=[u[:6] for u in noise.uniforms])), 2
        )
        np.testing.assert_array_equal(first.objective, main.objective)
        f = np.reshape(main.objective, [2, 3])
        bound = np.mean(np.log(np.mean(np.exp(f), axis=0)))
        np.testing.assert_allclose(first.metrics["multi_sample_bound"], bound, rtol=1e-12)
        assert estimator.evaluations([(2,), (2,)]) == 1.5


@pytest.mark.parametrize(
    ("name", "settings", "chains"),
    [
        ("SBN", {"multi_sample": True}, 4),
        ("SBNNVIL", {"multi_sample": True}, 4),
        ("SBNARMS", {"multi_sample": True}, 4),
        ("SBNVIMCO", {}, 4),
        ("SBNLocalDisARM", {}, 2),
    ],
)
@pytest.mark.parametrize("at_evaluation", [1, 3, 4, 100])
def test_an_evaluation_reports_the_bound_of_training(name, settings, chains, at_evaluation):
    """Of as many samples as training has, or as there are."""
    model = tiny_model(2)
    estimator = follower(name, model, 4, **settings)
    x = tensor(images(5))
    noise = draw(estimator, model, noise_keys(5, 0), at_evaluation, 5, tf.float64)
    hard = hard_rollout(model, x, noise)
    f = np.reshape(hard.objective, [at_evaluation, 5])[:chains]
    expected = np.mean(np.log(np.mean(np.exp(f), axis=0)))
    metrics = estimator.metrics_at(model, x, noise, hard)
    assert next(iter(metrics)) == "multi_sample_bound"
    np.testing.assert_allclose(metrics["multi_sample_bound"], expected, rtol=1e-12)


def test_numbers_of_samples_that_cannot_be_used():
    model = tiny_model(1)
    with pytest.raises(RebarError, match=r"n_samples=1: .* VIMCO; set n_samples=2"):
        estimate(follower("SBNVIMCO", model, 2), model, 1)
    with pytest.raises(RebarError, match=r"n_samples=3: .* LocalDisARM; set n_samples=4"):
        estimate(follower("SBNLocalDisARM", model, 2), model, 3)
    with pytest.raises(RebarError, match="continuation='other': choose from shared, independent"):
        LocalDisARM(continuation="other")
    model = tiny_model(2)
    noise = draw(LocalDisARM(), model, noise_keys(5, 0), 2, 3, tf.float64)
    with pytest.raises(RebarError, match=r"add them with rebar\.noise\.with_branches"):
        LocalDisARM(continuation="independent").estimate(model, tensor(images(3)), noise)


@pytest.mark.parametrize(
    ("follow", "averaged", "bound"),
    [
        ("VIMCO", ["VIMCO"], True),
        ("LocalDisARM", ["LocalDisARM"], True),
        ("DisARM", ["DisARM", "REINFORCE"], False),
    ],
)
def test_estimators_of_the_elbo_and_of_the_bound_in_one_run(follow, averaged, bound):
    """Each is compared with those that estimate the same gradient: K and K / 2 are not the same."""
    track = ("VIMCO", "LocalDisARM", "DisARM", "REINFORCE", "Gumbel")
    settings = hparams("SBNTrackGradVariances", 2, track=track, follow=follow, n_samples=4)
    tracked = registry.make_estimator("SBNTrackGradVariances", settings)
    model = tiny_model(2)
    tracked.setup(model, 0)
    assert tracked.averaged_labels() == averaged
    learner = Learner(model, tracked, 1e-3)
    noise = draw(tracked, model, noise_keys(5, 0), 4, 5, tf.float64)
    metrics, variances, wrong = learner.step(tensor(images(5)), noise)
    assert wrong == -1
    assert list(variances) == [*track, *(label + OF_PART for label in track)]
    assert list(metrics)[:2] == (
        ["elbo", "multi_sample_bound"] if bound else ["elbo", "deviation/VIMCO"]
    )
    hard = hard_rollout(model, tensor(images(5)), noise)
    assert (
        "multi_sample_bound" in tracked.metrics_at(model, tensor(images(5)), noise, hard)
    ) == bound


def test_scores_of_the_bound_are_compared_with_vimco():
    settings = hparams(
        "SBNTrackGradVariances", 2, track=("VIMCO", "NVIL", "REINFORCE"), follow="NVIL",
        n_samples=3, multi_sample=True,
    )  # fmt: skip
    tracked = registry.make_estimator("SBNTrackGradVariances", settings)
    tracked.setup(tiny_model(2), 0)
    assert tracked.averaged_labels() == ["VIMCO", "NVIL", "REINFORCE"]
    assert tracked.common_gradients(tiny_model(2))[0] == []
