"""Hyperparameters that estimators declare: `register(..., hparams=...)`."""

import json

import pytest

import rebar
from rebar import registry, testing
from rebar.cli import analyze, train
from rebar.compare import reading
from rebar.errors import RebarError
from rebar.estimators.leave_one_out import LeaveOneOut
from rebar.hparams import HParams, run_name
from tests.digits_run import train as short_run

DECLARED = {"my_scale": 0.5, "my_steps": 3, "my_flag": False, "my_form": "plain"}


class Mine(LeaveOneOut):
    """Takes all that it declares."""

    def __init__(self, my_scale=9.0, my_steps=9, my_flag=True, my_form="other", **kwargs):
        super().__init__(**kwargs)
        self.settings = (my_scale, my_steps, my_flag, my_form)


class TakesNothing(LeaveOneOut):
    """Lacks the argument."""


@pytest.fixture(autouse=True)
def mine(own_registry):
    """Register an estimator with one hyperparameter of every type."""
    registry.register("Mine", Mine, min_samples=2, hparams=DECLARED)


def built(string):
    hparams = HParams.parse(string)
    return registry.make_estimator(hparams.model, hparams)


def test_values_reach_the_constructor_with_their_types():
    assert built("model=Mine,n_samples=2").settings == (0.5, 3, False, "plain")
    string = "model=Mine,n_samples=2,my_scale=1,my_steps=4,my_flag=true,my_form=round"
    assert built(string).settings == (1.0, 4, True, "round")
    assert isinstance(built(string).settings[0], float)


def test_checks_start_from_the_declared_values():
    subject = testing.subject("Mine")
    assert subject.build().settings == (0.5, 3, False, "plain")
    assert subject.build(my_steps=7).settings == (0.5, 7, False, "plain")


def test_a_tracked_estimator_has_them():
    string = "model=SBNTrackGradVariances,track=[Mine,REBAR],my_scale=0.25"
    assert built(string).members()["Mine"].settings[0] == 0.25
    with pytest.raises(RebarError, match=r"my_scale=0.25: does not apply to model=SBNTrack"):
        HParams.parse("model=SBNTrackGradVariances,track=[NVIL,REBAR],my_scale=0.25")


def test_conversions_are_inverse():
    h = HParams.parse("model=Mine,n_samples=2,my_scale=0.1,my_flag=true")
    assert h.format() == "model=Mine,n_samples=2,my_scale=0.1,my_flag=True"
    assert h.to_dict() | {"my_scale": 0.1, "my_steps": 3} == h.to_dict()
    assert h.applicable() | {"my_scale": 0.1, "my_steps": 3} == h.applicable()
    for other in (
        HParams.parse(h.format()),
        HParams.parse(h.format(all=True)),
        HParams.from_dict(json.loads(json.dumps(h.to_dict()))),
        HParams.parse({"model": "Mine", "n_samples": 2, "my_scale": 0.1, "my_flag": True}),
        h.replace(my_scale=0.2).replace(my_scale=0.1),
    ):
        assert (other, hash(other), run_name(other, 0)) == (h, hash(h), run_name(h, 0))
    assert h != h.replace(my_scale=0.2)
    assert run_name(h, 0) != run_name(h.replace(my_scale=0.2), 0)


def test_an_unknown_name_of_custom():
    with pytest.raises(RebarError, match="unknown hyperparameter 'my_scal'; did you mean my_scale"):
        HParams(model="Mine", n_samples=2, custom=(("my_scal", 0.1),))


def test_other_models_are_unchanged():
    h = HParams.parse("model=SBNDisARM,my_scale=0.5")
    assert h == HParams(model="SBNDisARM")
    assert h.custom == ()
    assert not set(DECLARED) & {*h.to_dict(), *h.applicable()}


def test_a_name_added_later_renames_no_run(own_registry):
    before = run_name(HParams(model="Mine", n_samples=2), 0)
    del own_registry._ENTRIES["Mine"]
    registry.register("Mine", Mine, min_samples=2)
    assert run_name(HParams(model="Mine", n_samples=2), 0) == before


