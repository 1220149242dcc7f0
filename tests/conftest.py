import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Before TensorFlow: submitit configures logging when imported, which makes absl's handler close the
# stream that was standard error when TensorFlow was imported. Here that is pytest's own.
with contextlib.suppress(ImportError):
    import submitit  # noqa: F401
