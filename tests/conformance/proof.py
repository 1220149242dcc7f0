"""The long proof: every unbiased estimator at 1, 2 and 3 layers, with more draws than the tests.

    python -m tests.conformance.proof --times=10 --output=FILE

compares means over `times` * 720,000 rows with exact enumeration, for every registered estimator
that says it is unbiased, on all three models (and the categorical ones on theirs), as
`test_unbiased` does, and writes a Markdown table. Its columns:

    z          the largest deviation of a component, in standard errors
    critical   above this an estimator is biased; 1e-6 is the rate of false alarms of all rows
    bias seen  the bias that would be seen with probability .999: of a component, as a fraction
               of the norm of the gradient with respect to its weight tensor, in the worst tensor

Exit status 1 if an estimator is biased.
"""

import argparse
import sys
import time
from pathlib import Path

import keras
import pytest

from rebar import registry
from rebar.runs.files import write_file
from tests.conformance import categories, monte_carlo
from tests.conformance.cases import FAMILIES, registered, samples_of, tiny_model

LAYERS = (1, 2, 3)
HEAD = "| estimator | model | layers | rows | z | critical | bias seen | seconds |"


def problems():
    """(name, family, layers, estimator, model) of all that are unbiased."""
    for name in registry.names("binary"):
        if registry.entry(name).tracks:
            continue  # the estimator that it follows has a separate row
        for family in FAMILIES:
            for n_layer in LAYERS:
                model = tiny_model(n_layer, family)
                yield name, family, n_layer, registered(name, model), model
    for name in registry.names("categorical"):
        if not registry.entry(name).tracks:
            with pytest.MonkeyPatch.context() as patch:
                model = categories.model(patch)
                yield name, "categorical", 1, categories.estimator(name, model), model


def prove(times: float, only: str = "", say=print) -> tuple[list[str], bool]:
    """Lines of the table, and whether all are unbiased."""
    batches = max(2, round(times * monte_carlo.BATCHES))
    lines = [HEAD, "| --- " * (HEAD.count("|") - 1) + "|"]
    passed = True
    for name, family, n_layer, estimator, model in problems():
        if not estimator.unbiased or only not in name:
            continue
        started = time.monotonic()
        n_samples = samples_of(name, least=monte_carlo.SAMPLES)
        check = monte_carlo.check(estimator, model, n_samples, batches)
        passed &= not check.biased
        lines.append(
            f"| {name} | {family} | {n_layer} | {batches * monte_carlo.ROWS} | {check.z:.2f}"
            f"{' **biased** at ' + check.worst if check.biased else ''} | {check.critical:.2f} | "
            f"{max(check.detectable.values()):.2%} | {time.monotonic() - started:.0f} |"
        )
        say(lines[-1], flush=True)
    return lines, passed


def main(arguments=None) -> int:
    """Run the proof; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=float, default=10, help="draws, in those of the tests")
    parser.add_argument("--only", default="", help="estimators whose name has this in it")
    parser.add_argument("--output", type=Path, help="the table, as Markdown")
    options = parser.parse_args(arguments)
    keras.config.set_dtype_policy("float64")
    lines, passed = prove(options.times, options.only)
    if options.output:
        write_file(options.output, ("\n".join(lines) + "\n").encode())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
