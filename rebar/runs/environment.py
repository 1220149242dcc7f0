"""What a run's numbers depend on besides its settings, to the last bit."""

import platform

import keras
import numpy as np
import tensorflow as tf

import rebar


def versions() -> dict:
    """Versions of the libraries, and the machine."""
    return {
        "rebar": rebar.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
    }


def mode(jit: bool) -> dict:
    """How TensorFlow works here: compiled or not, and its threads (0: as many as cores)."""
    threading = tf.config.threading
    return {
        "jit": jit,
        "intra_op_threads": threading.get_intra_op_parallelism_threads(),
        "inter_op_threads": threading.get_inter_op_parallelism_threads(),
    }


def _processor() -> str:
    """Its model, which chooses the instructions that add up numbers."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
