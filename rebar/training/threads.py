"""How many threads TensorFlow uses for a run.

Steps of the usual size (24 images, 200 units) are hundreds of small operations. Left to itself
TensorFlow splits each of them over all cores, which costs more than it gains: one thread an
operation, two operations at once, is two to four times as fast. Steps compiled with XLA, and large
ones, do gain from all cores (docs/performance.md has the measurements).
"""

from rebar.runs.environment import cores

SMALL = 20_000
"""Rows times units up to which a step counts as small."""


def choose_threads(threads: int, jit: bool, rows: int, units: int, limit: int = 0) -> dict:
    """Set TensorFlow's threads; to be called before it does anything.

    Args:
      threads: threads an operation; 0 chooses by the size of a step.
      jit: whether steps are compiled with XLA.
      rows: batch_size * n_samples.
      units: of a latent layer.
      limit: cores to be content with; 0: all that this process may use.

    Returns:
      What holds, for the run's record: intra_op and inter_op, 0 meaning TensorFlow's default.
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
    except RuntimeError:
        # TensorFlow is at work already, as when several runs share a process: what it has, holds.
        chosen = {
            "intra_op": config.get_intra_op_parallelism_threads(),
            "inter_op": config.get_inter_op_parallelism_threads(),
        }
    return chosen
