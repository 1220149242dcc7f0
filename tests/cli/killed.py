"""A train command that is killed again and again, for tests: python -m tests.cli.killed.

    python -m tests.cli.killed KILLS SEED FOLDER FLAG...

Runs the command with the flags undisturbed in FOLDER/whole. Then starts it in FOLDER/parts until it
ends well, and kills it (SIGKILL) the first KILLS times: in turn while a checkpoint is written, at a
random moment after one, and at a random moment of the start. What the starts print goes to
whole.log and parts.log, a line "start" before each. Prints the number of kills.
The processes are forks of this one, which has TensorFlow imported already: a start takes a second,
not five.
"""

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from rebar.cli import train


def started(log: Path, flags) -> int:
    """Process of a fork that runs the command."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(output, b"start\n")
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = train.main(["rebar_train.py", *flags])
        sys.stdout.flush()
    finally:
        os._exit(status)


def checkpoints(folder: Path) -> set:
    """Names of all there are."""
    return set(folder.glob("*/checkpoint-*.npz"))


def ended(child: int, seconds: float, until=lambda: False) -> bool:
    """Whether a process ends within a time, or before something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)
    return False


def well(child: int, log: Path) -> bool:
    """Waits for a process; whether it was not killed. It must not end otherwise than well."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the command ended with status {status}; see {log}")
    return status == 0


def main(kills: int, seed: int, folder: Path, flags) -> int:
    """Kills done."""
    whole = folder / "whole"
    begun = time.monotonic()
    child = started(folder / "whole.log", [*flags, f"--working_dir={whole}"])
    ended(child, 60, lambda: checkpoints(whole))
    start = time.monotonic() - begun
    well(child, folder / "whole.log")
    parts, log = folder / "parts", folder / "parts.log"
    flags = [*flags, f"--working_dir={parts}"]
    generator = random.Random(seed)
    done = 0
    before: set = set()

    def saved():
        return checkpoints(parts) != before

    def saving():
        # Or saved, where a disk is quicker than this loop.
        return any(parts.glob("*/checkpoint-*.tmp")) or saved()

    while True:
        child = started(log, flags)
        if done < kills:
            before = checkpoints(parts)
            if done % 3 == 0:
                over = ended(child, 60, saving)
            elif done % 3 == 1:
                ended(child, 60, saved)
                over = ended(child, generator.uniform(0, 0.1))
            else:
                over = ended(child, generator.uniform(0, start))
            if not over:
                os.kill(child, signal.SIGKILL)
                done += 1
        if well(child, log):
            return done


if __name__ == "__main__":
    for name in ("sklearn.datasets", "rebar.analysis.pictures", "rebar.training.run"):
        importlib.import_module(name)
    print(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]))
