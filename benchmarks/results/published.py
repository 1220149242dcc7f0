"""Long runs of published protocols: their records, and the published numbers."""

import json
import statistics
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import records
from rebar.data.sources import DATA_SETS, task_of
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.hparams.hparams import completed

POINTS = 100
"""Largest number of points of a recorded curve."""


class Row(NamedTuple):
    """An estimator in a table.

    Attributes:
      name: of the record.
      text: shown in the table.
      hparams: --hparams of the run.
      preset: its preset, or None.
      published: quantity -> published number, with the signs of the log: "elbo" of training,
        "test" the bound, "test_elbo", or the log variance of a tracked estimator.
    """

    name: str
    text: str
    hparams: str
    preset: str | None
    published: dict

    @property
    def run_settings(self):
        """Hyperparameters of the run."""
        return HParams.parse(self.hparams, preset=self.preset)


class Protocol(NamedTuple):
    """A published table.

    Attributes:
      title: heading.
      about: sentences under it.
      steps: steps of the published runs.
      quantities: quantity -> heading of its column.
      options: further flags of the command.
      rows: see `Row`.
    """

    title: str
    about: str
    steps: int
    quantities: dict
    options: str
    rows: tuple


_BOUND = {"elbo": "train ELBO", "test": "test bound, 100 samples"}


def _disarm(estimator, task, text="", hparams="", preset="disarm_nonlinear", **published):
    """A row of the DisARM protocol, or with a text and hyperparameters that are not of it."""
    model, label = estimator
    return Row(
        "-".join(filter(None, (label, task, text))),
        ", ".join(filter(None, (label, DATA_SETS[task_of(task).data_set].title, text))),
        ",".join(filter(None, (f"model={model}", f"task={task}", hparams))),
        preset,
        published,
    )


def _gaussian(label, elbo, samples=2, text=None):
    hparams = f"model=SBN{label},n_samples={samples}"
    return Row(label, text or label, hparams, "doublecv_gaussian", {"elbo": elbo})


def _reinmax(name, train, test, size="8x4"):
    return Row(name, name, "", f"cat_{size}_{name}", {"elbo": -train, "test_elbo": -test})


def _tracker(layers, rate, published):
    hparams = f"model=SBNTrackGradVariances,learning_rate={rate},n_layer={layers},task=omni"
    text = f"{layers} layer{'s' if layers > 1 else ''}, {rate}"
    return Row(text, text, f"{hparams},legacy2017=true", None, published)


_DISARM = ("SBNDisARM", "DisARM")
_HIGH = "learning_rate=0.001"
_README = {
    "NVIL": 2.76,
    "SimpleMuProp": -0.041,
    "MuProp": -0.034,
    "REBAR": -3.54,
    "DynamicREBAR": -3.73,
}

PROTOCOLS = {
    "tracker": Protocol(
        "Omniglot tracker of the 2017 README",
        "Log variances of five estimators on one trajectory, means over the first epoch. The 2017 "
        "README states neither the learning rate nor the number of layers.",
        959,
        {label: label for label in _README},
        "--epochs=1 --eval_freq=0",
        (
            _tracker(2, 0.0003, _README),
            _tracker(2, 0.0001, {}),
            _tracker(2, 0.001, {}),
            _tracker(1, 0.0003, {}),
            _tracker(1, 0.0001, {}),
        ),
    ),
    "disarm": Protocol(
        "DisARM protocol, nonlinear model",
        "200-200-200 units with LeakyReLU, one stochastic layer of 200, dynamic binarization, "
        "learning rate 1e-4, except in the last two rows. The published aggregates state no seeds.",
        1_000_000,
        _BOUND,
        "--training_steps=1000000 --eval_freq=25",
        (
            _disarm(_DISARM, "sbn", test=-97.56),
            _disarm(("SBNRelax", "RELAX"), "sbn"),
            _disarm(("SBNReinforceLOO", "LOO"), "sbn", hparams="n_samples=2"),
            _disarm(_DISARM, "fashion", elbo=-234.4, test=-234.5),
            _disarm(_DISARM, "omni", elbo=-108.6, test=-107.3),
            _disarm(_DISARM, "omni", "learning rate 1e-3", _HIGH),
            _disarm(_DISARM, "omni", "four linear layers, 1e-3", _HIGH, "disarm_linear4"),
        ),
    ),
    "beyond_reinmax": Protocol(
        "Beyond ReinMax, 8x4",
        "4 variables of 8 categories on grayscale MNIST, 160 epochs. The published numbers are "
        "means over 10 seeds.",
        96_000,
        {"elbo": "train ELBO", "test_elbo": "test ELBO"},
        "--epochs=160 --eval_freq=20",
        (
            _reinmax("gumbelst", 127.59, 128.72),
            _reinmax("gumbelrao", 125.65, 127.62),
            _reinmax("st", 136.40, 137.01),
            _reinmax("gst", 128.31, 129.15),
            _reinmax("reinmax", 125.08, 127.27),
            _reinmax("reinmaxrao", 125.31, 126.60),
        ),
    ),
    "beyond_reinmax_64x8": Protocol(
        "Beyond ReinMax, 64x8",
        "8 variables of 64 categories, otherwise as above.",
        96_000,
        {"elbo": "train ELBO", "test_elbo": "test ELBO"},
        "--epochs=160 --eval_freq=20",
        (
            _reinmax("reinmax", 101.09, 103.35, "64x8"),
            _reinmax("reinmaxrao", 100.24, 102.76, "64x8"),
        ),
    ),
    "gaussian": Protocol(
        "Gaussian pixels",
        "Two evaluations of f per image, three for ARMS. Published after a million steps, without "
        "the number of evaluations: presumably two for DisARM, three for the others.",
        1_000_000,
        {"elbo": "train ELBO"},
        "--training_steps=200000 --eval_freq=25 --variance_freq=25",
        (
            _gaussian("DisARM", 668.0, 1),
            _gaussian("ARMS", 683.5, 1, "ARMS, three evaluations"),
            _gaussian("DoubleCV", 686.5),
            _gaussian("RODEO", 692.4, "2,rodeo_hidden=100"),
        ),
    ),
    "belief_network": Protocol(
        "Sigmoid belief network 200-200-200, five samples",
        "Three linear layers of 200 units, uniform prior, batches of 24, dynamic binarization, "
        "learning rate 3e-4, 144 epochs of 50000 images. Published: up to 3000 epochs of 60000 "
        "images, and Adam with epsilon 1e-4.",
        7_500_000,
        {"elbo": "train ELBO", "test": "test bound, 1000 samples"},
        "--epochs=144 --eval_freq=48 --eval_samples=1000",
        tuple(
            Row(
                label,
                label,
                f"model=SBN{label},n_layer=3,n_samples=5,dynamic_b=true,task=sbn,"
                "learning_rate=0.0003,beta2=0.999,prior=uniform",
                None,
                {"test": published},
            )
            for label, published in (("VIMCO", -92.8), ("RWS", -93.5))
        ),
    ),
}


