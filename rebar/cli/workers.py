"""`--workers`: one run by several processes, on this machine or wherever TF_CONFIG says."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from rebar.cli.threads import cores
from rebar.errors import RebarError
from rebar.sweep import process, tied
from rebar.training.interrupt import Interrupt

CLUSTER = "TF_CONFIG"
"""What the flag says in each process of a cluster."""

MOST = 1024

GRACE_SECONDS = 60
"""How long the others may go on once a worker has ended badly. They notice it by themselves, but
not while they evaluate."""

_POLL_SECONDS = 0.1
_REMIND_SECONDS = 2


def count(text: str, jit: str) -> int:
    """The number of processes to start here that the flag asks for; 1: none, 0: see TF_CONFIG.

    Args:
      text, jit: --workers and --jit, as typed.

    Raises:
      RebarError: it is neither, or --jit=on is asked for.
    """
    if text != CLUSTER and not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise RebarError(
            f"--workers={text}: give a number of processes for this machine, 1 to {MOST}, or "
            f"--workers={CLUSTER} in every process of a cluster"
        )
    number = 0 if text == CLUSTER else int(text)
    if number != 1 and jit == "on":
        raise RebarError(
            f"--workers={text}: steps that several workers share cannot be compiled; leave "
            "--jit=on out"
        )
    return number


def run_here(number: int, arguments: Sequence[str], cores_given: int) -> int:
    """Train with that many processes on this machine, the first of which prints.

    SIGINT and SIGTERM are passed on to all. If one ends badly, the others end, too.

    Args:
      number: of processes.
      arguments: of the train command.
      cores_given: that all of them may use, 0: those of this process.

    Returns:
      The exit status of the command.
    """
    share = max(1, (cores_given or cores()) // number)
    command = process.train_command([*arguments, f"--workers={CLUSTER}", f"--cores={share}"])
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    with contextlib.ExitStack() as stack:
        told = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(number)]
        children = []
        stack.callback(_kill, children)
        for i in range(number):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
            children.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), *command],
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL if i else None,
                    stderr=told[i] if i else None,
                    start_new_session=True,
                )
            )
        requested = _wait(children)
        if requested is not None:
            return 128 + requested
        statuses = [child.returncode for child in children]
        for line in _endings(statuses, told):
            print(line, file=sys.stderr)
    status = next((status for status in statuses if status), 0)
    return status if status >= 0 else 128 - status


def _endings(statuses, told) -> list[str]:
    """How workers ended that did not end well, and what they said, if it was not seen yet."""
    endings = {}
    for i, (status, file) in enumerate(zip(statuses, told, strict=True)):
        if status < 0 or (status and i):  # the chief's errors were seen
            file.seek(0)
            text = file.read().decode(errors="replace").strip()
            endings.setdefault(f"{process.ending(status)}\n{text}".strip(), []).append(str(i))
    return [
        f"worker{'s' if len(who) > 1 else ''} {', '.join(who)}: {text}"
        for text, who in endings.items()
    ]


def free_ports(number: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _wait(children) -> int | None:
    """Wait until all have ended; the number of the signal that was passed on, or None."""
    failed_at = reminded_at = None
    with Interrupt() as interrupt:
        while any(child.poll() is None for child in children):
            now = time.monotonic()
            if interrupt.requested is not None and reminded_at is None:
                _send(children, interrupt.requested)
                reminded_at = now
            elif reminded_at is not None and now - reminded_at > _REMIND_SECONDS:
                # A worker that was still waiting for the others did not hear the first one.
                _send(children, signal.SIGTERM)
                reminded_at = now
            if failed_at is None and any(child.poll() for child in children):
                failed_at = now
            if failed_at is not None and now - failed_at > GRACE_SECONDS:
                _kill(children)
            time.sleep(_POLL_SECONDS)
    return interrupt.requested


def _send(children, number) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _kill(children) -> None:
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()
