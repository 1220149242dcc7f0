"""Signals as a flag, so that a run can save a checkpoint and end between two steps."""

import signal
import threading


class Interrupt:
    """While entered, the first SIGINT, SIGTERM, SIGHUP or SIGPIPE only sets `requested`.

        with Interrupt() as interrupt:
            while interrupt.requested is None:
                ...

    `requested` is its number. A second SIGINT raises KeyboardInterrupt. Signals other than SIGPIPE
    that were ignored before, as under nohup, stay ignored. Handlers are restored on exit. Outside
    the main thread, where Python allows no handlers, nothing happens.
    """

    def __init__(self):
        self.requested: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # None: set by C code; Python could not restore it.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)
            # The reader of the output has ended, as after `| head`. Python ignores this signal.
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
