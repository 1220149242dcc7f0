"""Runs on a cluster through submitit: Slurm, or submitit's local executor to try the same path.

Scheduling is the cluster's. A job is one run. When its time ends, or it is preempted, the run
saves, the job is requeued, and the same command resumes later.
"""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rebar.errors import RebarError
from rebar.sweep import process
from rebar.sweep.process import Job
from rebar.training.interrupt import Interrupt

ENGINES = ("slurm", "local")
_SHARED = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
_DEFAULTS = {"timeout_min": 240, "name": "rebar", "max_num_timeout": 1000}
_GRACE_SECONDS = 600.0
_POLL_SECONDS = {"slurm": 10.0, "local": 0.2}


class RunJob:
    """Body of a cluster's job: one run as a process of its own, its output in its log."""

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None):
        self._job = job
        self._environment = dict(environment or {})
        self._child: subprocess.Popen | None = None

    def __call__(self) -> None:
        """Run to the end. Raises RuntimeError if the run fails."""
        self._child = process.start(self._job, self._environment)
        status = self._child.wait()
        if status == 128 + signal.SIGTERM:
            # The cluster ended all processes of the job, so the run has saved. The cluster now ends
            # the job for good, or requeues it.
            time.sleep(_GRACE_SECONDS)
        if status:
            raise RuntimeError(f"{process.ending(status)}; see {self._job.log}")

    def checkpoint(self) -> Any:
        """Have the run save and end; returns what to do when the job is started again."""
        import submitit

        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._child.pid, signal.SIGTERM)
                # Called from a signal's handler in the middle of `self._child.wait()`, which holds
                # a lock: a wait of the child's own would never return.
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(RunJob(self._job, self._environment))


class Cluster:
    """Submits jobs to a cluster and follows them.

    Args:
      engine: one of ENGINES.
      options: from `parse_options`.
      folder: for submitit's own files.

    Raises:
      RebarError: submitit or the cluster's commands are missing, or an option is unknown.
    """

    def __init__(self, engine: str, options: Mapping[str, Any], folder: Path):
        if not submitit_is_there():
            raise RebarError(
                f"--engine={engine}: submitit is not installed; "
                'type pip install "rebar-gradients[cluster]"'
            )
        import submitit

        self._engine = engine
        self._local: dict[str, Any] = {}
        settings = {**_DEFAULTS, **options}
        timeouts = settings.pop("max_num_timeout")
        named = {n if n in _SHARED else f"slurm_{n}": value for n, value in settings.items()}
        try:
            self._executor = submitit.AutoExecutor(
                folder, cluster=engine, slurm_max_num_timeout=timeouts
            )
            self._executor.update_parameters(**named)
        except Exception as error:
            # submitit raises many types for an invalid option.
            raise RebarError(f"--engine={engine} cannot be used: {error}") from error

    def submit(
        self, jobs: Sequence[Job], environment: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Queue jobs as one array; returns name -> id. Raises RebarError if refused."""
        try:
            with self._executor.batch():
                submitted = [self._executor.submit(RunJob(job, environment)) for job in jobs]
        except Exception as error:
            raise RebarError(f"{self._engine} does not accept the jobs: {error}") from error
        if self._engine == "local":
            self._local |= {one.job_id: one for one in submitted}
        return {job.name: one.job_id for job, one in zip(jobs, submitted, strict=True)}

    def alive(self, ids: set[str]) -> set[str]:
        """Those of some jobs that wait or run; all of them where the cluster does not answer."""
        if self._engine == "local":
            return {i for i in ids if i in self._local and not self._local[i].done()}
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return ids & set(answer.stdout.split()) if answer.returncode == 0 else set(ids)

    def follow(self, ids: Mapping[str, str], on_end: Callable[[str], None]) -> int | None:
        """Wait until the cluster has none of the jobs any more.

        Args:
          ids: name -> id.
          on_end: called with the name of each job that has left.

        Returns:
          None, or the number of a signal that ended the waiting; the jobs continue.
        """
        left, gone = dict(ids), set()
        with Interrupt() as interrupt:
            while left and interrupt.requested is None:
                alive = self.alive(set(left.values()))
                # Seen twice: a shared file system may show a job's last records a little later.
                for name in [n for n, i in left.items() if i not in alive and n in gone]:
                    del left[name]
                    on_end(name)
                gone = {name for name, i in left.items() if i not in alive}
                last = time.monotonic() + _POLL_SECONDS[self._engine]
                while left and time.monotonic() < last and interrupt.requested is None:
                    time.sleep(0.1)
        return interrupt.requested


def submitit_is_there() -> bool:
    """Whether submitit is installed."""
    return importlib.util.find_spec("submitit") is not None


def parse_options(strings: Sequence[str]) -> dict[str, Any]:
    """Read "partition=gpu,timeout_min=60"; numbers become numbers, true and false booleans.

    Raises:
      RebarError: a clause is malformed, or asks for several processes per run.
    """
    options: dict[str, Any] = {}
    for string in strings:
        for clause in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", string):
            name, equals, text = clause.strip().partition("=")
            if not equals or not re.fullmatch(r"[a-z]\w*", name):
                raise RebarError(
                    f"--engine_options: malformed {clause!r}; write name=value,name=value, e.g. "
                    "partition=gpu,timeout_min=60"
                )
            if name in ("nodes", "tasks_per_node", "ntasks_per_node"):
                raise RebarError(
                    f"--engine_options: {name} is unsupported, each run is one process; remove it"
                )
            options[name] = _value(text)
    return options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
