"""From the logs of many runs to a figure and a table, without TensorFlow."""
