"""Suppression of TensorFlow's start-up messages."""

import contextlib
import logging
import os
import sys
import tempfile

from rebar.runs import environment


@contextlib.contextmanager
def quiet_start():
    """Suppress messages on standard error during imports, unless they fail.

    TF_CPP_MIN_LOG_LEVEL=0 shows all messages.

    Raises:
      RebarError: Keras has an unsupported configuration.
    """
    environment.check()
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    # Includes warnings about retracing: a run has a handful of shapes, each traced once.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
