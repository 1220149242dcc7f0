"""Jobs through submitit: on Slurm, or with its local executor to try that without a cluster."""

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
from rebar.sweep.job import Job, describe

ENGINES = ("pool", "slurm", "local")
_SHARED = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
_DEFAULTS = {"timeout_min": 240, "name": "rebar", "max_num_timeout": 1000}
_GRACE_SECONDS = 600.0
_POLL_SECONDS = {"slurm": 10.0, "local": 0.2}


class RunJob:
    """Body of a cluster's job: one run, which saves and is requeued when the job's time ends."""

    def __init__(self, command: Sequence[str], log: Path):
        self._command, self._log = command, log
        self._child: subprocess.Popen | None = None

    def __call__(self) -> None:
        """Run to the end. Raises RuntimeError if the run fails."""
        self._child = pool.start(self._command, self._log)
        status = self._child.wait()
        if status == 128 + signal.SIGTERM:
            # From the cluster, which now ends or requeues the job.
            time.sleep(_GRACE_SECONDS)
        if status:
            raise RuntimeError(f"{describe(status)}; see {self._log}")

    def checkpoint(self) -> Any:
        """Have the run save and exit; return what the requeued job does."""
        import submitit

        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._child.pid, signal.SIGTERM)
                # This interrupts `self._child.wait()`, which holds a lock against a second `wait`.
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(RunJob(self._command, self._log))


class Cluster:
    """Slurm or submitit's local executor; submitit's own files are in SWEEP_DIR/logs/submitit."""

    def __init__(self, engine: str, options: Mapping[str, Any], sweep_dir: Path):
        self._engine = engine
        self._local: dict[str, Any] = {}
        settings = {**_DEFAULTS, **options}
        most = settings.pop("max_num_timeout")
        named = {n if n in _SHARED else f"slurm_{n}": value for n, value in settings.items()}
        try:
            import submitit

            folder = sweep_dir / "logs" / "submitit"
            self._executor = submitit.AutoExecutor(folder, engine, slurm_max_num_timeout=most)
            self._executor.update_parameters(**named)
        except ImportError:
            hint = 'submitit is missing; type pip install "rebar-gradients[cluster]"'
            raise RebarError(f"--engine={engine}: {hint}") from None
        except Exception as error:  # submitit raises many types
            raise RebarError(f"--engine={engine} cannot be used: {error}") from error

    def submit(self, jobs: Sequence[Job], queued: dict[str, dict]) -> dict[str, Job]:
        """Queue jobs that are not `queued` (name -> engine, id) as one array; return id -> job."""
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

    def follow(self, ids: Mapping[str, Job], on_end: Callable[[Job], None]) -> None:
        """Wait until the cluster has none of the jobs; they continue if this is interrupted."""
        left = set(ids)
        while left:
            ended = left - self._alive(left)
            # Also the time that a shared file system may need to show the last records of a job.
            time.sleep(_POLL_SECONDS[self._engine])
            for i in ended:
                on_end(ids[i])
            left -= ended


def parse_options(strings: Sequence[str]) -> dict[str, Any]:
    """Read "partition=gpu,timeout_min=60"; JSON numbers and booleans become such."""
    options: dict[str, Any] = {}
    for clause in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", ",".join(strings)):
        name, equals, text = clause.strip().partition("=")
        if not equals or not re.fullmatch(r"(?!(nodes|n?tasks_per_node)$)[a-z]\w*", name):
            raise RebarError(
                f"--engine_options: malformed or unsupported {clause!r}; write e.g. "
                "partition=gpu,timeout_min=60, and remove options for several processes per run"
            )
        options[name] = text
        with contextlib.suppress(ValueError):
            options[name] = json.loads(text.lower())
    return options
