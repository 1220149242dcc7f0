"""Whole runs that follow the multi-sample bound: what is printed, in which order."""

import json

import pytest

from tests.cli.test_train import STEPS, check_agreement, only_run, run

__all__ = ["run"]


@pytest.mark.parametrize(
    ("hparams", "followed", "after_bound"),
    [
        ("model=SBNVIMCO,n_samples=3", "3 samples", []),
        ("model=SBNLocalDisARM,n_samples=2,symmetrized=false", "1 sample", []),
        ("model=SBN,n_samples=2,multi_sample=true", "2 samples", ["signal_rms"]),
    ],
)
def test_elbo_and_bound_are_logged(run, tmp_path, capsys, hparams, followed, after_bound):
    flags = ("--eval_freq=1", "--eval_samples=5")
    assert run(f"task=digits,n_hidden=4,{hparams}", *flags) == 0
    out, err = capsys.readouterr()
    assert err == ""
    folder = only_run(tmp_path)
    record = check_agreement(folder, out, STEPS)
    names = list(record)
    start = names.index("elbo")
    assert names[start + 1 : names.index("log_variance")] == ["multi_sample_bound", *after_bound]
    chains = int(followed.split()[0])
    if chains == 1:
        assert record["multi_sample_bound"] == pytest.approx(record["elbo"], abs=1e-4)
    else:
        assert -45 < record["elbo"] < record["multi_sample_bound"] < 0
    about = json.loads((folder / "hparams.json").read_text())
    assert about["objective"].endswith(f"; followed: its multi-sample bound, {followed}")
    assert f"objective: {about['objective']}\nunbiased: True\n" in out


def test_a_tracked_run_says_what_the_followed_estimator_follows(run, tmp_path, capsys):
    track = "model=SBNTrackGradVariances,track=[NVIL,VIMCO,LocalDisARM],n_samples=2,n_hidden=4"
    for follow in ("NVIL", "VIMCO"):
        folder = f"--working_dir={tmp_path / follow}"
        assert run(f"task=digits,{track},follow={follow}", "--training_steps=3", folder) == 0
        out = capsys.readouterr().out
        assert ("; followed: its multi-sample bound, 2 samples\n" in out) == (follow == "VIMCO")
        (run_folder,) = (tmp_path / follow).iterdir()
        (record,) = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
        assert ("multi_sample_bound" in record) == (follow == "VIMCO")
        assert list(record["log_variance"]) == ["NVIL", "VIMCO", "LocalDisARM"]