def collect(folder):
    """Write the record of a run. Raises RebarError if no protocol has it."""
    folder = Path(folder)
    about = json.loads((folder / "hparams.json").read_text())
    hparams = HParams.from_dict(completed(about["hparams"]))
    for name, protocol in PROTOCOLS.items():
        for row in protocol.rows:
            wanted = row.run_settings
            if wanted.replace(n_input=0).to_dict() == hparams.replace(n_input=0).to_dict():
                record = _record(folder, about["seed"])
                samples = flags(protocol).get("eval_samples", "100")
                if str(record["eval_samples"] or samples) != samples:
                    raise RebarError(
                        f"{folder}: evaluated with {record['eval_samples']} samples, {name} with "
                        f"{samples}; continue the run with --eval_samples={samples}"
                    )
                used = {n: about["schedule"].get(n, value) for n, value in flags(protocol).items()}
                record["command"] = command(protocol, row, used | {"seed": about["seed"]})
                records.write(
                    records.path("runs", name, f"{row.name}-s{about['seed']}"),
                    {"row": row.name, "machine": about["versions"].get("processor", ""), **record},
                )
                return
    raise RebarError(f"{folder}: no run of a protocol; see benchmarks/results/published.py")


def runs_of(name, row):
    """Return the records of the runs of a row, both by name: of the protocol, and of the row."""
    return [run for run in records.read("runs", name) if run["row"] == row]


def flags(protocol):
    """Name -> value of a protocol's further flags."""
    return dict(flag.removeprefix("--").split("=") for flag in protocol.options.split())


def command(protocol, row, values=None):
    """Return the command of a row's run, with the protocol's flags or other values."""
    parts = ["python rebar_train.py"]
    parts += [f"--preset={row.preset}"] if row.preset else []
    parts += [f'--hparams="{row.hparams}"'] if row.hparams else []
    return " ".join([*parts, *(f"--{n}={v}" for n, v in (values or flags(protocol)).items())])


def _record(folder, seed):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    by_step = {line["step"]: line for line in lines}
    points = [by_step[step] for step in sorted(by_step)]
    usual = statistics.median(point["seconds"] for point in points) / 3600
    tracked = isinstance(points[-1]["log_variance"], dict)
    kept = [i for i, point in enumerate(points) if tracked or "test" in point]
    if not kept:
        raise RebarError(f"{folder}: no evaluation yet; continue the run")
    kept = kept[::-1][:: -(-len(kept) // POINTS)][::-1]
    return {
        "seed": seed,
        "steps": points[kept[-1]]["step"],
        "eval_samples": points[kept[-1]].get("eval_samples"),
        "curve": [{**_numbers(points[i]), "hours": usual * points[i]["epoch"]} for i in kept],
    }


def _numbers(point):
    names = ("step", "epoch", "elbo", "log_variance", "test", "test_elbo")
    numbers = {name: point[name] for name in names if name in point}
    tracked = point["log_variance"] if isinstance(point["log_variance"], dict) else {}
    return numbers | tracked
