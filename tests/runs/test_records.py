"""Printed lines (ours and the 2017 script's), metrics.jsonl, progress."""

import json
import math
import os
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebar.errors import RebarError
from rebar.runs.records import (
    MetricsFile,
    format_eval,
    format_log_variance,
    format_step,
    parse_log,
)

LOG_2017 = """\
{'model': 'SBNDynamicRebar', 'n_layer': 2}
Step 2084: [-231.026474      0.3711713     1.            1.06934261    1.07023323
    1.02173257    1.02171052    1.            1.            1.            1.        ]
-3.6465678215
Step 4168: [-156.86535645    0.30974072    1.            1.03962958    1.03937888
    1.02627361    1.02627099    1.            1.            1.            1.        ]
-4.42727231979

Valid 4168: [-120.5  -121.25
    0.15 ]
Test 4168: [-120.25 -120.75    0.5 ]

"""
LOG_2017_TRACKED = """\
Step 959: [ -2.66e+02   4.01e-01   1.00e-04   2.00e-08   5.00e-01
          -inf        nan]
('DynamicREBAR', -3.725339889526367)
('MuProp', -0.03417482227087021)
('NVIL', 2.7622685432434082)
('REBAR', -3.5387656688690186)
('SimpleMuProp', -inf)
Step 1918: [ -2.40e+02   3.70e-01]
('DynamicREBAR', np.float32(-3.9))
('NVIL', np.float64(nan))
"""

floats = st.floats(width=32)
labels = st.text(alphabet="aZ09 _'\"\\\n()[],é", max_size=8)


def test_the_logs_of_2017_are_read():
    first, second = parse_log(LOG_2017)
    assert first == {
        "step": 2084,
        "values": [
            -231.026474, 0.3711713, 1, 1.06934261, 1.07023323, 1.02173257, 1.02171052, 1, 1, 1, 1
        ],
        "log_variance": -3.6465678215,
        "valid": None,
        "test": None,
        "estimator_variance": None,
    }  # fmt: skip
    assert second["step"] == 4168
    assert second["log_variance"] == -4.42727231979
    assert second["valid"] == [-120.5, -121.25, 0.15]
    assert second["test"] == [-120.25, -120.75, 0.5]


def test_the_tracked_logs_of_2017_are_read():
    first, second = parse_log(LOG_2017_TRACKED)
    assert first["values"][:5] == [-266, 0.401, 1e-4, 2e-8, 0.5]
    assert first["values"][5] == -math.inf
    assert math.isnan(first["values"][6])
    assert first["log_variance"] == {
        "DynamicREBAR": -3.725339889526367,
        "MuProp": -0.03417482227087021,
        "NVIL": 2.7622685432434082,
        "REBAR": -3.5387656688690186,
        "SimpleMuProp": -math.inf,
    }
    assert second["log_variance"]["DynamicREBAR"] == -3.9
    assert math.isnan(second["log_variance"]["NVIL"])


def test_windows_line_ends_do_not_matter():
    assert parse_log(LOG_2017.replace("\n", "\r\n")) == parse_log(LOG_2017)


def test_step_lines_read_as_those_of_the_original():
    assert format_step(2084, [-231.026474, 0.3711713, 1]) == (
        "Step 2084: [-231.026474     0.3711713    1.       ]"
    )
    line = format_step(7, np.float32([1.06934261, -np.inf, np.nan, np.inf]))
    assert line.split("[")[1].rstrip("]").split() == ["1.06934261", "-inf", "nan", "inf"]


def test_a_callers_print_options_do_not_change_the_log():
    with np.printoptions(precision=2, linewidth=20, threshold=3, suppress=True):
        line = format_step(1, np.linspace(1, 2, 30) / 3)
    assert line.count("\n") == line.count("...") == 0
    assert "0.33333333" in line


def test_log_variances_are_floats_or_tuples_sorted_by_name():
    assert format_log_variance(np.float32(-3.5)) == "-3.5"
    assert format_log_variance({"NVIL": np.float32(2.5), "DynamicREBAR": -math.inf}) == (
        "('DynamicREBAR', -inf)\n('NVIL', 2.5)"
    )


def test_evaluations_stand_between_empty_lines():
    assert format_eval("Valid", 41680, [-1.5]) == "\nValid 41680: [-1.5]"
    assert format_eval("Test", 41680, [-1.5]) == "Test 41680: [-1.5]\n"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.integers(0, 10**9),
        st.tuples(
            st.lists(floats, max_size=40),
            st.floats() | st.dictionaries(labels, st.floats(), min_size=1, max_size=5),
            st.none() | st.lists(floats, max_size=3),
        ),
        max_size=4,
    )
)
def test_what_is_printed_is_read_back(epochs):
    lines = ["some other line"]
    for step, (values, log_variance, valid) in epochs.items():
        lines += [format_step(step, values), format_log_variance(log_variance)]
        if valid is not None:
            lines += [format_eval("Valid", step, valid), format_eval("Test", step, valid[::-1])]
    parsed = parse_log("\n".join(lines) + "\n")
    assert [record["step"] for record in parsed] == sorted(epochs)
    for record in parsed:
        values, log_variance, valid = epochs[record["step"]]
        np.testing.assert_allclose(record["values"], values, rtol=1e-7, atol=1e-8)
        np.testing.assert_equal(record["log_variance"], log_variance)
        if valid is None:
            assert record["valid"] is record["test"] is None
        else:
            np.testing.assert_allclose(record["valid"], valid, rtol=1e-7, atol=1e-8)
            np.testing.assert_allclose(record["test"], valid[::-1], rtol=1e-7, atol=1e-8)


