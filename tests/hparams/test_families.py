"""Hyperparameters and tasks that apply to one family of models only."""

import pytest

from rebar.errors import RebarError
from rebar.hparams import HParams, completed


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("model=CatST,n_layer=2", r"n_layer=2: .* model=CatST; remove it"),
        ("model=SBN,n_latents=3", r"n_latents=3: .* model=SBN; remove it"),
        ("model=CatST,task=sp", r"task=sp: .* model=CatST; choose from sbn, omni"),
        ("model=SBN,task=mnist", r"task=mnist: .* task=sbn \(with dynamic_b=true .*gaussian$"),
        ("likelihood=gaussian", r"likelihood=gaussian: .* task=sbn .*; choose from mnist, fash"),
        ("model=CatST,likelihood=gaussian,task=omni", "=gaussian: .* task=omni has binary ones"),
        ("task=sp,likelihood=gaussian", r"likelihood=gaussian: .* task=sp has binary ones"),
        ("task=mine.npz,likelihood=gaussian,dynamic_b=true", r"dynamic_b=True: .*=gaussian; remo"),
        ("task=mnist,likelihood=gaussian,legacy2017=true", r"legacy2017=True: .*=gaussian; remo"),
        ("prior=uniform,learning_rate_prior=0.1", r"learning_rate_prior=0.1: without effect on a"),
        (
            "model=CatST,prior_optimizer=sgd",
            r"prior_optimizer=sgd: without .*set prior_optimizer=adam, or prior=learned$",
        ),
        ("task=sp_digits,prior=uniform", r"prior=uniform: unsupported by task=sp_digits"),
        ("model=SBN,task=fashion_grey", r"task=fashion_grey: .* task=fashion "),
        ("model=SBN,task=omni_grey", r"task=omni_grey: .* task=omni "),
        ("model=SBN,task=digits_grey", r"task=digits_grey: .* task=digits "),
        ("model=CatST,task=mnist,dynamic_b=true", r"dynamic_b=True: .* task=mnist"),
        (
            "model=CatTrackGradVariances,track=[ReinMax,DisARM],follow=ReinMax",
            r"track=\[ReinMax,DisARM\]: CatTrackGradVariances cannot track DisARM; "
            r"choose from ST, .* track=\[ST,DecoupledST\],follow=ST$",
        ),
        ("model=SBNTrackGradVariances,track=[ReinMax],follow=ReinMax", r"cannot track ReinMax"),
        ("model=CatLOO", r"n_samples=1: .* CatLOO; set n_samples=2"),
        ("model=CatReinMax,multi_sample=true", r"multi_sample=True: .* CatReinMax"),
        ("model=CatST,n_categories=1", r"n_categories=1: must be at least 2"),
        ("model=CatReinMaxRao,mc_samples=0", r"mc_samples=0: must be at least 1"),
        ("model=CatST,prior=flat", r"prior='flat': choose from auto, uniform, learned"),
        ("optimizer=sgd", r"optimizer='sgd': choose from adam, radam"),
        ("model=CatST,n_categories=1024,n_latents=100000", r"n_latents \* n_categories = "),
        ("model=CatGumbelRao,mc_samples=10000000", r"\* mc_samples = 7.68e\+09"),
        (
            "model=CatTrackGradVariances,track=[ST,ReinMaxCV],follow=ST,mc_samples=10000000",
            r"\* mc_samples = 7.68e\+09",
        ),
    ],
)
def test_unsupported_combinations_are_refused(string, message):
    with pytest.raises(RebarError, match=message):
        HParams.parse(string)


@pytest.mark.parametrize(
    "string",
    [
        "model=CatST,task=sbn,dynamic_b=true",
        "model=CatST,n_layer=1,n_hidden=200",
        "model=CatLOO,n_samples=2,task=mnist,prior=learned",
        "model=CatTrackGradVariances",
        "model=SBNDisARM,task=omni_grey,likelihood=gaussian",
        "model=CatReinMax,task=mine.npz,likelihood=gaussian",
        "model=SBNDisARM,task=sp,prior=learned",
        "model=CatDynamicREBAR,muprop_relaxation=false",
        "model=CatTrackGradVariances,track=[ReinMax,LOO],follow=LOO,n_samples=2",
    ],
)
def test_supported_combinations_are_accepted(string):
    HParams.parse(string)


@pytest.mark.parametrize("model", ["SBNDisARM", "CatST"])
def test_the_prior_of_a_run_from_before_likelihoods_is_its_default(model):
    """Its records have prior="uniform", also those of belief networks, whose prior is learned."""
    saved = HParams(model=model).to_dict()
    del saved["likelihood"]
    assert HParams.from_dict(completed(saved | {"prior": "uniform"})) == HParams(model=model)
    current = HParams(model=model, prior="uniform")
    assert HParams.from_dict(completed(current.to_dict())) == current


def test_saved_settings_of_a_uniform_prior_are_dropped():
    saved = HParams(model="CatST").to_dict() | {
        "learning_rate_prior": 0.1,
        "prior_optimizer": "sgd",
    }
    assert HParams.from_dict(completed(saved)) == HParams(model="CatST")
    learned = saved | {"prior": "learned"}
    assert HParams.from_dict(completed(learned)).learning_rate_prior == 0.1


def test_saved_settings_of_an_estimator_that_is_not_imported_are_kept():
    saved = HParams().to_dict() | {"model": "OfAPlugin", "learning_rate_prior": 0.1}
    assert completed(saved) == saved
