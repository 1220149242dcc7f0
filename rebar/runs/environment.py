"""Settings outside the command line that a run depends on."""

import contextlib
import os
import platform
import re
import sys
from pathlib import Path

import rebar
from rebar.errors import RebarError

_VARIABLES = (
    *("XLA_FLAGS", "TF_XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS", "NVIDIA_TF32_OVERRIDE"),
    *("TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC", "TF_CUDNN_USE_AUTOTUNE"),
    *("TF_ENABLE_CUBLAS_TENSOR_OP_MATH_FP32", "TF_ENABLE_CUDNN_TENSOR_OP_MATH_FP32"),
)
"""Environment variables that change numbers."""


def check_backend() -> None:
    """Select TensorFlow as the backend of Keras; imports neither.

    Raises:
      RebarError: KERAS_BACKEND, or Keras if it is imported, has another backend.
    """
    keras = sys.modules.get("keras")
    backend = keras.config.backend() if keras else os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise RebarError(
            f"Keras backend {backend!r}: must be 'tensorflow'; set KERAS_BACKEND=tensorflow before "
            "Keras is imported"
        )
    os.environ["KERAS_BACKEND"] = backend


def check() -> None:
    """Raise RebarError if the backend is not TensorFlow, or the dtype policy has 16 bits."""
    check_backend()
    keras = sys.modules.get("keras")
    policy = keras.config.dtype_policy().name if keras else "float32"
    if policy not in ("float32", "float64"):
        raise RebarError(
            f"Keras dtype policy {policy!r}: must be 'float32' or 'float64'; remove \"floatx\" "
            'from ~/.keras/keras.json, or call keras.config.set_dtype_policy("float32")'
        )


def settings() -> dict[str, str]:
    """Settings that change more than the last bits of numbers and are not the defaults."""
    import keras
    import tensorflow as tf

    options = {
        "tensor_float_32": (tf.config.experimental.tensor_float_32_execution_enabled(), True),
        "auto_jit": (tf.config.optimizer.get_jit(), ""),
        "image_data_format": (keras.config.image_data_format(), "channels_last"),
        "dtype_policy": (keras.config.dtype_policy().name, "float32"),
        "epsilon": (keras.config.epsilon(), 1e-7),
    }
    variables = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    changed = {name: str(value) for name, (value, usual) in options.items() if value != usual}
    return variables | changed


def versions() -> dict[str, str]:
    """Versions of the libraries, and the machine."""
    import keras
    import numpy as np
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    return {
        "rebar": rebar.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "gpus": ", ".join(map(str, names)),
    }


def mode(jit: bool) -> dict[str, int]:
    """Execution mode: compiled or not, and threads."""
    import tensorflow as tf

    threading = tf.config.threading
    return {
        "jit": jit,
        "intra_op_threads": threading.get_intra_op_parallelism_threads() or cores(),
        "inter_op_threads": threading.get_inter_op_parallelism_threads() or cores(),
    }


def cores() -> int:
    """Cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Its model, which chooses the instructions that add up numbers."""
    with contextlib.suppress(OSError):
        if model := re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()):
            return model[1]
    return platform.processor()
