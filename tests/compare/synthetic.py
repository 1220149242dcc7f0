"""Folders of runs that nobody trained."""

import json

import numpy as np

from rebar.compare.groups import comparisons
from rebar.compare.reading import read
from rebar.hparams import HParams

LABELS = {
    "SBNDisARM": "DisARM",
    "SBNNVIL": "NVIL",
    "SBNGumbel": "Gumbel",
    "SBNReinforceLOO": "LOO",
    "SBNARM": "ARM",
}
DICT_2017 = (
    "{'n_hidden': 200, 'muprop_relaxation': True, 'dynamic_b': False, 'batch_size': 24, "
    "'quadratic': True, 'beta2': 0.99999, 'task': 'sbn', 'n_input': 784, 'learning_rate': 0.0003, "
    "'nonlinear': False, 'n_samples': 1, 'n_layer': 2, 'temperature': 0.5, "
    "'model': 'SBNDynamicRebar', 'trial': 1}\n"
)
LOG_2017 = """\
Step 2084: [-231.026474      0.3711713     1.            1.06934261    1.07023323
    1.02173257    1.02171052    1.            1.            1.            1.        ]
-3.6465678215
Step 4168: [-156.86795044    0.3097114     1.            1.03964758    1.03936625
    1.02627242    1.02629256    1.            1.            1.            1.        ]
-4.42727231979

Valid 4168: [-147.5 -156.9 0.3]
Test 4168: [-146.5 -155.9 0.3]
"""


def record(step, elbo=-100.0, variance=1.0, **more):
    """A record of metrics.jsonl; variance may be label -> value."""
    logs = (
        {k: float(np.log(v)) for k, v in variance.items()}
        if isinstance(variance, dict)
        else float(np.log(variance))
    )
    start = {"step": step, "epoch": step / 100, "elbo": elbo, "log_variance": logs, "seconds": 2.0}
    return start | more


def write_run(
    parent, model="SBNDisARM", seed=0, records=None, name=None, planned=300, about=None, **hparams
):
    """A folder as the train command leaves it; `about` adds to hparams.json or replaces."""
    settings = HParams(model=model, **{"task": "digits", **hparams}).to_dict()
    label = LABELS.get(model, "Track")
    biased = label == "Gumbel"
    folder = parent / (name or f"{model}-{seed}-{len(list(parent.glob('*')))}")
    folder.mkdir(parents=True)
    content = {
        "hparams": settings,
        "seed": seed,
        "label": label,
        "network": "SigmoidBeliefNetwork",
        "unbiased": not biased,
        "estimators": {label: {"unbiased": not biased, "evaluations": 24}},
        "coupling": "switch",
        "data": "digits",
        "schedule": {"training_steps": planned, "epochs": 0, "eval_samples": 100},
        **(about or {}),
    }
    (folder / "hparams.json").write_text(json.dumps(content))
    records = [record(step) for step in (100, 200, 300)] if records is None else records
    lines = [json.dumps(one) for one in records]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def compare(*paths):
    """The comparisons of folders or files."""
    return comparisons(read(map(str, paths))[0])
