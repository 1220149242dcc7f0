"""Jobs on a cluster through submitit: Slurm, or submitit's local executor to try the same path.

When a job's time ends, or it is preempted, the run saves, the job is requeued, and the same command
resumes later.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rebar.errors import RebarError
from rebar.sweep import pool
from rebar.sweep.job import Job
from rebar.sweep.report import describe
from rebar.training.interrupt import Interrupt

ENGINES = ("slurm", "local")
_SHARED = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
_DEFAULTS = {"timeout_min": 240, "name": "rebar"}
_MOST_TIMEOUTS = 1000
_GRACE_SECONDS = 600.0
_POLL_SECONDS = {"slurm": 10.0, "local": 0.2}


class RunJob:
    """Body of a cluster's job: one run as a subprocess, its output in its log."""

    def __init__(self, command: Sequence[str], log: Path):
        self._command, self._log = command, log
        self._child: subprocess.Popen | None = None

    def __call__(self) -> None:
        """Run to the end. Raises RuntimeError if the run fails."""
        self._child = pool.start(self._command, self._log)
        status = self._child.wait()
        if status == 128 + signal.SIGTERM:
            # The cluster sent SIGTERM to all processes of the job, so the run has saved. The
            # cluster now ends the job for good, or requeues it.
            time.sleep(_GRACE_SECONDS)
        if status:
            raise RuntimeError(f"{describe(status)}; see {self._log}")

    def checkpoint(self) -> Any:
        """Have the run save and exit; return what the requeued job does."""
        import submitit

        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._child.pid, signal.SIGTERM)
                # This runs in a signal handler during `self._child.wait()`, which holds a lock:
                # a second `wait` would never return.
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(RunJob(self._command, self._log))


class Cluster:
    """One of ENGINES with its options; `folder` holds submitit's own files.

    Raises RebarError if submitit or the cluster is missing, or an option is invalid.
    """

    def __init__(self, engine: str, options: Mapping[str, Any], folder: Path):
        self._engine = engine
        self._local: dict[str, Any] = {}
        settings = {**_DEFAULTS, **options}
        most = settings.pop("max_num_timeout", _MOST_TIMEOUTS)
        named = {n if n in _SHARED else f"slurm_{n}": value for n, value in settings.items()}
        try:
            import submitit

            self._executor = submitit.AutoExecutor(folder, engine, slurm_max_num_timeout=most)
            self._executor.update_parameters(**named)
        except ImportError:
            install = 'pip install "rebar-gradients[cluster]"'
            raise RebarError(f"--engine={engine}: submitit is missing; type {install}") from None
        except Exception as error:  # submitit raises many types
            raise RebarError(f"--engine={engine} cannot be used: {error}") from error

    def submit(self, jobs: Sequence[Job], queued: dict[str, dict]) -> dict[str, Job]:
        """Queue the jobs that the cluster does not have yet, as one array; return id -> job.

        `queued` has and gets, for each folder of a run, the engine and the id.
        """
        known = {name: one["id"] for name, one in queued.items() if one["engine"] == self._engine}
        alive = self._alive(set(known.values()))
        new = [job for job in jobs if known.get(job.folder.name) not in alive]
        try:
            # submitit refuses an empty array.
            with self._executor.batch() if new else contextlib.nullcontext():
                submitted = [self._executor.submit(RunJob(job.command, job.log)) for job in new]
        except Exception as error:
            raise RebarError(f"{self._engine} does not accept the jobs: {error}") from error
        for job, task in zip(new, submitted, strict=True):
            self._local[task.job_id] = task
            queued[job.folder.name] = {"engine": self._engine, "id": task.job_id}
        return {queued[job.folder.name]["id"]: job for job in jobs}

    def _alive(self, ids: set[str]) -> set[str]:
        """Return the ids of jobs that wait or run; all of them if the cluster does not answer."""
        if self._engine == "local":
            return {i for i in ids if i in self._local and not self._local[i].done()}
        # Unlike submitit's own query, squeue needs no accounting database.
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return ids & set(answer.stdout.split()) if answer.returncode == 0 else set(ids)

    def follow(self, ids: Mapping[str, Job], on_end: Callable[[Job], None]) -> int | None:
        """Wait for the jobs; return the number of a signal that ended the waiting, or None."""
        left, gone = set(ids), set()
        with Interrupt() as interrupt:
            while left and not interrupt.requested:
                missing = left - self._alive(left)
                # Missing twice: a shared file system may show the last records of a job late.
                for i in missing & gone:
                    on_end(ids[i])
                left, gone = left - gone, missing
                end = time.monotonic() + _POLL_SECONDS[self._engine]
                while left and time.monotonic() < end and not interrupt.requested:
                    time.sleep(0.1)
        return interrupt.requested


def parse_options(strings: Sequence[str]) -> dict[str, Any]:
    """Read "partition=gpu,timeout_min=60"; values that are JSON numbers or booleans become such.

    Raises RebarError if a clause is malformed, or asks for several processes per run.
    """
    options: dict[str, Any] = {}
    for clause in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", ",".join(strings)):
        name, equals, text = clause.strip().partition("=")
        problem = ""
        if not equals or not re.fullmatch(r"[a-z]\w*", name):
            problem = f"malformed {clause!r}; write e.g. partition=gpu,timeout_min=60"
        elif name in ("nodes", "tasks_per_node", "ntasks_per_node"):
            problem = f"{name} is unsupported, each run is one process; remove it"
        if problem:
            raise RebarError(f"--engine_options: {problem}")
        try:
            options[name] = json.loads(text.lower())
        except ValueError:
            options[name] = text
    return options
