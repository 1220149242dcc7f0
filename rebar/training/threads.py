"""Number of threads for training.

Steps of the usual size (24 images, 200 units) are hundreds of small operations. One thread per
operation and two operations in parallel are two to four times as fast as TensorFlow's default.
Large steps, and steps compiled with XLA, gain from all cores (docs/performance.md).
"""

from rebar.runs.environment import cores

SMALL = 20_000
"""Maximum of rows times units of a small step."""


def choose_threads(threads: int, jit: bool, rows: int, units: int, limit: int = 0) -> dict:
    """Set TensorFlow's threads, before it runs an operation.

    Args:
      threads: threads per operation; 0 chooses from the size of a step.
      jit: whether steps are compiled with XLA.
      rows: batch_size * n_samples.
      units: width of a latent layer.
      limit: maximum number of cores; 0 uses all that are available.

    Returns:
      The numbers in use, intra_op and inter_op; 0 is TensorFlow's default.
    """
    import tensorflow as tf

    if not threads and not jit and rows * units <= SMALL:
        chosen = {"intra_op": 1, "inter_op": min(2, limit or cores())}
    else:
        chosen = {"intra_op": threads or limit, "inter_op": limit}
    config = tf.config.threading
    try:
        config.set_intra_op_parallelism_threads(chosen["intra_op"])
        config.set_inter_op_parallelism_threads(chosen["inter_op"])
    except RuntimeError:  # TensorFlow runs already, as with several runs in one process
        chosen = {
            "intra_op": config.get_intra_op_parallelism_threads(),
            "inter_op": config.get_inter_op_parallelism_threads(),
        }
    return chosen
