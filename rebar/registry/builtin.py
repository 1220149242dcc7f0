"""Built-in estimators by name. A new one is added here."""

import functools
from collections.abc import Sequence
from typing import Any

from rebar.registry.entries import FAMILIES, Entry


def _binary(target: str, label: str, families: Sequence[str] = FAMILIES, **limits: Any) -> Entry:
    """Return an entry of a built-in estimator."""
    return Entry(f"rebar.estimators.{target}", label, families=families, **limits)


_categorical = functools.partial(_binary, latents="categorical")
_UNITS = ("bernoulli",)
_CATEGORIES = ("categorical",)
_DIFFUSION = {"redge_steps": 5, "redge_end": 0.5}

ESTIMATORS: dict[str, Entry] = {
    "SBN": _binary("reinforce:Reinforce", "REINFORCE", min_rows=2, multi_sample=True),
    "SBNNVIL": _binary("nvil:NVIL", "NVIL", multi_sample=True),
    "SBNSimpleMuProp": _binary("muprop:SimpleMuProp", "SimpleMuProp"),
    "SBNMuProp": _binary("muprop:MuProp", "MuProp"),
    "SBNRebar": _binary("rebar:REBAR", "REBAR"),
    "SBNDynamicRebar": _binary("rebar:DynamicREBAR", "DynamicREBAR"),
    "SBNGumbel": _binary("gumbel:GumbelSoftmax", "Gumbel"),
    "SBNReinforceLOO": _binary("leave_one_out:LeaveOneOut", "LOO", min_samples=2),
    "SBNARM": _binary("antithetic:ARM", "ARM", _UNITS),
    "SBNDisARM": _binary("antithetic:DisARM", "DisARM", _UNITS),
    "SBNRelax": _binary("relax:RELAX", "RELAX"),
    "SBNDoubleCV": _binary("double_cv:DoubleCV", "DoubleCV", min_samples=2),
    "SBNRODEO": _binary(
        "rodeo:RODEO", "RODEO", _UNITS, min_samples=2, hparams={"rodeo_hidden": 10}
    ),
    "SBNARMS": _binary("arms:ARMS", "ARMS", _UNITS, multi_sample=True, hparams={"n_antithetic": 3}),
    "SBNBitFlip": _binary("bit_flip:BitFlip", "BitFlip", _UNITS),
    "SBNUGC": _binary("bit_flip:UGC", "UGC", _UNITS),
    "SBNtUGC": _binary("bit_flip:TruncatedUGC", "tUGC", _UNITS),
    "SBNLEG": _binary("leg:LEG", "LEG", _UNITS),
    "SBNVIMCO": _binary("vimco:VIMCO", "VIMCO", min_samples=2, multi_sample=True),
    "SBNOVIS": _binary(
        "ovis:OVIS",
        "OVIS",
        min_samples=2,
        multi_sample=True,
        hparams={"ovis_gamma": 0.0, "ovis_samples": 0},
    ),
    "SBNRWS": _binary("rws:RWS", "RWS", min_samples=2, multi_sample=True),
    "SBNLocalDisARM": _binary(
        "local_disarm:LocalDisARM", "LocalDisARM", _UNITS, samples=2, multi_sample=True
    ),
    "SBNTrackGradVariances": _binary("tracked:Tracked", "Track", tracks=True),
    "CatST": _categorical("straight_through:StraightThrough", "ST"),
    "CatDecoupledST": _categorical(
        "straight_through:DecoupledStraightThrough",
        "DecoupledST",
        hparams={"forward_temperature": 1.0, "backward_temperature": 1.0},
    ),
    "CatGumbelST": _categorical("straight_through:StraightThroughGumbel", "ST-GS"),
    "CatGumbelRao": _categorical("gumbel_rao:GumbelRao", "GumbelRao"),
    "CatGST": _categorical("straight_through:GappedStraightThrough", "GST"),
    "CatReinMax": _categorical("reinmax:ReinMax", "ReinMax"),
    "CatZGR": _categorical("reinmax:ZGR", "ZGR"),
    "CatReinMaxRao": _categorical("reinmax:ReinMaxRao", "ReinMaxRao"),
    "CatReinMaxCV": _categorical("reinmax:ReinMaxCV", "ReinMaxCV"),
    "CatReinMaxRK2": _categorical("reinmax:ReinMaxRK2", "ReinMaxRK2"),
    "CatReDGE": _categorical("redge:ReDGE", "ReDGE", hparams=_DIFFUSION),
    "CatReinDGE": _categorical("redge:ReinDGE", "ReinDGE", hparams=_DIFFUSION),
    "CatReinforce": _categorical("reinforce:Reinforce", "REINFORCE", min_rows=2),
    "CatLOO": _categorical("leave_one_out:LeaveOneOut", "LOO", min_samples=2),
    "CatNVIL": _categorical("nvil:NVIL", "NVIL"),
    "CatSimpleMuProp": _categorical("muprop:SimpleMuProp", "SimpleMuProp"),
    "CatMuProp": _categorical("muprop:MuProp", "MuProp"),
    "CatREBAR": _categorical("rebar:REBAR", "REBAR"),
    "CatDynamicREBAR": _categorical("rebar:DynamicREBAR", "DynamicREBAR"),
    "CatRELAX": _categorical("relax:RELAX", "RELAX"),
    "CatDoubleCV": _categorical("double_cv:DoubleCV", "DoubleCV", min_samples=2),
    "CatCARMS": _categorical("carms:CARMS", "CARMS", _CATEGORIES, hparams={"n_antithetic": 3}),
    "CatDisARMSB": _categorical("categorical_disarm:DisARMSB", "DisARM-SB", _CATEGORIES),
    "CatDisARMTree": _categorical("categorical_disarm:DisARMTree", "DisARM-Tree", _CATEGORIES),
    "CatDisARMIW": _categorical("categorical_disarm:DisARMIW", "DisARM-IW", _CATEGORIES),
    "CatARSM": _categorical("arsm:ARSM", "ARSM", _CATEGORIES),
    "CatUNORD": _categorical("unord:UNORD", "UNORD", _CATEGORIES, hparams={"n_codes": 3}),
    "CatGumbel": _categorical("gumbel:GumbelSoftmax", "Gumbel"),
    "CatIndeCateR": _categorical("sum_and_sample:IndeCateR", "IndeCateR", _CATEGORIES),
    "CatSumAndSample": _categorical(
        "sum_and_sample:SumAndSample", "SumAndSample", _CATEGORIES, hparams={"n_exact": 1}
    ),
    "CatExact": _categorical("enumerated:Enumerated", "Exact"),
    "CatTrackGradVariances": _categorical("tracked:Tracked", "Track", tracks=True),
}
