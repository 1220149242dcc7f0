"""The variances that a run prints and writes, of any set of estimators; the run stays the same."""

import json

import numpy as np

from rebar.analysis.variance import VarianceMeter, fixed_batch
from rebar.estimators.rebar import DynamicREBAR
from rebar.runs.records import format_estimator_variance, parse_log

from . import tiny

PER_EPOCH = 3
DATA = tiny.dataset(n_train=10)  # 2 minibatches of 4 and one of 2
TRACKED = "model=SBNTrackGradVariances,track=[NVIL,DisARM],follow=DisARM"
EVERY = (
    *("REINFORCE", "NVIL", "SimpleMuProp", "MuProp", "REBAR", "DynamicREBAR", "Gumbel"),
    *("ARM", "DisARM"),
)
"""Every estimator that can do with one sample an example."""


def train(folder, steps, hparams=TRACKED, **settings):
    """The learner after a run."""
    settings = {"training_steps": steps, "variance_draws": 6, "seed": 5, **settings}
    run = tiny.run(folder, DATA, f"{hparams},n_samples=2", **settings)
    assert run.train() is None
    return run.learner


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_times(found):
    """Records and lines but for what a clock said."""
    if isinstance(found, str):
        return [line.partition(" evaluations of f, ")[0] for line in found.splitlines()]
    if isinstance(found, dict):
        times = ("seconds", "milliseconds")
        return {k: without_times(v) for k, v in found.items() if k not in times}
    return [without_times(v) for v in found] if isinstance(found, list) else found


def test_measuring_changes_nothing_else(tmp_path, capsys):
    with_it = tiny.values(train(tmp_path / "with", 2 * PER_EPOCH, variance_freq=1, eval_freq=2))
    first = tiny.log_lines(capsys.readouterr().out).splitlines()
    without = tiny.values(train(tmp_path / "without", 2 * PER_EPOCH, eval_freq=2))
    second = tiny.log_lines(capsys.readouterr().out).splitlines()
    tiny.assert_same(with_it, without)
    assert [line for line in first if not line.startswith("Variance")] == second
    assert len(first) == len(second) + 2 * 2
    found = without_times(records(tmp_path / "with"))
    for record in found:
        del record["estimator_variance"], record["variance_draws"]
    assert repr(found) == repr(without_times(records(tmp_path / "without")))


def test_lines_records_and_scalars(tmp_path, capsys):
    learner = train(tmp_path, 4 * PER_EPOCH, f"{TRACKED},n_layer=2", variance_freq=2)
    out = capsys.readouterr().out
    found = records(tmp_path)
    assert ["estimator_variance" in record for record in found] == [False, True] * 2
    assert list(found[1]["estimator_variance"]) == ["NVIL", "DisARM"]
    expected = [
        format_estimator_variance(record["step"], label, record["estimator_variance"][label])
        for record in found[1::2]
        for label in ("DisARM", "NVIL")
    ]
    assert [line for line in out.splitlines() if line.startswith("Variance")] == expected
    assert [set(r["log_variance"]) for r in parse_log(out)] == [{"NVIL", "DisARM"}] * 4
    # What stands there is what is measured by hand at the end of the run.
    meter = VarianceMeter(learner.model, learner.estimator, 2)
    again = meter(fixed_batch(DATA.train, 4), 6, (5, 1), (4 * PER_EPOCH,))
    for label, measured in again.items():
        record = found[3]["estimator_variance"][label]
        assert without_times(measured.record()) == without_times(record)
        assert record["milliseconds"] > 0
    assert found[1]["estimator_variance"] != found[3]["estimator_variance"]
    assert found[3]["variance_draws"] == 6

    tags = tiny.scalars(tmp_path)
    for label, part in (("NVIL", "total"), ("DisARM", "q_1")):
        value = tags[4 * PER_EPOCH, f"variance_alone/log_{part}/{label}"]
        variance = found[3]["estimator_variance"][label][part]
        np.testing.assert_allclose(value, np.log(variance), rtol=1e-6)


