"""Bias, variance and cost of every estimator at the same frozen models.

A model is a run of a preset, stopped at three numbers of epochs. At each of them, every estimator
has the same batch, its control variates are trained for FIT_STEPS steps at the frozen weights, and
`draws` gradients with respect to q's weights are drawn.
"""

import inspect
import time
from typing import NamedTuple

from benchmarks.results import records
from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import HParams, run_folder
from rebar.hparams.presets import PRESETS

FIT_STEPS = 500


class Frozen(NamedTuple):
    """A model at which estimators are measured.

    Attributes:
      title: of its table.
      preset, hparams: of the run.
      epochs: at which it is frozen.
      reference: of biases, "exact" or "loo": the mean of as many leave-one-out estimates of 32
        samples; for biased estimators only if it is the latter.
      draws: of each estimator.
    """

    title: str
    preset: str
    hparams: str
    epochs: tuple
    reference: str = "loo"
    draws: int = 1000

    @property
    def run_settings(self):
        """Hyperparameters of the run."""
        return HParams.parse(self.hparams, preset=self.preset)


MODELS = {
    "linear": Frozen("200 units, linear", "disarm_linear", "model=SBNDisARM", (1, 10, 100)),
    "nonlinear": Frozen(
        "200 units, nonlinear", "disarm_nonlinear", "model=SBNDisARM", (1, 10, 100)
    ),
    "gaussian": Frozen(
        "200 units, linear, Gaussian pixels",
        "doublecv_gaussian",
        "model=SBNDisARM,n_samples=1,nonlinear=false,activation=tanh",
        (2, 20, 100),
        "exact",
    ),
    "8x4": Frozen("4 variables of 8 categories", "cat_8x4_reinmax", "", (1, 5, 20), "exact"),
    "8x16": Frozen("16 variables of 8 categories", "cat_8x16_reinmax", "", (1, 5, 20), draws=400),
}

OWN = {
    "binary": (
        *("n_hidden", "n_layer", "task", "dynamic_b", "nonlinear", "activation"),
        *("initializer", "batch_size", "likelihood", "prior"),
    ),
    "categorical": ("n_categories", "n_latents", "task", "batch_size"),
}
"""Settings of the model; estimators have their defaults otherwise."""

MORE = {
    "binary": (
        *("LOO(n_samples=4)", "ARMS(n_antithetic=4)", "REBAR(temperature=0.1)"),
        "RODEO(rodeo_hidden=100,n_samples=2)",
        *("NVIL(multi_sample=true,n_samples=4)", "ARMS(multi_sample=true,n_samples=4)"),
        *("VIMCO(vimco_mean=arithmetic,n_samples=4)", "OVIS(ovis_gamma=1,n_samples=4)"),
    ),
    "categorical": ("LOO(n_samples=4)", "ReinMax(temperature=1)"),
}
"""Estimators with other settings, as in `track`."""

BOUND_SAMPLES = 4
"""Samples of estimators of the multi-sample bound."""


def items(latents):
    """Return the rows of a table: labels, some with settings."""
    names = registry.labels(latents)
    plain = [label for label in names if label != "Exact"]
    return [*plain, *MORE[latents]]


def settings(model, item):
    """Return the hyperparameters of an estimator: defaults, its preset's temperature."""
    of_model, kind = MODELS[model].run_settings, latents(model)
    values = {name: getattr(of_model, name) for name in OWN[kind]}
    label, _, options = item.partition("(")
    name = registry.labels(kind)[label]
    if not options:
        optional = inspect.signature(registry.target(name).__init__).parameters
        entry = registry.entry(name)
        bound = entry.multi_sample and "multi_sample" not in optional
        options = f"n_samples={entry.n_samples(BOUND_SAMPLES if bound else 1)}"
    protocol = f"cat_{model}_{name.removeprefix('Cat').lower()}"
    if protocol in PRESETS:
        values["temperature"] = HParams.parse(preset=protocol).temperature
    return HParams.parse(values, f"model={name}", options.rstrip(")"))


def latents(model):
    """Return "binary" or "categorical": the latent variables of a model."""
    return MODELS[model].run_settings.entry.latents


def name_of(record):
    """Return the name of a record's estimator, with K > 1 samples and "(biased)"."""
    item, samples = record["estimator"], record["n_samples"]
    name = item if "(" in item or samples == 1 else f"{item}, K = {samples}"
    return name if record["unbiased"] else f"{name} (biased)"


