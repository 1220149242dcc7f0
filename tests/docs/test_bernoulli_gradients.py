"""docs/bernoulli_gradients.md: run its programs, compare its table and figure with the code."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rebar.errors import RebarError
from rebar.functional import methods

ROOT = Path(__file__).parents[2]
METHODS = methods.of("bernoulli")
TEXT = (ROOT / "docs" / "bernoulli_gradients.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def numbers(name, folder, capsys):
    """Run a program of the document and return the numbers that it prints."""
    path = folder / name
    path.write_text(FILES[name])
    runpy.run_path(str(path), run_name="__main__")
    return [float(n) for n in re.findall(r": (-?\d+\.\d+)", capsys.readouterr().out)]


def test_every_block_is_a_file_or_its_command():
    assert list(FILES) == ["knapsack.py", "black_box.py", "autoencoder.py"]
    assert len(re.findall(r"^```\w", TEXT, re.MULTILINE)) == 2 * len(FILES)
    for name in FILES:
        assert f"```sh\npython {name}\n```" in TEXT


def test_knapsack(tmp_path, capsys):
    first, last, best = numbers("knapsack.py", tmp_path, capsys)
    assert first < 0.7 * best
    assert 0.95 * best < last <= best


def test_black_box(tmp_path, capsys):
    """Every method has less variance than the one before it."""
    printed = numbers("black_box.py", tmp_path, capsys)
    after = TEXT.partition("python black_box.py")[2]
    stated = [float(n) for n in re.findall(r"^[\w ,]+: (\d\.\d{3})$", after, re.MULTILINE)]
    np.testing.assert_allclose(printed, stated, rtol=0.15)
    assert np.all(np.diff(printed) < 0)


def test_autoencoder(tmp_path, capsys):
    first, last, *_ = numbers("autoencoder.py", tmp_path, capsys)
    assert -50 < first < -40
    assert -30 < last < -15


def encoder_variance(program):
    """Variance of the encoder's gradient at step 100 of autoencoder.py, summed over weights."""
    setup = program[: program.index("random = ")]
    setup = setup.replace("@tf.function(jit_compile=True)", "@tf.function")
    names = {}
    exec(setup.replace("return tf.reduce_mean(estimate.value)", "return gradients[0]"), names)
    images, train = names["images"], names["train"]
    for step in range(100):
        train(images[50 * (step % 30) :][:50], tf.constant(step))
    for optimizer in names["optimizers"]:
        optimizer.learning_rate = 0.0
    draws = [train(images[:50], tf.constant(step)) for step in range(100, 400)]
    return np.sum(np.var(draws, axis=0))


def test_log_q_of_live_logits_costs_variance():
    program = FILES["autoencoder.py"]
    live = program.replace("tf.stop_gradient(logits)", "logits")
    assert live != program
    assert encoder_variance(live) > 4 * encoder_variance(program)


@pytest.mark.parametrize("name", METHODS)
def test_the_table_of_methods(name):
    (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", TEXT, re.MULTILINE)
    unbiased, evaluations, options, differentiable, _ = (cell.strip() for cell in row.split("|"))
    method = METHODS[name]
    assert (unbiased == "yes") == method.unbiased
    assert (differentiable == "yes") == method.differentiates
    assert evaluations.replace("`", "") == method.evaluations.replace("n_samples", "K")
    if name != "relax":
        assert set(re.findall(r"`(\w+)`", options)) == set(method.defaults)
    else:
        assert set(method.defaults) == {*METHODS["rebar"].defaults, "network", "relaxed_f"}


def test_no_placeholder_is_left():
    assert "@@" not in TEXT


@pytest.fixture
def toy(monkeypatch):
    """Import the script of the figure; undo its imports afterwards."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import toy

    yield toy
    for name in ("toy", "common"):
        sys.modules.pop(name)


def test_the_toy_problem(toy, tmp_path, capsys):
    figure = tmp_path / "toy.png"
    toy.main(
        [
            *("--methods=reinforce,disarm,gumbel", "--runs=4", "--steps=20", "--every=10"),
            *("--draws=50", f"--figure={figure}"),
        ]
    )
    rows = re.findall(r"^\| (\w+) \| (yes|no) \|", capsys.readouterr().out, re.MULTILINE)
    assert rows == [("reinforce", "yes"), ("disarm", "yes"), ("gumbel", "no")]
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RebarError, match="cannot write"):
        toy.main(
            ["--methods=arm", "--runs=2", "--steps=1", "--every=1", f"--figure={figure}/toy.png"]
        )


@pytest.mark.parametrize("method", ["disarm", "relax"])
def test_runs_of_the_toy_problem_learn(toy, method):
    """In 200 steps of 5: the loss falls without noise, or the variance falls by learning."""
    curves = toy.train(method, 3, 200, 100, 5.0, 200)
    assert curves.loss.shape == curves.variance.shape == (3, 3)
    np.testing.assert_array_equal(curves.steps, [0, 100, 200])
    np.testing.assert_allclose(curves.loss[0], 0.250001, rtol=1e-9)
    if method == "disarm":
        assert np.all(np.diff(curves.loss, axis=0) < 0)
    else:
        assert np.all(curves.variance[-1] < 0.5 * curves.variance[0])
