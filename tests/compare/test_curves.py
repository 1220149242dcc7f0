"""Means, standard errors and ratios, on numbers worked out by hand."""

import math

import numpy as np
import pytest

from rebar.compare import figures, tables
from tests.compare.synthetic import compare, record, write_run


def lines(parent):
    (comparison,) = compare(parent)
    return {line.label: line for line in comparison.lines}


def test_the_band_is_the_standard_error_of_the_mean(tmp_path):
    for seed, elbo in enumerate((-10.0, -12.0, -17.0)):
        write_run(tmp_path, seed=seed, records=[record(300, elbo)])
    x, middle, low, high = figures.curve(lines(tmp_path)["DisARM"], "elbo")
    # Deviations 3, 1, -4: variance 26 / 2, over three runs.
    error = math.sqrt(13 / 3)
    expected = pytest.approx([300, -13, -13 - error, -13 + error])
    assert [x[0], middle[0], low[0], high[0]] == expected


def test_variances_are_averaged_before_the_logarithm(tmp_path):
    for seed, variance in enumerate((1.0, 9.0)):
        write_run(tmp_path, seed=seed, records=[record(300, variance=variance)])
    line = lines(tmp_path)["DisARM"]
    assert figures.curve(line, "variance")[1] == pytest.approx([5])
    _, middle, low, high = figures.curve(line, "variance", log=True)
    assert middle == pytest.approx([math.log(5)])
    assert (low[0], high[0]) == pytest.approx((math.log(1), math.log(9)))


def test_one_run_has_no_error(tmp_path):
    write_run(tmp_path)
    _, middle, low, _ = figures.curve(lines(tmp_path)["DisARM"], "elbo")
    assert np.all(np.isfinite(middle))
    assert np.all(np.isnan(low))


def test_the_axes(tmp_path):
    for seed, seconds in enumerate((1.0, 3.0)):
        records = [record(step, seconds=seconds) for step in (100, 200, 300)]
        write_run(tmp_path, seed=seed, records=records)
    for kind, expected in (
        ("steps", [100, 200, 300]),
        ("epochs", [1, 2, 3]),
        ("seconds", [2, 4, 6]),
        ("evaluations", [2400, 4800, 7200]),
    ):
        x = figures.curve(lines(tmp_path)["DisARM"], "elbo", kind)[0]
        assert x == pytest.approx(expected), kind


def test_only_steps_that_all_runs_have(tmp_path):
    write_run(tmp_path, seed=0, records=[record(s) for s in (100, 200, 300)])
    write_run(tmp_path, seed=1, records=[record(s) for s in (100, 150, 300)])
    assert figures.curve(lines(tmp_path)["DisARM"], "elbo")[0].tolist() == [100, 300]


def test_non_finite_values_are_a_gap(tmp_path):
    records = [record(100), record(200) | {"log_variance": None}, record(300)]
    write_run(tmp_path, seed=0, records=records)
    write_run(tmp_path, seed=1)
    middle = figures.curve(lines(tmp_path)["DisARM"], "variance", log=True)[1]
    assert np.isnan(middle).tolist() == [False, True, False]


def test_best_and_the_test_bound_at_the_best_valid_one(tmp_path):
    bounds = {100: (-30, -31), 200: (-20, -25), 300: (-22, -24)}
    records = [record(step, valid=v, test=t) for step, (v, t) in bounds.items()]
    write_run(tmp_path, records=records)
    line = lines(tmp_path)["DisARM"]
    assert tables.pick(line, "test")[0] == -24
    assert tables.pick(line, "test", "test")[0] == -24
    assert tables.pick(line, "valid", "valid")[0] == -20
    assert tables.pick(line, "test", "valid")[0] == -25


def test_ratios_of_variances_over_the_end_of_what_both_have(tmp_path):
    steps = range(10, 101, 10)
    for seed, factor in enumerate((1.0, 3.0)):
        write_run(
            tmp_path,
            "SBNNVIL",
            seed,
            [record(s, variance=4.0 if s > 90 else 99.0) for s in steps],
            planned=100,
        )
        write_run(
            tmp_path, "SBNDisARM", seed, [record(s, variance=factor) for s in steps], planned=100
        )
    found = lines(tmp_path)
    ratio = tables.ratio(found["DisARM"], found["NVIL"], "variance")
    assert ratio[0] == pytest.approx(2 / 4)
    # Mean 2 with error 1 over 4 with error 0.
    assert ratio[1] == pytest.approx(1 / 4)
    assert tables.ratio(found["NVIL"], found["NVIL"], "variance") == (1, 0)


def test_ratios_of_tracked_methods_are_paired(tmp_path):
    for seed, scale in enumerate((1.0, 10.0)):
        records = [record(100, variance={"NVIL": 2 * scale, "DisARM": scale})]
        hparams = {"track": ("NVIL", "DisARM"), "follow": "DisARM"}
        write_run(tmp_path, "SBNTrackGradVariances", seed, records, planned=100, **hparams)
    found = lines(tmp_path)
    assert tables.ratio(found["DisARM"], found["NVIL"], "variance") == pytest.approx((0.5, 0))
