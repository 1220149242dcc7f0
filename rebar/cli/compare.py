"""Compare estimators: figures and tables from the logs of many runs.

Examples:
  rebar-compare /tmp/rebar --output=comparison
  rebar-compare "runs/SBN*-sbn-2x200-*" --x=seconds --reference=NVIL --output=comparison
  rebar-compare run1.log run2.log --output=comparison
  rebar-compare sweep --output=comparison --live=60

Arguments are folders of runs, folders that contain these, globs, or files with the output of runs
(the 2017 script prints the same lines). The command writes one figure (PNG and PDF) per task and
architecture, and compare.csv and compare.md for all of them, as docs/compare.md describes.
"""

import os
import re
import sys
import time
from pathlib import Path

from absl import flags

from rebar.cli import frame
from rebar.cli.plugins import import_plugins
from rebar.cli.quiet import quiet_start
from rebar.compare import PANELS, X
from rebar.errors import RebarError
from rebar.runs.files import write_file


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("string", "output", None, "Folder for the figures and tables; required.")
    define("enum", "x", "steps", "Unit of the horizontal axis.", enum_values=list(X))
    define("string", "reference", None, "Estimator to divide by; default: first unbiased one.")
    panels = ", ".join(PANELS)
    define("list", "panels", ",".join(PANELS), f"{panels}, or any quantity in metrics.jsonl.")
    define("string", "part", "total", "Part of estimator_variance: total, q, q_0, q_1, ..., p.")
    text = "Seconds between updates, until Ctrl-C; by default there is only one."
    define("float", "live", None, text, lower_bound=0.1)
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(define_flags, _compare, argv or sys.argv, __doc__)


def _compare(values, arguments) -> int | None:
    """Compare once, or with --live until Ctrl-C."""
    if not arguments:
        raise RebarError(
            "give the folders or logs of runs, e.g. rebar-compare /tmp/rebar --output=comparison"
        )
    if not values.output:
        raise RebarError("give the folder to write to, e.g. --output=comparison")
    import_plugins(values.plugins)
    table, printed = None, set()
    try:
        while True:
            try:
                table = _update(arguments, values, table, printed)
            except RebarError as error:
                if table is None:
                    raise
                print(f"kept the last figures and tables: {error}", flush=True)
            if values.live is None:
                return 0
            time.sleep(values.live)
    except KeyboardInterrupt:
        if values.live is None:
            raise
        print("stopped; the last figures and tables are kept", flush=True)
        return 0


def _update(arguments, values, before, printed):
    """Read, draw, write and print what is new; returns the data frame of the runs."""
    from rebar.compare import figures, groups, reading, runs, tables

    logs, problems = reading.read(arguments)
    if any(run.origin == "2017" for run in logs):
        with quiet_start():  # it builds their estimators
            runs.frame(logs)
    frame_of_runs = runs.frame(logs)
    if before is not None and frame_of_runs.equals(before):
        return before
    comparisons = groups.comparisons(logs)
    table = tables.rows(comparisons, values.reference, values.part)
    drawn, output = [], Path(os.path.expanduser(values.output))
    for comparison in comparisons:
        figure = figures.draw(comparison, values.panels, values.x, values.part)
        if figure is not None:
            drawn.append(comparison.slug)
            for suffix in ("png", "pdf"):
                path = output / f"{comparison.slug}.{suffix}"
                _write(path, figures.render(figure, suffix))
    if not drawn:
        choices = ", ".join(dict.fromkeys(frame_of_runs.quantity.str.partition("/")[0]))
        panels = ",".join(values.panels)
        raise RebarError(f"--panels={panels}: none of them is in the logs; choose from {choices}")
    text = tables.to_markdown(comparisons, table, drawn, problems)
    _write(output / "compare.csv", table.to_csv(index=False, lineterminator="\n").encode())
    _write(output / "compare.md", text.encode(errors="surrogateescape"))
    notes = [f"left out: {problem}" for problem in problems]
    for note in notes + [f"{one.slug}: {note}" for one in comparisons for note in one.notes]:
        # An unfinished run is reported once, not at each step.
        key = re.sub(r"\bstep \d+", "step", note)
        if key not in printed:
            printed.add(key)
            print(note, flush=True)
    count = f"{len(logs)} run{'s' * (len(logs) > 1)}, up to step {frame_of_runs.step.max()}"
    print(f"{count}: {output}/compare.md, {', '.join(f'{slug}.png' for slug in drawn)}", flush=True)
    return frame_of_runs


def _write(path, content):
    try:
        write_file(path, content)
    except RebarError as error:
        message = f"cannot write {path}: {error.__cause__}; give another --output"
        raise RebarError(message) from error


if __name__ == "__main__":
    sys.exit(main())
