"""A run killed at any point goes on to the same end, bit for bit; a write that fails is told.

A kill leaves the files as they are at that moment: what a process has written to a file is there,
what it was about to do is not. So one run, looked at ahead of every call that changes its folder,
shows what every kill leaves (`faults.Kills`), half-written files included.
"""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rebar import noise
from rebar.errors import RebarError
from rebar.runs.files import write_file

from . import faults, tiny

DATA = tiny.dataset(n_train=18)  # 4 full minibatches of 4 and one of 2
SETTINGS = {
    **{"eval_freq": 2, "variance_freq": 2, "variance_draws": 4},
    **{"save_seconds": 0, "keep_epochs": (2,)},
}
QUICK, LONG = 10, pytest.param(20, marks=pytest.mark.slow)
"""Steps: two epochs, or four."""
ALLOWED = re.compile(
    r"checkpoint-\d+\.npz|metrics\.jsonl|events\.out\.tfevents\.\d+\.[^/]*\.v2|"
    r"pictures/step-\d{7}\.png|snapshots/epoch-2/checkpoint-10\.npz"
)


@pytest.fixture(scope="module")
def start():
    """Starts a run in a folder as a new process would."""

    def begin(folder, steps, say):
        def draw(step):
            write_file(folder / "pictures" / f"step-{step:07d}.png", b"picture of %d" % step)
            return {"pictures/all": np.full([2, 2, 3], step, np.uint8)}

        hparams, settings = "model=SBNDynamicRebar,n_layer=2", {**SETTINGS, "training_steps": steps}
        run = tiny.run(folder, DATA, hparams, draw, say, **settings)
        return run, run.learner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "MAX_BLOCK_STEPS", 3)
        patch.setattr(os, "fsync", lambda descriptor: None)  # it takes time and no power is cut
        yield begin


def to_the_end(start, folder, steps):
    """Start, and train to the end."""
    told = []
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run, learner = start(folder, steps, told.append)
        assert run.train() is None
    return Outcome(tiny.values(learner), lines(out.getvalue()), told)


class Outcome(NamedTuple):
    """Of a start that came to the end: all that it trained, the log's lines, other lines."""

    variables: dict
    lines: list
    told: list


def lines(text):
    """Printed lines of the log without what a clock said."""
    kept = tiny.log_lines(text).splitlines()
    return [line.partition(" evaluations of f, ")[0] for line in kept]


