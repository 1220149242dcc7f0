"""Train a grid of runs: sets of values in --hparams, and seeds; on this machine or on a cluster.

Examples:
  rebar-sweep --hparams="task=digits,model={SBNDisARM,SBNRelax}" --seeds=0,1,2 --sweep_dir=sweeps/digits -- --epochs=20 --eval_freq=5
  rebar-sweep --hparams="model={SBNReinforceLOO;n_samples=2,SBNRelax},learning_rate={0.001,0.0003}" --sweep_dir=sweeps/mnist --dry_run -- --epochs=100
  rebar-sweep --hparams="model={SBNDisARM,SBNRelax}" --sweep_dir=sweeps/mnist --engine=slurm --engine_options="partition=gpu,timeout_min=240,cpus_per_task=2" -- --epochs=100

{A,B} is replaced by A and by B; a semicolon stands for a comma within an alternative. Flags after
-- are passed to the train command of every run. Rerun the same command to resume a sweep: finished
runs are skipped.
"""  # noqa: E501

import functools
import os
import shlex
import sys
from pathlib import Path

from absl import flags

from rebar.cli import frame, train
from rebar.data import ensure, load
from rebar.data.sources import task_of
from rebar.errors import RebarError
from rebar.plugins import import_plugins
from rebar.runs.environment import cores
from rebar.runs.files import write_json
from rebar.runs.lock import FolderLock
from rebar.sweep import cluster, grid, manifest, pool
from rebar.sweep.job import Report, plan, say

_OWN = {"hparams": "hparams", "seed": "seeds", "working_dir": "sweep_dir", "help": "help"}


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("multi_string", "hparams", "", "As for the train command, with sets {A,B}.")
    define("list", "seeds", "0", "Seeds of each point, e.g. 0,1,2.")
    define("string", "sweep_dir", None, "Folder of the sweep, in which its runs are stored.")
    define("integer", "workers", 0, "Simultaneous runs; 0 uses one per core.", lower_bound=0)
    help_text = "pool: on this machine; slurm: through submitit; local: submitit without a cluster."
    define("enum", "engine", "pool", help_text, enum_values=cluster.ENGINES)
    help_text = "For submitit, e.g. partition=gpu,timeout_min=240,mem_gb=4,cpus_per_task=2."
    define("multi_string", "engine_options", [], help_text)
    define("boolean", "wait", True, "Wait for the jobs of a cluster and report how they end.")
    define("boolean", "dry_run", False, "Print the commands and start nothing.")
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    argv = argv or sys.argv
    end = argv.index("--") if "--" in argv else len(argv)
    command = shlex.join(["rebar-sweep", *argv[1:]])
    sweep = functools.partial(_sweep, train_flags=argv[end + 1 :], command=command)
    return frame.run(define_flags, sweep, argv[:end], __doc__, hint=_hint)


def _hint(name: str) -> str:
    """Advice for an unknown flag."""
    known = name in train.define_flags()
    return f"; --{name} is a flag of the train command: give it after --" if known else ""


def _sweep(values, arguments, train_flags: list[str], command: str) -> int:
    """Check everything, then start what is not finished; returns the exit status."""
    frame.no_arguments(arguments, "flags only, those of the train command after --")
    if not values.sweep_dir:
        raise RebarError("give the folder of the sweep, e.g. --sweep_dir=sweeps/digits")
    local = values.engine == "pool"
    if local and values.engine_options:
        raise RebarError("--engine_options apply only to --engine=slurm; remove them")
    sweep_dir = Path(os.path.expanduser(values.sweep_dir))
    options = cluster.parse_options(values.engine_options)
    if values.workers:
        options["array_parallelism"] = values.workers
    run = _parse_train_flags(train_flags)
    seeds = grid.seeds(values.seeds)
    points = grid.points(values.hparams, run.preset)
    workers = min(values.workers or cores(), len(points) * len(seeds))
    limit = max(1, cores() // workers) if local else options.get("cpus_per_task")
    typed = run["threads"].present or run["cores"].present
    limits = [f"--cores={limit}"] if limit and not typed else []
    jobs = plan(points, seeds, sweep_dir, [*train_flags, *limits])
    queued = manifest.read(sweep_dir)["jobs"]
    report = Report(jobs, run.training_steps, run.epochs)
    todo = report.unfinished()
    if values.dry_run:
        say(report.counts())
        for job in jobs:
            say("# finished: " * (job not in todo) + job.record()["command"])
        return 0

    def write():
        runs = [job.record() for job in jobs]
        content = {"command": command, "jobs": queued, "runs": runs}
        write_json(sweep_dir / manifest.NAME, content)

    held = f"another sweep works in {sweep_dir}; wait for it, or choose another --sweep_dir"
    lock = FolderLock(sweep_dir, held)
    received = None
    try:
        engine = None if local else cluster.Cluster(values.engine, options, sweep_dir)
        write()
        say(f"{report.counts()}; manifest: {sweep_dir / manifest.NAME}")
        # Before the jobs start, so that no two jobs download one data set.
        for task, dynamic in {(job.hparams.task, job.hparams.dynamic_b) for job in todo}:
            log = train.print_unusual
            ensure(task, run.data_dir, run.source, None, run.download, log, dynamic=dynamic)
            if task_of(task).is_custom:
                load(task, run.data_dir, dynamic)  # refuse invalid data
        if todo and engine is None:
            say(", each with ".join([f"{workers} at a time", *limits]))
            received = pool.run_all(todo, workers, report.start, report.end)
        elif todo:
            ids = engine.submit(todo, queued)
            write()
            for number, job in ids.items():
                report.line(job, f"is job {number}")
            if values.wait:
                engine.follow(ids, report.end)
    finally:
        lock.close()
    complete = report.total()
    if received is not None:
        return frame.SIGNAL + received
    return 0 if complete or not (local or values.wait) else 1


def _parse_train_flags(words: list[str]):
    """Flags of the train command, with its plugins imported and its preset checked."""
    values = train.define_flags()
    rest = values(["rebar-train", *words])[1:]
    if rest:
        raise RebarError(f"cannot use {' '.join(rest)!r} after --: give flags of the train command")
    for name, own in _OWN.items():
        if values[name].present:
            raise RebarError(f"--{name} cannot come after --: it follows from the sweep's --{own}")
    import_plugins(values.plugins)
    train.settings_of(values)  # raises for invalid ones
    return values


if __name__ == "__main__":
    sys.exit(main())
