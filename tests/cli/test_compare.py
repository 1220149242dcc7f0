"""The compare command: what it writes and prints, exit status, bad input, --live."""

import json
import subprocess
import sys

import pytest

from rebar.cli import compare
from tests.compare.synthetic import DICT_2017, LOG_2017, record, write_run


def run(*arguments):
    return compare.main(["compare", *map(str, arguments)])


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    for seed in range(2):
        write_run(folder, "SBNDisARM", seed)
        write_run(folder, "SBNGumbel", seed)
    return folder


def test_writes_figures_and_tables(runs, tmp_path, capsys):
    output = tmp_path / "new" / "output"
    assert run(runs, f"--output={output}", "--panels=variance,elbo") == 0
    out, err = capsys.readouterr()
    assert out == f"4 runs, up to step 300: {output}/compare.md, digits-1x200.png\n"
    assert err == ""
    names = ["compare.csv", "compare.md", "digits-1x200.pdf", "digits-1x200.png"]
    assert sorted(path.name for path in output.iterdir()) == names


def test_mixed_tasks_and_captured_output(runs, tmp_path, capsys):
    (tmp_path / "old.log").write_text(DICT_2017 + LOG_2017)
    write_run(runs, "SBNDisARM", task="omni")
    output = tmp_path / "out"
    assert run(runs, tmp_path / "old.log", f"--output={output}", "--x=seconds") == 0
    pictures = sorted(path.name for path in output.glob("*.png"))
    assert pictures == ["digits-1x200.png", "omni-1x200.png", "sbn-2x200.png"]
    out = capsys.readouterr().out
    assert "sbn-2x200: drawn against steps instead of seconds" in out
    text = (output / "compare.md").read_text()
    assert all(f"]({name})" in text for name in pictures)
    assert "DynamicREBAR **(biased)**" in text


def test_what_is_odd_is_printed_and_in_the_table(runs, tmp_path, capsys):
    cut = write_run(runs, "SBNDisARM", 7, [record(100)])
    torn = write_run(runs, "SBNDisARM", 8)
    (torn / "metrics.jsonl").write_text((torn / "metrics.jsonl").read_text()[20:])
    nan = write_run(runs, "SBNDisARM", 9, [record(s, None) for s in (100, 200, 300)])
    write_run(runs, "SBNDisARM", 0, learning_rate=0.5)
    (runs / "crashed").mkdir()
    (runs / "crashed" / "hparams.json").write_text((cut / "hparams.json").read_text())
    assert run(runs, f"--output={tmp_path / 'out'}") == 0
    out = capsys.readouterr().out
    text = (tmp_path / "out" / "compare.md").read_text()
    for sentence in (
        f"{cut}: unfinished or non-finite, step 100 of 300",
        f"{nan}: unfinished or non-finite, step 0 of 300",
        f"{torn}: {torn}/metrics.jsonl, line 1",
        f"{runs}/crashed: no record",
    ):
        assert sentence in out
        assert sentence in text
    assert "| DisARM, learning_rate=0.5 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "rebar-compare /tmp/rebar"),
        (["RUNS"], "--output=comparison"),
        (["nowhere", "--output=out"], "nowhere: "),
        (["nothing/*", "--output=out"], "nothing/*: "),
        (["RUNS", "--output=out", "--x=weeks"], "<steps|epochs|seconds|evaluations>"),
        (["RUNS", "--output=out", "--panels=typo"], "--panels=typo: "),
        (["RUNS", "--output=out", "--reference=ARM"], "reference=ARM: "),
        (["RUNS", "--output=RUNS/FILE/x"], "/FILE/x/digits-1x200.png: "),
        (["RUNS", "--output=out", "--plugins=not_there"], "--plugins=not_there: "),
        (["RUNS", "--output=out", "--size=3"], "'size'"),
    ],
)
def test_mistakes(runs, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (runs / "FILE").write_text("")
    assert run(*(word.replace("RUNS", str(runs)) for word in arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_it_starts_without_tensorflow(runs, tmp_path):
    code = (
        "import sys; from rebar.cli.compare import main; status = main(sys.argv); "
        "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules); "
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, str(runs), f"--output={tmp_path / 'out'}"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_files_stay_in_the_output_folder_whatever_a_log_names(tmp_path):
    lines = [record(step, variance={"../a": 1.0, "$b$$": 2.0}) for step in (100, 200)]
    folder = write_run(tmp_path, records=lines, about={"data": r"$\frac$ ../../data"})
    before = set(tmp_path.rglob("*"))
    output = tmp_path / "deep" / "deeper" / "output"
    assert run(folder, f"--output={output}") == 0
    new = set(tmp_path.rglob("*")) - before - {*output.parents, output}
    assert {path.parent for path in new} == {output}
    assert sorted(path.suffix for path in new) == [".csv", ".md", ".pdf", ".png"]


def test_help(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "rebar-compare" in out
    assert "--panels" in out


def test_what_the_train_command_records_and_prints(tmp_path, capsys):
    """A real run of one epoch, with the fields that comparisons use."""
    from rebar.cli import train

    flags = ["--hparams=model=SBNTrackGradVariances,task=digits,n_hidden=3,n_layer=2", "--epochs=1"]
    tracked = ["--hparams=track=[NVIL,Gumbel,DisARM],follow=DisARM", "--eval_freq=0", "--jit=off"]
    assert train.main(["train", *flags, *tracked, f"--working_dir={tmp_path / 'runs'}"]) == 0
    printed = capsys.readouterr().out
    (path,) = (tmp_path / "runs").glob("*/hparams.json")
    about = json.loads(path.read_text())
    assert about["network"] == "SigmoidBeliefNetwork"
    assert about["estimators"] == {
        "NVIL": {"unbiased": True, "evaluations": 24},
        "Gumbel": {"unbiased": False, "evaluations": 48},
        "DisARM": {"unbiased": True, "evaluations": 72},
    }
    assert about["schedule"]["epochs"] == 1
    assert run(tmp_path / "runs", f"--output={tmp_path / 'out'}") == 0
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "Each line is measured along the run of DisARM" in text
    assert "Gumbel **(biased)**" in text
    log = tmp_path / "captured.log"
    log.write_text(printed)
    assert run(log, f"--output={tmp_path / 'captured'}") == 0
    table = (tmp_path / "captured" / "compare.md").read_text()
    assert "| DisARM | 1 | 55 |" in table
    assert "unknown" not in table
