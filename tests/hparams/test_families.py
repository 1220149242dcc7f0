"""Hyperparameters that are of one kind of model only, and tasks that suit one kind only."""

import pytest

from rebar.errors import RebarError
from rebar.hparams import HParams


@pytest.mark.parametrize(
    ("string", "message"),
    [
        (
            "model=CatST,n_layer=2",
            r"n_layer=2 is of sigmoid belief networks, but model=CatST; leave it out",
        ),
        ("model=SBN,n_latents=3", r"n_latents=3 is of categorical VAEs \(Cat...\), but model=SBN"),
        ("model=CatST,task=sp", r"task=sp is conditional, and CatST is not; choose from sbn, omni"),
        (
            "model=SBN,task=mnist",
            r"task=mnist has grayscale images, but SBN models binary ones; give task=sbn",
        ),
        ("model=SBN,task=fashion_grey", r"give task=fashion \(with dynamic_b=true"),
        ("model=SBN,task=digits_grey", r"give task=digits "),
        ("model=CatST,task=mnist,dynamic_b=true", r"task=mnist has grayscale ones; remove one"),
        (
            "model=CatTrackGradVariances,track=[ReinMax,NVIL],follow=ReinMax",
            r"track=\[ReinMax,NVIL\]: NVIL cannot be tracked by CatTrackGradVariances; "
            r'choose from ST, .*\(e.g. "track=\[ST,ST-GS\],follow=ST"\)',
        ),
        ("model=CatTrackGradVariances", r"DynamicREBAR, REBAR cannot be tracked by CatTrack"),
        (
            "model=SBNTrackGradVariances,track=[ReinMax],follow=ReinMax",
            r"ReinMax cannot be tracked",
        ),
        ("model=CatLOO", r"CatLOO compares the samples of an example"),
        ("model=CatReinMax,multi_sample=true", r"CatReinMax cannot follow the multi-sample bound"),
        ("model=CatST,n_categories=1", r"n_categories=1: must be at least 2"),
        ("model=CatReinMaxRao,mc_samples=0", r"mc_samples=0: must be at least 1"),
        ("model=CatST,prior=flat", r"prior='flat': choose from uniform, learned"),
        ("optimizer=sgd", r"optimizer='sgd': choose from adam, radam"),
        ("model=CatST,n_categories=1024,n_latents=100000", r"numbers of noise a step"),
        ("model=CatGumbelRao,mc_samples=10000000", r"\* mc_samples = 7.68e\+09 numbers of noise"),
        (
            "model=CatTrackGradVariances,track=[ST,ReinMaxCV],follow=ST,mc_samples=10000000",
            r"\* mc_samples = 7.68e\+09 numbers of noise",
        ),
    ],
)
def test_what_does_not_fit_is_refused(string, message):
    with pytest.raises(RebarError, match=message):
        HParams.parse(string)


@pytest.mark.parametrize(
    "string",
    [
        "model=CatST,task=sbn,dynamic_b=true",
        "model=CatST,n_layer=1,n_hidden=200",
        "model=CatLOO,n_samples=2,task=mnist,prior=learned",
        "model=CatTrackGradVariances,track=[ReinMax,LOO],follow=LOO,n_samples=2",
    ],
)
def test_what_fits_is_taken(string):
    HParams.parse(string)
