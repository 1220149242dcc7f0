"""Tiny runs on the digits that are recorded, and computed again.

Recording subclasses of the registered estimators keep images, noise and weights of every call.
"""

import contextlib
import dataclasses
import importlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import rebar
from rebar import registry
from rebar.data.sources import TASKS
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.noise import Noise
from rebar.testing.problems import dtype_policy
from tests.conformance import literal
from tests.conformance.literal import models

N_VALID, N_TEST, BATCH = 250, 250, 433
EPOCHS, EVAL_SAMPLES, DRAWS = 2, 5, 4

CASES = {
    "track": "model=SBNTrackGradVariances,track=[DisARM,Gumbel,NVIL],follow=NVIL,dynamic_b=true,"
    "n_layer=2,n_samples=2,trial=3",
    "pairs": "model=SBNLocalDisARM,n_samples=4,n_layer=2,continuation=independent,"
    "task=sp_digits,conditional=multilayer",
    "categorical": "model=CatTrackGradVariances,task=digits_grey,track=[ReinMaxCV,GumbelRao],"
    "follow=GumbelRao,temperature=0.7,cv_form=stgs,mc_samples=3,prior=learned",
}
"""Name -> --hparams; together all kinds of noise, objectives, data and networks."""


def digits(h) -> list:
    """Training, validation and test images from scikit-learn, as docs/data.md defines them."""
    images = load_digits().images.reshape(-1, 64).astype(np.float32) / np.float32(16)
    images = images[np.random.RandomState(123).permutation(len(images))]
    train, test = images[:-N_TEST], images[-N_TEST:]
    stream = np.random.RandomState(5)
    binary, binary_test = (stream.random_sample(v.shape) < v for v in (train, test))
    if TASKS[h.task].gray:
        binary, binary_test = train, test
    train = train if h.dynamic_b else binary
    sets = train[:-N_VALID], binary[-N_VALID:], binary_test
    return [np.asarray(v, np.float32) for v in sets]


def recording(name, calls, rows):
    """Let the registered estimator append what each call sees to calls[name, kind].

    rows[name] is the number of rows that one estimate of a full minibatch rolls out.
    """
    entry = registry.entry(name)
    module, _, attribute = entry.target.partition(":")

    class Recording(getattr(importlib.import_module(module), attribute)):
        _within = False

        def estimate(self, model, x, noise):
            counting = _Counting(model)
            self._within = True
            with _keep("estimate", self, model, x, noise):
                estimate = super().estimate(counting, tf.identity(x), noise)
            self._within = False
            if x.shape[0] == BATCH:
                rows[name] = counting.rows
            return estimate

        def metrics_at(self, model, x, noise, hard):
            if self._within:
                return super().metrics_at(model, x, noise, hard)
            with _keep("evaluate", self, model, x, noise):
                return super().metrics_at(model, tf.identity(x), noise, hard)

    def _keep(kind, estimator, model, x, draws):
        variables = (model.trainable_variables, estimator.trainable_variables)
        structure = {
            "x": x,
            "uniforms": list(draws.uniforms),
            "branches": [list(layer) for layer in draws.branches],
            "key": draws.key,
            "weights": [[tf.convert_to_tensor(v) for v in values] for values in variables],
        }

        def append(*values):
            packed = tf.nest.pack_sequence_as(structure, [np.array(v) for v in values])
            call = SimpleNamespace(n_samples=draws.n_samples, **packed)
            calls.setdefault((name, kind), []).append(call)
            return np.int32(0)

        done = tf.numpy_function(append, tf.nest.flatten(structure), tf.int32)
        return tf.control_dependencies([done])

    registry._ENTRIES[name] = dataclasses.replace(entry, target=Recording)


class _Counting:
    """A model that counts the rows of its rollouts."""

    def __init__(self, model):
        self._model, self.rows = model, 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def rollout(self, *arguments, **keywords):
        rollout = self._model.rollout(*arguments, **keywords)
        self.rows += rollout.objective.shape[0]
        return rollout


