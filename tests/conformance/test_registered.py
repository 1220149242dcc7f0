"""Every registered estimator has every property of `rebar.testing`.

Seven kinds of checks run with -m slow alone, because others of the suite cover what they compute:

- unbiasedness and independent rows at further families of models of the same number of layers. An
  estimator sees models through one interface. Each family is among the problems of the suite, and
  has separate tests.
- unbiasedness at one of two problems in ALTERNATIVES, the other one for the next name.
- unbiasedness and gradients of control variates at further settings and fewer than the most layers,
  except one number of layers with large and trained control variates.
- XLA at further settings, which change terms of the first one's graph. Their graphs are traced and
  run for unbiasedness.
- Cat... names whose class and settings have an SBN... name: XLA, gradients of control variates, and
  unbiasedness at further settings, which SBN... names verify at layers of units and categories
  together; and restored runs, whose state is that of the class.
- names whose class has the gradients of a registered base class (tUGC, IndeCateR): XLA, and
  unbiasedness at other than two layers. Tests of formulas verify what is theirs.
- unbiasedness of trackers except at one such model. test_settings.py compares what they return with
  the followed estimator at the same noise, to rounding.
"""

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

ALTERNATIVES = (
    ("unbiased: unconditional, 3 layers", "unbiased: 2017, 3 layers"),
    tuple(f"unbiased: {problem}" for problem in MIXED),
)
"""Checks in pairs; names take turns in which one they verify in their first settings."""
REPRESENTED = ("compiled", "control gradients", "restored")
"""Kinds of checks of Cat... names that those of SBN... names of their class cover."""


@functools.cache
def plan(name):
    return testing.plan(testing.subject(name))


def inherits(name):
    """Return whether the class of another name is a base class with the same `_cotangent`."""
    kind = registry.target(name)
    return any(
        base in kind.__mro__[1:]
        and getattr(base, "_cotangent", base) is getattr(kind, "_cotangent", kind)
        for base in map(registry.target, registry.names())
    )


def is_variation(name, check):
    """Return True for a check that runs with -m slow alone, see the module."""
    first = check.settings == plan(name)[0].settings
    other = tuple(pair[registry.names().index(name) % 2] for pair in ALTERNATIVES)
    if check.variation or (first and check.name.startswith(other)):
        return True
    entry = registry.entry(name)
    elsewhere = check.kind == "unbiased" and ", 2 layers" not in check.name
    if inherits(name) and (elsewhere or check.kind == "compiled"):
        return True
    if entry.latents == "binary":
        return entry.tracks and check.kind == "unbiased" and "mixed" not in check.name
    same = [n for n in registry.names("binary") if registry.target(n) is registry.target(name)]
    represented = any(
        testing.subject(n).mixed and check.settings in testing.subject(n).settings for n in same
    )
    further = check.kind in ("unbiased", "efficiency") and not first
    return represented and (further or check.kind in REPRESENTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_variations(name):
    results = [testing.run(check) for check in plan(name) if is_variation(name, check)]
    testing.Report(name, results).raise_failures()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", registry.names())
def test_registered(name, kind):
    subject = testing.subject(name)
    planned = [check for check in plan(name) if check.kind in kind.split(", ")]
    results = [testing.run(check) for check in planned if not is_variation(name, check)]
    testing.Report(name, results).raise_failures()
    if kind == "rows":
        assert bool(results) != all(map(subject.couples_rows, subject.settings))
    elif kind == "control gradients":
        assert bool(planned) == any(map(subject.learns, subject.settings))
    else:
        assert planned if kind in REPRESENTED else results
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


@pytest.mark.parametrize("name", registry.names("categorical"))
def test_categorical_names_train_hierarchies(name):
    """The gradient of p's variables is exact at the hard samples, as declared."""
    subject = testing.subject(name)
    for problem in subject.mixed or MIXED:
        for settings in subject.settings:
            properties.generator(subject, problem, settings)


@pytest.mark.parametrize("name", registry.names())
def test_comparisons_share_the_false_fail_rate(name):
    assert sum(check.statistical for check in plan(name)) <= testing.COMPARISONS
    assert len({check.name for check in plan(name)}) == len(plan(name))
