"""Folders, globs and captured output, whole and broken."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import rebar
from rebar.compare.reading import parse, read
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.runs import records as printed
from rebar.sweep import grid, job, manifest
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
    names = ("empty", "notes.txt", "picture.png", "started", "x*", "nowhere")
    assert sorted(problem.partition(": ")[0] for problem in problems) == sorted(
        f"{tmp_path}/{name}" for name in names
    )
    with pytest.raises(RebarError, match=r"/x\*: "):
        read([f"{tmp_path}/x*"])


def test_a_torn_last_line_and_a_broken_one(tmp_path):
    folder = write_run(tmp_path)
    lines = [json.dumps(record(step)) for step in (100, 200, 300)]
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], lines[2][:9]]))
    ((run,), _) = read([str(folder)])
    assert run.values.step.unique().tolist() == [100, 200]
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], "{rubbish", lines[1]]))
    with pytest.raises(RebarError, match=r"metrics\.jsonl, line 2"):
        read([str(folder)])


BROKEN = {
    "no file": None,
    **{text: text for text in ("{", "[]", '{"hparams": 3}', '{"seed": 1}', "[" * 100_000)},
    **{
        f"{name}={value}": {name: value}
        for name, value in [
            ("schedule", {"epochs": "many"}),
            ("estimators", {"DisARM": 3}),
        ]
    },
    **{
        f"hparams {changes}": {"hparams": changes}
        for changes in ({"n_layer": "two"}, {"task": 3}, {"model": "Own"})
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_run_is_left_out_and_named(tmp_path, name):
    good, bad = write_run(tmp_path, name="good"), write_run(tmp_path, name="bad")
    changes = BROKEN[name]
    if isinstance(changes, dict):
        content = json.loads((bad / "hparams.json").read_text())
        content |= {**changes, "hparams": content["hparams"] | changes.get("hparams", {})}
        changes = json.dumps(content)
    (bad / "hparams.json").unlink()
    if changes is not None:
        (bad / "hparams.json").write_text(changes)
    runs, problems = read([str(tmp_path)])
    assert [run.path for run in runs] == [str(good)]
    assert len(problems) == 1
    assert problems[0].startswith(f"{bad}: ")


def test_runs_of_a_sweep_are_in_the_order_of_its_manifest(tmp_path):
    points = grid.points(["task=digits,model={SBNRelax,SBNARM}"])
    names = [job.folder.name for job in job.plan(points, [1, 0], tmp_path, [])]
    content = {"jobs": {}, "runs": [{"folder": n} for n in names]}
    (tmp_path / manifest.NAME).write_text(json.dumps(content))
    for name in reversed(names):
        write_run(tmp_path, name=name)
    found, _ = read([str(tmp_path)])
    assert [Path(run.path).name for run in found] == names


def test_the_data_frame(tmp_path):
    variance = {"DisARM": {"total": 2.0, "q": 1.0, "standard_error": {"total": 0.1}}}
    rows = [record(100, -9.0, 4.0, estimator_variance=variance), record(200) | {"elbo": None}]
    disarm = write_run(tmp_path, records=rows, seed=3)
    nvil = write_run(tmp_path, "SBNNVIL")
    frame = rebar.compare.read([disarm, nvil])
    assert list(frame)[:5] == ["run", "step", "estimator", "quantity", "value"]
    assert set(HParams().to_dict()) <= set(frame)
    values = frame[frame.seed == 3].pivot(index="step", columns="quantity", values="value")
    assert values.loc[100, ["elbo", "epoch"]].tolist() == [-9.0, 1.0]
    assert values.loc[100, "variance"] == pytest.approx(4.0)
    assert values.loc[100, ["estimator_variance/total", "estimator_variance/q"]].tolist() == [2, 1]
    assert np.isnan(values.loc[200, "elbo"])
    means = frame[frame.quantity == "elbo"].groupby(["model", "task"]).value.mean()
    assert means["SBNNVIL", "digits"] == -100
    assert frame.groupby("run").data.unique().explode().tolist() == ["digits", "digits"]
    with pytest.warns(UserWarning, match="nowhere: "):
        assert rebar.compare.read([disarm, tmp_path / "nowhere"]).seed.unique() == [3]


def test_output_of_the_2017_script():
    (run,) = parse(DICT_2017 + LOG_2017, "old.log")
    assert (run.origin, run.label, run.seed) == ("2017", "DynamicREBAR", None)
    assert run.hparams.legacy2017 is True
    assert run.values.step.unique().tolist() == [2084, 4168]
    assert run.series("epoch").tolist() == [1, 2]
    assert run.series("elbo").to_dict() == {2084: -231.026474, 4168: -156.86795044}
    assert run.series("test").to_dict() == {4168: -146.5}
    assert run.series("variance", "DynamicREBAR")[2084] == pytest.approx(0.02608, rel=1e-3)
    assert run.settings["eval_samples"] == "100"
    assert run.x("seconds") is None
    assert run.x("evaluations", 72).to_dict() == {2084: 2084 * 72, 4168: 4168 * 72}


def test_tracked_variances_of_the_2017_script():
    text = DICT_2017.replace("SBNDynamicRebar", "SBNTrackGradVariances") + (
        "Step 959: [-231.0 0.37]\n('NVIL', 2.76)\n('REBAR', -3.5)\n('SimpleMuProp', -0.04)\n"
    )
    (run,) = parse(text, "old.log")
    assert run.tracked
    assert (run.labels, run.label) == (["NVIL", "REBAR", "SimpleMuProp"], "SimpleMuProp")


@pytest.mark.parametrize("length", [len(LOG_2017) - 60, 250, 120])
def test_truncated_output(length):
    (run,) = parse(DICT_2017 + LOG_2017 + LOG_2017[:length].replace("4168", "6252"), "x")
    assert run.values.step.min() == 2084
    (cut,) = parse(DICT_2017 + LOG_2017 + "Step 6252: [-143.6  0.2\n   1.", "x")
    assert cut.last == 4168


def test_output_without_hyperparameters():
    (run,) = parse(LOG_2017, "old.log")
    assert (run.hparams, run.label) == (None, "old.log")


def test_output_as_tools_leave_it(tmp_path):
    text = DICT_2017 + LOG_2017
    contents = {"plain": text.encode(), "utf16": text.encode("utf-16"), "windows": None}
    contents["windows"] = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    contents["gzip"] = gzip.compress(contents["plain"])
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        ((run,), _) = read([str(tmp_path / name)])
        assert run.values.step.unique().tolist() == [2084, 4168], name
    (tmp_path / "torn.gz").write_bytes(contents["gzip"][:-9])
    with pytest.raises(RebarError, match=r"torn\.gz: .*gzip"):
        read([str(tmp_path / "torn.gz")])


def test_output_with_a_prefix_per_line_is_explained(tmp_path):
    lines = (DICT_2017 + LOG_2017).splitlines()
    (tmp_path / "a.log").write_text("".join(f"[1,0]<stdout>:{line}\n" for line in lines))
    with pytest.raises(RebarError, match=r"a\.log: .*prefix"):
        read([str(tmp_path / "a.log")])


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
    (run,) = parse(ours(3, -40.0), "run.log")
    assert (run.origin, run.seed, run.label, run.planned) == ("stdout", 3, "DisARM", 110)
    assert run.facts("DisARM")["evaluations"] == 48
    assert run.series("estimator_variance/q").to_dict() == {55: 1.0}
    assert run.settings["eval_samples"] == "5"


def test_several_runs_in_a_file_and_a_resumed_one():
    one, two = parse(ours(0, -40.0) + ours(1, -41.0), "all.log")
    assert [run.path for run in (one, two)] == ["all.log (run 1)", "all.log (run 2)"]
    assert (one.seed, two.seed) == (0, 1)
    (whole,) = parse(ours(0, -40.0) + ours(0, -30.0, step=110), "run.log")
    assert whole.values.step.unique().tolist() == [55, 110]


def test_numbers_that_are_none(tmp_path):
    (tmp_path / "a.log").write_text(DICT_2017 + "Step 10: [-1.0 oops]\n-3.0\n")
    with pytest.raises(RebarError, match=r"line 2 .*Step 10"):
        read([str(tmp_path / "a.log")])
