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
    """Compare once, or with --live until Ctrl-C."""
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
    """Refresh until Ctrl-C."""
    try:
        while True:
            try:
                job.refresh()
            except RebarError as error:
                if not job.written:
                    raise
                print(f"kept the last figures and tables: {error}", flush=True)
            time.sleep(seconds)
    except KeyboardInterrupt:
        print("stopped; the last figures and tables are kept", flush=True)
        return 0


class _Job:
    """The comparison that the flags ask for; `refresh` makes it, as often as it is called."""

    def __init__(self, arguments, values):
        self.written = False
        self._arguments = arguments
        self._values = values
        self._output = Path(values.output).expanduser()
        self._printed: set[str] = set()
        self._before = None

    def refresh(self) -> None:
        """Read, draw, write and print what is new. Raises RebarError if nothing can be drawn."""
        from rebar.compare import figures, groups, reading, tables
        from rebar.compare.runs import frame as to_frame

        runs, problems = reading.read(self._arguments)
        if any(run.origin == "2017" for run in runs):
            with quiet_start():
                import rebar.factory  # noqa: F401
        table = to_frame(runs)
        if self._before is not None and table.equals(self._before):
            return
        self._before = table
        values = self._values
        comparisons = groups.comparisons(runs)
        table = tables.rows(comparisons, values.reference, values.part)
        drawn = []
        for comparison in comparisons:
            figure = figures.draw(comparison, values.panels, values.x, values.part)
            if figure is not None:
                drawn.append(comparison.slug)
                for suffix, content in figures.render(figure).items():
                    self._write(comparison.slug + suffix, content)
        if not drawn:
            choices = sorted({name for run in runs for name in run.values.quantity.unique()})
            raise RebarError(
                f"--panels={','.join(values.panels)}: none of them is in the logs; choose from "
                + ", ".join(dict.fromkeys(name.partition("/")[0] for name in choices))
            )
        self._write("compare.csv", table.to_csv(index=False, lineterminator="\n").encode())
        text = tables.to_markdown(comparisons, table, drawn, problems)
        self._write("compare.md", text.encode(errors="surrogateescape"))
        for problem in problems:
            self._print(f"left out: {problem}")
        for comparison in comparisons:
            for note in comparison.notes:
                self._print(f"{comparison.slug}: {note}")
        count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
        furthest = max(run.last for run in runs)
        names = ", ".join(f"{slug}.png" for slug in drawn)
        print(f"{count}, up to step {furthest}: {self._output}/compare.md, {names}", flush=True)
        self.written = True

    def _write(self, name, content):
        path = self._output / name
        try:
            write_file(path, content)
        except RebarError as error:
            message = f"cannot write {path}: {error.__cause__}; give another --output"
            raise RebarError(message) from error

    def _print(self, sentence):
        # An unfinished run is reported once, not at each step.
        key = re.sub(r"\bstep \d+", "step", sentence)
        if key not in self._printed:
            self._printed.add(key)
            print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
