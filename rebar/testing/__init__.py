"""Checks of gradient estimators: unbiasedness, and every other declared property.

    report = rebar.testing.check_estimator("SBNDisARM")
    print(report)
    report.raise_failures()

An estimator is a registered name or an `Estimator` subclass. It is checked on tiny models whose
exact gradient is a sum over all latent states. The command `rebar-check` prints the same report.
"""

import re
import time
import traceback
from collections.abc import Callable
from typing import Any

from rebar import noise
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.testing.checks import Check, plan
from rebar.testing.comparison import COMPARISONS, Comparison, compare
from rebar.testing.problems import Problem
from rebar.testing.properties import Failure
from rebar.testing.report import HEAD, Report, Result
from rebar.testing.subject import Subject, subject

__all__ = [
    "COMPARISONS",
    "HEAD",
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
    on_result: Callable[[Result], Any] = lambda result: None,
    **limits: Any,
) -> Report:
    """Check every declared property of an estimator.

    Unbiasedness by exact enumeration at one to three layers, for every model family, with control
    variates at their initial, small, large and trained values, at few and many rows; independent
    rows; equal results in eager mode, graphs and XLA; both dtypes; saturated logits; saving and
    restoring; structure; the number of evaluations; gradients and efficiency of control variates.

    An exception of the estimator is a failed check, not an error.

    Args:
      estimator: name of a registered model, or a subclass of `Estimator`.
      thorough: take ten times as many draws.
      seed: seed of the draws.
      only: run only checks whose name contains this text, e.g. "unbiased" or "3 layers".
      on_result: function called with each `Result` when it is available.
      **limits: for a class: attributes of `rebar.registry.Entry`, e.g. min_samples=2 or
        latents="categorical".

    Returns:
      `Report`; print it, or call its `raise_failures`.

    Raises:
      RebarError: an unknown estimator or limit, an invalid argument, or no check contains `only`.
    """
    target = subject(estimator, **limits)
    noise.key(seed, "analysis")  # raises for an invalid seed
    if not isinstance(only, str):
        raise RebarError(f"only={only!r}: must be a string; pass a part of the name of a check")
    try:
        checks = plan(target, 10 if thorough else 1, seed)
    except Exception as error:
        result = Result("setup: creation of the estimator", False, _describe(error))
        on_result(result)
        return Report(target.name, (result,))
    chosen = [check for check in checks if only in check.name]
    if not chosen:
        kinds = dict.fromkeys(check.kind for check in checks)
        raise RebarError(
            f"only={only!r}: no check of {target.name} contains it; use one of {', '.join(kinds)}, "
            f'or a part of a name, e.g. "{checks[0].name}"'
        )
    results = []
    for check in chosen:
        results.append(run(check))
        on_result(results[-1])
    return Report(target.name, tuple(results))


def check_unbiased(estimator: str | type[Estimator], **options: Any) -> Report:
    """Check only that an estimator is unbiased; arguments are those of `check_estimator`."""
    return check_estimator(estimator, only="unbiased", **options)


def run(check: Check) -> Result:
    """Run one check. It fails with a `Failure`, or with any exception of the estimator."""
    start, passed, detail, comparison = time.monotonic(), True, "", None
    try:
        outcome = check.run()
        if isinstance(outcome, Comparison):
            comparison = outcome
            if comparison.biased:
                detail = f"biased, as declared: {comparison.bias:.1%} of the gradient"
        else:
            detail = outcome or ""
    except Failure as failure:
        passed, detail, comparison = False, str(failure), failure.comparison
    except Exception as error:
        passed, detail = False, _describe(error)
    return Result(check.name, passed, detail, time.monotonic() - start, comparison)


def _describe(error: Exception) -> str:
    """Return the message of an exception; of others than RebarError also class and place."""
    if isinstance(error, RebarError):
        return str(error)
    message = re.sub(r"\{\{function_node .*?\}\} ", "", str(error)).strip().partition("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("/tensorflow/", "/keras/", "/numpy/")
    places = [f for f in frames if not any(part in f.filename for part in libraries)]
    return f"{type(error).__name__}: {message} ({places[-1].filename}:{places[-1].lineno})"
