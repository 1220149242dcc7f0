"""`network=...` in --hparams."""

import pytest

import rebar
from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import HParams, completed, run_name

pytestmark = pytest.mark.usefixtures("own_registry")


def factory():
    raise AssertionError("called")


@pytest.fixture
def mine():
    rebar.register_model("Mine", factory, hparams={"filters": 8})


def test_a_registered_network(mine):
    hparams = HParams.parse("network=Mine,filters=4,n_hidden=5,n_latents=3,task=mnist")
    assert hparams.values()["filters"] == 4
    assert hparams.architecture == "network Mine"
    assert run_name(hparams, 0).startswith("SBNGumbel-mnist-Mine-lr0.001-s0-")
    assert HParams.parse(hparams.format()) == hparams == HParams.from_dict(hparams.to_dict())
    assert HParams.parse("network=Mine").values()["filters"] == 8
    assert HParams.parse("network=Mine,model=CatREBAR,n_layer=3").layers


def test_hyperparameters_of_another_network_do_not_apply(mine):
    rebar.register_model("Other", factory)
    with pytest.raises(RebarError, match="filters=4: does not apply to model=SBN,network=Other"):
        HParams.parse("model=SBN,network=Other,filters=4")
    with pytest.raises(RebarError, match="filters=4: does not apply to model=SBN; remove"):
        HParams.parse("model=SBN,filters=4")
    with pytest.raises(RebarError, match="filters='8': another estimator or model declares"):
        rebar.register_model("Third", factory, hparams={"filters": "8"})


def test_conditional_tasks_are_refused(mine):
    expected = "task=sp: unsupported by model=SBN,network=Mine; choose from sbn, omni"
    with pytest.raises(RebarError, match=expected):
        HParams.parse("model=SBN,network=Mine,task=sp")


def test_settings_of_other_estimators_are_refused(mine):
    with pytest.raises(RebarError, match=r"gst_gap=2\.0: applies only to categorical"):
        HParams.parse("model=SBN,network=Mine,gst_gap=2")


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("Mine", factory, "network 'Mine': already registered"),
        ("auto", factory, "network 'auto': already registered"),
        ("a b", factory, "invalid name of a model"),
        ("B", "module", "factory='module' of B: must be a function or a string"),
    ],
)
def test_invalid_registrations(mine, name, target, message):
    with pytest.raises(RebarError, match=message):
        rebar.register_model(name, target)


def test_a_target_that_does_not_exist():
    for target in ("rebar.errors:nothing", "rebar.nowhere:model"):
        with pytest.raises(RebarError, match=f"target '{target}': .*; fix its registration"):
            registry.resolved(target)


def test_unknown_networks(mine):
    with pytest.raises(RebarError, match=r"network='mine': choose from auto, Mine; .*--plugins"):
        HParams(network="mine")


def test_saved_hyperparameters_of_an_older_version_are_completed():
    saved = HParams(n_hidden=5).to_dict()
    del saved["network"]
    assert completed(saved) == HParams(n_hidden=5).to_dict()
