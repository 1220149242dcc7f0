"""Train a grid of runs: sets of values in --hparams, and seeds; here or on a cluster.

Examples:
  rebar-sweep --hparams="task=digits,model={SBNDisARM,SBNRelax}" --seeds=0,1,2 --sweep_dir=sweeps/digits -- --epochs=20 --eval_freq=5
  rebar-sweep --hparams="model={SBNReinforceLOO;n_samples=2,SBNRelax},learning_rate={0.001,0.0003}" --sweep_dir=sweeps/mnist --dry_run -- --epochs=100
  rebar-sweep --hparams="model={SBNDisARM,SBNRelax}" --sweep_dir=sweeps/mnist --engine=slurm --engine_options="partition=gpu,timeout_min=240,cpus_per_task=2" -- --epochs=100

{A,B} is replaced by A and by B; a semicolon stands for a comma within an alternative. What follows
-- goes to the train command of every run. The same command skips what is finished and goes on with
the rest.
"""  # noqa: E501

import shlex
import sys
from pathlib import Path

from absl import flags

from rebar.cli import frame, train
from rebar.cli.plugins import import_plugins
from rebar.data import ensure
from rebar.errors import RebarError
from rebar.hparams.presets import as_typed, preset
from rebar.runs.lock import FolderLock
from rebar.sweep import cluster, grid, manifest, pool, process
from rebar.sweep.outcome import Length
from rebar.sweep.report import Report
from rebar.training.threads import cores

_OWN = {"hparams": "--hparams", "seed": "--seeds", "working_dir": "--sweep_dir", "help": "--help"}
_SETTINGS = ("eval_freq", "eval_samples", "variance_freq", "variance_draws", "jit")


def _define_flags() -> flags.FlagValues:
    values = frame.flag_values()

    def define(kind, name, default, text, **limits):
        getattr(flags, f"DEFINE_{kind}")(name, default, text, flag_values=values, **limits)

    define("multi_string", "hparams", "", "As for the train command, with sets {A,B}.")
    define("list", "seeds", "0", "Seeds of each point, e.g. 0,1,2.")
    define("string", "sweep_dir", None, "Folder of the sweep; its runs lie in it.")
    define("integer", "workers", 0, "Runs at a time; 0: as many as cores.", lower_bound=0)
    flags.DEFINE_enum(
        "engine",
        "pool",
        ["pool", *cluster.ENGINES],
        "Where to run: in a pool of processes on this machine, or by submitit, on Slurm or (to "
        "try it) locally.",
        flag_values=values,
    )
    define(
        "multi_string",
        "engine_options",
        [],
        "For submitit, e.g. partition=gpu,timeout_min=240,mem_gb=4,cpus_per_task=2.",
    )
    define("boolean", "wait", True, "Wait for the jobs of a cluster and tell how they end.")
    define("boolean", "dry_run", False, "Print the commands and start nothing.")
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    argv = argv or sys.argv
    end = argv.index("--") if "--" in argv else len(argv)

    def sweep(values, arguments) -> int:
        allowed = "flags only, those of the train command after --"
        frame.no_arguments(arguments, allowed)
        if not values.sweep_dir:
            raise RebarError("give the folder of the sweep, e.g. --sweep_dir=sweeps/digits")
        return _Sweep(values, argv[end + 1 :], argv).run()

    return frame.run(_define_flags, sweep, argv[:end], __doc__, hint=_hint)


def _hint(name: str) -> str:
    """What to do about an unknown flag."""
    known = name in train.define_flags()
    return f"; --{name} is one of the train command: give it after --" if known else ""


def _say(line: str) -> None:
    print(line, flush=True)


