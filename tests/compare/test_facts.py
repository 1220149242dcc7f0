"""Facts of estimators: recorded, or for output of the 2017 script derived."""

from rebar.compare import runs
from rebar.compare.reading import read
from tests.compare.synthetic import DICT_2017, LOG_2017, write_run


def read_text(tmp_path, text):
    (tmp_path / "a.log").write_text(text)
    ((run,), _) = read([str(tmp_path / "a.log")])
    return run


def test_recorded_facts_need_no_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_facts", None)
    ((run,), _) = read([str(write_run(tmp_path, "SBNGumbel"))])
    assert run.facts("Gumbel") == {"unbiased": False, "evaluations": 24}


def test_the_2017_code_is_biased_above_one_layer(tmp_path):
    two = read_text(tmp_path, DICT_2017 + LOG_2017)
    assert two.facts("DynamicREBAR") == {"unbiased": False, "evaluations": 2 * 3 * 24 / 2}
    one = read_text(tmp_path, DICT_2017.replace("'n_layer': 2", "'n_layer': 1") + LOG_2017)
    assert one.facts("DynamicREBAR")["unbiased"] is True


def test_tracking_runs_of_2017(tmp_path):
    text = DICT_2017.replace("SBNDynamicRebar", "SBNTrackGradVariances") + (
        "Step 959: [-231.0 0.37]\n('NVIL', 2.76)\n('REBAR', -3.5)\n('SimpleMuProp', -0.04)\n"
    )
    run = read_text(tmp_path, text)
    assert {label: run.facts(label)["evaluations"] for label in run.labels} == {
        "NVIL": 24,
        "REBAR": 72,
        "SimpleMuProp": 48,
    }


def test_a_log_without_hyperparameters_needs_nothing_built(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_facts", None)
    run = read_text(tmp_path, LOG_2017)
    assert run.facts(run.label) == {"unbiased": None, "evaluations": None}
