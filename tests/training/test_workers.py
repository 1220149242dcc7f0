"""Two processes on the loopback interface against one; TF_CONFIG."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from rebar.cli.workers import free_ports
from rebar.errors import RebarError
from rebar.training import workers
from rebar.training.blocks import Blocks

from . import tiny, worker_main

ROOT = Path(__file__).parents[2]
PATIENCE = 120


def config(index, *addresses, kind="worker"):
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Arrays of one process, of worker 0 and of worker 1, as a list."""
    folder = tmp_path_factory.mktemp("workers")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with contextlib.ExitStack() as stack:
        children = []
        for i in range(2):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.training.worker_main", folder / f"{i}.npz"],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | config(i, *addresses),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            children.append(stack.enter_context(child))
            stack.callback(child.kill)
        one = in_float64(lambda: worker_main.train_all(None))
        for child in children:
            output, _ = child.communicate(timeout=PATIENCE)
            assert child.returncode == 0, output.decode()[-2000:]
    return [one, *(dict(np.load(folder / f"{i}.npz")) for i in range(2))]


def in_float64(function):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        return function()
    finally:
        keras.config.set_dtype_policy(before)


def of_case(arrays, name):
    return {k.partition("|")[2]: v for k, v in arrays.items() if k.startswith(f"{name}|")}


@pytest.mark.parametrize("name", ["REINFORCE", "DynamicREBAR"])
def test_two_processes_train_as_one(results, name):
    one, *team = (of_case(arrays, name) for arrays in results)
    assert one["table"].shape[0] == worker_main.STEPS
    assert any("moments" in key for key in one)
    for worker in team:
        np.testing.assert_allclose(worker.pop("table"), one["table"], rtol=1e-6)  # float32
        for key, value in worker.items():
            scale = np.max(np.abs(one[key]), initial=1e-12)
            np.testing.assert_allclose(value, one[key], rtol=1e-10, atol=1e-10 * scale, err_msg=key)


@pytest.mark.parametrize("name", ["REINFORCE", "DynamicREBAR"])
def test_all_workers_have_the_same_bits(results, name):
    _, first, second = (of_case(arrays, name) for arrays in results)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


def test_noise_of_ones_own_would_be_seen(results):
    one, first = of_case(results[0], "REINFORCE"), of_case(results[1], "unsynchronised")
    assert not np.allclose(first["table"], one["table"], rtol=1e-3)


def test_a_mean_of_the_workers_variances_would_be_seen(results):
    one, first = of_case(results[0], "REINFORCE"), of_case(results[1], "own variances")
    # The model does not depend on it, the reported variance does: parts vary more than the whole.
    np.testing.assert_allclose(first["model/2/bias"], one["model/2/bias"], rtol=1e-9)
    # After the two large minibatches: over all weights, over those of q.
    assert np.all(first["table"][2, -2:] > 1.3 * one["table"][2, -2:])


def test_a_process_that_waits_too_long_is_killed_with_the_reason():
    with subprocess.Popen(["sleep", "600"]) as waiting:
        watch = [sys.executable, "-c", workers._WATCH, str(waiting.pid), "0.1", "nobody came"]
        with subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as watcher:
            assert waiting.wait(PATIENCE) == -signal.SIGKILL
            assert watcher.stderr.read() == b"nobody came\n"


def test_a_process_that_need_not_wait_lives():
    with workers._killed_after(600, "nobody came"):
        pass


def test_more_workers_than_images_of_a_minibatch():
    team = workers.Team(None, index=0, size=3)
    with pytest.raises(RebarError, match="3 workers cannot share minibatches of 2 images"):
        Blocks(tiny.learner(), tiny.images(10), 2, team=team)


def test_cluster_of_workers_and_of_a_chief():
    assert workers.read_cluster(config(1, "a:1", "b:2")) == (["a:1", "b:2"], 1)
    cluster = {"worker": ["b:2"], "chief": ["a:1"]}
    for kind, index in (("chief", 0), ("worker", 1)):
        text = json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}})
        assert workers.read_cluster({"TF_CONFIG": text}) == (["a:1", "b:2"], index)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "which is not set"),
        ({"TF_CONFIG": "{"}, "must be like"),
        ({"TF_CONFIG": "[]"}, "must be like"),
        (config(2, "a:1", "b:2"), "must be like"),
        (config(0, "a:1", kind="evaluator"), "must be like"),
        (
            {
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": ["a:1"], "ps": ["b:1"]},
                        "task": {"type": "worker", "index": 0},
                    }
                )
            },
            "tasks of type ps",
        ),
    ],
)
def test_a_wrong_cluster_is_refused(environment, message):
    with pytest.raises(RebarError, match=message):
        workers.read_cluster(environment)
