"""Hyperparameters: fields, checks, grammar and presets, without TensorFlow."""

from rebar.hparams.hparams import Description, HParams, describe, run_folder, run_name

__all__ = ["Description", "HParams", "describe", "run_folder", "run_name"]
