"""Presets: what they set, that they can be overridden, and that the data of the paper fit them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rebar
from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import HParams, run_name
from rebar.hparams.presets import PRESETS, preset

PROTOCOL = {
    "batch_size": 50,
    "dynamic_b": True,
    "n_hidden": 200,
    "initializer": "glorot",
    "learning_rate": 1e-4,
    "learning_rate_generator": 0.0,
    "learning_rate_prior": 1e-2,
    "prior_optimizer": "sgd",
    "learning_rate_control": 1e-4,
    "beta2": 0.999,
    "temperature": 0.1,
}
NETWORKS = {
    "disarm_linear": (1, False),
    "disarm_nonlinear": (1, True),
    "disarm_linear2": (2, False),
    "disarm_linear3": (3, False),
    "disarm_linear4": (4, False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_preset_sets(name):
    h = HParams.parse(preset(name))
    assert {key: getattr(h, key) for key in PROTOCOL} == PROTOCOL
    assert (h.n_layer, h.nonlinear) == NETWORKS[name]
    assert h.activation == ("leaky_relu" if h.nonlinear else "tanh")
    # Everything else is as without it.
    said = set(re.findall(r"(\w+)=", PRESETS[name]))
    changed = {key for key, value in h.to_dict().items() if value != HParams().to_dict()[key]}
    assert changed <= said <= {*PROTOCOL, "model", "n_layer", "nonlinear", "activation"}


def test_the_protocol_of_non_binarized_images():
    h = HParams.parse(preset("doublecv_gaussian"), "task=omni_grey")
    assert (h.likelihood, h.prior, h.layers, h.n_samples) == ("gaussian", "uniform", ((200,),), 2)
    assert (h.nonlinear, h.activation, h.initializer) == (True, "leaky_relu", "glorot")
    assert (h.learning_rate, h.learning_rate_control, h.beta2) == (1e-4, 1e-3, 0.999)
    assert (h.batch_size, h.dynamic_b, h.learning_rate_generator) == (100, False, 0)


CATEGORICAL = [name for name in PRESETS if name.startswith("cat_")]
SIZES = ["8x4", "4x24", "8x16", "16x12", "64x8", "10x30"]


@pytest.mark.parametrize("name", CATEGORICAL)
def test_what_a_categorical_preset_sets(name):
    h = HParams.parse(preset(name))
    _, size, estimator = name.split("_")
    assert f"{h.n_categories}x{h.n_latents}" == size
    assert h.model == {model.lower(): model for model in registry.names()}[f"cat{estimator}"]
    assert (h.task, h.batch_size, h.beta2, h.mc_samples) == ("mnist", 100, 0.999, 100)
    said = set(re.findall(r"(\w+)=", PRESETS[name]))
    changed = {key for key, value in h.to_dict().items() if value != HParams().to_dict()[key]}
    assert changed <= said


@pytest.mark.parametrize(
    ("name", "rate", "temperature", "optimizer"),
    [
        ("cat_8x4_gumbelst", 3e-4, 0.5, "adam"),
        ("cat_10x30_gumbelst", 5e-4, 0.5, "radam"),
        ("cat_64x8_gumbelrao", 7e-4, 2.0, "adam"),
        ("cat_16x12_gst", 7e-4, 0.5, "radam"),
        ("cat_4x24_st", 1e-3, 1.5, "radam"),
        ("cat_8x16_reinmax", 7e-4, 1.5, "radam"),
        ("cat_8x4_reinmax", 5e-4, 1.3, "adam"),
        ("cat_10x30_reinmaxrao", 5e-4, 0.7, "radam"),
        ("cat_8x4_reinmaxcv", 5e-4, 1.0, "adam"),
    ],
)
def test_cells_of_the_published_table(name, rate, temperature, optimizer):
    h = HParams.parse(preset(name))
    assert (h.learning_rate, h.temperature, h.optimizer) == (rate, temperature, optimizer)


def test_names():
    others = [*NETWORKS, "doublecv_gaussian"]
    assert [name for name in PRESETS if name not in CATEGORICAL] == others
    assert len(CATEGORICAL) == 7 * len(SIZES)
    assert {name.split("_")[1] for name in CATEGORICAL} == set(SIZES)
    assert rebar.preset("disarm_linear") == PRESETS["disarm_linear"]


def test_later_strings_override():
    h = HParams.parse(preset("disarm_nonlinear"), "batch_size=20,n_layer=3", "batch_size=30")
    assert (h.batch_size, h.n_layer, h.nonlinear) == (30, 3, True)
    assert HParams.parse(preset("disarm_linear"), preset("disarm_linear4")).n_layer == 4


def test_a_run_has_the_name_of_its_values_however_they_were_given():
    by_name = HParams.parse(preset("disarm_linear2"), "model=SBNDisARM")
    by_hand = HParams.parse(PRESETS["disarm_linear2"])
    assert run_name(by_name, 0) == run_name(by_hand, 0)
    other = HParams.parse(preset("disarm_linear2"), "model=SBNDisARM,prior_optimizer=adam")
    assert run_name(by_name, 0) != run_name(other, 0)


def test_an_unknown_one_is_refused():
    with pytest.raises(RebarError, match=r"unknown preset 'foo'; .*--help"):
        preset("foo")
    with pytest.raises(
        RebarError, match=r"unknown preset 'disarm_liner'.* did you mean disarm_linea"
    ):
        preset("disarm_liner")


def test_a_preset_is_read_without_tensorflow():
    code = "import sys, rebar.hparams.presets; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_preset_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text()
    named = set(re.findall(r"--preset=(\w+)", text))
    assert set(NETWORKS) <= named <= set(PRESETS)
    # Those of the categorical models are rows and columns of a table.
    assert all(f"| {size} |" in text for size in SIZES)
    assert {name.split("_")[2] for name in CATEGORICAL} <= set(re.findall(r"`(\w+)`", text))
    commands = re.findall(r'--preset=(\w+) --hparams="([^"]+)"', text)
    known = [(name, h) for name, h in commands if "..." not in h]
    assert len(known) >= len(NETWORKS)
    for name, hparams in known:
        HParams.parse(preset(name), hparams)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_sets_a_model_that_its_name_suggests(name):
    hparams = HParams.parse(preset(name))
    assert "model" in hparams.typed
    assert name.split("_")[0].removeprefix("cat") in hparams.model.lower()
