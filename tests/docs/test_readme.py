"""README.md and its main pages: run programs, compare output and tables with the code."""

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from rebar import registry
from rebar.cli import train
from rebar.functional import methods
from rebar.hparams import HParams, Settings
from rebar.hparams.fields import Fields
from rebar.hparams.grammar import write

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
FAQ = (ROOT / "docs" / "faq.md").read_text()
HYPERPARAMETERS = (ROOT / "docs" / "hyperparameters.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| ([\w-]+) \|(?: `(\w+)`)? \| (yes|\*\*no\*\*) \|", re.MULTILINE)
PAGE = (ROOT / "docs" / "estimators.md").read_text()
ESTIMATORS = {name: row for name, *row in ROW.findall(PAGE)}


def programs(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_length():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("field", dataclasses.fields(Fields), ids=lambda field: field.name)
def test_the_table_of_hparams(field):
    row = f"| `{field.name}` | `{write(field.default)}` | {field.metadata['help']}"
    assert row in HYPERPARAMETERS


@pytest.mark.parametrize("name", registry.names())
def test_the_table_of_estimators(name):
    entry = registry.entry(name)
    if entry.tracks:
        assert f"`{name}`" in PAGE
        return
    label, function, unbiased = ESTIMATORS[name]
    assert label == entry.label
    estimator = registry.make_estimator(name, HParams(model=name, n_samples=2))
    assert (unbiased == "yes") == estimator.unbiased
    if function:
        functions = methods.of("bernoulli" if entry.latents == "binary" else "categorical")
        assert functions[function].unbiased == estimator.unbiased
        assert methods.name_of(label) == methods.name_of(label.lower()) == function


def test_the_short_table_agrees_with_the_page():
    rows = re.findall(r"^\| (?:binary |categorical )?(\| `.*)$", README, re.MULTILINE)
    assert len(rows) == 13
    for row in rows:
        assert row in PAGE


def test_every_function_has_a_model():
    functions = {row[1] for row in ESTIMATORS.values()}
    assert functions - {""} == {*methods.METHODS}


def test_every_flag_of_training_is_described():
    rows = dict(re.findall(r"^\| `--(\w+)` \|(?: `(.*?)`)? \|", TRAINING, re.MULTILINE))
    flags = train.define_flags()
    assert set(rows) == set(flags) - {"help", "h"}
    for name in {"epochs", "eval_freq", "eval_samples", "variance_draws", "training_steps"}:
        assert rows[name] == str(getattr(Settings(), name))


def test_every_model_is_in_the_table_of_printed_numbers():
    described = set(re.findall(r"`(\w+)`", TRAINING.partition("## The printed numbers")[2]))
    assert {name for name in registry.names("binary") if name != "SBN"} <= described


def test_the_output_of_the_first_command(tmp_path, monkeypatch, capsys):
    """Compare one epoch, with a tolerance, as processors round differently."""
    (command,) = re.findall(r"^(python rebar_train\.py .*task=digits.*)$", README, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    assert train.main([*shlex.split(command)[1:], "--epochs=1"]) == 0
    pattern = r"^Step 55: \[(.*)\]\n(\S+)$"
    stated, printed = (
        np.array([float(n) for n in " ".join(re.search(pattern, text, re.M).groups()).split()])
        for text in (README, capsys.readouterr().out)
    )
    np.testing.assert_allclose(printed, stated, rtol=0.01)


def test_the_function_example(capsys):
    example, _ = programs(README)
    exec(example, {})
    assert capsys.readouterr().out.strip() == re.search(r"# (\[.*\])", example)[1]


def test_the_training_examples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    _, example = programs(README)
    exec(example.replace("epochs=20", "epochs=1, eval_freq=1"), names)
    assert names["trained"].step == 55
    assert re.search(r"^0 +55 +-\d+\.\d+ +-\d+\.\d+ +-\d+\.\d+$", capsys.readouterr().out, re.M)
    for example in programs(TRAINING):
        exec(example, names)
    assert len(names["run"].history) == 2
    assert names["step"] == 1
    assert names["temperature"] == pytest.approx(0.5)
    assert names["grad_variance"] == 0
    assert -300 < names["bound"] < 0


@pytest.mark.parametrize(
    "name", [n for n in registry.names() if n != "CatExact" and not registry.entry(n).tracks]
)
def test_the_table_of_evaluations(name):
    label = registry.entry(name).label
    rows = dict(re.findall(r"^\| ([^|`]+) \| ([^|]+) \|$", FAQ, re.MULTILINE))
    (formula,) = {f for labels, f in rows.items() if label in labels.split(", ")} or {
        rows["REINFORCE, NVIL, LOO, VIMCO, OVIS, RWS, DoubleCV, RODEO, straight-through family"]
    }
    formula = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", formula)
    sizes = {"H": 5} if registry.entry(name).latents == "binary" else {"V": 3, "C": 4}
    for n_layer, n_samples in ((1, 2), (3, 4)):
        hparams = HParams(model=name, n_samples=n_samples)
        shapes = [tuple(sizes.values())] * n_layer
        evaluations = registry.make_estimator(name, hparams).evaluations(shapes, n_samples)
        assert eval(formula, {"K": n_samples, "L": n_layer, **sizes}) == evaluations


def test_no_placeholder_is_left():
    assert "@@" not in README
