"""Settings of single members of a tracker: each computes as its class does with them."""

import inspect
import itertools

import pytest

from rebar import noise, registry
from rebar.estimators.antithetic import DisARM
from rebar.estimators.base import checked_estimate
from rebar.estimators.gumbel_rao import GumbelRao
from rebar.estimators.leave_one_out import LeaveOneOut
from rebar.estimators.rebar import REBAR
from rebar.estimators.reinmax import ReinMaxCV
from rebar.estimators.vimco import VIMCO
from rebar.testing.problems import dtype_policy
from tests.conformance.literal import models
from tests.conformance.test_settings import (
    assert_equal,
    difference,
    inputs,
    model_of,
    settings_of,
    with_random_control,
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Models in float64; networks of the categorical VAE with few units."""
    models.narrow(monkeypatch)
    with dtype_policy("float64"):
        yield


MEMBERS = {
    "SBNTrackGradVariances": {
        "REBAR": (REBAR, {}),
        "REBAR(temperature=1.3,coupling=all)": (
            REBAR,
            {"temperature": 1.3, "coupling": "all"},
        ),
        "DisARM(continuation=independent,n_samples=6)": (
            DisARM,
            {"continuation": "independent", "n_samples": 6},
        ),
        "LOO": (LeaveOneOut, {}),
        "LOO(n_samples=2)": (LeaveOneOut, {"n_samples": 2}),
        "VIMCO(n_samples=3)": (VIMCO, {"n_samples": 3}),
    },
    "CatTrackGradVariances": {
        "GumbelRao": (GumbelRao, {}),
        "GumbelRao(mc_samples=2,temperature=2)": (GumbelRao, {"mc_samples": 2, "temperature": 2.0}),
        "ReinMaxCV(cv_scale=-0.5,n_samples=6)": (ReinMaxCV, {"cv_scale": -0.5, "n_samples": 6}),
    },
}
"""Tracker -> item of track -> class and settings."""


@pytest.mark.parametrize("name", MEMBERS)
def test_a_tracked_estimator_computes_with_its_settings(name):
    """Compare with the class with these settings alone, at the noise of its samples."""
    of_run = {"temperature": 0.37, "mc_samples": 3} if name[0] == "C" else {"temperature": 0.37}
    for follow in MEMBERS[name]:
        settings = settings_of(name, track=tuple(MEMBERS[name]), follow=follow, **of_run)
        model = model_of(settings)
        tracker = registry.make_estimator(name, settings)
        tracker.setup(model, 2)
        for member in tracker.members().values():
            with_random_control(member)
        x, draws = inputs(model, settings.n_samples)
        estimate = checked_estimate(tracker, model, x, draws)
        alone = {}
        for text, (cls, changes) in MEMBERS[name].items():
            parameters = inspect.signature(cls.__init__).parameters
            values = {n: v for n, v in (of_run | changes).items() if n in parameters}
            estimator = cls(**values)
            estimator.setup(model, 2)
            own = noise.with_samples(draws, changes.get("n_samples", settings.n_samples))
            alone[text] = with_random_control(estimator).estimate(model, x, own)
            expected = alone[text]._replace(control_gradients=[])
            assert_equal(expected, estimate.tracked[text], [], 1e-12)
        control = [g for e in alone.values() for g in e.control_gradients]
        assert_equal(estimate, alone[follow].gradients, control, 1e-12)
        assert len(estimate.objective) == len(alone[follow].objective)
        for a, b in itertools.combinations(alone.values(), 2):
            assert difference(a, b) > 1e-6
