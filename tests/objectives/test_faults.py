"""Faults planted in the package, which the comparison with exact gradients or figures must show."""

import importlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import rebar
from rebar import noise
from rebar.core import families, gradients
from rebar.estimators.base import Estimator
from rebar.objectives import model as objective_model
from rebar.objectives import sample as objective_sample
from tests.conformance.faults.planting import module_with
from tests.objectives import problems
from tests.objectives.sampling import Sampling, Setting, settings

estimate_module = importlib.import_module("rebar.objectives.estimate")

LOO, DISARM, MUPROP = Setting("LOO", {}, 2), Setting("DisARM", {}), Setting("MuProp", {})
REBAR, RELAX = Setting("REBAR", {}), Setting("RELAX", {"hidden": 10})
VIMCO, NVIL = Setting("VIMCO", {}, 2), Setting("NVIL", {})


def scaled_coupling(factor):
    """The path of the logits through the noise of a categorical site, multiplied."""

    def plant(patch):
        true = families.CATEGORICAL.coupling
        wrong = families.CATEGORICAL._replace(
            coupling=lambda *given: lambda g: factor * true(*given)(g)
        )
        patch.setattr(families, "CATEGORICAL", wrong)

    return plant


def constant_log_q(patch):
    """log q is a constant at relaxed samples, too."""
    true = objective_sample.Sample._site

    def site(self, name, logits, shape):
        self._constant_log_q = True
        return true(self, name, logits, shape)

    patch.setattr(objective_sample.Sample, "_site", site)


def log_q_twice(patch):
    """log q counts each site twice."""
    true = objective_sample.Sample._site

    def site(self, name, logits, shape):
        result = true(self, name, logits, shape)
        self._log_q_terms.append(self._log_q_terms[-1])
        return result

    patch.setattr(objective_sample.Sample, "_site", site)


def log_q_without_gaussian(patch):
    """log q leaves out reparameterized sites."""
    true = objective_sample.Sample.__call__

    def site(self, name, distribution):
        result = true(self, name, distribution)
        self._log_q_terms.pop()
        return result

    patch.setattr(objective_sample.Sample, "__call__", site)


def shared_by_sites(patch):
    """All sites have the noise of the first one."""
    true = noise.SiteUniforms.at

    def at(self, site, shape, dtype):
        true(self, site, shape, dtype)
        return noise.uniforms(noise.fold_in(self._key, 0), shape, dtype)

    patch.setattr(noise.SiteUniforms, "at", at)