def test_of_a_repeated_step_the_later_one_stands():
    text = "Step 2: [2.]\n0.5\nStep 1: [1.]\n0.25\nStep 2: [3.]\n0.75\n"
    assert [(r["step"], r["values"], r["log_variance"]) for r in parse_log(text)] == [
        (1, [1.0], 0.25),
        (2, [3.0], 0.75),
    ]


def test_a_log_cut_off_anywhere_is_read_as_far_as_it_goes():
    whole = parse_log(LOG_2017)
    second = LOG_2017.index("Step 4168")
    for end in range(second, LOG_2017.index("]\n-4.42")):
        assert parse_log(LOG_2017[:end]) == whole[:1]
    assert parse_log(LOG_2017[:second] + "Step 4168: [1. 2.\nStep 4168: [3.]\n")[1]["values"] == [3]


def test_a_log_with_a_broken_number_is_refused_by_line():
    with pytest.raises(RebarError, match=r"line 3 .*Step 4: .*'1.x'"):
        parse_log("Step 2: [1.]\n0.5\nStep 4: [1.x 2.]\n")


def test_metrics_are_strict_json_and_name_what_is_not_finite(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append(
        {
            "step": np.int64(5),
            "elbo": np.float32(-1.5),
            "temperature": math.nan,
            "values": np.array([-np.inf, 2.0]),
            "log_variance": {"NVIL": -math.inf, "REBAR": 0.5},
            "note": None,
        }
    )
    metrics.append({"step": 6, "elbo": -1.25})

    def refuse(constant):
        raise AssertionError(f"{constant} is not strict JSON")

    lines = metrics.path.read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [
        {
            "step": 5,
            "elbo": -1.5,
            "temperature": None,
            "values": [None, 2.0],
            "log_variance": {"NVIL": None, "REBAR": 0.5},
            "note": None,
        },
        {"step": 6, "elbo": -1.25},
    ]
    assert [record["step"] for record in metrics.read()] == [5, 6]


def test_each_record_is_synced_before_append_returns(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        metrics.append({"step": step})
    assert sizes == [len('{"step": 1}\n'), 2 * len('{"step": 1}\n')]


@pytest.mark.parametrize(
    ("tail", "step", "left", "dropped"),
    [
        ("", 30, [10, 20, 30], 0),
        ("", 25, [10, 20], 1),
        ("", 20, [10, 20], 1),
        ("", 0, [], 3),
        ('{"step": 40, "elb', 30, [10, 20, 30], 1),
        ('{"step": 40, "elb', 10, [10], 3),
        ('{"step": 40}', 30, [10, 20, 30], 1),
        ('{"step": 40}', 40, [10, 20, 30, 40], 0),
    ],
)
def test_truncate_after_drops_later_records_and_a_torn_line(tmp_path, tail, step, left, dropped):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for done in (10, 20, 30):
        metrics.append({"step": done, "elbo": -1 / 3})
    with open(metrics.path, "a") as file:
        file.write(tail)
    assert metrics.truncate_after(step) == dropped
    assert [record["step"] for record in metrics.read()] == left
    # What is appended next must begin a line of its own.
    metrics.append({"step": 50})
    assert [record["step"] for record in metrics.read()] == [*left, 50]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_truncate_after_without_a_file_makes_none(tmp_path):
    assert MetricsFile(tmp_path / "metrics.jsonl").truncate_after(5) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("line", ["{", "[1]", '{"elbo": 1}', '{"step": "1"}', ""])
def test_a_broken_line_in_the_middle_is_refused(tmp_path, line):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    for read in (metrics.read, lambda: metrics.truncate_after(5)):
        with pytest.raises(RebarError, match=r"metrics\.jsonl, line 2 "):
            read()
    assert len(metrics.path.read_text().splitlines()) == 3


def test_metrics_that_cannot_be_written_say_why(tmp_path):
    metrics = MetricsFile(tmp_path / "missing" / "metrics.jsonl")
    with pytest.raises(RebarError, match=r"metrics\.jsonl: No such file"):
        metrics.append({"step": 1})
    with pytest.raises(RebarError, match=re.escape(str(tmp_path))):
        MetricsFile(tmp_path).read()
