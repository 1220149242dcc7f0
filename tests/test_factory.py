"""Models that do not fit into memory are refused before their weights are allocated."""

import numpy as np
import pytest

from rebar import factory
from rebar.errors import RebarError
from rebar.hparams import HParams

MEAN = np.full(64, 0.5)


@pytest.mark.parametrize(
    ("hparams", "conditional"),
    [
        ("model=SBNDisARM,n_hidden=70", False),
        ("model=SBNDisARM,n_layer=3,n_hidden=50", False),
        ("model=SBNDisARM,n_layer=2,nonlinear=true,n_hidden=50", False),
        ("model=SBNDisARM,n_layer=2,n_hidden=50,task=sp", True),
        ("model=CatReinMax,n_latents=5,n_categories=9", False),
        ("model=CatReinMax,latents=[40,5x9],nonlinear=true", False),
    ],
)
def test_weights_are_counted(hparams, conditional):
    hparams = HParams.parse(hparams)
    count = factory.count_weights(hparams, len(MEAN))
    exact = factory.make_model(hparams, MEAN, conditional).count_params()
    assert 0.9 * exact <= count <= (1.3 if conditional else 1) * exact


@pytest.mark.parametrize(
    ("hparams", "fix"),
    [
        ("model=SBNDisARM,n_hidden=100000,n_layer=2,batch_size=2", "n_hidden"),
        ("model=SBNDisARM,n_hidden=1000,n_layer=10000,batch_size=2", "n_layer"),
        ("model=CatReinMax,n_latents=16000,n_categories=16000,batch_size=1", "n_latents"),
        ("model=SBN,latents=[9,100000x2,200000],batch_size=2", "latents"),
    ],
)
def test_a_model_larger_than_memory_is_refused(hparams, fix):
    with pytest.raises(RebarError, match=rf"weights need [\d,]+ GiB.*reduce .*{fix}"):
        factory.make_model(HParams.parse(hparams), MEAN, False)


def test_a_container_limits_memory(monkeypatch):
    monkeypatch.setattr(factory, "_memory", lambda: 1e5)
    with pytest.raises(RebarError, match="reduce n_hidden"):
        factory.make_model(HParams.parse("model=SBNDisARM"), MEAN, False)
