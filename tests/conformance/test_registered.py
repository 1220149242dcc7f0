"""Every registered estimator has every property of `rebar.testing`."""

import pytest

from rebar import registry, testing

KINDS = (
    *("structure", "evaluations", "saturated logits", "rows", "compiled", "restored"),
    *("generator", "control gradients", "unbiased, efficiency"),
)
"""Names of properties; the last two share graphs."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", registry.names())
def test_registered(name, kind):
    subject = testing.subject(name)
    checks = [check for check in testing.plan(subject) if check.kind in kind.split(", ")]
    results = [testing.run(check) for check in checks]
    testing.Report(name, results).raise_failures()
    absent = {
        "rows": all(map(subject.couples_rows, subject.settings)),
        "control gradients": not any(map(subject.learns, subject.settings)),
    }
    assert bool(results) != absent.get(kind, False)
    biased = [r for r in results if r.comparison is not None and r.comparison.biased]
    if biased or kind == "unbiased, efficiency":
        declared = [subject.set_up(subject.problems[0].model(), **s) for s in subject.settings]
        assert bool(biased) != all(estimator.unbiased for estimator in declared)


def test_the_kinds_are_all():
    planned = {c.kind for name in registry.names() for c in testing.plan(testing.subject(name))}
    assert planned == set(", ".join(KINDS).split(", "))


@pytest.mark.parametrize("name", registry.names())
def test_comparisons_share_the_false_fail_rate(name):
    planned = testing.plan(testing.subject(name))
    assert sum(check.statistical for check in planned) <= testing.COMPARISONS
    assert len({check.name for check in planned}) == len(planned)