def settings_of(case) -> HParams:
    """Tiny sizes; a case is one of CASES, or --hparams."""
    hparams = CASES.get(case, case)
    sizes = "n_categories=3,n_latents=2" if "Cat" in hparams else "n_hidden=3"
    base = f"task=digits,learning_rate=0.02,beta2=0.99,batch_size={BATCH},{sizes}"
    return HParams.parse(base, hparams)


def train(folder, case, seed, epochs, eval_freq, variance_freq):
    """Train a case in a folder, and return what it reported and what its estimators saw."""
    h = settings_of(case)
    names = {h.entry.label: h.model}
    if h.entry.tracks:
        names = {label: registry.labels(h.entry.latents)[label] for label in h.track}
    calls, rows, printed = {}, {}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
        models.narrow(patch)
        for name in names.values():
            recording(name, calls, rows)
        trained = rebar.train(
            h.values(),
            seed=seed,
            epochs=epochs,
            working_dir=folder,
            jit="off",
            log_format="2017",
            eval_freq=eval_freq,
            eval_samples=EVAL_SAMPLES,
            variance_freq=variance_freq,
            variance_draws=DRAWS,
        )
        loaded = rebar.load_model(trained.folder)
    lines = (trained.folder / "metrics.jsonl").read_text().splitlines()
    data = digits(h)
    steps = epochs * -(-len(data[0]) // BATCH)
    followed = names.get(h.follow if h.entry.tracks else h.entry.label)
    estimates = {label: calls[name, "estimate"] for label, name in names.items()}
    return SimpleNamespace(
        h=h,
        seed=(seed, h.trial),
        data=data,
        names=names,
        rows={label: rows[name] for label, name in names.items()},
        steps={label: values[:steps] for label, values in estimates.items()},
        measured={label: values[steps:] for label, values in estimates.items()},
        evaluated=calls.get((followed, "evaluate"), []),
        loaded=loaded,
        records=[json.loads(line) for line in lines],
        facts=json.loads((trained.folder / "hparams.json").read_text()),
        printed=printed.getvalue(),
    )


class Copy:
    """The model and the estimators of a run in float64, with the weights of any call."""

    def __init__(self, run):
        self.h = run.h
        self.kind = "categorical"
        if run.h.entry.latents == "binary":
            conditional = TASKS[run.h.task].conditional
            self.kind = run.h.effective_conditional if conditional else "unconditional"
        with pytest.MonkeyPatch.context() as patch, dtype_policy("float64"):
            models.narrow(patch)
            mean = run.data[0].mean(axis=0, dtype=np.float64).astype(np.float32)
            self.model = make_model(run.h, mean, TASKS[run.h.task].conditional)
            self.estimators = {}
            for label, name in run.names.items():
                self.estimators[label] = registry.make_estimator(name, run.h)
                self.estimators[label].setup(self.model)

    def _set(self, label, call):
        owners = self.model, self.estimators[label]
        for owner, values in zip(owners, call.weights, strict=True):
            for v, value in zip(owner.trainable_variables, values, strict=True):
                v.assign(value)

    def values(self, label, call) -> tuple:
        """f and the weights of the bound, [S, B], at the hard samples of a call."""
        self._set(label, call)
        sample = models.of_uniforms([u.astype(np.float64) for u in call.uniforms])
        f, log_weight, _ = models.evaluate(self.model, call.x, sample, call.n_samples, self.kind)
        return f, log_weight

    def gradients(self, label, name, call) -> tuple:
        """Those w.r.t. the model and the control variates, by the formula."""
        self._set(label, call)
        uniforms, branches = (
            tf.nest.map_structure(lambda u: tf.constant(u, tf.float64), values)
            for values in (call.uniforms, call.branches)
        )
        draws = Noise(tuple(uniforms), call.n_samples, tuple(map(tuple, branches)), call.key)
        x = tf.constant(call.x, tf.float64)
        gradients, control = literal.estimate(
            name, self.model, x, draws, self.h, self.estimators[label]
        )
        return [np.asarray(g) for g in gradients], [np.asarray(g) for g in control]
