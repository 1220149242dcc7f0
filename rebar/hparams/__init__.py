"""Hyperparameters: fields, checks, grammar and presets, without TensorFlow."""

from rebar.hparams.hparams import HParams, completed, defaults, run_folder, run_name
from rebar.hparams.settings import Settings

__all__ = ["HParams", "Settings", "completed", "defaults", "run_folder", "run_name"]
