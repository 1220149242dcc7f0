"""Which steps are compiled by default."""

import pytest

from rebar import registry
from rebar.hparams import HParams


@pytest.mark.parametrize("model", ["CatST", "CatReinMax", "CatReinMaxRao"])
@pytest.mark.parametrize(("n_latents", "n_categories", "pays"), [(8, 4, True), (64, 8, False)])
def test_straight_through_estimators_are_compiled_when_small(model, n_latents, n_categories, pays):
    hparams = HParams(model=model, n_latents=n_latents, n_categories=n_categories)
    assert registry.make_estimator(model, hparams).jit_pays == pays
