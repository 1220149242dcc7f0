"""Facts of estimators: recorded, or asked of estimators that are built for it."""

from rebar.compare.facts import Facts
from rebar.compare.reading import read
from tests.compare.synthetic import DICT_2017, LOG_2017, record, write_run

OLD = {"label": None, "network": None, "estimators": None, "schedule": None}


def old_run(tmp_path, *arguments, **changes):
    """A run from before facts were recorded."""
    folder = write_run(tmp_path, *arguments, about=dict(OLD), **changes)
    content = (folder / "hparams.json").read_text()
    for name in OLD:
        content = content.replace(f'"{name}": null, ', "")
    (folder / "hparams.json").write_text(content)
    return read([str(folder)])[0][0]


def test_what_is_recorded_needs_nothing_built(tmp_path):
    ((run,), _) = read([str(write_run(tmp_path, "SBNGumbel"))])
    facts = Facts()
    assert not facts.incomplete([run])
    assert facts(run) == {"Gumbel": {"unbiased": False, "evaluations": 24}}


def test_old_runs(tmp_path):
    run = old_run(tmp_path, "SBNReinforceLOO", n_samples=3)
    facts = Facts()
    assert facts.incomplete([run])
    assert facts(run) == {"LOO": {"unbiased": True, "evaluations": 3 * 24}}
    assert not facts.incomplete([run])


def test_old_runs_that_measured_their_cost(tmp_path):
    measured = {"DisARM": {"total": 1.0, "evaluations": 100}}
    run = old_run(tmp_path, records=[record(100, estimator_variance=measured)])
    facts = Facts()
    assert not facts.incomplete([run])
    assert facts(run) == {"DisARM": {"unbiased": True, "evaluations": 100}}


def test_old_tracking_runs(tmp_path):
    run = old_run(
        tmp_path,
        "SBNTrackGradVariances",
        records=[record(100, variance={"Gumbel": 1.0, "DisARM": 1.0})],
        track=("Gumbel", "DisARM"),
        follow="DisARM",
        n_layer=2,
    )
    assert Facts()(run) == {
        "Gumbel": {"unbiased": False, "evaluations": 2 * 24},
        "DisARM": {"unbiased": True, "evaluations": 3 * 24},
    }


def test_the_2017_code_is_biased_above_one_layer(tmp_path):
    (tmp_path / "two.log").write_text(DICT_2017 + LOG_2017)
    (tmp_path / "one.log").write_text(DICT_2017.replace("'n_layer': 2", "'n_layer': 1") + LOG_2017)
    two, one = read([str(tmp_path / f"{name}.log") for name in ("two", "one")])[0]
    facts = Facts()
    assert facts(two)["DynamicREBAR"]["unbiased"] is False
    assert facts(one)["DynamicREBAR"]["unbiased"] is True


def test_a_model_of_a_plugin_that_is_not_imported(tmp_path):
    run = old_run(tmp_path)
    run.hparams["model"] = "Mine"
    facts = Facts()
    assert facts(run) == {"Mine": {"unbiased": True, "evaluations": None}}
    assert facts(run) == {"Mine": {"unbiased": True, "evaluations": None}}


def test_a_log_without_hyperparameters_needs_nothing_built(tmp_path, monkeypatch):
    monkeypatch.setattr("rebar.compare.facts._build", None)
    (tmp_path / "old.log").write_text(LOG_2017)
    ((run,), _) = read([str(tmp_path / "old.log")])
    assert not Facts().incomplete([run])
    assert set(Facts()(run)[run.label].values()) == {None}
