"""compare.csv and compare.md."""

import csv
import io

import pytest

from rebar.compare import tables
from rebar.errors import RebarError
from tests.compare.synthetic import compare, record, write_run


def write_runs(folder):
    """NVIL of half the cost and twice the variance of DisARM; Gumbel, one seed."""
    measured = {"q": 1.0, "evaluations": 1}
    paths = []
    for seed in range(2):
        for model, variance, cost in (("SBNNVIL", 8.0, 24), ("SBNDisARM", 4.0, 48)):
            label = {"SBNNVIL": "NVIL", "SBNDisARM": "DisARM"}[model]
            more = {"valid": -90.0, "test": -91.0 - 2 * seed}
            more["estimator_variance"] = {label: {**measured, "total": variance / 8}}
            records = [record(s, -100 + seed, variance, **more) for s in (100, 200, 300)]
            about = {"estimators": {label: {"unbiased": True, "evaluations": cost}}}
            paths.append(write_run(folder, model, seed, records, about=about))
    return compare(*paths, write_run(folder, "SBNGumbel"))


@pytest.fixture
def found(tmp_path):
    return write_runs(tmp_path)


def rows_of_csv(found, label=None):
    text = tables.rows(found, label).to_csv(index=False)
    return {row["estimator"]: row for row in csv.DictReader(io.StringIO(text))}


def test_csv(found):
    rows = rows_of_csv(found)
    assert list(rows) == ["NVIL", "DisARM", "Gumbel"]
    disarm = rows["DisARM"]
    assert (disarm["seeds"], disarm["steps"], disarm["unbiased"]) == ("2", "300", "yes")
    assert float(disarm["train_elbo_final"]) == -99.5
    assert float(disarm["train_elbo_final_se"]) == 0.5
    assert float(disarm["test_bound_final"]) == -92
    assert float(disarm["test_bound_final_se"]) == 1
    assert disarm["reference"] == "NVIL"
    assert float(disarm["variance_ratio"]) == pytest.approx(0.5)
    assert float(disarm["variance_ratio_equal_cost"]) == pytest.approx(1)
    assert float(disarm["estimator_variance_ratio"]) == pytest.approx(0.5)
    assert float(disarm["evaluations_per_step"]) == 48
    assert float(disarm["seconds_per_1000_steps"]) == pytest.approx(20)
    gumbel = rows["Gumbel"]
    assert (gumbel["unbiased"], gumbel["seeds"], gumbel["train_elbo_final_se"]) == ("no", "1", "")
    assert gumbel["estimator_variance_ratio"] == ""


def test_another_reference(found):
    rows = rows_of_csv(found, "DisARM")
    assert float(rows["NVIL"]["variance_ratio"]) == pytest.approx(2)
    assert rows["NVIL"]["reference"] == "DisARM"


def test_the_default_reference_is_the_first_unbiased_one(tmp_path):
    paths = [write_run(tmp_path, model) for model in ("SBNGumbel", "SBNDisARM", "SBNARM")]
    (comparison,) = compare(*paths)
    assert [line.label for line in comparison.lines] == ["Gumbel", "DisARM", "ARM"]
    assert set(tables.rows([comparison], None).reference) == {"DisARM"}


def test_a_reference_that_is_not_available(found):
    with pytest.raises(RebarError, match=r"reference=ARM: .*DisARM, Gumbel, NVIL"):
        tables.rows(found, "ARM")


def test_markdown(found):
    found[0].notes.append("something odd")
    slug = found[0].slug
    text = tables.to_markdown(found, tables.rows(found, None), [slug], ["x: does not exist"])
    assert f"![{found[0].title}]({slug}.png)" in text
    assert "- something odd" in text
    assert "- x: does not exist" in text
    assert "| Gumbel **(biased)** | 1 |" in text
    assert "| -99.50 +- 0.50 |" in text
    assert "Ratios are to NVIL" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_columns_without_numbers_are_left_out(tmp_path):
    write_run(tmp_path)
    found = compare(tmp_path)
    text = tables.to_markdown(found, tables.rows(found, None), [], [])
    assert "test bound, final" not in text.partition("\n\n-")[0]
    assert "![" not in text
