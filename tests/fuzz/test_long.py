"""Long inputs take a time that grows with their length, not with its square or cube."""

import json
import time

import pytest

from rebar.hparams.grammar import parse
from rebar.runs.records import MetricsFile

from .targets import TARGETS

MOST_SECONDS = 5.0
LINE = 300_000

LONG = {
    "spaces before a bracket": ("hparams", "n_layer=" + " " * 20_000 + "["),
    "spaces before nothing": ("hparams", "n_layer" + " " * 20_000),
    "names before nothing": ("hparams", "n_layer[" * 3000),
    "commas": ("hparams", "," * 2000),
    "a number of many digits": ("hparams", "n_hidden=" + "9" * 10_000),
    "a number above all floats": ("hparams", "continuation=independent,n_hidden=1" + "0" * 400),
    "an input above all floats": ("hparams", "n_input=1" + "0" * 400),
    "an index of many digits": ("hparams", "track[" + "9" * 5000 + "]=NVIL"),
    "a step of many digits": ("log", "Step " + "9" * 5000 + ": [1.]"),
    "arrays that never end": ("log", "Step 1: [ 1. " * (LINE // 13)),
    "a label of quotes": ("log", "Step 1: [1.]\n(" + "'\"" * LINE),
    "a label that is no text": ("log", "Step 1: [1.]\n('a' + '\\x', 1.0)"),
    "many torn lines": ("captured", "Step 1: [1.]\n" + "Step 1: \n" * (LINE // 9)),
    "a dict that never ends": ("captured", "Step 1: [1.]\n{" + "'model': " * (LINE // 9)),
    "a dict of braces": ("captured", "Step 1: [1.]\n{'model': " + "} " * LINE),
    "a deep dict": ("captured", "{'model': " + "[" * 30_000 + "}\nStep 1: [1.]\n"),
    "a long sum": ("captured", "{'model': " + "1+" * 30_000 + "1}\nStep 1: [1.]\n"),
    "measured in many words": ("captured", "Step 1: [1.]\nVariance 1 " + ": a +- ; " * (LINE // 9)),
    "measured in no numbers": (
        "captured",
        "Step 1: [1.]\nVariance 1 A: total x +- y; z evaluations of f, 1 ms",
    ),
    "records nested deep": ("metrics", "[" * LINE + '\n{"step": 1}\n'),
    "deep hyperparameters": ("folder", '{"hparams":' + "[" * LINE + '\0{"step": 1}'),
    "a step above all floats": ("folder", '\0{"step": 1' + "0" * 400 + '}\n{"step": 2}'),
    "a deep manifest": ("sweep_manifest", '{"a":' * LINE),
}  # fmt: skip
"""What was slow, or no RebarError, once."""


@pytest.mark.parametrize("name", LONG)
def test_long(name):
    target, text = LONG[name]
    begin = time.monotonic()
    TARGETS[target](text.encode())
    assert time.monotonic() - begin < MOST_SECONDS


def test_an_index_that_is_no_ordinary_digit():
    _, problems = parse("track[\u0663]=NVIL", {"track": ("A",) * 9})
    assert "malformed clause" in problems[0]


def test_numbers_that_json_does_not_know_are_no_record(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.path.write_text('{"step": 1, "elbo": NaN}')
    assert file.read() == []
    assert file.truncate_after(1) == 1
    assert file.path.read_bytes() == b""
    file.append({"step": 1, "elbo": float("nan")})
    assert json.loads(file.path.read_text()) == {"step": 1, "elbo": None}
