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
from rebar.training.interrupt import Interrupt

_SIGINT = 2


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("string", "output", None, "Folder for the figures and tables; required.")
    define("enum", "x", "steps", "Unit of the horizontal axis.", enum_values=list(X))
    define(
        "string",
        "reference",
        None,
        "Estimator that variances are divided by; by default the first unbiased one.",
    )
    define(
        "list",
        "panels",
        ",".join(PANELS),
        "Panels: variance, elbo, test, estimator_variance, or any quantity in metrics.jsonl, such "
        "as temperature.",
    )
    define("string", "part", "total", "Part of estimator_variance: total, q, q_0, q_1, ..., p.")
    define(
        "float",
        "live",
        None,
        "Seconds between updates, until Ctrl-C; by default there is only one.",
        lower_bound=0.1,
    )
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(define_flags, _compare, argv or sys.argv, __doc__)


def _compare(values, arguments) -> int | None:
    """Compare once, or with --live until a signal comes."""
    if not arguments:
        raise RebarError(
            "give the folders or logs of runs, e.g. rebar-compare /tmp/rebar --output=comparison"
        )
    if not values.output:
        raise RebarError("give the folder to write to, e.g. --output=comparison")
    import_plugins(values.plugins)
    job = _Job(arguments, values)
    return job.refresh() if values.live is None else _live(job, values.live)


def _live(job, seconds) -> int:
    """Refresh until a signal comes."""
    with Interrupt() as interrupt:
        while interrupt.requested is None:
            try:
                job.refresh()
            except RebarError as error:
                if not job.written:
                    raise
                print(f"kept the last figures and tables: {error}", flush=True)
            until = time.monotonic() + seconds
            while interrupt.requested is None and time.monotonic() < until:
                time.sleep(min(0.1, seconds))
        print("stopped; the last figures and tables are kept", flush=True)
        return 0 if interrupt.requested == _SIGINT else frame.SIGNAL + interrupt.requested


class _Job:
    """What the flags ask for; `refresh` does it, as often as it is called."""

    def __init__(self, arguments, values):
        self.written = False
        self._arguments = arguments
        self._values = values
        self._output = Path(values.output).expanduser()
        self._printed: set[str] = set()
        self._before: list = []
        self._problems: list[str] = []

    def refresh(self) -> None:
        """Read, draw and write; prints what is new. Raises RebarError if nothing can be drawn."""
        import pandas as pd

        from rebar.compare import groups, reading, tables
        from rebar.compare.runs import Run

        runs, problems = reading.read(self._arguments)
        if any(run.needs_tensorflow for run in runs):
            with quiet_start():
                import rebar.factory  # noqa: F401
        before, self._before = self._before, runs
        same = len(before) == len(runs) and all(map(Run.equals, before, runs))
        if same and problems == self._problems:
            return
        self._problems = problems
        found = groups.comparisons(runs)
        tables.check_reference(self._values.reference, found)
        drawn, parts = [], []
        for comparison in found:
            if self._draw(comparison):
                drawn.append(comparison.slug)
            reference, notes = tables.find_reference(comparison, self._values.reference)
            comparison.notes += notes
            parts.append(tables.rows(comparison, reference, self._values.part))
        if drawn:
            table = pd.concat(parts)
            self._write("compare.csv", tables.to_csv(table))
            self._write("compare.md", tables.to_markdown(found, table, drawn, problems))
        # Only now: nothing is lost where nobody reads the output.
        for problem in problems:
            self._print(f"left out: {problem}")
        for comparison in found:
            for note in comparison.notes:
                self._print(f"{comparison.slug}: {note}")
        if not drawn:
            raise RebarError(
                f"--panels={','.join(self._values.panels)}: none of them is in the logs; choose "
                "others"
            )
        furthest = max(run.last for run in runs)
        names = ", ".join(f"{slug}.png" for slug in drawn)
        count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
        print(f"{count}, up to step {furthest}: {self._output}/compare.md, {names}", flush=True)
        self.written = True

    def _draw(self, comparison) -> bool:
        """Draw and write the figure of a comparison, if there is anything to draw."""
        from rebar.compare import figures

        part = self._values.part
        panels, notes = figures.choose_panels(comparison, self._values.panels, part)
        axis, reasons = figures.choose_axis(comparison, self._values.x)
        comparison.notes += notes + reasons
        if not panels:
            return False
        drawing = figures.figure(comparison, panels, axis, part)
        for suffix, content in figures.render(drawing).items():
            self._write(comparison.slug + suffix, content)
        return True

    def _write(self, name, content):
        path = self._output / name
        try:
            write_file(path, content)
        except RebarError as error:
            # Its own message speaks of the folder of a run.
            raise RebarError(
                f"cannot write {path}: {error.__cause__}; give another --output"
            ) from error

    def _print(self, sentence):
        # An unfinished run is reported once, not at each step.
        known = re.sub(r"\bstep \d+", "step", sentence)
        if known not in self._printed:
            self._printed.add(known)
            print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
