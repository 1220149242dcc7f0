"""Findings on long runs in docs/results.md, checked with the records."""

import itertools

import numpy as np
import pytest

from benchmarks.results import published
from benchmarks.results.published import runs_of
from tests.docs.findings import bullets


def ends(protocol, row, quantity):
    """Last value of each seed."""
    return [run["curve"][-1][quantity] for run in runs_of(protocol, row)]


def highest(row):
    """Step and value of the highest test bound of a run of the DisARM protocol."""
    best = max(runs_of("disarm", row)[0]["curve"], key=lambda point: point["test"])
    return best["step"], round(best["test"], 2)


def four_layers_exceed():
    curve = runs_of("disarm", "DisARM-omni-four linear layers, 1e-3")[0]["curve"]
    first = next(point["step"] for point in curve if point["test"] > -107.3)
    return (first, curve[-1]["step"], round(curve[-1]["elbo"], 2)) == (195_500, 264_500, -108.7)


def reinmax_rows():
    return {row.name: row for row in published.PROTOCOLS["beyond_reinmax"].rows}


def distances(name):
    """Distances of the mean over seeds below the published train and test ELBO at 8x4."""
    return [
        value - np.mean(ends("beyond_reinmax", name, quantity))
        for quantity, value in reinmax_rows()[name].published.items()
    ]


def spread(*names):
    """Smallest and largest distance."""
    values = [distance for name in names for distance in distances(name)]
    return [round(f(values), 1) for f in (min, max)]


def standard_errors(errors):
    """Distances of ReinMax in nats and standard errors, from those of the published means."""
    values = [ends("beyond_reinmax", "reinmax", q) for q in ("elbo", "test_elbo")]
    assert [*map(len, values)] == [3, 3]
    own = np.std(values, axis=1, ddof=1) / np.sqrt(3)
    ratios = distances("reinmax") / np.hypot(own, errors)
    return [(round(d, 2), round(r, 1)) for d, r in zip(distances("reinmax"), ratios, strict=True)]


def seed_0_is_worst():
    runs = [runs_of("beyond_reinmax", name) for name in reinmax_rows()]
    several = [sorted(group, key=lambda run: run["seed"]) for group in runs if len(group) > 1]
    return len(several) == 3 and all(
        group[0]["curve"][-1][q] < min(run["curve"][-1][q] for run in group[1:])
        for group in several
        for q in ("elbo", "test_elbo")
    )


def last_two(row):
    """The last two test bounds of the belief network, 100,000 steps apart."""
    (run,) = runs_of("belief_network", row)
    before, last = run["curve"][-2:]
    assert 99_000 < last["step"] - before["step"] < 101_000
    return before["test"], last["test"]


def gaussian_order():
    """At every evaluation that all runs of both seeds have."""
    rows = ("DisARM", "DoubleCV", "RODEO")
    curves = [[run["curve"] for run in runs_of("gaussian", row)] for row in rows]
    last = min(curve[-1]["step"] for seeds in curves for curve in seeds)
    for step in [p["step"] for p in curves[0][0] if p["step"] <= last]:
        values = [[p["elbo"] for c in seeds for p in c if p["step"] == step] for seeds in curves]
        if not all(max(a) < min(b) for a, b in itertools.pairwise(values)):
            return False
    return True


def tracker_is_below():
    row = published.PROTOCOLS["tracker"].rows[0]
    return all(
        round(100 * np.expm1(value - np.mean(ends("tracker", row.name, label)))) in (1, 2, 3)
        for label, value in row.published.items()
    )


RUNS = {
    "DisARM ends 0.76 nats above the published test bound on MNIST": lambda: (
        [round(bound + 97.56, 2) for bound in ends("disarm", "DisARM-sbn", "test")] == [0.76]
    ),
    "on MNIST and 5.47 below it on Omniglot": lambda: (
        [round(-107.3 - bound, 2) for bound in ends("disarm", "DisARM-omni", "test")] == [5.47]
    ),
    "at the 1e-3 of later papers, the test bound of the same model has its maximum, -117.47, after "
    "195,500 steps": lambda: highest("DisARM-omni-learning rate 1e-3") == (195_500, -117.47),
    "four linear layers at this rate exceed the published test bound after as many steps, and have "
    "a train ELBO of -108.70 after 264,500": four_layers_exceed,
    "ReinMax with three seeds by 0.66 (train) and 0.67 (test), 1.4 and 1.5 standard errors of the "
    "difference": lambda: standard_errors([0.20, 0.16]) == [(0.66, 1.4), (0.67, 1.5)],
    "`st` is within 0.3 nats of the published means": lambda: max(map(abs, distances("st"))) < 0.3,
    "`gst` and `gumbelst` by 0.4 to 0.9, and the two Rao-Blackwellized ones by 1.3 to 1.8": (
        lambda: (
            [*spread("gst", "gumbelst"), *spread("reinmaxrao", "gumbelrao")] == [0.4, 0.9, 1.3, 1.8]
        )
    ),
    "all estimators with several seeds have their worst results with seed 0": seed_0_is_worst,
    "RODEO is ahead of Double CV, which is ahead of DisARM": gaussian_order,
    "RWS is ahead of VIMCO by 1.7 nats of test bound": lambda: (
        round(last_two("RWS")[1] - last_two("VIMCO")[1], 1) == 1.7
    ),
    "Both gained more than 2 nats in the last 100,000 steps": lambda: all(
        after - before > 2 for before, after in map(last_two, ("RWS", "VIMCO"))
    ),
    "All five variances of the 2017 README are 1 to 3 % above the mean of our three seeds": (
        tracker_is_below
    ),
}


BULLETS = bullets("### What the runs show", "\n### ")


@pytest.mark.parametrize(("text", "holds"), RUNS.items(), ids=[*RUNS])
def test_a_finding_is_in_the_records(text, holds):
    assert any(text in bullet for bullet in BULLETS), "a finding was reworded: check it here"
    assert holds()


@pytest.mark.parametrize("bullet", BULLETS)
def test_each_paragraph_is_checked(bullet):
    assert any(finding in bullet for finding in RUNS)
