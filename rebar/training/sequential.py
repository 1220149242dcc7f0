"""A graph whose operations run one after the other.

TensorFlow starts an operation as soon as its inputs exist, and AddN adds its terms in an order that
depends on which other readers of a term have finished. On a busy machine two equal runs of a graph
then differ in the last digit. XLA, and this executor, always add in the same order.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_LOOPS = {"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"}


def _config() -> bytes:
    """Return options of the call.

    They disable the rewrite of AddN into temporary variables, which the executor does not support.
    TensorFlow does so in graphs that need much of the free memory.
    """
    config = tf.compat.v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.memory_optimization = options.NO_MEM_OPT
    return config.SerializeToString()


class Sequential:
    """Calls of a function of tensors that returns one tensor, traced at the first call.

    A graph with loops or conditions, which the executor does not support, runs as usual.

    Args:
      function: function of tensors.
    """

    def __init__(self, function: Callable[..., tf.Tensor]):
        self._function = tf.function(function, autograph=False)
        self._graph: Any = None
        self._config = _config()
        self._loops = False

    def __call__(self, *arguments: Any) -> tf.Tensor:
        """Run the graph; types and shapes of the arguments must be those of the first call."""
        if self._graph is None:
            self._graph = self._function.get_concrete_function(*arguments)
            definition = self._graph.graph.as_graph_def()
            bodies = [definition.node, *(f.node_def for f in definition.library.function)]
            self._loops = not _LOOPS.isdisjoint(node.op for body in bodies for node in body)
        if self._loops:
            return self._graph(*arguments)
        tensors = [v for v in tf.nest.flatten(arguments) if v is not None]
        (result,) = tf.raw_ops.StatefulPartitionedCall(
            args=[*tensors, *self._graph.captured_inputs],
            Tout=[output.dtype for output in self._graph.outputs],
            f=self._graph,
            config_proto=self._config,
            executor_type="SINGLE_THREADED_EXECUTOR",
        )
        return result
