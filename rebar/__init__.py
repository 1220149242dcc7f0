"""Gradient estimators for models with discrete latent variables, in TensorFlow 2.

Names are imported on first use, so that command-line programs start, and refuse bad input, before
TensorFlow is loaded.
"""

import importlib
import pkgutil

_HOMES = {
    "Estimate": "rebar.types:Estimate",
    "Estimator": "rebar.estimators.base:Estimator",
    "FreeForm": "rebar.functional.free_form:FreeForm",
    "GradientEstimate": "rebar.functional.estimate:GradientEstimate",
    "HParams": "rebar.hparams:HParams",
    "Noise": "rebar.noise:Noise",
    "RebarError": "rebar.errors:RebarError",
    "Rollout": "rebar.types:Rollout",
    "compare_estimators": "rebar.analysis.comparison:compare_estimators",
    "estimate": "rebar.objectives.estimate:estimate",
    "estimator": "rebar.objectives.estimate:estimator",
    "estimate_gradient": "rebar.functional.estimate:estimate_gradient",
    "estimator_variance": "rebar.analysis.variance:estimator_variance",
    "load_data": "rebar.data:load",
    "load_model": "rebar.experiment:load_model",
    "preset": "rebar.hparams.presets:preset",
    "register": "rebar.registry:register",
    "register_model": "rebar.registry:register_model",
    "register_task": "rebar.data:register_task",
    "straight_through": "rebar.functional.straight_through:",
    "train": "rebar.experiment:train",
}
"""Public name -> its home. Submodules and the classes of all models are public too."""

_LIGHT = {
    *("HParams", "RebarError", "load_data", "preset"),
    *("register", "register_model", "register_task"),
}
"""Names that need neither Keras nor TensorFlow."""

_SUBMODULES = {module.name for module in pkgutil.iter_modules(__path__)}

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name):
    if name in _HOMES:
        module, _, attribute = _HOMES[name].partition(":")
        if name not in _LIGHT:
            importlib.import_module("rebar.runs.environment").check_backend()
        home = importlib.import_module(module)
        return getattr(home, attribute) if attribute else home
    if not name.startswith("_"):
        if name in _SUBMODULES:
            return importlib.import_module(f"rebar.{name}")
        registry = importlib.import_module("rebar.registry")
        if name in registry.names():
            importlib.import_module("rebar.runs.environment").check_backend()
            return importlib.import_module("rebar.original").model_class(name)
        near = importlib.import_module("rebar.errors").did_you_mean(name, __dir__())
        raise AttributeError(f"module 'rebar' has no attribute {name!r}{near}")
    raise AttributeError(f"module 'rebar' has no attribute {name!r}")


def __dir__():
    registry = importlib.import_module("rebar.registry")
    return sorted({*globals(), *_HOMES, *_SUBMODULES, *registry.names()})