def test_a_resumed_run_measures_the_same(tmp_path, capsys):
    train(tmp_path / "whole", 2 * PER_EPOCH, variance_freq=1)
    whole = without_times(tiny.log_lines(capsys.readouterr().out))
    for steps in (PER_EPOCH + 1, 2 * PER_EPOCH):
        train(tmp_path / "parts", steps, variance_freq=1)
    assert without_times(tiny.log_lines(capsys.readouterr().out))[-4:] == whole[-4:]
    parts = [r for r in records(tmp_path / "parts") if r["step"] % PER_EPOCH == 0]
    assert repr(without_times(parts)) == repr(without_times(records(tmp_path / "whole")))


def test_a_single_estimator_has_its_registered_label(tmp_path, capsys):
    train(tmp_path, PER_EPOCH, "model=SBNNVIL", variance_freq=1)
    (record,) = records(tmp_path)
    assert list(record["estimator_variance"]) == ["NVIL"]
    assert list(record["estimator_variance"]["NVIL"])[:4] == ["total", "q", "q_0", "p"]
    assert "\nVariance 3 NVIL: total " in capsys.readouterr().out


def test_a_line_in_full():
    record = {
        "total": 1.23456e-5,
        "q": 0.5,
        "p": 2.0,
        "standard_error": {"total": 1.26e-7, "q": 0.01, "p": float("nan")},
        "times_evaluations": {"total": 1.2e-4, "q": 24.0, "p": 96.0},
        "evaluations": 48.0,
        "milliseconds": 0.41234,
    }
    assert format_estimator_variance(2084, "DisARM", record) == (
        "Variance 2084 DisARM: total 1.235e-05 +- 1e-07, q 0.5 +- 0.01, p 2 +- nan; "
        "48 evaluations of f, 0.412 ms (measured); "
        "variance x evaluations: total 0.00012, q 24"
    )


def test_any_set_is_tracked(tmp_path, capsys):
    """Every estimator of one sample at once: the printed list is as documented."""
    hparams = f"model=SBNTrackGradVariances,batch_size=5,track=[{','.join(EVERY)}],follow=DisARM"
    train(tmp_path, 2, hparams)
    (line,) = parse_log(capsys.readouterr().out)
    (record,) = records(tmp_path)
    names = list(record)[list(record).index("elbo") : list(record).index("log_variance")]
    temperature = ["temperature", "temperature_gradient", "temperature_gradient_squared"]
    deviations = [f"deviation/{label}" for label in EVERY]
    assert names == ["elbo", *temperature, *deviations, "log_mean_square"]
    assert len(line["values"]) == len(names)
    assert set(record["log_variance"]) == set(EVERY)


def test_temperatures_of_several_are_told_apart(tmp_path, capsys, own_registry):
    class Warm(DynamicREBAR):
        def __init__(self, **kwargs):
            super().__init__(temperature=2.0, **kwargs)

    own_registry.register("Warm", Warm)
    hparams = "model=SBNTrackGradVariances,batch_size=5,track=[Warm,ARM,DynamicREBAR],follow=ARM"
    train(tmp_path, 2, hparams)
    (record,) = records(tmp_path)
    names = list(record)[list(record).index("elbo") : list(record).index("log_variance")]
    assert names[1:7] == [
        "temperature/Warm",
        "temperature_gradient/Warm",
        "temperature_gradient_squared/Warm",
        "temperature/DynamicREBAR",
        "temperature_gradient/DynamicREBAR",
        "temperature_gradient_squared/DynamicREBAR",
    ]
    np.testing.assert_allclose(record["temperature/Warm"], 2, rtol=0.3)
    np.testing.assert_allclose(record["temperature/DynamicREBAR"], 0.5, rtol=0.3)
    gradients = [record[f"temperature_gradient/{label}"] for label in ("Warm", "DynamicREBAR")]
    assert gradients[0] != gradients[1]
