"""Settings of single members of `track`: grammar, checks, records and runs."""

import json

import pytest

import rebar
from rebar import registry
from rebar.cli import analyze
from rebar.compare import reading
from rebar.errors import RebarError
from rebar.estimators.leave_one_out import LeaveOneOut
from rebar.hparams import HParams, run_name

TRACK = "model=SBNTrackGradVariances,track="


class Mine(LeaveOneOut):
    """Takes what it declares."""

    def __init__(self, my_scale=9.0, my_form="other", **kwargs):
        super().__init__(**kwargs)
        self.settings = (my_scale, my_form)


@pytest.fixture(autouse=True)
def mine(own_registry):
    """Register an estimator with hyperparameters."""
    registry.register("Mine", Mine, min_samples=2, hparams={"my_scale": 0.5, "my_form": "a b"})


@pytest.mark.parametrize(
    ("string", "track", "follow", "n_samples"),
    [
        ("[LOO(n_samples=3),DisARM]", ("LOO(n_samples=3)", "DisARM"), "LOO(n_samples=3)", 1),
        ("[LOO(n_samples=3) LOO]", ("LOO(n_samples=3)", "LOO"), "LOO(n_samples=3)", 2),
        ("[Mine(my_scale=1),NVIL]", ("Mine(my_scale=1)", "NVIL"), "Mine(my_scale=1)", 2),
        (
            "[REBAR(temperature=1,\n coupling=all),NVIL],follow=REBAR(temperature=1, coupling=all)",
            ("REBAR(temperature=1, coupling=all)", "NVIL"),
            "REBAR(temperature=1, coupling=all)",
            1,
        ),
        ("[NVIL,REBAR()],follow=REBAR()", ("NVIL", "REBAR()"), "REBAR()", 1),
    ],
)
def test_grammar_and_round_trips(string, track, follow, n_samples):
    h = HParams.parse(TRACK + string)
    assert (h.track, h.follow, h.n_samples) == (track, follow, n_samples)
    for other in (
        HParams.parse(h.format()),
        HParams.parse(h.format(all=True)),
        HParams.from_dict(json.loads(json.dumps(h.to_dict()))),
        HParams.parse({"model": h.model, "track": [*track], "follow": follow}),
    ):
        assert (other, run_name(other, 0)) == (h, run_name(h, 0))
    assert [*registry.make_estimator(h.model, h).members()] == [*track]


def test_a_member_has_its_settings_and_else_those_of_the_run():
    h = HParams.parse(
        TRACK + "[Mine(my_scale=0.1,n_samples=3),Mine,REBAR(temperature=2)]",
        "my_scale=0.2,my_form=c d,temperature=0.7,n_samples=2",
    )
    members = registry.make_estimator(h.model, h).members()
    first, plain, relaxed = members.values()
    assert (first.settings, first.own_samples) == ((0.1, "c d"), 3)
    assert (plain.settings, plain.own_samples) == ((0.2, "c d"), 0)
    assert (relaxed.initial_temperature, relaxed.quadratic) == (2.0, True)
    assert h.member("NVIL") == HParams.parse("model=SBNNVIL,temperature=0.7,n_samples=2")


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("LOO(n_samples=1)", "LOO(n_samples=1): n_samples=1: must be at least 2"),
        ("LOO(n_samples=two)", "LOO(n_samples=two): n_samples: 'two' must be of type int"),
        ("Mine(my_scale=x)", "Mine(my_scale=x): my_scale: 'x' must be of type float"),
        ("Mine(my_scale=nan)", "Mine(my_scale=nan): my_scale=nan: must be finite"),
        ("REBAR(temperature=0)", "REBAR(temperature=0): temperature=0.0: must be above 0"),
        ("REBAR(temperatur=1)", "unknown hyperparameter 'temperatur'; did you mean temperature"),
        ("REBAR(n_hidden=3)", "unknown hyperparameter 'n_hidden'; choose from temperature, n_s"),
        ("NVIL(my_scale=1),Mine", "NVIL(my_scale=1): unknown hyperparameter 'my_scale'"),
        ("NVIL(mc_samples=1)", "mc_samples=1: applies only to categorical VAEs"),
        ("NVIL(n_samples=2,n_samples=3)", "n_samples: set twice in one string; set it once"),
        ("NVIL(n_samples=2),NVIL(n_samples=2)", "NVIL(n_samples=2) more than once; remove"),
        ("NVIL(multi_sample=true),REBAR(multi_sample=true)", "unsupported by SBNRebar"),
        ("NVIL(n_samples)", "malformed clause 'n_samples'"),
        ("NVIL(n_samples=2", "track='NVIL(n_samples=2': choose from"),
        ("Foo(n_samples=2)", "track='Foo(n_samples=2)': choose from"),
    ],
)
def test_errors(track, message):
    with pytest.raises(RebarError) as caught:
        HParams.parse(f"{TRACK}[{track}]")
    assert message in str(caught.value)
    assert "problems:" not in str(caught.value)


def test_a_setting_that_an_estimator_does_not_use_is_refused():
    h = HParams.parse(TRACK + "[DisARM(quadratic=false,continuation=shared),NVIL]")
    message = "DisARM does not use quadratic; remove it, or choose from n_samples, continuation$"
    with pytest.raises(RebarError, match=message):
        registry.make_estimator(h.model, h)


LABEL = "Mine(my_scale=0.25,n_samples=3)"


def train(folder, steps):
    return rebar.train(
        TRACK + f"[DisARM,{LABEL},DisARM(n_samples=2)],follow={LABEL},n_layer=1,n_hidden=4",
        **{"task": "digits", "epochs": 0, "training_steps": steps, "eval_freq": 0},
        **{"variance_freq": 1, "variance_draws": 4, "working_dir": folder, "jit": "off"},
    )


def test_runs_record_resume_load_compare_and_analyze_them(tmp_path, capsys):
    whole = train(tmp_path / "whole", 61)
    printed = capsys.readouterr().out
    train(tmp_path / "parts", 20)
    resumed = train(tmp_path / "parts", 61)
    assert "resuming at step 20" in capsys.readouterr().out
    loaded = rebar.load_model(resumed.folder)
    assert loaded.hparams == whole.hparams
    assert loaded.estimator.members()[LABEL].settings[0] == 0.25
    for trained in (resumed, loaded):
        for a, b in zip(trained.model.variables, whole.model.variables, strict=True):
            assert (a.numpy() == b.numpy()).all()
    labels = ["DisARM", LABEL, "DisARM(n_samples=2)"]
    assert f"('{LABEL}', " in printed
    (folder_of_run,), _ = reading.read([str(whole.folder)])
    (log,) = reading.parse(printed, "log")
    for run in (folder_of_run, log):
        assert sorted(run.labels) == sorted(labels)
        assert run.label == LABEL
        assert len(run.series("estimator_variance/q_0", LABEL)) == 1
    # Evaluations of f per example: a pair, three samples, two pairs.
    evaluations = [folder_of_run.facts(label)["evaluations"] / 24 for label in labels]
    assert evaluations == [2, 3, 4]
    quick = ["--draws=20", "--batch_size=3", "--reference=loo", "--estimators=DisARM(n_samples=3)"]
    assert analyze.main(["analyze", str(whole.folder), *quick]) == 0
    (record,) = json.loads((whole.folder / "analysis.json").read_text())["analyses"]
    assert record["estimators"]["DisARM(n_samples=3)"]["evaluations"] == 6 * 3
