"""Smoke test of an installed wheel, run outside the checkout: python smoke.py FOLDER.

FOLDER is where the wheel is installed, and on PYTHONPATH.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

import rebar

installed = Path(sys.argv[1]).resolve()
package = Path(rebar.__file__).resolve().parent
assert package.parent == installed, f"{package}: not the wheel in {installed}"
assert (package / "py.typed").exists()
assert not (installed / "tests").exists()

estimate = rebar.estimate_gradient(
    "disarm", lambda b: tf.reduce_sum(b, axis=1), tf.zeros([10_000, 3]), seed=0, step=0
)
assert estimate.unbiased
tf.debugging.assert_near(tf.reduce_mean(estimate.gradient), 0.25, atol=0.02)

PLUGIN = """
import rebar
from rebar.estimators.leave_one_out import LeaveOneOut

class HalfScore(LeaveOneOut):
    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(gradients=[g / 2 for g in estimate.gradients])

rebar.register("Plugin", LeaveOneOut, min_samples=2)
rebar.register("BiasedPlugin", HalfScore, min_samples=2)
"""

with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "smoke_plugin.py").write_text(PLUGIN)
    for name, status in (("Plugin", 0), ("BiasedPlugin", 1)):
        command = [
            *(str(installed / "bin" / "rebar-check"), name, "--plugins=smoke_plugin"),
            "--only=unbiased: unconditional, 1 layer",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        assert ("biased at" in done.stdout) == bool(status), done.stdout

with tempfile.TemporaryDirectory() as folder:
    command = [
        str(installed / "bin" / "rebar-train"),
        "--hparams=model=SBNDisARM,task=digits,n_hidden=8",
        "--training_steps=20",
        "--eval_freq=0",
        f"--working_dir={folder}",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (run,) = Path(folder).iterdir()
    assert rebar.load_model(run).step == 20
assert "Step 20: [" in printed, printed
print(f"smoke test of rebar {rebar.__version__}: passed")
