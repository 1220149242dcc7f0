"""Checks of estimators: is it unbiased, and does it have every other declared property?

    rebar.testing.check_estimator("SBNDisARM")

checks a registered estimator, or an `Estimator` subclass, on tiny models whose gradient is a sum
over all latent states. The command `rebar-check` does the same.
"""

import time
from collections.abc import Callable
from typing import Any

from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.testing import properties, report
from rebar.testing.checks import Check, plan
from rebar.testing.comparison import COMPARISONS, Comparison, compare
from rebar.testing.problems import Problem
from rebar.testing.report import Report, Result
from rebar.testing.subject import Subject, subject

__all__ = [
    "COMPARISONS",
    "Check",
    "Comparison",
    "Problem",
    "Report",
    "Result",
    "Subject",
    "check_estimator",
    "check_unbiased",
    "compare",
    "plan",
    "run",
    "subject",
]


def check_estimator(
    estimator: str | type[Estimator],
    *,
    thorough: bool = False,
    seed: int = 0,
    only: str = "",
    say: Callable[[Result], Any] = lambda result: None,
    **limits: Any,
) -> Report:
    """Check every declared property of an estimator.

    Unbiasedness by exact enumeration at one to three layers, for every model family, with control
    variates at their initial, small, large and trained values, at few and many rows; independent
    rows; equal results in eager mode, graphs and XLA; both dtypes; saturated logits; saving and
    restoring; structure; the number of evaluations; gradients and efficiency of control variates.

    Args:
      estimator: name of a registered model, or a subclass of `Estimator`.
      thorough: take ten times as many draws.
      seed: seed of the draws.
      only: check only properties whose name has this in it, e.g. "unbiased" or "3 layers".
      say: function called with every `Result` as soon as it is known.
      **limits: for a class: attributes of `rebar.registry.Entry`, e.g. min_samples=2 or
        latents="categorical".

    Returns:
      `Report`; print it, or call its `raise_failures`.

    Raises:
      RebarError: an unknown estimator, or no check is called `only`.
    """
    about = subject(estimator, **limits)
    chosen = [c for c in plan(about, 10 if thorough else 1, seed) if only in c.name]
    if not chosen:
        kinds = dict.fromkeys(check.kind for check in plan(about))
        raise RebarError(f"only={only!r}: no such check; choose from {', '.join(kinds)}")
    results = []
    for check in chosen:
        results.append(run(check))
        say(results[-1])
    return Report(about.name, tuple(results))


def check_unbiased(estimator: str | type[Estimator], **options: Any) -> Report:
    """Check only that an estimator is unbiased; arguments are those of `check_estimator`."""
    return check_estimator(estimator, only="unbiased", **options)


def run(check: Check) -> Result:
    """Run one check."""
    start, passed, found = time.monotonic(), True, None
    detail: Any = ""
    try:
        found = check.run()
    except properties.Failure as failure:
        passed, (detail, *further) = False, failure.args
        found = further[0] if further else None
    except RebarError as error:
        passed, detail = False, str(error)
    if isinstance(found, str):
        detail, found = found, None
    elif found is not None and found.biased and passed:
        detail = f"biased, as declared: {found.bias:.1%} of the gradient"
    return Result(check.name, passed, detail, time.monotonic() - start, found)


HEAD = report.HEAD
