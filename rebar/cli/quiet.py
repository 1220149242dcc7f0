"""TensorFlow's start-up lines, kept off the terminal."""

import contextlib
import logging
import os
import sys
import tempfile

from rebar.runs import environment


@contextlib.contextmanager
def quiet_start():
    """Hold back what libraries write to standard error while they are imported.

    TensorFlow logs a few lines before its log level can be set. They are shown if the import
    fails, or if TF_CPP_MIN_LOG_LEVEL is 0, which asks for all messages.

    Raises:
      RebarError: Keras is configured in a way that rebar cannot work with.
    """
    environment.check()
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    # Its warnings of retracing, too: a run has a handful of shapes, each traced once.
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
