"""What must be known of a run's estimators: whether they are unbiased, what a step costs.

Runs record it. For those from before that, and for output of the 2017 script, the estimators are
built to be asked: only then TensorFlow is imported. Where a log does not say its hyperparameters
there is nothing to build.
"""

import json
from collections.abc import Iterable
from typing import Any

from rebar.compare.runs import RunLog
from rebar.errors import RebarError

FIELDS = ("unbiased", "evaluations")


class Facts:
    """Label -> {"unbiased": bool or None, "evaluations": of f a step, or None} of runs.

    Remembers what it has built, so that a comparison can be made again and again.
    """

    def __init__(self):
        self._built: dict[str, dict] = {}

    def incomplete(self, runs: Iterable[RunLog]) -> bool:
        """Whether something is not recorded and has not been built yet: the next call is slow."""
        return any(_missing(run) and _key(run) not in self._built for run in runs if run.hparams)

    def __call__(self, run: RunLog) -> dict[str, dict[str, Any]]:
        """The facts of each label of the run, None for what cannot be known."""
        known = _recorded(run)
        if not (run.hparams and _missing(run)):
            return known
        key = _key(run)
        if key not in self._built:
            try:
                self._built[key] = _build(run.hparams)
            except (RebarError, ImportError):
                self._built[key] = {}
        built = self._built[key]
        return {
            label: {
                name: built.get(label, {}).get(name) if value is None else value
                for name, value in facts.items()
            }
            for label, facts in known.items()
        }


def _recorded(run):
    """What the run's files say, None for the rest."""
    result = {}
    recorded = run.about.get("estimators") or {}
    for label in dict.fromkeys([*run.labels, run.label]):
        facts = {name: recorded.get(label, {}).get(name) for name in FIELDS}
        if facts["unbiased"] is None and label == run.label:
            facts["unbiased"] = run.about.get("unbiased")
        if facts["evaluations"] is None:
            tables = [r["estimator_variance"] for r in run.records if r.get("estimator_variance")]
            facts["evaluations"] = tables[0].get(label, {}).get("evaluations") if tables else None
        result[label] = facts
    return result


def _missing(run):
    return any(value is None for facts in _recorded(run).values() for value in facts.values())


def _key(run):
    return json.dumps(run.hparams, sort_keys=True)


def _build(hparams):
    """The facts of a model of the same depth with four pixels and units of two.

    Raises:
      RebarError: the hyperparameters are of another version, or of a plugin that is not imported.
    """
    import dataclasses

    import numpy as np

    from rebar import factory, registry
    from rebar.data.sources import TASKS
    from rebar.hparams import HParams

    names = {field.name for field in dataclasses.fields(HParams)}
    known = {n: v for n, v in hparams.items() if n in names}
    settings = HParams.from_dict(known | {"n_hidden": 2, "n_input": 0})
    conditional = TASKS[settings.task].conditional
    learner = factory.make_learner(settings, np.full(4, 0.5, np.float32), conditional)
    return factory.estimator_facts(settings, learner, registry.entry(settings.model).label)
