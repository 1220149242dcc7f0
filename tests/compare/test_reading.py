"""Folders, globs and captured output, whole and broken."""

import json

import pytest

from rebar.compare import stdout
from rebar.compare.reading import read
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.runs import records as printed
from tests.compare.synthetic import DICT_2017, LOG_2017, record, write_run


def test_folders_parents_globs_and_files_of_a_run(tmp_path):
    a = write_run(tmp_path / "one", name="a")
    b = write_run(tmp_path / "two" / "deep", name="b")
    for arguments in (
        [a, b],
        [tmp_path],
        [tmp_path / "one", f"{tmp_path}/two/*/b"],
        [a / "metrics.jsonl", a / "hparams.json", a, b],
        [f"{tmp_path}/**/metrics.jsonl"],
    ):
        runs, problems = read(map(str, arguments))
        assert sorted(run.path for run in runs) == sorted(map(str, (a, b)))
        assert problems == []


def test_what_is_no_run_is_named(tmp_path):
    run = write_run(tmp_path, name="run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no run")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "hparams.json").write_text((run / "hparams.json").read_text())
    runs, problems = read([f"{tmp_path}/*", f"{tmp_path}/x*", str(tmp_path / "nowhere")])
    assert [r.path for r in runs] == [str(run)]
    told = "\n".join(problems)
    assert f"{tmp_path}/empty: no folder of a run in it" in told
    assert "notes.txt: no line of a run in it" in told
    assert "picture.png: not a text file" in told
    assert "started: no record of an epoch yet in metrics.jsonl: just started, or crashed" in told
    assert f"{tmp_path}/x*: nothing matches" in told
    assert "nowhere: does not exist" in told
    with pytest.raises(RebarError, match=r"no run can be read.*\n  - .*nothing matches"):
        read([f"{tmp_path}/x*"])


def test_a_torn_last_line_and_bad_ones(tmp_path):
    folder = write_run(tmp_path)
    lines = [json.dumps(record(step)) for step in (100, 200, 300)]
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], "{rubbish", lines[1], lines[2][:9]]))
    ((run,), _) = read([str(folder)])
    assert [r["step"] for r in run.records] == [100, 200]
    assert "the last line of metrics.jsonl is cut off" in run.notes[0]
    assert "metrics.jsonl: line 2 cannot be read" in run.notes[1]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"hparams": 3}', '{"seed": 1}'])
def test_settings_that_cannot_be_read(tmp_path, content):
    folder = write_run(tmp_path)
    (folder / "hparams.json").unlink()
    if content is not None:
        (folder / "hparams.json").write_text(content)
    ((run,), _) = read([str(folder)])
    assert (run.hparams, run.seed, run.label) == ({}, None, str(folder))
    assert "task, estimator and seed are not known" in run.notes[0]


def test_output_of_the_2017_script():
    (run,) = stdout.read(DICT_2017 + LOG_2017, "old.log")
    assert (run.origin, run.label, run.seed, run.notes) == ("2017", "DynamicREBAR", None, [])
    assert run.hparams["legacy2017"] is True
    assert [r["step"] for r in run.records] == [2084, 4168]
    assert [r["epoch"] for r in run.records] == [1, 2]
    assert run.series("elbo", "") == {2084: -231.026474, 4168: -156.86795044}
    assert run.series("test", "") == {4168: -146.5}
    assert run.series("variance", "DynamicREBAR")[2084] == pytest.approx(0.02608, rel=1e-3)
    assert run.eval_samples == 100
    assert run.x("seconds") is None
    assert run.x("evaluations", 72) == {2084: 2084 * 72, 4168: 4168 * 72}


def test_tracked_variances_of_the_2017_script():
    text = DICT_2017.replace("SBNDynamicRebar", "SBNTrackGradVariances") + (
        "Step 959: [-231.0 0.37]\n('NVIL', 2.76)\n('REBAR', -3.5)\n('SimpleMuProp', -0.04)\n"
    )
    (run,) = stdout.read(text, "old.log")
    assert run.tracked
    assert (run.labels, run.label) == (["NVIL", "REBAR", "SimpleMuProp"], "SimpleMuProp")


@pytest.mark.parametrize("length", [len(LOG_2017) - 60, 250, 120])
def test_truncated_output(length):
    (run,) = stdout.read(DICT_2017 + LOG_2017 + LOG_2017[:length].replace("4168", "6252"), "x")
    assert run.records[0]["step"] == 2084
    (cut,) = stdout.read(DICT_2017 + LOG_2017 + "Step 6252: [-143.6  0.2\n   1.", "x")
    assert cut.last == 4168
    assert cut.notes == ["the last line is cut off"]


def test_output_without_hyperparameters():
    (run,) = stdout.read(LOG_2017, "old.log")
    assert (run.hparams, run.label) == ({}, "old.log")
    assert "no hyperparameters in it" in run.notes[0]


def ours(seed, elbo, step=55, model="SBNDisARM"):
    measured = {
        "total": 0.5,
        "q": 1.0,
        "standard_error": {"total": 0.1, "q": 0.2},
        "times_evaluations": {"total": 24.0, "q": 48.0},
        "evaluations": 48,
        "milliseconds": 1.0,
    }
    return "\n".join(
        [
            str(HParams(model=model).to_dict()),
            f"seed: {seed}",
            "label: DisARM",
            "estimators: {'DisARM': {'unbiased': True, 'evaluations': 48}}",
            "schedule: {'training_steps': 110, 'epochs': 0, 'eval_samples': 5}",
            f"run: /tmp/x/{model}-sbn-1x200-lr0.001-s{seed}-0123456789",
            printed.format_step(step, [elbo]),
            "-5.5",
            printed.format_estimator_variance(step, "DisARM", measured),
            "",
        ]
    )


def test_our_output():
    (run,) = stdout.read(ours(3, -40.0), "run.log")
    assert (run.origin, run.seed, run.label, run.planned) == ("stdout", 3, "DisARM", 110)
    assert run.about["estimators"]["DisARM"]["evaluations"] == 48
    assert run.series("estimator_variance", "DisARM", "q") == {55: 1.0}
    assert run.eval_samples == 5


def test_several_runs_in_a_file_and_a_resumed_one():
    one, two = stdout.read(ours(0, -40.0) + ours(1, -41.0), "all.log")
    assert [run.path for run in (one, two)] == ["all.log (run 1)", "all.log (run 2)"]
    assert (one.seed, two.seed) == (0, 1)
    (whole,) = stdout.read(ours(0, -40.0) + ours(0, -30.0, step=110), "run.log")
    assert [r["step"] for r in whole.records] == [55, 110]


def test_numbers_that_are_none(tmp_path):
    (tmp_path / "a.log").write_text(DICT_2017 + "Step 10: [-1.0 oops]\n-3.0\n")
    with pytest.raises(RebarError, match="line 2 of the log, Step 10"):
        read([str(tmp_path / "a.log")])
