"""`latents=[...]`: layers of units and of categorical variables."""

import pytest

from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import HParams, run_name

SUPPORTED = ("SBN", "SBNNVIL", "SBNSimpleMuProp", "SBNMuProp", "SBNRebar", "SBNDynamicRebar")
SUPPORTED += (
    "SBNGumbel",
    "SBNReinforceLOO",
    "SBNRelax",
    "SBNDoubleCV",
    "SBNVIMCO",
    "SBNOVIS",
    "SBNRWS",
)
INVALID = ("0", "1x4", "8x0", "8x", "x4", "-3", "2x2x2", "08", "\u0663", "9" * 5000)


def test_layers_and_their_descriptions():
    hparams = HParams.parse("model=SBNRebar,latents=[200,8x4]")
    assert hparams.layers == ((200,), (4, 8))
    assert hparams.families == {"bernoulli", "categorical"}
    text = "2 stochastic layers of 200 units and 4 variables of 8 categories, linear"
    assert hparams.architecture == text
    assert run_name(hparams, 0).startswith("SBNRebar-sbn-200-8x4-lr0.001-s0-")
    assert hparams.format() == "model=SBNRebar,latents=[200,8x4]"
    assert HParams.parse(hparams.format()) == HParams.from_dict(hparams.to_dict()) == hparams
    assert HParams(model="SBNRebar", latents=[200, "8x4"]) == hparams
    assert {"n_hidden", "n_layer", "n_categories", "n_latents"}.isdisjoint(hparams.applicable())
    deep = HParams.parse("model=SBN,latents=[7,7,7]")
    assert deep.architecture == HParams(model="SBN", n_hidden=7, n_layer=3).architecture


@pytest.mark.parametrize("string", ["latents=[200 10x2]", "latents=[2,2],n_layer=1", "latents=[]"])
def test_sizes_by_default_are_no_conflict(string):
    HParams.parse("model=SBNNVIL", string)


@pytest.mark.parametrize(
    ("string", "message"),
    [
        *(
            (f"latents=[{text}]", rf"latents=\[{text}\]: must be a list of layers")
            for text in INVALID
        ),
        ("latents=200", r"must be a list, not one value; write latents=\[200\]"),
        (
            "latents=[200,8x4],n_layer=2,n_hidden=9,n_latents=3",
            r"latents=\[200,8x4\]: replaces n_hidden=9, n_layer=2, n_latents=3; remove one or the "
            r"other$",
        ),
        ("model=CatST,latents=[8x4],task=mnist", r"model=CatST,latents=\[8x4\] models binary ones"),
        (
            "latents=[4000000,900000x9]",
            r"batch_size \* n_samples \* width of latents = 2.9e\+08",
        ),
        (
            "model=SBNDisARM,latents=[200,8x4]",
            r"latents=\[200,8x4\]: SBNDisARM does not support categorical layers; choose from "
            f"{', '.join(SUPPORTED)}$",
        ),
        ("model=SBNTrackGradVariances,track=[NVIL,ARM],latents=[2x2]", "SBNARM does not support"),
        (
            "model=SBNTrackGradVariances,track=[LOO,DisARM(n_samples=2)],latents=[2x2]",
            r"DisARM\(n_samples=2\): .* SBNDisARM does not support",
        ),
    ],
)
def test_what_is_refused(string, message):
    values = string if "model=" in string else f"model=SBNRebar,{string}"
    with pytest.raises(RebarError, match=message):
        HParams.parse(values)


def test_every_name_accepts_what_its_estimator_supports(own_registry):
    registry.register("Mine", "module:Class")
    for name in registry.names():
        entry = registry.entry(name)
        both = set(entry.families) == set(registry.FAMILIES)
        values = {"model": name, "task": "sbn", "n_samples": entry.n_samples(2)}
        values |= {"track": ("LOO",), "follow": "LOO"}
        for layers, supported in (
            (("9", "2x3"), both),
            (("9", "8"), "bernoulli" in entry.families),
            (("2x3",), "categorical" in entry.families),
        ):
            if supported:
                HParams(**values, latents=layers)
            else:
                with pytest.raises(RebarError, match=f"{name} does not support"):
                    HParams(**values, latents=layers)
    assert set(SUPPORTED) < {n for n in registry.names() if len(registry.entry(n).families) == 2}
