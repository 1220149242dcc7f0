"""Become a command that gets SIGTERM when the process that started it is gone.

    python tied.py PARENT_PID COMMAND ARGUMENT...

A run whose sweep was killed saves and ends instead of going on unseen. SIGUSR1 and SIGUSR2, with
which clusters announce the end of a job to all of its processes, are ignored: who started the
command decides what they mean. This file is run by its path and imports nothing of the package.
"""

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
