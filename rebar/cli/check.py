"""Check every declared property of an estimator, above all that it is unbiased.

Examples:
  rebar-check SBNDisARM
  rebar-check MyEstimator --plugins=my_module
  rebar-check SBNRelax --only="3 layers" --thorough

Each argument is a name of --hparams="model=NAME". Means of many estimates are compared with exact
enumeration on tiny models. Columns: rows drawn, largest deviation in standard errors (z), value of
z above which the estimator is biased (critical), smallest bias that would have been detected, as a
fraction of the gradient's norm (detects), and seconds. The exit status is 1 if a check fails.
"""

import functools
import sys

from absl import flags

from rebar.cli import frame
from rebar.errors import RebarError
from rebar.plugins import import_plugins, with_plugins
from rebar.runs.quiet import quiet_start


def define_flags() -> flags.FlagValues:
    """Return the flags of the command."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("string", "only", "", 'Run only checks whose name contains it, e.g. "unbiased".')
    define("boolean", "thorough", False, "Take ten times as many draws.")
    define("integer", "seed", 0, "Seed of the draws.", lower_bound=0, upper_bound=2**32 - 1)
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status, see frame.run."""
    return frame.run(define_flags, _check, argv or sys.argv, __doc__)


def _check(values, names) -> int:
    """Check the estimators, and print each result when it is available."""
    import_plugins(values.plugins)
    if not names:
        raise RebarError(
            "no estimator to check; pass the name of a model, e.g. rebar-check SBNDisARM"
        )
    with quiet_start():
        from rebar import testing
    names = list(dict.fromkeys(names))
    for name in names:  # reject a wrong name before the first check
        with_plugins(lambda name=name: testing.subject(name))
    passed = True
    printed: set[str] = set()

    def show(name, result):
        if name not in printed:  # after errors about --only
            print(testing.HEAD)
            printed.add(name)
        print(result, flush=True)

    for name in names:
        report = testing.check_estimator(
            name,
            thorough=values.thorough,
            seed=values.seed,
            only=values.only,
            on_result=functools.partial(show, name),
        )
        print(report.summary(), flush=True)
        passed &= report.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
