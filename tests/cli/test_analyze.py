"""The analyze command: table, JSON, figure, what it takes from a run, exit status and messages."""

import json

import numpy as np
import pytest

from rebar.analysis import bias_figure
from rebar.cli import analyze, train
from tests.digits_run import train as short_run

CATEGORICAL = "model=CatReinMax,task=digits_grey,n_categories=3,n_latents=2,mc_samples=3"
QUICK = ("--draws=20", "--batch_size=5")


def run(*arguments):
    return analyze.main(["analyze", *map(str, arguments)])


def read(path):
    """The analyses of a JSON file."""
    return json.loads(path.read_text())["analyses"]


@pytest.fixture(scope="module")
def categorical_run(tmp_path_factory):
    """The folder of a run of two epochs that keeps both."""
    parent = tmp_path_factory.mktemp("runs")
    arguments = [f"--hparams={CATEGORICAL},batch_size=400,learning_rate=0.01", "--epochs=2"]
    arguments += ["--eval_freq=0", f"--working_dir={parent}", "--keep_epochs=1,2,9"]
    assert train.main(["train", *arguments]) == 0
    (folder,) = parent.iterdir()
    return folder


def test_a_fresh_model(tmp_path, capsys):
    output, figure = tmp_path / "a.json", tmp_path / "a.pdf"
    arguments = [*QUICK, f"--output={output}", f"--figure={figure}"]
    rao = "GumbelRao(mc_samples=2,temperature=3)"
    assert run(f"--hparams={CATEGORICAL}", *arguments, f"--estimators=ST, {rao}") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "not trained, model=CatReinMax" in out
    assert "9 states of the latents" in out
    (record,) = read(output)
    assert list(record["estimators"]) == ["ST", rao]
    assert record["by"] == "logits"
    assert (record["step"], record["draws"], record["batch_size"]) == (0, 20, 5)
    assert record["hparams"]["mc_samples"] == 3
    assert figure.read_bytes().startswith(b"%PDF")


def test_snapshots_of_a_run(categorical_run, tmp_path, capsys):
    snapshots = sorted((categorical_run / "snapshots").iterdir())
    assert [path.name for path in snapshots] == ["epoch-1", "epoch-2"]
    output, figure = tmp_path / "a.json", tmp_path / "a.png"
    names = "--estimators=ST,LOO"
    arguments = [*QUICK, names, f"--output={output}", f"--figure={figure}"]
    assert run(*snapshots, *arguments) == 0
    first, second = read(output)
    assert [r["epoch"] for r in (first, second)] == [1, 2]
    assert first["estimators"]["ST"]["variance"] != second["estimators"]["ST"]["variance"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    # The later one is the end of the run.
    assert run(categorical_run, *QUICK, names) == 0
    assert "written: " in capsys.readouterr().out
    (last,) = read(categorical_run / "analysis.json")
    for record in (last, second):
        for values in record["estimators"].values():
            values.pop("milliseconds")
    assert last["estimators"] == second["estimators"]
    assert last["reference"]["norm"] == second["reference"]["norm"]


def test_settings_of_estimators_can_be_changed_those_of_the_model_cannot(
    categorical_run, tmp_path, capsys
):
    values = []
    for changes in ("temperature=0.5", "temperature=1"):
        output = tmp_path / "a.json"
        arguments = [*QUICK, "--estimators=ST", f"--output={output}", f"--hparams={changes}"]
        assert run(categorical_run, *arguments) == 0
        values.append(read(output)[0]["estimators"]["ST"]["variance"])
    assert values[0] != values[1]
    capsys.readouterr()
    assert run(categorical_run, "--hparams=n_latents=3,prior=learned,temperature=1") == 2
    err = capsys.readouterr().err
    assert "n_latents, prior cannot be changed" in err


@pytest.mark.parametrize("track", [False, True])
def test_control_variates_of_the_run(tmp_path, capsys, track):
    changes = {"model": "SBNNVIL", "n_layer": 1}
    if track:
        changes |= {"model": "SBNTrackGradVariances", "track": ("NVIL", "MuProp")}
        changes["follow"] = "NVIL"
    _, _, folder = short_run(tmp_path, "digits", 3, **changes)
    arguments = [folder, *QUICK, "--estimators=NVIL,MuProp"]
    assert run(*arguments) == 0
    learned = read(folder / "analysis.json")[0]["estimators"]
    assert learned["NVIL"]["control"] == "of the run"
    assert learned["MuProp"]["control"] == ("of the run" if track else "initial")
    assert run(*arguments, "--hparams=n_samples=2") == 0
    assert read(folder / "analysis.json")[0]["estimators"]["NVIL"]["control"] == "initial"
    out = capsys.readouterr().out
    assert "control variates as trained by the run: NVIL" in out
    assert "control variates at their initial values: NVIL, MuProp" in out


def test_a_reference_for_what_cannot_be_enumerated(tmp_path, capsys):
    hparams = "--hparams=model=SBNNVIL,task=digits,n_hidden=13"
    output = tmp_path / "a.json"
    arguments = [hparams, *QUICK, f"--output={output}", "--estimators=NVIL"]
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "8192" in err
    assert "--reference=loo" in err
    assert run(*arguments, "--reference=loo") == 0
    out = capsys.readouterr().out
    assert "mean of 20 leave-one-out estimates of 32 samples" in out
    reference = read(output)[0]["reference"]
    assert reference["relative_error"] > 0
    assert ("NOTE: that is large" in out) == (not reference["relative_error"] < 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no checkpoint in 'nowhere'"),
        (["nowhere", "--preset=cat_8x4_reinmax"], "remove --preset"),
        ([f"--hparams={CATEGORICAL}", "--figure=a.jpg"], "cannot write a picture to 'a.jpg'"),
        ([f"--hparams={CATEGORICAL}", "--estimators=ARM"], "'ARM' cannot be used with a model"),
        (["--hparams=model=SBNNVIL,task=digits,n_hidden=4", "--by=logits"], "--by=weights"),
        (
            ["--hparams=model=SBN,task=digits,latents=[2,3x2]", "--estimators=LOO,DisARM"],
            "'DisARM' cannot be used with a model of bernoulli and categorical latents",
        ),
        (["--hparams=model=Cat"], "Cat"),
        (["--draws=3"], "draws"),
        (["--by=images"], "by"),
        (["--plugins=not_there"], "--plugins=not_there: "),
        (["--plugins=../own.py"], "--plugins=../own.py: invalid name"),
        ([], "give the folders of runs, or --hparams or --preset"),
    ],
)
def test_mistakes(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_the_figure_has_a_line_an_estimator_dashed_if_biased():
    def values(number, unbiased):
        names = ("cosine", "relative_variance", "std_to_mean")
        errors = dict.fromkeys(names, 0.1)
        return {**dict.fromkeys(names, number), "standard_error": errors, "unbiased": unbiased}

    records = [
        {"epoch": 5, "estimators": {"ST": values(0.7, False), "LOO": values(None, True)}},
        {"epoch": 1, "estimators": {"ST": values(0.6, False), "LOO": values(0.9, True)}},
    ]
    made = bias_figure.figure(records)
    assert len(made.axes) == 3
    for axis in made.axes:
        st, loo = (container.lines[0] for container in axis.containers)
        assert (st.get_linestyle(), loo.get_linestyle()) == ("--", "-")
        assert st.get_color() != loo.get_color()
        np.testing.assert_array_equal(st.get_xdata(), [1, 5])
        np.testing.assert_array_equal(st.get_ydata(), [0.6, 0.7])
        np.testing.assert_array_equal(np.asarray(loo.get_ydata(), float), [0.9, np.nan])
