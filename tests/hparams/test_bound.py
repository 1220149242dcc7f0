"""Estimators that follow the multi-sample bound, and the errors of the others."""

import pytest

from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import HParams

ABLE = ["SBN", "SBNNVIL", "SBNARMS", "SBNVIMCO", "SBNOVIS", "SBNRWS", "SBNLocalDisARM"]
TRACK = "model=SBNTrackGradVariances,multi_sample=true,n_samples=2"


def test_the_registry_agrees_with_the_estimators():
    able = [name for name in registry.names("binary") if registry.entry(name).multi_sample]
    assert able == ABLE
    for name in able:
        hparams = HParams(model=name, multi_sample=True, n_samples=4)
        estimator = registry.make_estimator(name, hparams)
        assert (estimator.objective, estimator.generator_at_hard) == ("bound", False)
        assert estimator.n_samples == 4
    for name in ("SBN", "SBNNVIL", "SBNARMS"):
        estimator = registry.make_estimator(name, HParams(model=name))
        assert (estimator.objective, estimator.generator_at_hard) == ("elbo", True)
    for name in ("SBNVIMCO", "SBNOVIS", "SBNRWS", "SBNLocalDisARM"):
        estimator = registry.make_estimator(name, HParams(model=name, n_samples=2))
        assert estimator.objective == "bound"


@pytest.mark.parametrize("name", [n for n in registry.names("binary") if n not in ABLE])
def test_the_others_are_refused(name):
    with pytest.raises(RebarError) as caught:
        HParams(model=name, multi_sample=True, n_samples=2)
    message = str(caught.value)
    assert "multi_sample=True" in message
    assert message.endswith(f"choose from {', '.join(ABLE)}")
    assert HParams(model=name, n_samples=2).multi_sample is False


def test_every_estimator_that_is_tracked_must_be_able_to():
    h = HParams.parse(f"{TRACK},track=[NVIL,VIMCO,LocalDisARM,REINFORCE],follow=VIMCO")
    assert h.multi_sample
    with pytest.raises(RebarError, match=r"multi_sample=True: .* SBNDisARM, SBNRebar;"):
        HParams.parse(f"{TRACK},track=[NVIL,DisARM,VIMCO,REBAR],follow=VIMCO")
    # Without the setting each follows what it always does.
    HParams.parse("model=SBNTrackGradVariances,track=[VIMCO,REBAR],follow=REBAR,n_samples=2")
    # What is not tracked does not count.
    HParams.parse("model=SBNNVIL,multi_sample=true,track=[REBAR],follow=REBAR")


def test_bounds_are_compared_between_examples():
    with pytest.raises(RebarError, match=r"batch_size=1.* SBN .* raise batch_size to at least 2"):
        HParams(model="SBN", multi_sample=True, n_samples=4, batch_size=1)
    HParams(model="SBN", n_samples=4, batch_size=1)
    HParams(model="SBNNVIL", multi_sample=True, n_samples=4, batch_size=1)


def test_a_registered_estimator(own_registry):
    own_registry.register("Mine", "a:b", multi_sample=True)
    assert HParams(model="Mine", multi_sample=True).multi_sample
    with pytest.raises(RebarError, match=r"SBNLocalDisARM, Mine$"):
        HParams(model="SBNRebar", multi_sample=True)
