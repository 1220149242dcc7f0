"""Running moments of gradients, and the gradient variance that is printed.

With m1 <- d m1 + (1 - d) g and m2 <- d m2 + (1 - d) mean(g^2), d = .999, both from zero and not
debiased,

    variance = m2 - mean(m1^2)

is the mean over components of E[g^2] - E[g]^2, for all components and for those of q alone, as in
the DisARM paper. It includes the noise of the minibatches. For several methods on one trajectory,
m1 is the average over those that estimate the same gradient; others have a separate one.

Memory traffic dominates the time. m1 is stored as scale * s, where a step is
s <- s + (1 - d) / scale * g, one pass of a kernel; methods that share a gradient share s. The state
before a step is computed at the end of the previous step, as XLA would copy variables that are both
read and updated.
"""

from collections.abc import Collection, Mapping, Sequence

import tensorflow as tf

from rebar.core import gradients

DECAY = 0.999

OF_PART = " q"
"""Suffix of a label for the variance over the components of q alone."""


class Moments:
    """Exponential moving averages for one gradient, or for several by label.

    Args:
      variables: the model's trainable variables.
      labels: tracked methods; empty for a single, unnamed gradient.
      averaged: labels whose first moments are averaged.
      part: positions of q's variables.
      common_labels, common_indices: labels that share the gradients at these positions.
    """

    def __init__(
        self,
        variables: Sequence,
        labels: Sequence[str] = (),
        averaged: Collection[str] = (),
        part: Collection[int] = (),
        common_labels: Collection[str] = (),
        common_indices: Collection[int] = (),
    ):
        self.labels = list(labels)
        self._part = sorted(part)
        self._sizes = [gradients.count([v]) for v in variables]
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
        ends = ("", OF_PART) if self._part else ("",)
        self.second = {f"{k}{end}": _zeros([], variables[0]) for end in ends for k in self._first}
        self._reported = _zeros([1 + len(self.second) + len(self.labels)], variables[0])

    def _mean_variable(self, index, variable):
        """The variable of the average over labels: the shared one, if there is one."""
        firsts = [self._first[label][index] for label in self._averaged or [""]]
        return firsts[0] if _same(firsts) else _zeros(variable.shape, variable)

    def _name(self, prefix, variables):
        """Name the variables that have no name yet."""
        named = set(map(id, self._vectors.values()))
        self._vectors |= {f"{prefix}/{i}": v for i, v in enumerate(variables) if id(v) not in named}

    def first(self, label: str = "") -> list:
        """m1 of a label, aligned with the model's variables."""
        return [self._scale * s for s in self._first[label]]

    def named_variables(self) -> dict:
        """Name -> variable, for checkpoints; a shared one has the name of its first label."""
        seconds = {}
        for key, second in self.second.items():
            label = key.removesuffix(OF_PART)
            kind = "second_q" if key.endswith(OF_PART) else "second"
            seconds[f"moments/{label}/{kind}" if label else f"moments/{kind}"] = second
        scalars = {"moments/scale": self._scale, "moments/reported": self._reported}
        return {**scalars, **self._vectors, **seconds}

    def values(self) -> tuple[dict, dict]:
        """The current moments.

        Returns:
          variances: label (or "") -> scalar, over all components, then label + OF_PART -> scalar,
            over those of q.
          metrics: for several methods, the mean squared distance of each first moment from their
            average mu, and log mean mu^2 (2017's last columns); else empty.
        """
        mean_square, *reported = tf.unstack(self._reported)
        variances = dict(zip(self.second, reported, strict=False))
        if not self.labels:
            return variances, {}
        deviations = reported[len(self.second) :]
        metrics = {f"deviation/{k}": v for k, v in zip(self.labels, deviations, strict=True)}
        return variances, {**metrics, "log_mean_square": tf.math.log(mean_square)}

    def update(self, tracked: Mapping, sums: Mapping) -> None:
        """Update the averages: label (or "") -> gradients, and -> their sums of squares."""
        scale = self._scale.assign(DECAY * self._scale)
        step = (DECAY - 1) / scale
        seen = set()
        for label, gradient in tracked.items():
            for s, g in zip(self._first[label], gradient, strict=True):
                if id(s) not in seen:
                    tf.raw_ops.ResourceApplyGradientDescent(var=s.handle, alpha=step, delta=g)
                seen.add(id(s))
            for end, mean_square in self._means(sums[label]).items():
                second = self.second[f"{label}{end}"]
                second.assign_sub((1 - DECAY) * (second - mean_square))
        self._report()

    def _means(self, sums):
        """Mean squares over all components and, at OF_PART, over those of q."""
        means = {"": _sum(sums) / sum(self._sizes)}
        if self._part:
            part = _sum([sums[i] for i in self._part])
            means[OF_PART] = part / sum(self._sizes[i] for i in self._part)
        return means

    def _report(self):
        """Store what `values` returns."""
        for i, mean in enumerate(self._mean):
            firsts = [self._first[label][i] for label in self._averaged or [""]]
            if not _same([mean, *firsts]):
                mean.assign(tf.add_n([tf.convert_to_tensor(v) for v in firsts]) / len(firsts))
        scale = tf.square(self._scale)
        mean = [tf.convert_to_tensor(v) for v in self._mean]
        of_mean = self._means(gradients.sums_of_squares(mean))
        abouts, deviations = {"": of_mean}, []
        for label in self.labels:
            first = [tf.convert_to_tensor(v) for v in self._first[label]]
            inside = label in self._averaged
            abouts[label] = of_mean if inside else self._means(gradients.sums_of_squares(first))
            squares = [
                gradients.sum_of_squares(a - b)
                for a, b, s, m in zip(first, mean, self._first[label], self._mean, strict=True)
                if s is not m
            ]
            distance = _sum(squares) if squares else tf.zeros_like(scale)
            deviations.append(scale * distance / gradients.count(mean))
        variances = [
            self.second[f"{label}{end}"] - scale * abouts[label][end]
            for end in of_mean
            for label in self.labels or [""]
        ]
        self._reported.assign([scale * of_mean[""], *variances, *deviations])

    def rescale(self) -> None:
        """Multiply the vectors by the scale, which shrinks by d per step, and reset it to 1.

        Rounding depends on when: call it at fixed steps.
        """
        for variable in self._vectors.values():
            variable.assign(self._scale * variable)
        self._scale.assign(tf.ones_like(self._scale))


def _zeros(shape, like):
    return tf.Variable(tf.zeros(shape, like.dtype), trainable=False)


def _sum(scalars):
    """A bit-exact sum: the order of AddN depends on timing where terms have other readers."""
    return tf.reduce_sum(tf.stack(scalars))


def _same(values):
    return all(value is values[0] for value in values)
