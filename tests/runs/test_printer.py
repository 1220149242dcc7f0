"""Formats of the log, and how often an epoch is printed on a terminal."""

import io
import sys

import pytest

from rebar.runs import printer, records
from rebar.runs.printer import Printer


def printed(log_format, capsys, epochs=3):
    """Output of some epochs, of which the last has an evaluation, and a summary."""
    lines = Printer(log_format, 100, 0)
    for epoch in range(1, epochs + 1):
        last = epoch == epochs
        metrics = {"elbo": -10.5 * epoch, "temperature": 0.5}
        lines.epoch(epoch, metrics, -3.25, important=last)
        record = {"step": epoch, "epoch": epoch, "log_variance": -3.25, "seconds": 1.5, **metrics}
        if last:
            lines.evaluation("Test", epoch, [-9.0])
            record |= {"test": -9.0, "eval_samples": 7}
        lines.end_epoch(record)
    lines.summary("runs/x")
    lines.close()
    return capsys.readouterr().out.splitlines()


SUMMARY = [
    "finished: 3 steps, ELBO -31.50 nats, test bound -9.00 (7 samples)",
    "folder: runs/x",
    "draw samples: rebar-draw runs/x",
    "compare runs: rebar-compare runs/x",
]


@pytest.mark.parametrize("log_format", ["auto", "2017"])
def test_the_2017_lines_are_complete_in_a_file(log_format, capsys):
    lines = printed(log_format, capsys)
    assert lines[0] == "columns of Step: elbo, temperature; next line: log of the gradient variance"
    assert [r["step"] for r in records.parse_log("\n".join(lines))] == [1, 2, 3]
    assert lines[-4:] == SUMMARY


@pytest.mark.parametrize("log_format", ["auto", "2017"])
def test_a_terminal_gets_one_epoch_per_second(monkeypatch, log_format, capsys):
    """Unless the lines of 2017 are asked for. Each epoch reads the clock once or twice, 0.1 s."""
    clock = iter([0.1 * i for i in range(100)])
    monkeypatch.setattr(printer.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = printed(log_format, capsys, epochs=20)
    found = [r["step"] for r in records.parse_log("\n".join(lines))]
    assert found == (list(range(1, 21)) if log_format == "2017" else [1, 11, 20])


def test_table(capsys):
    lines = printed("table", capsys)
    assert lines[0].split() == [
        "step",
        "epoch",
        "ELBO",
        "log",
        "variance",
        "seconds",
        "test",
        "bound",
    ]
    assert [line.split() for line in lines[1:4]] == [
        ["1", "1", "-10.5000", "-3.2500", "1.5"],
        ["2", "2", "-21.0000", "-3.2500", "1.5"],
        ["3", "3", "-31.5000", "-3.2500", "1.5", "-9.0000"],
    ]
    assert lines[4:] == SUMMARY


def test_quiet(capsys):
    assert printed("quiet", capsys) == SUMMARY


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_drawn_on_a_terminal_and_lines_are_printed_above_it(monkeypatch):
    terminal, output = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", output)
    lines = Printer("2017", 100, initial=40)
    lines.advance(10)
    before = terminal.getvalue()
    lines.message("Step 50: [1.]")
    # The bar's line is wiped for the text and drawn again below it.
    assert terminal.getvalue()[len(before) :].startswith("\r ")
    assert "50/100" in terminal.getvalue()[len(before) :]
    assert "step/s" in terminal.getvalue()
    lines.close()
    assert output.getvalue() == "Step 50: [1.]\n"


def test_without_a_terminal_there_is_no_bar(capsys):
    lines = Printer("2017", 100, 0)
    lines.advance(10)
    lines.message("Step 10: [1.]")
    lines.close()
    assert capsys.readouterr() == ("Step 10: [1.]\n", "")