def shared_by_copies(patch):
    """The samples of an example are equal."""
    true = noise.uniforms

    def uniforms(key, shape, dtype=tf.float32):
        drawn = true(key, shape, dtype)
        half = drawn[: shape[0] // 2]
        return tf.ensure_shape(tf.concat([half, half], axis=0), drawn.shape)

    patch.setattr(noise, "uniforms", uniforms)


def new_noise_per_rollout(patch):
    """Rollouts of one estimate do not share the noise of a reparameterized site."""
    calls = []
    true = objective_model.Sample

    def sample(sampler, rows, key, *more, **named):
        calls.append(None)
        return true(sampler, rows, noise.fold_in(key, len(calls)), *more, **named)

    patch.setattr(objective_model, "Sample", sample)


def gaussian_at_its_mean(patch):
    """A reparameterized site has no noise."""
    patch.setattr(tfp.distributions.Normal, "sample", lambda self, **given: self.loc[tf.newaxis])


def constant_step(patch):
    """All steps have the same noise."""
    true = noise.of_sites
    patch.setattr(noise, "of_sites", lambda seed, step, *more: true(seed, 0 * step, *more))


def half_of_f(patch):
    """Half of the derivative of f at fixed samples is left out."""
    true = objective_model.Rollout
    patch.setattr(
        objective_model,
        "Rollout",
        lambda f, log_joint, *rest: true(f, 0.5 * (log_joint + tf.stop_gradient(log_joint)), *rest),
    )


def rows_shifted(patch):
    """The value of a row is that of the next one."""
    true = objective_model._checked
    patch.setattr(
        objective_model, "_checked", lambda *given: tf.roll(true(*given), shift=1, axis=0)
    )


def wrong_mean_product(patch):
    """The Jacobian of a categorical site's means is a multiple of the identity."""
    wrong = families.CATEGORICAL._replace(mean_product=lambda logits, g: 0.7 * g)
    patch.setattr(families, "CATEGORICAL", wrong)


BIASED = [
    ("coupling of the wrong sign", scaled_coupling(-1.0), "mixture", REBAR),
    ("coupling of the wrong sign", scaled_coupling(-1.0), "mixed", RELAX),
    ("coupling left out", scaled_coupling(0.0), "mixture", RELAX),
    ("coupling 10 % too large", scaled_coupling(1.1), "mixture", REBAR),
    ("log q constant at relaxed samples", constant_log_q, "two_binary_sites", REBAR),
    ("log q twice", log_q_twice, "two_binary_sites", LOO),
    ("log q without the Gaussian", log_q_without_gaussian, "mixed", LOO),
    ("noise shared by sites", shared_by_sites, "two_binary_sites", DISARM),
    ("noise shared by sites", shared_by_sites, "two_binary_sites", LOO),
    ("noise shared by copies", shared_by_copies, "mixture", LOO),
    ("noise shared by copies", shared_by_copies, "two_binary_sites", VIMCO),
    ("Gaussian noise of zero variance", gaussian_at_its_mean, "mixed", LOO),
    ("half of d f", half_of_f, "gates", LOO),
    ("rows shifted", rows_shifted, "mixture", LOO),
    ("wrong mean product", wrong_mean_product, "mixture", MUPROP),
]


@pytest.mark.parametrize(
    ("plant", "problem", "setting"),
    [pytest.param(*case, id=f"{name}: {case[1]}, {case[2]}") for name, *case in BIASED],
)
def test_biased(plant, problem, setting, monkeypatch):
    plant(monkeypatch)
    sampling = Sampling(getattr(problems, problem)(), setting)
    sampling.set_control("random")
    assert sampling.compare(batches=60).biased


def distinct_gradients(objective, *args, setting=LOO, steps=4):
    """The number of different gradients at some steps."""
    x = tf.Variable(tf.zeros([1, 4], tf.float64))
    estimator, results = setting.build(), []
    for step in range(steps):
        with tf.GradientTape() as tape:
            estimate = rebar.estimate(
                lambda sample: objective(sample, x),
                estimator=estimator,
                n_samples=setting.n_samples * 100,
                seed=0,
                step=step,
            )
        results.append(tuple(np.reshape(tape.gradient(estimate.loss, x), -1)))
    return len(set(results))


def test_noise_of_steps_differs(monkeypatch):
    def objective(sample, x):
        return tf.reduce_sum(sample.bernoulli("b", x) * [1.0, 2.0, 3.0, 4.0], axis=1)

    assert distinct_gradients(objective) == 4
    constant_step(monkeypatch)
    assert distinct_gradients(objective) == 1


def distinct_normals():
    """The number of different samples of a Gaussian site in the rollouts of one estimate."""
    seen = set()

    def objective(sample, x):
        z = sample("z", tfp.distributions.Normal(tf.zeros_like(x), 1))
        seen.add(tuple(z.numpy()))
        return z * sample.bernoulli("b", x + z)

    rebar.estimate(objective, tf.zeros([3], tf.float64), estimator=REBAR.build(), seed=0, step=0)
    return len(seen)


def test_rollouts_share_the_noise_of_reparameterized_sites(monkeypatch):
    """Else REBAR is still unbiased, but its control variate fits less."""
    assert distinct_normals() == 1
    new_noise_per_rollout(monkeypatch)
    assert distinct_normals() > 1


LEARNED = [
    setting
    for setting in settings(lambda e: e.unbiased and e.objective == "elbo")
    if type(setting.build()).setup is not Estimator.setup and setting.label != "Exact"
    if setting.first
]


def change_by_fit(setting):
    """Variance after 100 steps of Adam on the control loss, over that before them."""
    categorical = "categorical" in setting.build().families
    problem = problems.mixture() if categorical else problems.two_binary_sites()
    sampling = Sampling(problem, setting)
    sampling.set_control("random")
    before = sampling.encoder_variance()
    sampling.fit()
    return sampling.encoder_variance() / before


@pytest.mark.parametrize("setting", LEARNED, ids=str)
def test_control_loss_descends(setting):
    assert change_by_fit(setting) < 0.9


@pytest.mark.parametrize("setting", [NVIL, REBAR, RELAX], ids=str)
def test_control_loss_of_the_wrong_sign(setting, monkeypatch):
    wrong = module_with(gradients, loss_of=lambda *given: -gradients.loss_of(*given))
    monkeypatch.setattr(estimate_module, "gradients", wrong)
    assert change_by_fit(setting) > 1.1
