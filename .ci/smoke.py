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