@pytest.mark.parametrize(
    ("clauses", "message"),
    [
        ("my_steps=1.5", "my_steps: '1.5' must be of type int"),
        ("my_flag=maybe", "my_flag: 'maybe' must be of type bool; write true or false"),
        ("my_scale=nan", "my_scale=nan: must be finite"),
        ("my_scal=1", "unknown hyperparameter 'my_scal'; did you mean my_scale"),
        ("my_scale=1,my_scale=2", "my_scale: set twice in one string; set it once"),
    ],
)
def test_invalid_text(clauses, message):
    with pytest.raises(RebarError) as error:
        HParams.parse(f"model=Mine,n_samples=2,{clauses}")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"my_scale": "1"}, "my_scale='1': must be of type float"),
        ({"my_form": "a,b"}, "my_form='a,b': must not contain commas"),
        (
            {"model": "SBNDisARM", "my_scale": 0.1},
            "my_scale=0.1: does not apply to model=SBNDisARM",
        ),
    ],
)
def test_invalid_values(values, message):
    values = {"model": "Mine", "n_samples": 2} | values
    for make in (HParams.parse, HParams.from_dict):
        with pytest.raises(RebarError, match=message):
            make(values)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        (
            {"my_scale": 0.7},
            r"my_scale=0.7: another estimator or model declares my_scale=0.5; use the same",
        ),
        ({"other": None}, "other=None: the default must be a bool, int, float or str"),
        ({"my scale": 1}, "names must be identifiers"),
    ],
)
def test_invalid_declarations(hparams, message):
    with pytest.raises(RebarError, match=message):
        registry.register("Other", Mine, hparams=hparams)
    assert "Other" not in registry.names()


def test_declarations_that_clash_or_are_not_taken():
    registry.register("TakesNothing", TakesNothing, min_samples=2, hparams={"my_width": 1})
    with pytest.raises(RebarError, match="TakesNothing has no argument 'my_width'; add it to its"):
        built("model=TakesNothing,n_samples=2")
    registry.register("Clash", Mine, hparams={"temperature": 1.0})
    with pytest.raises(RebarError, match="temperature: declared by an estimator, but a"):
        HParams.parse("model=Mine,n_samples=2")


def test_help_lists_them(capsys):
    assert train.main(["train", "--help"]) == 0
    assert "  my_scale=0.5  (float) Declared by a plugin.\n" in capsys.readouterr().out


def test_runs_record_compare_load_and_resume_them(tmp_path, capsys):
    def run(my_scale, steps):
        settings = {"epochs": 0, "training_steps": steps, "eval_freq": 0, "working_dir": tmp_path}
        return rebar.train(
            model="Mine", task="digits", n_hidden=4, n_samples=2, my_scale=my_scale, **settings
        )

    first, second = run(0.25, 60), run(0.75, 60)
    assert "'my_scale': 0.25" in capsys.readouterr().out
    assert first.folder != second.folder
    assert run(0.25, 120).folder == first.folder
    assert "resuming" in capsys.readouterr().out
    trained = rebar.load_model(first.folder)
    assert (trained.step, trained.hparams.values()["my_scale"]) == (120, 0.25)
    assert trained.estimator.settings[0] == 0.25
    changes = ["--hparams=my_scale=0.9", "--estimators=Mine", "--draws=20", "--batch_size=3"]
    assert analyze.main(["analyze", str(first.folder), *changes]) == 0
    (one, other), _ = reading.read([str(first.folder), str(second.folder)])
    assert (one.settings["my_scale"], other.settings["my_scale"]) == ("0.25", "0.75")


def test_a_checkpoint_of_another_value_is_refused(tmp_path):
    short = {"model": "Mine", "n_samples": 2, "n_layer": 1}
    short_run(tmp_path, "digits", 10, **short, custom=(("my_scale", 0.25),))
    with pytest.raises(RebarError, match=r"my_scale"):
        short_run(tmp_path, "digits", 20, **short, custom=(("my_scale", 0.75),))
