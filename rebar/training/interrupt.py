"""Signals as a flag, so that a run can end between two steps with a checkpoint."""

import signal
import threading


class Interrupt:
    """While entered, the first SIGINT, SIGTERM, SIGHUP or SIGPIPE only sets `requested`.

        with Interrupt() as interrupt:
            while interrupt.requested is None:
                ...

    A Ctrl-C after that raises KeyboardInterrupt at once: someone does not want to wait. Signals
    other than SIGPIPE stay ignored if they were before, as under nohup. Old handlers come
    back on exit. Outside the main thread, where Python allows no handlers, nothing happens.

    Attributes:
      requested: number of the first signal received, None before.
    """

    def __init__(self):
        self.requested: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # None: a handler that C code set and Python could not put back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)
            # Nobody reads the output any more, as after `| head`. Python ignores this one.
            self._previous[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _receive(self, number, frame) -> None:
        if self.requested is None:
            self.requested = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
