"""The manifest: what it says of the runs, and what it is not mixed with."""

import json

import pytest

from rebar.errors import RebarError
from rebar.hparams import HParams, run_name
from rebar.runs.records import MetricsFile
from rebar.sweep import grid, manifest

STRINGS = [
    "task=digits,model={SBNReinforceLOO;n_samples=2,SBNARM},track=[NVIL,REBAR],follow=NVIL",
    "n_layer=2",
]


def planned(folder, strings=STRINGS, seeds=(0, 5)):
    return manifest.plan(grid.points(strings), seeds, folder, ["--epochs=3"])


def written(folder, runs, settings=None, before=None, jobs=None):
    manifest.write(folder, runs, {"command": "c"}, settings or {}, before, jobs or {})
    return json.loads((folder / "manifest.json").read_text())


def test_plan(tmp_path):
    runs = planned(tmp_path)
    assert [run.label for run in runs] == [
        "model=SBNReinforceLOO n_samples=2 seed=0",
        "model=SBNARM n_samples=1 seed=0",
        "model=SBNReinforceLOO n_samples=2 seed=5",
        "model=SBNARM n_samples=1 seed=5",
    ]
    assert runs[3].arguments == [
        "--hparams=task=digits,model=SBNARM,track=[NVIL,REBAR],follow=NVIL",
        "--hparams=n_layer=2",
        "--seed=5",
        f"--working_dir={tmp_path}",
        "--epochs=3",
    ]
    for run in runs:
        hparams = HParams.parse(run.record["hparams"])
        assert hparams.to_dict() == run.identity["hparams"]
        assert run_name(hparams, run.identity["seed"]) == run.folder


def test_written_and_read(tmp_path):
    assert manifest.read(tmp_path) is None
    runs = planned(tmp_path)
    content = written(tmp_path, runs, {"eval_freq": 5})
    assert manifest.read(tmp_path) == content
    assert [record["folder"] for record in content["runs"]] == [run.folder for run in runs]
    assert content["runs"][0]["varied"] == {"model": "SBNReinforceLOO", "n_samples": 2, "seed": 0}
    assert content["versions"]["numpy"]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_runs_of_an_earlier_grid_are_kept_once(tmp_path):
    both = written(tmp_path, planned(tmp_path))
    content = written(tmp_path, planned(tmp_path, seeds=(0,)), before=both)
    assert [record["seed"] for record in content["runs"]] == [0, 0]
    assert [record["seed"] for record in content["earlier_runs"]] == [5, 5]
    content = written(tmp_path, planned(tmp_path, seeds=(5, 7)), before=content)
    assert [record["seed"] for record in content["runs"]] == [5, 5, 7, 7]
    assert [record["seed"] for record in content["earlier_runs"]] == [0, 0]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"format": 2}', "\x00", '{"format": 1}', "[" * 9999),
        '{"format": 1, "settings": {}, "earlier_runs": [], "runs": [{"folder": "../up"}]}',
        '{"format": 1, "settings": {}, "earlier_runs": [], "runs": [{"folder": ".."}]}',
        '{"format": 1, "settings": {}, "earlier_runs": [], "runs": [3]}',
        '{"format": 1, "settings": [], "earlier_runs": [], "runs": []}',
    ],
)
def test_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RebarError, match=r"manifest\.json.*another --sweep_dir"):
        manifest.read(tmp_path)


def test_other_settings(tmp_path):
    runs = planned(tmp_path)
    before = written(tmp_path, runs, {"eval_freq": 5, "jit": "off"})
    manifest.check_settings(None, {"eval_freq": 1}, tmp_path)
    manifest.check_settings(before, {"jit": "off", "eval_freq": 5}, tmp_path)
    manifest.check_settings(before, {"eval_freq": 1}, tmp_path)  # Nothing was started.
    (tmp_path / runs[1].folder).mkdir()
    MetricsFile(tmp_path / runs[1].folder / "metrics.jsonl").append({"step": 1})
    message = "--eval_freq was 5, is 1, --jit was off, is the default"
    with pytest.raises(RebarError, match=message):
        manifest.check_settings(before, {"eval_freq": 1}, tmp_path)
