"""Sums over many estimates of the gradient of an objective, at fixed variables and arguments."""

import functools
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from rebar.analysis.meter import Draws, Sums, train_controls
from rebar.core import gradients
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.objectives.estimate import convertible, observed_estimate

TRAINING = 1
"""Last word of the seed of training steps."""


class ObjectiveMeter(Sums):
    """Sums of the gradients of `rebar.estimate(...).loss` at steps 1, 2, ...

    Components are those of the logits of every discrete site, [B, ...], of all rollouts and samples
    of an example together, and then those of the variables.

    Args:
      objective, args: see `rebar.estimate`.
      estimator: instance.
      variables: list, or group -> list; of both, "total" is all of them, or all logits if there
        are none.
      n_samples, seed, baseline: see `rebar.estimate`.
      jit: compile with XLA.

    Attributes:
      parts: "total", site or group -> positions of its components.
      examples: B.
      dtype: of the objective, "float32" or "float64".
      reparameterized: there are sites that are not discrete.

    Raises:
      RebarError: a group named like a site, nothing to differentiate, or see `rebar.estimate`.
    """

    def __init__(
        self,
        objective,
        args: tuple,
        estimator: Estimator,
        variables: Sequence | Mapping[str, Sequence] = (),
        n_samples: int = 1,
        seed: Sequence[int] = (0,),
        baseline=None,
        jit: bool = False,
    ):
        self._estimator, self._seed = estimator, list(seed)
        self._estimate = functools.partial(
            observed_estimate,
            convertible(objective, args, always=True),
            args,
            estimator,
            n_samples,
            baseline=baseline,
        )
        logits: dict[str, tf.Tensor] = {}
        first = self._estimate(seed=self._seed, step=0, observe=logits.setdefault)
        self.examples, self.dtype = first.value.shape[0], first.value.dtype.name
        self.reparameterized = set(first.samples) > set(logits)
        self._shapes = {n: (self.examples, *a.shape[1:]) for n, a in logits.items()}
        groups = variables if isinstance(variables, Mapping) else {"": variables}
        for group in groups.values():
            if tf.is_tensor(group) or isinstance(group, keras.Variable):
                raise RebarError(
                    "variables: a single one; must be a list, or group -> list; pass [variable]"
                )
        every = {id(v): v for group in groups.values() for v in group}
        self._variables = list(every.values())
        self.parts = self._positions(groups)
        super().__init__(self.parts["total"].stop, jit)

    def _positions(self, groups) -> dict:
        """Part -> positions of its components."""
        sizes = [*map(math.prod, self._shapes.values())]
        sizes += [math.prod(v.shape) for v in self._variables]
        ends = np.cumsum(sizes, dtype=int).tolist()
        places = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        if not places:
            raise RebarError("variables=[]: nothing to differentiate with respect to; give some")
        n_sites = len(self._shapes)
        start = places[n_sites].start if self._variables else 0
        parts = {"total": slice(start, ends[-1])}
        parts |= zip(self._shapes, places[:n_sites], strict=True)
        of_variable = dict(zip(map(id, self._variables), places[n_sites:], strict=True))
        for name, group in groups.items():
            if name in parts:
                raise RebarError(f"variables: group {name!r} has the name of a site; rename it")
            if name:
                parts[name] = np.concatenate([np.r_[of_variable[id(v)]] for v in group])
        return parts

    def __call__(self, n_draws: int, groups: int) -> Draws:
        """Sum estimates; arguments are those of `Sums.sums`."""
        return self.sums((), np.arange(n_draws + 1), groups)

    def draw(self, x, key):
        logits: dict[str, list] = {name: [] for name in self._shapes}
        with tf.GradientTape() as tape:

            def observe(name, rows):
                tape.watch(rows)
                logits[name].append(rows)

            result = self._estimate(seed=self._seed, step=key, observe=observe)
        self._passes = result.evaluations
        sources = [rows for of_site in logits.values() for rows in of_site]
        every = tape.gradient(result.loss, [*sources, *self._variables])
        of_variables = every[len(sources) :]
        every = [tf.zeros_like(s) if g is None else g for s, g in zip(sources, every, strict=False)]
        for v, g in zip(self._variables, of_variables, strict=True):
            if g is None:
                raise RebarError(
                    f"variables: the objective has no gradient of {gradients.variable_name(v)!r}; "
                    "remove it, or use it in the objective"
                )
        found = iter([*every, *of_variables])
        of_sites = []
        for name, shape in self._shapes.items():
            of_rows = [tf.reshape(next(found), [-1, *shape]) for _ in logits[name]]
            of_sites.append(tf.add_n([tf.reduce_sum(g, axis=0) for g in of_rows]))
        return of_sites + [tf.convert_to_tensor(g) for g in found]

    def evaluations(self, x):
        """Return the evaluations of f per example."""
        return self._passes

    def train(self, steps: int) -> None:
        """Train the learned parts of the estimator at the frozen objective."""
        variables = self._estimator.trainable_variables

        def control_gradients(step):
            with tf.GradientTape() as tape:
                loss = self._estimate(seed=[*self._seed, TRAINING], step=step).control_loss
            return gradients.gradient_or_zero(tape, loss, variables)

        if variables:
            train_controls(control_gradients, variables, range(steps))