def records(folder):
    """Lines of metrics.jsonl without what a clock said."""

    def strip(value):
        if not isinstance(value, dict):
            return value
        return {k: strip(v) for k, v in value.items() if k not in ("seconds", "milliseconds")}

    return [strip(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Undisturbed(NamedTuple):
    """A run without a break, and what kills at all its points would leave."""

    folder: Path
    kills: faults.Kills
    outcome: Outcome
    steps: int


@pytest.fixture(scope="module")
def undisturbed(request, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    kills = faults.Kills(folder)
    with faults.calls(folder, kills):
        outcome = to_the_end(start, folder, request.param)
    kills("end", folder)
    return Undisturbed(folder, kills, outcome, request.param)


quick = pytest.mark.parametrize("undisturbed", [QUICK], indirect=True)
quick_and_long = pytest.mark.parametrize("undisturbed", [QUICK, LONG], indirect=True)


def saved_step(state):
    """The step that a run must go on from: of the newest checkpoint that has its name."""
    steps = [re.fullmatch(r"checkpoint-(\d+)\.npz", name) for name in state]
    return max((int(match[1]) for match in steps if match), default=0)


def assert_same_end(folder, outcome, undisturbed):
    whole, expected = undisturbed.folder, undisturbed.outcome
    tiny.assert_same(outcome.variables, expected.variables)
    assert records(folder) == records(whole)
    count = len(outcome.lines)
    assert outcome.lines == expected.lines[len(expected.lines) - count :]
    assert tiny.scalars(folder) == tiny.scalars(whole)
    found, wanted = faults.files(folder), faults.files(whole)
    for name in found:
        assert ALLOWED.fullmatch(name), name
        assert name in wanted or name.startswith("events"), name
        if name.endswith((".png", ".npz")):
            assert found[name] == wanted[name], name
    assert {n for n in wanted if not n.startswith("events")} <= set(found)


@quick
def test_the_undisturbed_run(undisturbed):
    """What is killed below does all that a run does."""
    folder, kills, outcome, _ = undisturbed
    assert {n for n in faults.files(folder) if not n.startswith("events")} == {
        *("checkpoint-9.npz", "checkpoint-10.npz", "metrics.jsonl"),
        *("pictures/step-0000010.png", "snapshots/epoch-2/checkpoint-10.npz"),
    }
    assert [record["step"] for record in records(folder)] == [5, 10]
    assert [line.split(":")[0] for line in outcome.lines if ":" in line] == [
        *("Step 5", "Step 10", "Variance 10 DynamicREBAR", "Valid 10", "Test 10"),
    ]
    torn = [name for state in kills.states for name in state if name.endswith(".tmp")]
    assert {name.partition("-")[0] for name in torn} >= {"checkpoint", "pictures/step"}
    assert len(kills.states) > 40


class InOrder(NamedTuple):
    """What a start makes of a folder before it trains."""

    step: int
    epoch: list
    files: dict
    scalars: dict


def put_in_order(start, folder, steps):
    run, _ = start(folder, steps, lambda line: None)
    run._lock.close()
    found = faults.files(folder)
    for name in list(found):
        assert ALLOWED.fullmatch(name), name
        if name.startswith("events"):
            del found[name]  # they hold the time
    epoch = [array.tolist() for array in run._epoch]
    return InOrder(run.steps, epoch, found, tiny.scalars(folder))


@quick_and_long
def test_after_a_kill_at_any_point_the_run_goes_on_to_the_same_end(start, undisturbed, tmp_path):
    """Every state that a kill can leave; in the long one a second kill, while a start puts that in
    order, too."""
    _, kills, _, steps = undisturbed
    twice = 0
    for number, state in enumerate(kills.states):
        folder = tmp_path / str(number)
        faults.put(folder, state)
        if steps > QUICK:
            second = faults.Kills(folder)
            with faults.calls(folder, second):
                order = put_in_order(start, folder, steps)
            assert order.step == saved_step(state)
            for again, left in enumerate(second.states[1:]):
                other = tmp_path / f"{number}-{again}"
                faults.put(other, left)
                assert put_in_order(start, other, steps) == order
                twice += 1
        outcome = to_the_end(start, folder, steps)
        if saved_step(state):
            assert outcome.told[0].startswith(f"resuming at step {saved_step(state)} from ")
        assert_same_end(folder, outcome, undisturbed)
    print(f"{len(kills.states)} states after a kill, {twice} after a second one")
    assert twice > 2 * len(kills.states) or steps == QUICK


@quick_and_long
def test_a_call_that_fails_is_told_and_nothing_is_lost(start, undisturbed, tmp_path):
    """A full disk, or another error, from any call on; then the disk is mended."""
    _, kills, _, steps = undisturbed
    refused = 0
    numbers = range(0, kills.calls - 1, 1 if steps > QUICK else 6)
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        code = faults.CODES[number % len(faults.CODES)]
        failure = faults.Failure(number, code)
        told = []
        with faults.calls(folder, failure):
            try:
                to_the_end(start, folder, steps)
            except RebarError as error:
                told = [str(error)]
        assert failure.failed
        for line in told:
            assert "\n" not in line
            assert str(folder) in line
            assert os.strerror(code) in line
        refused += len(told)
        kept = saved_step(faults.files(folder))
        outcome = to_the_end(start, folder, steps)
        assert not kept or f"resuming at step {kept} " in outcome.told[0]
        assert_same_end(folder, outcome, undisturbed)
    print(f"{refused} of {len(numbers)} failures ended the run")
    # The others are of what can be done without: tidying up, who holds the lock.
    assert refused > 0.9 * len(numbers)
