"""Results of checks, as a table."""

from collections.abc import Sequence
from typing import NamedTuple

from rebar.errors import RebarError
from rebar.testing.comparison import Comparison

WIDTH = 60


class Result(NamedTuple):
    """Result of one check.

    Attributes:
      check: name of the property, and the problem.
      passed: the estimator has the property.
      detail: what was computed, or what is wrong.
      seconds: time of the check.
      comparison: the comparison of a mean with the exact gradient, if the check makes one.
    """

    check: str
    passed: bool
    detail: str = ""
    seconds: float = 0.0
    comparison: Comparison | None = None

    def __str__(self) -> str:
        columns = [""] * 4
        if self.comparison is not None:
            c = self.comparison
            columns = [f"{c.rows:,}", f"{c.z:.2f}", f"{c.critical:.2f}", f"{c.detectable:.1%}"]
        numbers = "  ".join(f"{text:>9}" for text in (*columns, f"{self.seconds:.1f}"))
        verdict = "ok" if self.passed else "FAILED"
        line = f"{verdict:6}  {self.check:{WIDTH}}  {numbers}"
        return f"{line}  {self.detail}".rstrip()


HEAD = f"{'':6}  {'check':{WIDTH}}  " + "  ".join(
    f"{text:>9}" for text in ("rows", "z", "critical", "detects", "seconds")
)
"""Column names: rows drawn, largest deviation in standard errors (z), value of z above which the
estimator is biased, smallest detectable bias as a fraction of the gradient's norm, and seconds."""


class Report(NamedTuple):
    """Results of all checks of an estimator.

    Attributes:
      name: name of the estimator.
      results: one `Result` per check.
    """

    name: str
    results: Sequence[Result]

    @property
    def passed(self) -> bool:
        """True if every check passed."""
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> list[Result]:
        """Results of the checks that failed."""
        return [result for result in self.results if not result.passed]

    def summary(self) -> str:
        """Return one line: the number of checks and failures, and the total time."""
        seconds = sum(result.seconds for result in self.results)
        count = len(self.results)
        verdict = f"all {count} checks passed" if count > 1 else "the check passed"
        if self.failures:
            verdict = f"{len(self.failures)} of {count} checks FAILED"
        return f"{self.name}: {verdict} in {seconds:.0f} s"

    def raise_failures(self) -> None:
        """Raise RebarError that lists the failed checks, if any."""
        if self.failures:
            lines = "\n".join(f"  {result.check}: {result.detail}" for result in self.failures)
            raise RebarError(f"{self.summary()}\n{lines}")

    def __str__(self) -> str:
        return "\n".join([HEAD, *map(str, self.results), self.summary()])
