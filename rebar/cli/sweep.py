"""Train a grid of runs: sets of values in --hparams, and seeds; on this machine or on a cluster.

Examples:
  rebar-sweep --hparams="task=digits,model={SBNDisARM,SBNRelax}" --seeds=0,1,2 --sweep_dir=sweeps/digits -- --epochs=20 --eval_freq=5
  rebar-sweep --hparams="model={SBNReinforceLOO;n_samples=2,SBNRelax},learning_rate={0.001,0.0003}" --sweep_dir=sweeps/mnist --dry_run -- --epochs=100
  rebar-sweep --hparams="model={SBNDisARM,SBNRelax}" --sweep_dir=sweeps/mnist --engine=slurm --engine_options="partition=gpu,timeout_min=240,cpus_per_task=2" -- --epochs=100

{A,B} is replaced by A and by B; a semicolon stands for a comma within an alternative. Flags after
-- are passed to the train command of every run. Rerun the same command to resume a sweep: finished
runs are skipped.
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
from rebar.runs.environment import cores
from rebar.runs.lock import FolderLock
from rebar.sweep import cluster, grid, manifest, pool, process
from rebar.sweep.outcome import Length, Report, say

_OWN = {"hparams": "--hparams", "seed": "--seeds", "working_dir": "--sweep_dir", "help": "--help"}
_SETTINGS = ("eval_freq", "eval_samples", "variance_freq", "variance_draws", "jit")


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("multi_string", "hparams", "", "As for the train command, with sets {A,B}.")
    define("list", "seeds", "0", "Seeds of each point, e.g. 0,1,2.")
    define("string", "sweep_dir", None, "Folder of the sweep, in which its runs are stored.")
    define("integer", "workers", 0, "Simultaneous runs; 0 uses one per core.", lower_bound=0)
    define(
        "enum",
        "engine",
        "pool",
        "Where to run: in a pool of processes on this machine, or through submitit: on Slurm, or "
        "(to try it) locally.",
        enum_values=["pool", *cluster.ENGINES],
    )
    define(
        "multi_string",
        "engine_options",
        [],
        "For submitit, e.g. partition=gpu,timeout_min=240,mem_gb=4,cpus_per_task=2.",
    )
    define("boolean", "wait", True, "Wait for the jobs of a cluster and report how they end.")
    define("boolean", "dry_run", False, "Print the commands and start nothing.")
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    argv = argv or sys.argv
    end = argv.index("--") if "--" in argv else len(argv)

    def sweep(values, arguments) -> int:
        frame.no_arguments(arguments, "flags only, those of the train command after --")
        if not values.sweep_dir:
            raise RebarError("give the folder of the sweep, e.g. --sweep_dir=sweeps/digits")
        return _Sweep(values, argv[end + 1 :], argv).run()

    return frame.run(define_flags, sweep, argv[:end], __doc__, hint=_hint)


def _hint(name: str) -> str:
    """Advice for an unknown flag."""
    known = name in train.define_flags()
    return f"; --{name} is a flag of the train command: give it after --" if known else ""


class _Sweep:
    """A checked sweep, ready to run. Raises RebarError naming all that is wrong with it."""

    def __init__(self, values, train_flags: list[str], argv: list[str]):
        self._values = values
        self._dir = Path(values.sweep_dir).expanduser()
        problems: list[str] = []
        self._train = _collect(problems, _parse_train_flags, train_flags)
        seeds = _collect(problems, grid.seeds, values.seeds)
        self._options = _collect(problems, cluster.parse_options, values.engine_options)
        points = name = None
        if self._train is not None:
            name = self._train.preset
            base = [] if name is None else [preset(name)]
            points = _collect(problems, grid.points, values.hparams, base)
        if values.engine == "pool" and values.engine_options:
            problems.append("--engine_options apply only to --engine=slurm; remove them")
        if problems:
            raise RebarError(as_typed("\n".join(problems), name))
        self._data = sorted({(p.hparams.task, p.hparams.dynamic_b) for p in points})
        self._workers = min(values.workers or cores(), len(points) * len(seeds))
        limit = self._limit()
        self._runs = manifest.plan(points, seeds, self._dir, [*train_flags, *limit])
        self._length = Length(self._train.training_steps, self._train.epochs)
        self._asked = {
            "command": shlex.join(["rebar-sweep", *argv[1:]]),
            "hparams": values.hparams,
            "preset": name,
            "seeds": seeds,
            "train_flags": train_flags,
        }

    def run(self) -> int:
        """Start what is not finished; returns the exit status."""
        before = manifest.read(self._dir)
        given = {name: self._train[name] for name in _SETTINGS}
        settings = {name: flag.value for name, flag in given.items() if flag.value != flag.default}
        manifest.check_settings(before, settings, self._dir)
        report = Report(self._runs, self._dir, self._length)
        todo = report.unfinished()
        if self._values.dry_run:
            say(report.plan())
            for run in self._runs:
                say("# finished: " * (run not in todo) + run.record["command"])
            return 0
        held = f"another sweep works in {self._dir}; wait for it, or choose another --sweep_dir"
        lock = FolderLock(self._dir, held, "--sweep_dir")
        try:
            jobs = before["jobs"] if before else {}

            def write(new):
                manifest.write(self._dir, self._runs, self._asked, settings, before, jobs | new)

            there = None if self._values.engine == "pool" else self._cluster()
            write({})
            say(f"{report.plan()}; manifest: {self._dir / manifest.NAME}")
            received = None
            if todo and there is None:
                received = self._on_this_machine(report, todo)
            elif todo:
                received = self._on_a_cluster(there, report, todo, jobs, write)
        finally:
            lock.close()
        complete = report.total()
        if received is not None:
            return frame.SIGNAL + received
        submitted = self._values.engine != "pool" and not self._values.wait
        return 0 if complete or submitted else 1

    def _limit(self) -> list[str]:
        """The flag that divides the cores, unless the user chose threads or cores."""
        if self._train["threads"].present or self._train["cores"].present:
            return []
        if self._values.engine == "pool":
            return [f"--cores={max(1, cores() // self._workers)}"]
        own = self._options.get("cpus_per_task")
        return [f"--cores={own}"] if own else []

    def _jobs(self, runs) -> list[process.Job]:
        """Jobs of some runs; their data sets are fetched first, so that no two runs fetch one."""
        for task, dynamic in self._data:
            ensure(
                task,
                self._train.data_dir,
                source=self._train.source,
                allow_download=self._train.download,
                log=train.quiet_when_whole,
                dynamic=dynamic,
            )
        return [
            process.Job(run.folder, process.train_command(run.arguments), self._dir / run.log)
            for run in runs
        ]

    def _on_this_machine(self, report: Report, todo) -> int | None:
        jobs = self._jobs(todo)
        say(f"{self._workers} at a time" + "".join(f", each with {f}" for f in self._limit()))

        def ended(end: pool.Ended) -> None:
            ending = process.ending(end.status) if end.status else ""
            report.end(end.job.name, ending, end.seconds, end.log_start, end.stopped)

        return pool.run_all(jobs, self._workers, lambda job: report.start(job.name), ended)

    def _cluster(self) -> cluster.Cluster:
        options = dict(self._options)
        if self._values.workers:
            options["array_parallelism"] = self._values.workers
        return cluster.Cluster(self._values.engine, options, self._dir / "logs" / "submitit")

    def _on_a_cluster(self, there, report: Report, todo, jobs: dict, write) -> int | None:
        engine = self._values.engine
        known = {run.folder: jobs.get(run.folder, {}) for run in todo}
        ids = {name: job["id"] for name, job in known.items() if job.get("engine") == engine}
        alive = there.alive(set(ids.values()))
        ids = {name: job for name, job in ids.items() if job in alive}
        for name, job in ids.items():
            report.line(name, f"is job {job} already")
        new = [run for run in todo if run.folder not in ids]
        if new:
            submitted = there.submit(self._jobs(new))
            write({name: {"engine": engine, "id": job} for name, job in submitted.items()})
            for name, job in submitted.items():
                report.line(name, f"queued as job {job}")
            ids |= submitted
        if not self._values.wait:
            return None
        received = there.follow(ids, report.end)
        if received is not None:
            say("the jobs continue without this command; rerun it to see their state")
        return received


def _collect(problems: list[str], function, *arguments):
    """The result of a function, or None with its error added to `problems`."""
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
