"""Means of `rebar.estimate` against exact gradients, at objectives that are not the package's own.

Every registered unbiased estimator at every objective that it supports: with random control
variates, and at one objective also with initial and trained ones, at one in further settings.
Cases that differ from others of the suite in one part alone run with -m slow: further settings,
which `tests.conformance.test_registered` verifies at models; at the two objectives of one site all
but some of each kind, and at two categorical sites all that support others: `mixed` and
`two_binary_sites` have sites of the same kinds. The bound of estimators that follow either
objective is among REINFORCE's further settings.
With about 65 comparisons of 20 to 30 components each, and the critical value of
`rebar.testing.comparison`, an unbiased estimator fails in less than one of 1e7 runs of this file.
The bias that is detected is at most 2 % of the norm of the gradient, and 5 % in each tensor.
"""

import functools

import numpy as np
import pytest

from rebar.testing.problems import flat
from tests.objectives import problems
from tests.objectives.sampling import CONTROLS, DETECTABLE, Sampling, settings

PROBLEMS = {
    make.__name__: functools.cache(make)
    for make in (
        *(problems.mixed, problems.two_binary_sites, problems.two_categorical_sites),
        *(problems.mixture, problems.gates),
    )
}
SETTINGS = list(settings(lambda estimator: estimator.unbiased))
SINGLE = {"mixture": ("LOO", "MuProp", "RELAX"), "gates": ("LOO", "DisARM", "REBAR")}
"""Objectives of one site -> estimators of the ELBO that the suite verifies there."""


def cases(objective, *names):
    """Every problem with every estimator that supports its sites, with random control variates.

    Further settings of an estimator are at the first problem alone, other states of its control
    variates at the two binary sites.
    """
    labels = set()
    for setting in SETTINGS:
        estimator = setting.build()
        if estimator.objective != objective:
            continue
        first = setting.label not in labels
        labels.add(setting.label)
        supported = [n for n in names if PROBLEMS[n]().families <= set(estimator.families)]
        for name in supported if first else supported[:1]:
            controls = CONTROLS if first and name == "two_binary_sites" else ("random",)
            single = objective == "elbo" and setting.label not in SINGLE.get(name, setting.label)
            single = single or (name == "two_categorical_sites" and name != supported[0])
            further = not setting.first and setting.label != "REINFORCE"
            marks = [pytest.mark.slow] * (single or further)
            yield pytest.param(name, setting, controls, id=f"{name}-{setting}", marks=marks)


@pytest.mark.parametrize(
    ("problem", "setting", "controls"),
    [*cases("elbo", *PROBLEMS), *cases("bound", "two_binary_sites", "mixture")],
)
def test_unbiased(problem, setting, controls):
    sampling = Sampling(PROBLEMS[problem](), setting)
    for control in controls if sampling.learns else CONTROLS[:1]:
        sampling.set_control(control)
        result = sampling.compare()
        assert not result.biased, (control, result)
        assert result.detectable <= DETECTABLE, (control, result)


def test_every_unbiased_estimator_is_among_the_cases():
    planned = [*cases("elbo", *PROBLEMS), *cases("bound", *PROBLEMS)]
    labels = {case.values[1].label for case in planned if not case.marks}
    assert labels == {setting.label for setting in SETTINGS}
    assert {"REBAR", "RELAX", "DisARM", "VIMCO", "LocalDisARM"} < labels


@pytest.mark.parametrize("name", PROBLEMS)
def test_states_are_complete(name):
    """Probabilities sum to 1, the bound is above the mean, and the nodes suffice."""
    problem = PROBLEMS[name]()
    weights, log_q, _ = problem.terms(*problem.args)
    np.testing.assert_allclose(np.sum(weights * np.exp(log_q), axis=0), 1, rtol=1e-12)
    assert np.all(problem.bound(*problem.args) > problem.value(*problem.args))


def test_quadrature_nodes_suffice(monkeypatch):
    exact = flat(problems.mixed().exact())
    monkeypatch.setattr(problems, "NODES", 2 * problems.NODES)
    np.testing.assert_allclose(flat(problems.mixed().exact()), exact, rtol=1e-9)
