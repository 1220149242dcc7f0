"""The estimate of every registered estimator by its formula, with settings from HParams.

    gradients, control_gradients = estimate(name, model, x, noise, settings, estimator)

Nothing is shared with the estimators but `model.rollout` and the key of further noise: samples,
learning signals, kernels and baselines are computed here, by the formulas of the modules'
docstrings, and `estimator` only gives the values of its learned weights. REBAR and RELAX are those
of the papers, with coupled rollouts.
"""

from types import SimpleNamespace

from rebar import registry
from tests.conformance.literal import binary, categorical, controls, coupled, flips


def estimate(name, model, x, noise, settings, estimator) -> tuple:
    """Gradients of -mean f and of the objective of the control variates, as the estimator's."""
    return FORMULAS[name](SimpleNamespace(**locals()))


def _tracked(c):
    names = registry.labels(registry.entry(c.name).latents)
    gradients, control = {}, []
    for label, member in c.estimator.members().items():
        gradients[label], of_member = estimate(
            names[label], c.model, c.x, c.noise, c.settings, member
        )
        control += of_member
    return gradients[c.settings.follow], control


TEMPERATURE = {"temperature": "temperature"}

FORMULAS = {
    "SBN": binary.reinforce,
    "SBNNVIL": binary.nvil,
    "SBNSimpleMuProp": binary.simple_muprop,
    "SBNMuProp": binary.muprop,
    "SBNRebar": binary.rebar,
    "SBNDynamicRebar": binary.dynamic_rebar,
    "SBNGumbel": binary.gumbel,
    "SBNReinforceLOO": binary.leave_one_out,
    "SBNARM": binary.arm,
    "SBNDisARM": binary.disarm,
    "SBNRelax": binary.relax,
    "SBNDoubleCV": controls.double_cv,
    "SBNRODEO": controls.rodeo,
    "SBNARMS": controls.arms,
    "SBNBitFlip": flips.bit_flip,
    "SBNUGC": flips.ugc,
    "SBNtUGC": flips.truncated_ugc,
    "SBNLEG": flips.leg,
    "SBNVIMCO": binary.vimco,
    "SBNOVIS": binary.ovis,
    "SBNRWS": binary.rws,
    "SBNLocalDisARM": binary.local_disarm,
    "SBNTrackGradVariances": _tracked,
    "CatST": categorical.through("st", **TEMPERATURE),
    "CatDecoupledST": categorical.decoupled,
    "CatGumbelST": categorical.through("st_gumbel", **TEMPERATURE),
    "CatGumbelRao": categorical.through("gumbel_rao", "mc_samples", **TEMPERATURE),
    "CatGST": categorical.through("gst", **TEMPERATURE, gap="gst_gap"),
    "CatReinMax": categorical.through("reinmax", **TEMPERATURE),
    "CatZGR": categorical.through("zgr"),
    "CatReinMaxRao": categorical.through("reinmax_rao", "mc_samples", **TEMPERATURE),
    "CatReinMaxCV": categorical.through(
        "reinmax_cv", "mc_samples", **TEMPERATURE, scale="cv_scale", form="cv_form"
    ),
    "CatReinMaxRK2": categorical.through("reinmax_rk2", beta="rk2_beta", form="rk2_form"),
    "CatReDGE": categorical.redge,
    "CatReinDGE": categorical.redge,
    "CatReinforce": binary.reinforce,
    "CatLOO": binary.leave_one_out,
    "CatNVIL": binary.nvil,
    "CatSimpleMuProp": binary.simple_muprop,
    "CatMuProp": binary.muprop,
    "CatREBAR": binary.rebar,
    "CatDynamicREBAR": binary.dynamic_rebar,
    "CatRELAX": binary.relax,
    "CatDoubleCV": controls.double_cv,
    "CatCARMS": coupled.carms,
    "CatDisARMSB": coupled.disarm_sb,
    "CatDisARMTree": coupled.disarm_tree,
    "CatDisARMIW": coupled.disarm_iw,
    "CatARSM": coupled.arsm,
    "CatUNORD": coupled.unord,
    "CatGumbel": binary.gumbel,
    "CatIndeCateR": categorical.sum_and_sample,
    "CatSumAndSample": categorical.sum_and_sample,
    "CatExact": categorical.exact,
    "CatTrackGradVariances": _tracked,
}
"""Model name -> formula."""
