"""Memory: of long runs and of evaluations with many samples, each in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RESIDENT = """
import json, sys
import numpy as np

def resident(field="VmRSS"):
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith(field + ":")]
    return int(line.split()[1]) / 1024
"""

RUN = """
from rebar.cli import train
from rebar.training.report import Report

found = []
evaluate = Report._evaluation

def evaluation(self, step, scalars):
    record = evaluate(self, step, scalars)
    found.append((step, resident()))
    return record

Report._evaluation = evaluation
assert train.main(["rebar_train.py", *sys.argv[1:]]) == 0
print("\\n" + json.dumps(found))
"""

EVALUATION = """
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.training.evaluate import Evaluator

model = make_model(HParams.parse("n_layer=2"), np.full(784, 0.5), False)
images = np.random.default_rng(0).integers(0, 2, [120, 784], dtype=np.uint8)
evaluator = Evaluator(model)
found = []
for samples in (100, 1000, 10000):
    bound = evaluator(images, samples)["bound"]
    found.append((samples, resident("VmHWM"), bound))
print("\\n" + json.dumps(found))
"""


def measured(script, *arguments):
    found = subprocess.run(
        [sys.executable, "-c", RESIDENT + script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("jit", ["off", "on"])
def test_a_long_run_does_not_grow(tmp_path, jit):
    """20000 steps with 51 evaluations, as many checkpoints and pictures: under 20 MB from the
    fifth evaluation on."""
    found = measured(
        RUN,
        "--hparams=model=SBNDynamicRebar,task=digits,n_layer=2,n_hidden=50",
        *(f"--jit={jit}", "--training_steps=20000", "--eval_freq=7", "--variance_freq=7"),
        *("--variance_draws=4", "--eval_samples=100", "--save_seconds=0", "--draw"),
        *(f"--working_dir={tmp_path / 'runs'}", f"--data_dir={tmp_path / 'data'}"),
    )
    assert len(found) == 51
    print([(step, round(size, 1)) for step, size in found[::5]], round(found[-1][1], 1))
    sizes = [size for _, size in found]
    assert max(sizes[5:]) - sizes[4] < 20


@pytest.mark.slow
def test_an_evaluation_with_many_samples_takes_no_more_than_one_with_few():
    """Of 784 pixels and two layers of 200: 10000 samples within 100 MB of what 100 take."""
    found = measured(EVALUATION)
    print([(samples, round(size, 1)) for samples, size, _ in found])
    few, _, many = (size for _, size, _ in found)
    assert many - few < 100
    assert found[0][2] < found[1][2] < found[2][2]
