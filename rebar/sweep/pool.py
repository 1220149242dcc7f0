"""Jobs as processes of this machine, a few at a time."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rebar.runs.files import cannot_write
from rebar.sweep.job import Job
from rebar.training.interrupt import Interrupt

_POLL_SECONDS = 0.05


def start(command: Sequence[str], log: Path) -> subprocess.Popen:
    """Start a command in its own session, so that only its starter passes it a Ctrl-C.

    Its output is appended to the log. Raises RebarError if that cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                # Slurm announces the end of a job with it to all processes of the job.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
    except OSError as error:
        raise cannot_write(log, error) from error


def run_all(
    jobs: Sequence[Job],
    workers: int,
    on_start: Callable[[Job], None],
    on_end: Callable[[Job, int], None],
) -> int | None:
    """Run jobs in order, at most `workers` at a time; return the number of a signal, or None.

    The first signal (see `Interrupt`) is passed on to the running jobs, which save and exit, and no
    other job starts. A Ctrl-C after that kills them. `on_end` gets the exit status as of `Popen`.
    """
    waiting = list(jobs)
    running: dict[subprocess.Popen, Job] = {}
    with Interrupt() as interrupt:
        passed_on = False
        try:
            while running or (waiting and not interrupt.requested):
                while waiting and len(running) < workers and not interrupt.requested:
                    job = waiting.pop(0)
                    on_start(job)
                    running[start(job.command, job.log)] = job
                if interrupt.requested and not passed_on:
                    passed_on = True
                    for child in running:
                        child.send_signal(interrupt.requested)
                for child in [child for child in running if child.poll() is not None]:
                    on_end(running.pop(child), child.returncode)
                time.sleep(_POLL_SECONDS if running else 0)
        except KeyboardInterrupt:
            for child in running:
                child.kill()
        finally:
            # After an error, such as a full disk: the jobs save and exit.
            for child in running:
                child.terminate()
            for child in running:
                child.wait()
    return interrupt.requested
