"""Reports of `rebar.testing`: exceptions of an estimator, numbers of samples, and limits."""

import re

import pytest
import tensorflow as tf

from rebar import testing
from rebar.errors import RebarError
from rebar.estimators.leave_one_out import LeaveOneOut
from rebar.estimators.nvil import NVIL

ONE = "unbiased: unconditional, 1 layer"


class RaisesInEstimate(LeaveOneOut):
    def estimate(self, model, x, noise):
        return tf.matmul(x, x)


class RaisesInSetup(LeaveOneOut):
    def setup(self, model, seed=0):
        raise KeyError("width")


class ReturnsATensor(LeaveOneOut):
    def estimate(self, model, x, noise):
        return tf.reduce_mean(x)


def check(estimator, **options):
    return testing.check_estimator(estimator, min_samples=2, **options)


def test_an_exception_is_a_failed_check_with_its_class_message_and_place():
    structure, unbiased = check(RaisesInEstimate, only=": unconditional, 1 layer").failures[::2][:2]
    assert structure.check == "structure: unconditional, 1 layer"
    assert re.match(r"InvalidArgumentError: Matrix size-incompatible: .* \(", structure.detail)
    assert unbiased.check == ONE
    assert unbiased.detail.startswith("ValueError: Dimensions must be equal")
    for failure in (structure, unbiased):
        assert re.search(r"\(\S+test_reports\.py:18\)$", failure.detail)
        assert "\n" not in failure.detail


def test_an_exception_during_the_creation_is_one_failed_check():
    results = []
    report = check(RaisesInSetup, on_result=results.append)
    assert tuple(results) == report.results == tuple(report.failures)
    (failure,) = results
    assert failure.check == "setup: creation of the estimator"
    assert re.fullmatch(r"KeyError: 'width' \(\S+test_reports\.py:23\)", failure.detail)
    with pytest.raises(RebarError, match="RaisesInSetup: 1 of 1 checks FAILED in 0 s\n  setup: "):
        report.raise_failures()


def test_an_invalid_estimate_is_a_failed_check_with_the_advice():
    (failure,) = check(ReturnsATensor, only="structure: unconditional").failures
    assert failure.detail.startswith("ReturnsATensor.estimate() returned a")
    assert "return rebar.Estimate(" in failure.detail


def test_more_samples_are_more_than_the_minimum():
    fewest, more = (result.comparison for result in check(LeaveOneOut, only=ONE).results)
    assert fewest.rows == more.rows == 360_000
    assert more.detectable < 0.95 * fewest.detectable


@pytest.mark.parametrize(
    ("estimator", "limits", "message"),
    [
        (LeaveOneOut, {"min_sample": 2}, "min_sample=2: unknown limit .* did you mean min_samples"),
        ("SBNDisARM", {"samples": 2}, "samples=2: unsupported for a registered name"),
        ("SBNDisarm", {}, "unknown model 'SBNDisarm'.*did you mean SBNDisARM"),
        (3, {}, "estimator=3: must be the name of a model or a subclass"),
    ],
)
def test_invalid_arguments(estimator, limits, message):
    with pytest.raises(RebarError, match=message):
        testing.check_estimator(estimator, **limits)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 1.5}, {"seed": None}, {"only": None}])
def test_invalid_arguments_are_no_failed_checks(options):
    with pytest.raises(RebarError, match=f"{next(iter(options))}="):
        testing.check_estimator("SBNDisARM", **options)


def test_a_gradient_that_is_not_finite_is_not_called_biased():
    class Infinite(NVIL):
        verified = ({},)

        def estimate(self, model, x, noise):
            estimate = super().estimate(model, x, noise)
            return estimate._replace(gradients=[g / 0.0 for g in estimate.gradients])

    report = testing.check_estimator(Infinite, only="unbiased: unconditional, 1 layer, more")
    assert "non-finite" in report.failures[0].detail
