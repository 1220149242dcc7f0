"""Running moments of gradients, and the gradient variance that is printed.

With m1 <- d m1 + (1 - d) g and m2 <- d m2 + (1 - d) mean(g^2), d = .999, both from zero and not
debiased,

    variance = m2 - mean(m1^2)

is the mean over components of E[g^2] - E[g]^2 (the 2017 code kept m2 as a vector; its mean is
linear, so a scalar gives the same number). It mixes the noise of the estimator with that of the
minibatches. For several methods on one trajectory m1 is replaced by its average over those that
estimate the same gradient; one that is biased by design keeps its own.

All this is memory traffic, so vectors are touched as little as the formulas allow. m1 is kept as
scale * s, where a step is s <- s + (1 - d) / scale * g, one pass of a TensorFlow kernel; methods
whose gradient of a variable is one tensor have one s for it. What is reported of a step, the state
before it, is computed at the end of the step before: XLA copies what is read besides being updated.
"""

from collections.abc import Collection, Mapping, Sequence

import tensorflow as tf

from rebar.core import gradients

DECAY = 0.999


class Moments:
    """Exponential moving averages for one gradient, or for several by label.

    Args:
      variables: the model's trainable variables.
      labels: of the tracked methods; empty for a single, unnamed gradient.
      averaged: those labels whose first moments are averaged; the others are compared with their
        own. Ignored for a single gradient.
      common_labels, common_indices: those labels give the same tensors as gradients of the
        variables at those positions.
    """

    def __init__(
        self,
        variables: Sequence,
        labels: Sequence[str] = (),
        averaged: Collection[str] = (),
        common_labels: Collection[str] = (),
        common_indices: Collection[int] = (),
    ):
        self.labels = list(labels)
        self._averaged = [label for label in self.labels if label in set(averaged)] or self.labels
        self._first: dict = {}
        for label in self.labels or [""]:
            leader = next((other for other in self._first if other in common_labels), None)
            shares = leader is not None and label in common_labels
            self._first[label] = [
                self._first[leader][i] if shares and i in common_indices else _zeros(v.shape, v)
                for i, v in enumerate(variables)
            ]
        self._mean = [self._mean_variable(i, v) for i, v in enumerate(variables)]
        self._vectors: dict = {}
        for label, values in self._first.items():
            self._name(f"moments/{label}/first" if label else "moments/first", values)
        self._name("moments/mean", self._mean)
        self._scale = tf.Variable(tf.ones([], variables[0].dtype), trainable=False)
        self.second = {label: _zeros([], variables[0]) for label in self._first}
        self._reported = _zeros([1 + 2 * len(self.labels)], variables[0])

    def _mean_variable(self, index, variable):
        """Where the average over labels is stored: in the variable they share, if they do."""
        firsts = [self._first[label][index] for label in self._averaged or [""]]
        return firsts[0] if _same(firsts) else _zeros(variable.shape, variable)

    def _name(self, prefix, variables):
        """Name what has no name yet."""
        named = set(map(id, self._vectors.values()))
        self._vectors |= {f"{prefix}/{i}": v for i, v in enumerate(variables) if id(v) not in named}

    def first(self, label: str = "") -> list:
        """m1 of a label, aligned with the model's variables."""
        return [self._scale * s for s in self._first[label]]

    def named_variables(self) -> dict:
        """Name -> variable, for checkpoints; one that labels share has the first one's name."""
        seconds = {
            f"moments/{label}/second" if label else "moments/second": second
            for label, second in self.second.items()
        }
        scalars = {"moments/scale": self._scale, "moments/reported": self._reported}
        return {**scalars, **self._vectors, **seconds}

    def values(self) -> tuple[dict, dict]:
        """The moments as they stand.

        Returns:
          variances: label (or "") -> scalar.
          metrics: for several methods, the mean squared distance of each first moment from their
            average mu, and log mean mu^2 (2017's last columns); else empty.
        """
        mean_square, *reported = tf.unstack(self._reported)
        if not self.labels:
            return {"": mean_square}, {}
        variances = dict(zip(self.labels, reported, strict=False))
        deviations = reported[len(self.labels) :]
        metrics = {f"deviation/{k}": v for k, v in zip(self.labels, deviations, strict=True)}
        return variances, {**metrics, "log_mean_square": tf.math.log(mean_square)}

    def update(self, tracked: Mapping, squares: Mapping) -> None:
        """Take gradients into the averages.

        Args:
          tracked: label (or "") -> gradients aligned with the variables.
          squares: label (or "") -> their mean square.
        """
        scale = self._scale.assign(DECAY * self._scale)
        step = (DECAY - 1) / scale
        seen = set()
        for label, gradient in tracked.items():
            for s, g in zip(self._first[label], gradient, strict=True):
                if id(s) not in seen:
                    tf.raw_ops.ResourceApplyGradientDescent(var=s.handle, alpha=step, delta=g)
                seen.add(id(s))
            second = self.second[label]
            second.assign_sub((1 - DECAY) * (second - squares[label]))
        self._report()

    def _report(self):
        """Compute what `values` returns from what the vectors now are."""
        for i, mean in enumerate(self._mean):
            firsts = [self._first[label][i] for label in self._averaged or [""]]
            if not _same([mean, *firsts]):
                mean.assign(tf.add_n([tf.convert_to_tensor(v) for v in firsts]) / len(firsts))
        scale = tf.square(self._scale)
        mean = [tf.convert_to_tensor(v) for v in self._mean]
        mean_square = scale * gradients.mean_square(mean)
        if not self.labels:
            self._reported.assign([self.second[""] - mean_square])
            return
        variances, deviations = [], []
        for label in self.labels:
            own = [tf.convert_to_tensor(v) for v in self._first[label]]
            inside = label in self._averaged
            about = mean_square if inside else scale * gradients.mean_square(own)
            variances.append(self.second[label] - about)
            squares = [
                gradients.sum_of_squares(a - b)
                for a, b, s, m in zip(own, mean, self._first[label], self._mean, strict=True)
                if s is not m
            ]
            distance = tf.add_n(squares) if squares else tf.zeros_like(scale)
            deviations.append(scale * distance / gradients.count(mean))
        self._reported.assign([mean_square, *variances, *deviations])

    def rescale(self) -> None:
        """Write the scale, which shrinks by d a step, into the vectors; before it gets small.

        To be called at fixed steps: rounding, and with it a run's last bits, depends on when.
        """
        for variable in self._vectors.values():
            variable.assign(self._scale * variable)
        self._scale.assign(tf.ones_like(self._scale))


def _zeros(shape, like):
    return tf.Variable(tf.zeros(shape, like.dtype), trainable=False)


def _same(values):
    return all(value is values[0] for value in values)
