"""Reads the recorded runs of the 2017 code and maps its names to ours."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from rebar import registry
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.noise import Noise

FOLDER = Path(__file__).parents[1] / "goldens" / "original_2017"
FILES = sorted(p.stem for p in FOLDER.glob("*.npz"))
METHODS = {
    "NVIL": "get_nvil_gradient",
    "SimpleMuProp": "get_simple_muprop_gradient",
    "MuProp": "get_muprop_gradient",
    "DynamicREBAR": "get_dynamic_rebar_gradient",
    "REBAR": "get_rebar_gradient",
}


class Golden:
    """One recorded configuration."""

    def __init__(self, stem):
        with np.load(FOLDER / f"{stem}.npz", allow_pickle=False) as archive:
            self.data = {k: archive[k] for k in archive.files}
        self.meta = json.loads(str(self.data["meta/json"]))
        self.hparams = HParams(**self.meta["hparams"]).replace(legacy2017=True)
        self.conditional = self.hparams.task == "sp"

    def __getitem__(self, key):
        return self.data[key]

    def learner(self, **changes):
        """A learner with the recorded initial values."""
        hparams = self.hparams.replace(**changes)
        estimator = registry.make_estimator(hparams.model, hparams)
        learner = make_learner(hparams, estimator, self["in/mean_xs"], self.conditional)
        self.assign(learner, "var")
        return learner

    def x(self):
        return tf.constant(self["in/x"])

    def noise(self, n_samples, prefix=None):
        prefix = prefix or f"in/ns{n_samples}"
        layers = range(self.hparams.n_layer)
        return Noise(tuple(tf.constant(self[f"{prefix}/u{i}"]) for i in layers), n_samples)

    def model_name(self, path):
        """Our variable path -> the 2017 name."""
        if path == "prior/logits":
            return "p_prior"
        layer, kind = path.split("/")[-2:]
        if self.conditional and layer.startswith("p_0"):
            layer = layer.replace("p_0", f"p_{self.hparams.n_layer - 1}")
        return f"{layer}/{'weights' if kind == 'kernel' else 'biases'}"

    def model_names(self, learner):
        return [self.model_name(v.path) for v in learner.model.trainable_variables]

    def control_names(self, learner):
        """Names of the 2017 variables behind each of ours; a list for the vector of etas."""
        names = {}
        estimators = getattr(learner.estimator, "estimators", [learner.estimator])
        tracked = len(estimators) > 1
        number = 0
        for e in estimators:
            label = type(e).__name__
            baselines = getattr(e, "baselines", None) or (
                [e.baseline] if hasattr(e, "baseline") else []
            )
            for baseline in baselines:
                for layer, i in ((baseline.hidden, 1), (baseline.output_layer, 2)):
                    names[layer.kernel.path] = f"baseline{number}/W{i}"
                    names[layer.bias.path] = f"baseline{number}/b{i}"
                number += 1
            prefix = f"{label}/" if tracked else ""
            if hasattr(e, "scale"):
                names[e.scale.path] = f"{prefix}scale_mu"
            for i, (a, b) in enumerate(
                zip(getattr(e, "scales", []), getattr(e, "linear_scales", []), strict=True)
            ):
                names[a.path], names[b.path] = f"{prefix}scale_mu_l{i}", f"{prefix}scale_lin_l{i}"
            if hasattr(e, "raw_eta"):
                prefix = f"{METHODS[label]}/" if tracked else ""
                names[e.raw_eta.path] = [f"{prefix}eta/{n}" for n in self.model_names(learner)]
            if e.log_temperature is not None:
                names[e.log_temperature.path] = "pre_temperature"
        return [names[v.path] for v in learner.estimator.trainable_variables]

    def value(self, prefix, name, suffix=""):
        """A recorded value; etas are stacked to a vector."""
        if isinstance(name, list):
            return np.array([self[f"{prefix}/{n}{suffix}"] for n in name])
        return self[f"{prefix}/{name}{suffix}"]

    def assign(self, learner, prefix):
        for v, name in zip(
            learner.model.trainable_variables, self.model_names(learner), strict=True
        ):
            v.assign(self.value(prefix, name))
        for v, name in zip(
            learner.estimator.trainable_variables, self.control_names(learner), strict=True
        ):
            v.assign(self.value(prefix, name))

    def objective_factor(self, learner):
        """What our variance objective's gradient must be divided by to be the 2017 one."""
        if not self.conditional or not hasattr(learner.estimator, "raw_eta"):
            return 1.0
        counted = sum(int(np.prod(v.shape)) for v in learner.model.trainable_variables)
        return (counted + self.hparams.n_hidden) / counted
