"""What a run writes is read back unchanged: for every task, preset and model, and however a tool
captured the output."""

import codecs
import json

import pytest

from rebar import registry
from rebar.compare.reading import read
from rebar.data import load
from rebar.data.sources import TASKS
from rebar.hparams import HParams
from rebar.hparams.presets import PRESETS, preset
from rebar.runs import records
from tests.data.conftest import small  # noqa: F401

STEPS = (100, 200)


def facts(labels):
    return {label: {"unbiased": True, "evaluations": 24.0} for label in labels}


def write(folder, hparams, description, seed=3):
    """hparams.json, metrics.jsonl and the captured output of a run with these settings."""
    entry = registry.entry(hparams.model)
    labels = list(hparams.track) if entry.tracks else [entry.label]
    about = {
        "label": entry.label,
        "network": "SigmoidBeliefNetwork",
        "objective": "ELBO: log p(x, b) - log q(b | x)",
        "unbiased": False,
        "estimators": facts(labels),
        "coupling": hparams.effective_coupling,
        "data": description,
        "jit": True,
        "threads": 1,
        "schedule": {"training_steps": 2000, "epochs": 2, "eval_freq": 1, "eval_samples": 100},
    }
    folder.mkdir(parents=True)
    identity = {"hparams": hparams.to_dict(), "seed": seed}
    (folder / "hparams.json").write_text(json.dumps({**identity, **about}))
    variance = dict.fromkeys(labels, -1.5) if entry.tracks else -1.5
    rows = [{"step": s, "epoch": s / 100, "elbo": -9.0, "log_variance": variance} for s in STEPS]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [str(hparams.to_dict()), f"seed: {seed}"]
    lines += [f"{name}: {value}" for name, value in about.items()]
    lines.append(f"run: {folder}")
    for step in STEPS:
        lines += [records.format_step(step, [-9.0, 0.5]), records.format_log_variance(variance)]
    (folder / "output.log").write_text("\n".join(lines) + "\n")
    return about


def assert_unchanged(run, hparams, about, seed=3):
    assert run.hparams == hparams
    assert run.seed == seed
    assert {name: run.about[name] for name in about} == about
    assert run.values.step.unique().tolist() == list(STEPS)
    assert run.series("elbo").tolist() == [-9.0, -9.0]


def settings():
    for name in PRESETS:
        yield HParams.parse(preset(name))
    for name in registry.names():
        entry = registry.entry(name)
        changes = {"model": name, "n_samples": entry.n_samples(1)}
        if entry.tracks:
            labels = list(registry.labels(entry.latents))
            changes = {"model": name, "track": labels, "follow": labels[0], "n_samples": 2}
        yield HParams.parse(changes, {"learning_rate": 1e-300})
    yield HParams.parse("model=CatReinMaxCV,cv_scale=1e200")


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_every_task(small, tmp_path, task, dynamic):  # noqa: F811
    if TASKS[task].gray and dynamic:
        dynamic = False
    for data_set in ("mnist", "binarized_mnist", "omniglot", "fashion_mnist"):
        small.write(tmp_path, data_set)
    description = load(task, tmp_path, dynamic).description
    model = "CatST" if TASKS[task].gray else "SBNNVIL"
    hparams = HParams.parse({"model": model, "task": task, "dynamic_b": dynamic})
    about = write(tmp_path / "run", hparams, description)
    for source in ("run", "run/output.log"):
        (run,), problems = read([str(tmp_path / source)])
        assert problems == []
        assert_unchanged(run, hparams, about)


def test_every_preset_and_model(tmp_path):
    for i, hparams in enumerate(settings()):
        about = write(tmp_path / str(i), hparams, "data " * 200)
        for source in (tmp_path / str(i), tmp_path / str(i) / "output.log"):
            (run,), _ = read([str(source)])
            assert_unchanged(run, hparams, about)


CAPTURES = {
    "UTF-16": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16, big-endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "Windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("capture", CAPTURES)
def test_captured_output(tmp_path, capture):
    hparams = HParams.parse("model=SBNDisARM,task=digits")
    about = write(tmp_path / "run", hparams, "digits")
    log = tmp_path / "captured.log"
    log.write_bytes(CAPTURES[capture]((tmp_path / "run" / "output.log").read_text()))
    (run,), problems = read([str(log)])
    assert problems == []
    assert_unchanged(run, hparams, about)
