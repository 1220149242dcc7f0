"""Running moments of gradients, and the gradient variance that is printed.

With m1 <- d m1 + (1 - d) g and m2 <- d m2 + (1 - d) mean(g^2), d = .999, both from zero and not
debiased,

    variance = m2 - mean(m1^2)

is the mean over components of E[g^2] - E[g]^2 (the 2017 code kept m2 as a vector; its mean is
linear, so a scalar gives the same number). It mixes the noise of the estimator with that of the
minibatches. For several methods on one trajectory m1 is replaced by its average over those that
estimate the same gradient; one that is biased by design keeps its own.
"""

from collections.abc import Sequence

import tensorflow as tf

from rebar.core import gradients
from rebar.types import Estimate

DECAY = 0.999


class Moments:
    """Exponential moving averages for one gradient, or for several by label.

    Args:
      variables: the model's trainable variables.
      labels: of the tracked methods; empty for a single, unnamed gradient.
      averaged: those labels whose first moments are averaged; the others are compared with their
        own. Ignored for a single gradient.
    """

    def __init__(self, variables: Sequence, labels: Sequence[str] = (), averaged=()):
        self.labels = list(labels)
        self._shared = [label for label in self.labels if label in set(averaged)]
        names = self.labels or [""]
        self.first = {
            label: [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in variables]
            for label in names
        }
        dtype = variables[0].dtype
        self.second = {label: tf.Variable(tf.zeros([], dtype), trainable=False) for label in names}

    def named_variables(self) -> dict:
        """Name -> variable, for checkpoints."""
        named = {}
        for label, firsts in self.first.items():
            prefix = f"moments/{label}/" if label else "moments/"
            named[f"{prefix}second"] = self.second[label]
            named |= {f"{prefix}first/{i}": v for i, v in enumerate(firsts)}
        return named

    def values(self) -> tuple[dict, dict]:
        """The moments as they stand.

        Returns:
          variances: label (or "") -> scalar.
          metrics: for several methods, the mean squared distance of each first moment from their
            average mu, and log mean mu^2 (2017's last columns); else empty.
        """
        if not self.labels:
            mean_square = gradients.mean_square([tf.convert_to_tensor(v) for v in self.first[""]])
            return {"": self.second[""] - mean_square}, {}
        averaged = self._shared or self.labels
        together = zip(*(self.first[label] for label in averaged), strict=True)
        mu = [tf.add_n(list(vs)) / len(averaged) for vs in together]
        mu_square = gradients.mean_square(mu)
        variances, deviations = {}, {}
        for label in self.labels:
            own = [tf.convert_to_tensor(v) for v in self.first[label]]
            about = mu_square if label in averaged else gradients.mean_square(own)
            variances[label] = self.second[label] - about
            deviations[f"deviation/{label}"] = gradients.mean_square(
                [a - b for a, b in zip(own, mu, strict=True)]
            )
        return variances, {**deviations, "log_mean_square": tf.math.log(mu_square)}

    def update(self, estimate: Estimate) -> dict:
        """Take one estimate into the averages; returns label (or "") -> its mean(g^2)."""
        tracked = estimate.tracked or {"": estimate.gradients}
        squares = {label: gradients.mean_square(g) for label, g in tracked.items()}
        for label, gradient in tracked.items():
            for average, value in zip(self.first[label], gradient, strict=True):
                average.assign_sub((1 - DECAY) * (average - value))
            second = self.second[label]
            second.assign_sub((1 - DECAY) * (second - squares[label]))
        return squares
