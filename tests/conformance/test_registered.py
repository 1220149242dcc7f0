"""Every registered estimator has every property of `rebar.testing`."""

import functools

import pytest

from rebar import registry, testing
from rebar.testing import properties
from rebar.testing.problems import MIXED

KINDS = (
    *("structure", "evaluations", "saturated logits", "rows", "compiled", "restored"),
    *("generator", "control gradients", "unbiased, efficiency"),
)
"""Names of properties; the last two share graphs."""


@functools.cache
def plan(name):
    return testing.plan(testing.subject(name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", registry.names())
def test_registered(name, kind):
    subject = testing.subject(name)
    results = [testing.run(check) for check in plan(name) if check.kind in kind.split(", ")]
    testing.Report(name, results).raise_failures()
    if kind == "rows":
        assert bool(results) != all(map(subject.couples_rows, subject.settings))
    elif kind == "control gradients":
        assert bool(results) == any(map(subject.learns, subject.settings))
    else:
        assert results
    biased = [r for r in results if r.comparison is not None and r.comparison.biased]
    if biased or kind == "unbiased, efficiency":
        declared = [subject.set_up(subject.problems[0].model(), **s) for s in subject.settings]
        assert bool(biased) != all(estimator.unbiased for estimator in declared)


def test_the_kinds_are_all():
    planned = {check.kind for name in registry.names() for check in plan(name)}
    assert planned == set(", ".join(KINDS).split(", "))


def test_hierarchies_of_both_families_are_for_estimators_that_support_them():
    for name in registry.names("binary"):
        problems = {str(problem) for problem in testing.subject(name).mixed}
        both = set(registry.target(name).families) == set(registry.FAMILIES)
        assert len(problems) == (2 if both else 0)
        unbiased = {check.name for check in plan(name) if check.kind == "unbiased"}
        assert all(any(p in check for check in unbiased) for p in problems)


@pytest.mark.parametrize("problem", MIXED, ids=str)
@pytest.mark.parametrize("name", registry.names("categorical"))
def test_categorical_names_train_hierarchies(name, problem):
    """The gradient of p's variables is exact at the hard samples, as declared."""
    subject = testing.subject(name)
    for settings in subject.settings:
        properties.generator(subject, problem, settings)


@pytest.mark.parametrize("name", registry.names())
def test_comparisons_share_the_false_fail_rate(name):
    assert sum(check.statistical for check in plan(name)) <= testing.COMPARISONS
    assert len({check.name for check in plan(name)}) == len(plan(name))
