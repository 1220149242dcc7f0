"""Gradient estimators for models with discrete latent variables, in TensorFlow 2.

Names are imported on first use, so that command-line programs start, and refuse bad input, before
TensorFlow is loaded.
"""

import importlib

_HOMES = {
    "Estimate": "rebar.types",
    "Estimator": "rebar.estimators.base",
    "HParams": "rebar.hparams",
    "Noise": "rebar.noise",
    "RebarError": "rebar.errors",
    "Rollout": "rebar.types",
    "SBN": "rebar.original",
    "SBNDynamicRebar": "rebar.original",
    "SBNGumbel": "rebar.original",
    "SBNMuProp": "rebar.original",
    "SBNNVIL": "rebar.original",
    "SBNRebar": "rebar.original",
    "SBNSimpleMuProp": "rebar.original",
    "SBNTrackGradVariances": "rebar.original",
    "load_model": "rebar.restore",
    "register": "rebar.registry",
}

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'rebar' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return sorted([*globals(), *_HOMES])
