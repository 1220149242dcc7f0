"""Every command with a registered model."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.analysis import pictures
from rebar.cli import analyze, compare, draw, sweep, train
from rebar.factory import make_model
from rebar.runs import checkpoint

HPARAMS = "network=Tiny,task=digits,model=SBNReinforceLOO,n_samples=2,batch_size=500,units=3"


class Tiny(keras.Model):
    """One layer of units; the weights have no names of their own."""

    def __init__(self, mean, units):
        super().__init__()
        self.mean = mean
        self.encoder, self.decoder = keras.layers.Dense(units), keras.layers.Dense(len(mean))

    def objective(self, sample, x):
        b = sample.bernoulli("b", self.encoder(x - self.mean))
        errors = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=self.decoder(b))
        return -tf.reduce_sum(errors, axis=1) - b.shape[1] * np.log(2) - sample.log_q


class Drawable(Tiny):
    """A model that decodes samples of its uniform prior, and reconstructs."""

    def sample(self, noise):
        return tf.sigmoid(self.decoder(tf.cast(noise.uniforms[0] > 0.5, tf.float32)))

    def reconstruct(self, x, noise):
        b = tf.sigmoid(self.encoder(x - self.mean)) > noise.uniforms[0]
        return tf.sigmoid(self.decoder(tf.cast(b, tf.float32)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current folder, with a run of two epochs; the models are registered."""
    from rebar import registry

    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_MODELS", {})
        for kind in (Tiny, Drawable):
            rebar.register_model(
                kind.__name__,
                lambda mean, hparams, k=kind: k(mean, hparams.values()["units"]),
                hparams={"units": 2},
            )
        patch.chdir(folder)
        assert training("--epochs=2", "--eval_freq=1", "--eval_samples=4") == 0
        yield folder


def training(*flags, hparams=HPARAMS, runs="runs"):
    flags = [f"--hparams={hparams}", f"--working_dir={runs}", "--jit=off", *flags]
    return train.main(["rebar_train.py", *flags])


def run_of(folder, runs="runs"):
    (run,) = folder.glob(f"{runs}/SBNReinforceLOO-digits-Tiny-lr0.001-s0-*")
    return run


def test_records(folder):
    record = json.loads((run_of(folder) / "hparams.json").read_text())
    assert (record["network"], record["objective"]) == ("Tiny", "objective of Tiny")
    assert record["hparams"]["units"] == 3
    assert record["estimators"] == {"LOO": {"unbiased": True, "evaluations": 1000}}


def test_resuming_is_exact(folder, capsys):
    assert training("--epochs=1", "--eval_freq=0", runs="parts") == 0
    assert training("--epochs=2", "--eval_freq=0", runs="parts") == 0
    out = capsys.readouterr().out
    assert "compare runs: " in out
    assert "draw samples: " not in out
    assert re.search(r"^Step 6: \[-\d+\.\d+ +\d\.\d+\]$", out, re.MULTILINE)
    whole, parts = (checkpoint.latest(run_of(folder, runs)) for runs in ("runs", "parts"))
    assert whole.variables.keys() == parts.variables.keys()
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(parts.variables[name], value)


def test_the_loaded_model(folder):
    trained = rebar.load_model(run_of(folder))
    assert isinstance(trained.model.source, Tiny)
    saved = checkpoint.latest(run_of(folder)).variables
    np.testing.assert_array_equal(trained.model.source.encoder.kernel, saved["model/0"])


def test_analyze_compare_and_sweep(folder, capsys):
    run = str(run_of(folder))
    assert analyze.main(["a", run, "--estimators=LOO", "--draws=20", "--batch_size=2"]) == 0
    out = capsys.readouterr().out
    assert "e is exact: 8 states of the latents" in out
    untrained = "network=Tiny,task=digits,units=2"
    assert analyze.main(["a", f"--hparams={untrained}", "--estimators=LOO", "--draws=20"]) == 0
    assert "4 states" in capsys.readouterr().out
    assert compare.main(["c", "runs", "--output=out"]) == 0
    assert "digits (8x8), network Tiny" in (folder / "out" / "compare.md").read_text()
    assert (folder / "out" / "digits-Tiny.png").exists()
    flags = ["--hparams=network={Tiny,auto},task=digits", "--sweep_dir=sweep", "--dry_run"]
    assert sweep.main(["s", *flags]) == 0
    assert "network=Tiny" in capsys.readouterr().out


def test_analysis_by_logits_is_refused(folder, capsys):
    assert analyze.main(["a", "--hparams=network=Tiny,task=digits", "--by=logits"]) == 2
    assert "--by=logits: only for categorical models" in capsys.readouterr().err


def test_pictures_need_a_decoder(folder, capsys):
    expected = "Tiny cannot be drawn: it has no sample and no reconstruct; add sample(noise) and"
    assert draw.main(["d", str(run_of(folder))]) == 2
    assert expected in capsys.readouterr().err
    assert training("--draw", "--seed=1") == 2
    assert expected in capsys.readouterr().err

    hparams = rebar.HParams.parse("network=Drawable,task=digits")
    drawn = pictures.panels(
        make_model(hparams, np.full(64, 0.5, np.float32), False), np.ones([5, 64]), (8, 8)
    )
    assert [panel.name for panel in drawn] == ["samples", "reconstructions"]


def test_a_run_of_a_version_without_networks_is_resumed(tmp_path, capsys):
    hparams = "task=digits,model=SBNReinforceLOO,n_samples=2,n_hidden=2,batch_size=500"
    flags = {"hparams": hparams, "runs": tmp_path}
    assert training("--epochs=1", "--eval_freq=0", **flags) == 0
    (path,) = tmp_path.glob("*/checkpoint-3.npz")
    arrays = dict(np.load(path))
    description = json.loads(arrays["description"].tobytes())
    del description["metadata"]["hparams"]["network"], description["metadata"]["image_shape"]
    arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    np.savez(path, **arrays)
    assert training("--epochs=2", "--eval_freq=0", **flags) == 0
    assert "resuming at step 3" in capsys.readouterr().out
