"""Compare estimators: figures and tables from the logs of many runs.

Examples:
  rebar-compare /tmp/rebar --output=comparison
  rebar-compare "runs/SBN*-sbn-2x200-*" --x=seconds --reference=NVIL --output=comparison
  rebar-compare run1.log run2.log --output=comparison
  rebar-compare sweep --output=comparison --panels=elbo,valid,estimator_variance/q

Arguments are folders of runs, folders that contain these, globs, or files with the output of runs
(the 2017 script prints the same lines). The command writes one figure (PNG and PDF) per task and
architecture, and compare.csv and compare.md for all of them, as docs/compare.md describes.
"""

import os
import sys
from pathlib import Path

from absl import flags

from rebar.cli import frame
from rebar.compare import PANELS, X
from rebar.errors import RebarError
from rebar.plugins import import_plugins
from rebar.runs.files import write_file
from rebar.runs.quiet import quiet_start


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("string", "output", None, "Folder for the figures and tables; required.")
    define("enum", "x", "steps", "Unit of the horizontal axis.", enum_values=list(X))
    define("string", "reference", None, "Estimator to divide by; default: first unbiased one.")
    text = "Quantities to draw: numbers in metrics.jsonl; parts are total, q, q_0, q_1, ..., p."
    define("list", "panels", ",".join(PANELS), text)
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(define_flags, _compare, argv or sys.argv, __doc__)


def _compare(values, arguments) -> None:
    """Read, draw, write and print."""
    if not arguments:
        raise RebarError(
            "give the folders or logs of runs, e.g. rebar-compare /tmp/rebar --output=comparison"
        )
    if not values.output:
        raise RebarError("give the folder to write to, e.g. --output=comparison")
    import_plugins(values.plugins)
    from rebar import styles
    from rebar.compare import figures, groups, reading, runs, tables

    logs, problems = reading.read(arguments)
    if any(run.origin == "2017" for run in logs):
        with quiet_start():  # it builds their estimators
            runs.frame(logs)
    comparisons = groups.comparisons(logs)
    table = tables.rows(comparisons, values.reference)
    drawn, output = [], Path(os.path.expanduser(values.output))
    for comparison in comparisons:
        figure = figures.draw(comparison, values.panels, values.x)
        if figure is not None:
            drawn.append(comparison.slug)
            for suffix in ("png", "pdf"):
                content = styles.render(figure, suffix)
                write_file(output / f"{comparison.slug}.{suffix}", content)
    if not drawn:
        choices = ", ".join(runs.frame(logs).quantity.unique())
        panels = ",".join(values.panels)
        raise RebarError(f"--panels={panels}: none of them is in the logs; choose from {choices}")
    text = tables.to_markdown(comparisons, table, drawn, problems)
    write_file(output / "compare.csv", table.to_csv(index=False, lineterminator="\n").encode())
    write_file(output / "compare.md", text.encode(errors="surrogateescape"))
    for note in [f"left out: {problem}" for problem in problems]:
        print(note)
    for comparison in comparisons:
        for note in comparison.notes:
            print(f"{comparison.slug}: {note}")
    count = f"{len(logs)} run{'s' * (len(logs) > 1)}, up to step {max(run.last for run in logs)}"
    print(f"{count}: {output}/compare.md, {', '.join(f'{slug}.png' for slug in drawn)}")


if __name__ == "__main__":
    sys.exit(main())