class _Sweep:
    """A checked sweep, ready to run. Raises RebarError naming all that is wrong with it."""

    def __init__(self, values, train_flags: list[str], argv: list[str]):
        self._values = values
        self._argv = argv
        self._train_flags = train_flags
        self._dir = Path(values.sweep_dir).expanduser()
        problems: list[str] = []
        self._train = _collect(problems, _parse_train_flags, train_flags)
        seeds = _collect(problems, grid.seeds, values.seeds)
        options = _collect(problems, cluster.parse_options, values.engine_options)
        points = None
        if self._train is not None:
            base = [] if self._train.preset is None else [preset(self._train.preset)]
            points = _collect(problems, grid.points, values.hparams, base)
        if values.engine == "pool" and values.engine_options:
            problems.append("--engine_options are for --engine=slurm, not for the pool")
        if problems:
            raise RebarError(as_typed("\n".join(problems), self._train and self._train.preset))
        self._points = points
        number = len(points) * len(seeds)
        self._workers = min(values.workers or cores(), number)
        self._options = options
        limit = self._limit()
        self._runs = manifest.plan(points, seeds, self._dir, [*train_flags, *limit])
        self._length = Length(self._train.training_steps, self._train.epochs)

    def run(self) -> int:
        """Start what is not finished; returns the exit status."""
        before = manifest.read(self._dir)
        settings = {
            name: self._train[name].value
            for name in _SETTINGS
            if self._train[name].value != self._train[name].default
        }
        manifest.check_settings(before, settings, self._dir)
        report = Report(self._runs, self._dir, self._length, _say)
        if self._values.dry_run:
            return self._show(report)
        held = f"another sweep works in {self._dir}; wait for it, or choose another --sweep_dir"
        lock = FolderLock(self._dir, held, "--sweep_dir")
        try:
            jobs = before["jobs"] if before else {}
            asked = {
                "command": shlex.join(["rebar-sweep", *self._argv[1:]]),
                "hparams": self._values.hparams,
                "preset": self._train.preset,
                "seeds": [run.identity["seed"] for run in self._runs[:: len(self._points)]],
                "train_flags": self._train_flags,
            }

            def write(jobs):
                manifest.write(self._dir, self._runs, asked, settings, before, jobs)

            there = None if self._values.engine == "pool" else self._cluster()
            write(jobs)
            _say(f"{report.plan()}; manifest: {self._dir / manifest.NAME}")
            if there is None:
                received = self._on_this_machine(report)
            else:
                received = self._on_a_cluster(there, report, jobs, write)
        finally:
            lock.close()
        whole = report.total()
        if received is not None:
            return frame.SIGNAL + received
        submitted = self._values.engine != "pool" and not self._values.wait
        return 0 if whole or submitted else 1

    def _show(self, report: Report) -> int:
        """Print the commands that would be run."""
        _say(report.plan())
        todo = {run.folder for run in report.unfinished()}
        for run in self._runs:
            _say(run.command if run.folder in todo else f"# finished: {run.command}")
        return 0

    def _limit(self) -> list[str]:
        """The flag that shares out the cores, unless threads were chosen by the user."""
        if self._train["threads"].present or self._train["cores"].present:
            return []
        if self._values.engine == "pool":
            return [f"--cores={max(1, cores() // self._workers)}"]
        mine = self._options.get("cpus_per_task")
        return [f"--cores={mine}"] if mine else []

    def _jobs(self, runs) -> list[process.Job]:
        return [
            process.Job(run.folder, process.train_command(run.arguments), self._dir / run.log)
            for run in runs
        ]

    def _fetch(self) -> None:
        """Have the data sets in place before anything starts, so that no two runs fetch one."""
        wanted = {(point.hparams.task, point.hparams.dynamic_b) for point in self._points}
        for task, dynamic in sorted(wanted):
            ensure(
                task,
                self._train.data_dir,
                source=self._train.source,
                allow_download=self._train.download,
                log=train.quiet_when_whole,
                dynamic=dynamic,
            )

    def _on_this_machine(self, report: Report) -> int | None:
        todo = report.unfinished()
        if not todo:
            return None
        self._fetch()
        share = "".join(f", each with {flag}" for flag in self._limit())
        _say(f"{self._workers} at a time{share}")

        def ended(end: pool.Ended) -> None:
            ending = process.ending(end.status) if end.status else ""
            if end.stopped and ending:
                report.stopped(end.job.name)
            else:
                report.end(end.job.name, ending, end.seconds, end.log_start)

        return pool.run_all(
            self._jobs(todo),
            self._workers,
            on_start=lambda job: report.start(job.name),
            on_end=ended,
        )

    def _cluster(self) -> cluster.Cluster:
        options = dict(self._options)
        if self._values.workers:
            options["array_parallelism"] = self._values.workers
        return cluster.Cluster(self._values.engine, options, self._dir / "logs" / "submitit")

    def _on_a_cluster(
        self, there: cluster.Cluster, report: Report, jobs: dict, write
    ) -> int | None:
        engine, todo = self._values.engine, report.unfinished()
        if not todo:
            return None
        known = {
            run.folder: jobs[run.folder]["id"]
            for run in todo
            if jobs.get(run.folder, {}).get("engine") == engine
        }
        alive = there.alive(set(known.values()))
        ids = {name: job for name, job in known.items() if job in alive}
        for name, job in ids.items():
            report.queued(name, job, before=True)
        new = [run for run in todo if run.folder not in ids]
        if new:
            self._fetch()
            submitted = there.submit(self._jobs(new))
            ids |= submitted
            write(jobs | {name: {"engine": engine, "id": job} for name, job in submitted.items()})
            for name, job in submitted.items():
                report.queued(name, job, before=False)
        if not self._values.wait:
            return None
        received = there.follow(ids, report.end)
        if received is not None:
            _say("the jobs go on without this command; give it again to see how they stand")
        return received


def _collect(problems: list[str], function, *arguments):
    """What a function returns, or None with its error added to `problems`."""
    try:
        return function(*arguments)
    except (flags.Error, RebarError) as error:
        problems.append(str(error))
        return None


def _parse_train_flags(words: list[str]):
    """Flags of the train command, with its plugins imported and its preset checked."""
    values = train.define_flags()
    rest = values(["rebar-train", *words])[1:]
    if rest:
        raise RebarError(f"cannot use {' '.join(rest)!r} after --: give flags of the train command")
    for name, own in _OWN.items():
        if values[name].present:
            raise RebarError(f"--{name} cannot come after --: it follows from the sweep's {own}")
    if values.preset is not None:
        preset(values.preset)
    import_plugins(values.plugins)
    return values


if __name__ == "__main__":
    sys.exit(main())
