"""Means of the gradient of `rebar.tfp.elbo` against sums over all states, for every estimator.

About 35 comparisons, with the critical value of `rebar.testing.comparison`; the smallest bias that
is detected is below 2 % of the norm of the gradient.
"""

import functools

import pytest

from rebar.objectives import joint
from tests.objectives.sampling import DETECTABLE, Sampling, Setting, settings
from tests.tfp import problems

PROBLEMS = {
    make.__name__: functools.cache(make)
    for make in (problems.belief_network, problems.assignment, problems.mixed, problems.chain)
}
FAST = {
    "belief_network": ["DisARM", "REBAR"],
    "assignment": ["LOO"],
    "mixed": ["LOO"],
    "chain": ["REBAR"],
}
"""Cases of the default run: tracing all of them takes about two minutes."""


def cases():
    """Every problem with the first setting of every unbiased estimator that supports its sites."""
    for setting in settings(lambda estimator: estimator.unbiased):
        estimator = setting.build()
        for name in PROBLEMS:
            relaxed = name == "assignment" and estimator.relaxes
            bound = estimator.objective == "bound" and name not in ("belief_network", "chain")
            supported = PROBLEMS[name]().families <= set(estimator.families)
            if setting.first and supported and not relaxed and not bound:
                marks = [] if setting.label in FAST[name] else [pytest.mark.slow]
                yield pytest.param(name, setting, id=f"{name}-{setting}", marks=marks)


@pytest.mark.parametrize(("problem", "setting"), list(cases()))
def test_unbiased(problem, setting):
    result = Sampling(PROBLEMS[problem](), setting).compare()
    assert not result.biased, result
    assert result.detectable <= DETECTABLE, result


def test_the_derivative_that_tfp_leaves_out(monkeypatch):
    """Without the derivative of OneHotCategorical.log_prob w.r.t. its value, REBAR is biased."""
    monkeypatch.setattr(joint, "_log_prob", lambda distribution, x: distribution.log_prob(x))
    assert Sampling(problems.chain(), Setting("REBAR", {})).compare(batches=60).biased


def test_every_estimator_and_problem_is_a_case():
    names, labels = zip(*(case.values for case in cases()), strict=True)
    assert set(names) == set(PROBLEMS)
    assert {s.label for s in labels} == {s.label for s in settings(lambda e: e.unbiased)}