def measure(model, wanted, working_dir, data_dir):
    """Measure estimators at a model, and write a record of each.

    Args:
      model: key of MODELS.
      wanted: comma list of items; "": those that have no record.
      working_dir, data_dir: of the run, which is trained first if it has no snapshots.
    """
    from rebar.hparams.grammar import split

    every = items(latents(model))
    if unknown := set(split(wanted)) - set(every):
        raise RebarError(f"estimators {sorted(unknown)}: choose from {', '.join(every)}")
    todo = split(wanted) or [i for i in every if not records.path("frozen", model, i).exists()]
    if not todo:
        return
    subject = _Subject(model, working_dir, data_dir)
    for item in todo:
        record = subject.measure(item)
        records.write(records.path("frozen", model, item), record)
        last = record["points"][-1]
        numbers = {"variance": last["variance"], "ms": record["milliseconds"]}
        print(f"{model:10} {item:24}", *(f"{n} {v:.4g}" for n, v in numbers.items()), flush=True)


class _Subject:
    """A model's snapshots, the batch, and references."""

    def __init__(self, name, working_dir, data_dir):
        import tensorflow as tf

        import rebar
        from rebar.analysis.variance import fixed_batch
        from rebar.experiment import data_of, load_model

        self.name, self.frozen = name, MODELS[name]
        hparams, epochs = self.frozen.run_settings, self.frozen.epochs
        snapshots = run_folder(working_dir, hparams, 0) / "snapshots"
        folders = [snapshots / f"epoch-{epoch}" for epoch in epochs]
        if not all(folder.exists() for folder in folders):
            rebar.train(
                self.frozen.hparams,
                preset=self.frozen.preset,
                epochs=epochs[-1],
                keep_epochs=epochs,
                eval_freq=0,
                working_dir=working_dir,
                data_dir=data_dir,
                log_format="quiet",
            )
        trained = [load_model(folder) for folder in folders]
        self.model, data = trained[0].model, data_of(trained[0], data_dir)
        self.steps = [snapshot.step for snapshot in trained]
        self._weights = [
            [v.numpy() for v in snapshot.model.trainable_variables] for snapshot in trained
        ]
        batch = fixed_batch(data.train, hparams.batch_size, data.dynamic)
        self.x = tf.cast(batch, self.model.compute_dtype)
        self._references = {}

    def load(self, point):
        """Assign the weights of a snapshot."""
        for variable, value in zip(
            self.model.trainable_variables, self._weights[point], strict=True
        ):
            variable.assign(value)

    def meter(self, estimator, n_samples):
        from rebar.analysis.meter import Meter

        variables = self.model.inference_variables
        return Meter(self.model, estimator, n_samples, estimator.jit_pays, variables)

    def reference(self, point):
        """The reference at a snapshot whose weights are loaded."""
        from rebar.analysis.bias_variance import estimated
        from rebar.analysis.references import SAMPLES, exact
        from rebar.estimators.leave_one_out import LeaveOneOut

        if point not in self._references:
            if self.frozen.reference == "exact":
                self._references[point] = exact(self.model, self.x)
            else:
                if "meter" not in self._references:
                    self._references["meter"] = self.meter(LeaveOneOut(), SAMPLES)
                draws = self._references["meter"](self.x, self.frozen.draws, 1, ("analysis",))
                about = {"kind": "loo", "draws": self.frozen.draws, "samples": SAMPLES}
                self._references[point] = estimated(draws.moments(), about, draws)
        return self._references[point]

    def measure(self, item):
        """The record of an estimator."""
        from rebar.analysis.bias_variance import measure
        from rebar.analysis.variance import fit_controls

        hparams = settings(self.name, item)
        estimator = registry.make_estimator(hparams.model, hparams)
        estimator.setup(self.model, 0)
        initial, meter = estimator.get_weights(), self.meter(estimator, hparams.n_samples)
        points: list[dict] = []
        seconds: list[float] = []
        for point, epoch in enumerate(self.frozen.epochs):
            self.load(point)
            estimator.set_weights(initial)
            if initial:
                fit_controls(self.model, estimator, self.x, hparams.n_samples, FIT_STEPS, 0)
            start = time.process_time()
            draws = meter(self.x, self.frozen.draws, 0, ("analysis",))
            seconds.append(time.process_time() - start)
            compared = estimator.objective == "elbo" and (
                self.frozen.reference == "exact" or not estimator.unbiased
            )
            reference = self.reference(point) if compared else None
            numbers = measure(draws, reference)
            about = reference.record() if reference else {}
            points.append({"epoch": epoch, "step": self.steps[point], **numbers, "e": about})
        return {
            "model": self.name,
            "estimator": item,
            "unbiased": bool(estimator.unbiased),
            "objective": estimator.objective,
            "learned": bool(initial),
            "n_samples": hparams.n_samples,
            "evaluations": draws.evaluations / len(self.x),
            "batch_size": len(self.x),
            "draws": self.frozen.draws,
            "fit_steps": FIT_STEPS if initial else 0,
            "jit": bool(estimator.jit_pays),
            "milliseconds": 1000 * min(seconds) / (self.frozen.draws + 1),
            "points": points,
            "command": f"python -m benchmarks.results measure {self.name} --estimators={item}",
        }
