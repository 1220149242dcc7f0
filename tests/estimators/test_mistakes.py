"""A plug-in's mistakes are named: the estimator, the quantity and the variable."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import gradients
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, hard_rollout
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.training.evaluate import Evaluator
from rebar.training.learner import Learner
from rebar.types import Estimate

IMAGES = np.random.default_rng(0).integers(0, 2, [4, 6]).astype(np.float32)


class Plugin(Estimator):
    """REINFORCE with a hook for each of its mistakes."""

    def estimate(self, model, x, noise):
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        signal = self.signal(hard.objective)
        gradient = gradients.score_gradient(tape, hard, [signal], model.trainable_variables)
        return self.result(gradient, hard.objective)

    def signal(self, f):
        return f

    def result(self, gradient, objective):
        return Estimate(gradient, [], objective, {})


def plugin(**methods):
    return type("MyEstimator", (Plugin,), methods)()


def none_for_the_second(self, gradient, objective):
    return Estimate([gradient[0], None, *gradient[2:]], [], objective, {})


MISTAKES = {
    "None in gradients for .*kernel|None in gradients for .*bias": {"result": none_for_the_second},
    "learning signal of layer 0 has shape": {"signal": lambda self, f: f[:, tf.newaxis]},
    "metric 'norm', of shape": {"result": lambda self, g, f: Estimate(g, [], f, {"norm": f})},
    "metric 'norm', None": {"result": lambda self, g, f: Estimate(g, [], f, {"norm": None})},
    "returned 1 gradients: must be one for each of": {
        "result": lambda self, g, f: Estimate(g[:1], [], f, {})
    },
    r"gradients of shape .* must have its shape": {
        "result": lambda self, g, f: Estimate(g[::-1], [], f, {})
    },
    "returned 1 control_gradients": {"result": lambda self, g, f: Estimate(g, [f], f, {})},
    "returned a list: must be a rebar.Estimate": {"result": lambda self, g, f: g},
    "objective that MyEstimator.*has shape": {
        "result": lambda self, g, f: Estimate(g, [], f[:, tf.newaxis], {})
    },
    "metrics named elbo: reserved": {
        "result": lambda self, g, f: Estimate(g, [], f, {"elbo": 0.0})
    },
}  # fmt: skip


def setting(estimator):
    model = make_model(HParams(n_layer=2, n_hidden=2), np.full(6, 0.4), False)
    estimator.setup(model)
    return model, noise.latents(noise.key(0, "latents"), 1, 4, model.n_units)


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named(message):
    estimator = plugin(**MISTAKES[message])
    model, draws = setting(estimator)
    learner = Learner(model, estimator, 0.01)
    with pytest.raises(RebarError, match=message) as error:
        tf.function(lambda: learner.step(tf.constant(IMAGES), draws), autograph=False)()
    assert "MyEstimator" in str(error.value) or "learning signal" in str(error.value)


def test_metrics_of_an_evaluation():
    def vector(self, model, x, noise, hard):
        return {"f": hard.objective}

    def drawing(self, model, x, draws, hard):
        z = noise.uniforms(noise.further_key(draws, 0), [3], tf.float32)
        return {"mean": tf.reduce_mean(z) + tf.reduce_mean(draws.branches[0][0])}

    estimator = plugin(metrics_at=vector)
    model, _ = setting(estimator)
    with pytest.raises(RebarError, match=r"MyEstimator.metrics_at\(\).*'f', of shape"):
        Evaluator(model, estimator)(IMAGES, 2)
    values = Evaluator(model, plugin(metrics_at=drawing, branches=True))(IMAGES, 2)
    assert 0 < values["mean"] < 2
    assert values == Evaluator(model, plugin(metrics_at=drawing, branches=True))(IMAGES, 2)
