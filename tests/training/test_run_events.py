"""What a run writes for TensorBoard: the numbers of metrics.jsonl, by tag."""

import json

import numpy as np
import pytest

from . import tiny

DATA = tiny.dataset(n_train=18)  # 5 steps an epoch


def test_tensorboard_scalars(tmp_path):
    settings = {"training_steps": 10, "eval_freq": 2, "variance_freq": 2}
    tiny.run(tmp_path, DATA, "model=SBNDynamicRebar", **settings).train()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    expected = {}
    for record in (first, second):
        step = record["step"]
        expected[step, "train/elbo"] = record["elbo"]
        expected[step, "variance/log_gradient_variance"] = record["log_variance"]
        expected[step, "variance/log_gradient_variance_q"] = record["log_variance_q"]
        for name, value in record.items():
            if name == "temperature" or name.startswith("eta/"):
                expected[step, f"within_estimator/{name}"] = value
    for name in ("valid", "test"):
        expected[10, f"{name}/bound"] = second[name]
        expected[10, f"{name}/elbo"] = second[f"{name}_elbo"]
    (measured,) = second["estimator_variance"].values()
    for part in ("total", "q", "q_0", "p"):
        expected[10, f"variance_alone/log_{part}"] = np.log(measured[part])
    assert (5, "within_estimator/temperature") in expected
    assert tiny.scalars(tmp_path) == pytest.approx(expected, rel=1e-6)
