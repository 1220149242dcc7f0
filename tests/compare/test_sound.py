"""Logs that hold what no run writes: it is left out and named, and leads nowhere."""

import json

import pytest

from rebar.cli import compare as command
from rebar.compare import sound
from rebar.compare.reading import read
from rebar.errors import RebarError
from tests.compare.synthetic import compare, record, write_run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", 3),
        ("schedule", {"epochs": "many"}),
        ("estimators", []),
        ("estimators", {"DisARM": {"unbiased": "yes"}}),
        ("label", ["DisARM"]),
        ("label", "two\nlines"),
        ("network", 7),
        ("data", {"a": 1}),
        ("coupling", False),
    ],
)
def test_fields_that_are_none_are_named(tmp_path, name, value):
    folder = write_run(tmp_path, about={name: value})
    ((run,), _) = read([str(folder)])
    assert name not in run.about
    assert f"hparams.json: {name} cannot be read and were passed over" in run.notes
    assert run.label == "DisARM"
    (comparison,) = compare(folder)
    assert [line.label for line in comparison.lines] == ["DisARM"]


@pytest.mark.parametrize(
    "changed",
    [{"n_layer": "two"}, {"n_layer": 0}, {"task": 3}, {"track": [1]}, {"model": "a\nb"}],
)
def test_hyperparameters_of_another_type_leave_the_run_out(tmp_path, changed):
    good, bad = write_run(tmp_path, name="good"), write_run(tmp_path, name="bad")
    content = json.loads((bad / "hparams.json").read_text())
    content["hparams"] |= changed
    (bad / "hparams.json").write_text(json.dumps(content))
    runs, problems = read([str(tmp_path)])
    assert [run.path for run in runs] == [str(good)] or runs[0].hparams == {}
    assert str(bad) in f"{problems}{[run.path for run in runs if run.notes]}"


def test_records_keep_what_can_be_used():
    assert sound.record({"step": 1, "log_variance": "x", "eval_samples": 1.5}) == {"step": 1}
    table = {"A": {"total": 1.0, "q": "x", "standard_error": {"total": 0.1}}, "B": 3, "": {"q": 1}}
    kept = {"A": {"total": 1.0, "standard_error": {"total": 0.1}}}
    assert sound.record({"step": 1, "estimator_variance": table})["estimator_variance"] == kept
    for step in (0, -1, True, 1.0, "1", None, 2**60):
        assert sound.record({"step": step}) is None
    assert sound.record([]) is None


def test_json_in_which_nothing_hurts():
    assert sound.from_json("[1, " + "9" * 5000 + "]") == [1, float("inf")]
    with pytest.raises(ValueError, match="too deep"):
        sound.from_json("[" * 100_000)


@pytest.mark.parametrize("text", ["(" * 9999, "1+" * 50_000 + "1", "{[]: 1}", "\0", "'\\x'", "a b"])
def test_text_that_is_no_literal_is_text(text):
    assert sound.literal(text) == text


@pytest.mark.parametrize("model", ["SBNDisARM", "CatReinMax"])
def test_files_stay_in_the_output_folder_whatever_a_log_names(tmp_path, model, capsys):
    folder = write_run(tmp_path, model=model, name="run", about={"label": r"$\frac$ ../../label"})
    content = json.loads((folder / "hparams.json").read_text())
    content["hparams"] |= {"task": r"../../../evil$\x$"}
    (folder / "hparams.json").write_text(json.dumps(content))
    lines = [record(step, variance={"../a": 1.0, "$b$$": 2.0}) for step in (100, 200)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    before = set(tmp_path.rglob("*"))
    output = tmp_path / "deep" / "deeper" / "output"
    assert command.main(["rebar-compare", str(folder), f"--output={output}"]) == 0
    new = set(tmp_path.rglob("*")) - before - {*output.parents, output}
    assert {path.parent for path in new} == {output}
    assert sorted(path.suffix for path in new) == [".csv", ".md", ".pdf", ".png"]


def test_nothing_that_is_a_run(tmp_path):
    (tmp_path / "hparams.json").write_text("[" * 100_000)
    (tmp_path / "metrics.jsonl").write_text("[" * 100_000)
    with pytest.raises(RebarError, match="no run can be read"):
        read([str(tmp_path)])
