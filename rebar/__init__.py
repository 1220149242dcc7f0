"""Gradient estimators for models with discrete latent variables, in TensorFlow 2.

Names are imported on first use, so that command-line programs start, and refuse bad input, before
TensorFlow is loaded.
"""

import importlib

_HOMES = {
    "BernoulliEstimate": "rebar.functional.estimate:BernoulliEstimate",
    "Estimate": "rebar.types:Estimate",
    "Estimator": "rebar.estimators.base:Estimator",
    "FreeForm": "rebar.functional.free_form:FreeForm",
    "HParams": "rebar.hparams:HParams",
    "Noise": "rebar.noise:Noise",
    "RebarError": "rebar.errors:RebarError",
    "Rollout": "rebar.types:Rollout",
    "SBN": "rebar.original:SBN",
    "SBNDynamicRebar": "rebar.original:SBNDynamicRebar",
    "SBNGumbel": "rebar.original:SBNGumbel",
    "SBNMuProp": "rebar.original:SBNMuProp",
    "SBNNVIL": "rebar.original:SBNNVIL",
    "SBNRebar": "rebar.original:SBNRebar",
    "SBNSimpleMuProp": "rebar.original:SBNSimpleMuProp",
    "SBNTrackGradVariances": "rebar.original:SBNTrackGradVariances",
    "estimate_gradient": "rebar.functional.estimate:estimate_gradient",
    "estimator_variance": "rebar.training.estimator_variance:estimator_variance",
    "load_data": "rebar.data:load",
    "load_model": "rebar.restore:load_model",
    "preset": "rebar.hparams.presets:preset",
    "register": "rebar.registry:register",
    "straight_through": "rebar.straight_through",
}

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'rebar' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    home = importlib.import_module(module)
    return getattr(home, attribute) if attribute else home


def __dir__():
    return sorted([*globals(), *_HOMES])
