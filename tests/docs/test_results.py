"""docs/results.md and its records."""

import itertools
import re

import pytest

from benchmarks.results import frozen, page, published, records

ELBO = [(model, "elbo") for model in frozen.MODELS]
TABLES = [*ELBO, *((model, "bound") for model in frozen.MODELS)]


def rows_of(name):
    """Heading -> cell, for each row of a table of the page."""
    text = page.PAGE.read_text()
    body = re.search(rf"<!-- {re.escape(name)} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    lines = re.findall(r"^\| (.*) \|$", body[1], re.MULTILINE) if body else []
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def first(cell):
    return float(cell.split()[0])


def test_the_page_is_drawn_from_the_records():
    text = page.PAGE.read_text()
    assert page.text(text) == text, "run: python -m benchmarks.results"


def test_figures_are_drawn_from_the_records():
    for path, (_, digest) in page.drawings().items():
        assert digest.encode() in path.read_bytes(), "run: python -m benchmarks.results"


@pytest.mark.parametrize(("model", "objective"), TABLES)
def test_numbers_are_those_of_the_records(model, objective):
    rows = rows_of(model if objective == "elbo" else f"{model}-bound")
    every = [r for r in records.read("frozen", model) if r["objective"] == objective]
    assert len(rows) == len(every)
    of = {re.sub(r", K = \d+| \(biased\)", "", row["estimator"]): row for row in rows}
    for record in every:
        row = of[record["estimator"]]
        assert ("(biased)" in row["estimator"]) != record["unbiased"]
        last = record["points"][-1]
        variances = [cell for heading, cell in row.items() if heading.startswith("variance, epoch")]
        for cell, point in zip(variances, record["points"], strict=True):
            error = float(cell.split("± ")[1])
            assert first(cell) == pytest.approx(point["variance"], abs=error, rel=1e-2)
            assert error == pytest.approx(point["standard_error"]["variance"], rel=0.5)
        exact = {
            "f": record["evaluations"],
            "ms": record["milliseconds"],
            "variance x f": last["variance"] * record["evaluations"],
            "variance x ms": last["variance"] * record["milliseconds"],
        }
        for heading, number in exact.items():
            assert first(row[heading]) == pytest.approx(number, rel=6e-3)
        assert first(row["signal to noise"]) == pytest.approx(last["snr"], rel=0.2, abs=6e-3)
        if row.get("bias"):
            limit = "relative_bias_limit"
            name = limit if row["bias"].startswith("<") else "relative_bias"
            shown = first(row["bias"].removeprefix("< "))
            assert shown == pytest.approx(last[name], rel=0.06, abs=6e-3)
            assert first(row["mse"]) == pytest.approx(last["mse"], rel=1e-2)
            assert first(row["cosine"]) == pytest.approx(last["expected_cosine"], abs=0.06)


@pytest.mark.parametrize("model", frozen.MODELS)
def test_rows_are_in_the_order_of_variance_times_evaluations(model):
    costs = [first(row["variance x f"]) for row in rows_of(model)]
    assert all(a <= b * 1.001 for a, b in itertools.pairwise(costs))


def test_a_model_is_measured_for_every_estimator():
    assert page.missing() == [], "run: python -m benchmarks.results measure MODEL"


@pytest.mark.parametrize(("name", "protocol"), published.PROTOCOLS.items())
def test_long_runs_are_those_of_the_records(name, protocol):
    rows = rows_of(f"{name}-runs")
    headings = list(protocol.quantities.values())
    for known in protocol.rows:
        runs = [r for r in records.read("runs", name) if r["row"] == known.name]
        own = [row for row in rows if row["run"] == known.text]
        reached = sorted({run["steps"] for run in runs})
        assert [row["steps"] for row in own] == ([f"{s:,}" for s in reached] or ["not run"])
        for row, steps in zip(own, reached, strict=bool(runs)):
            points = [p for run in runs for p in run["curve"] if p["step"] == steps]
            assert steps <= protocol.steps
            assert row["seeds"] == str(len(points))
            for quantity, heading in zip(protocol.quantities, headings, strict=True):
                values = [point[quantity] for point in points]
                assert first(row[heading]) == pytest.approx(sum(values) / len(values), abs=6e-3)


def test_unknown_estimators_are_refused():
    with pytest.raises(Exception, match="choose from REINFORCE"):
        frozen.measure("linear", "DisArm", "runs", "data")
