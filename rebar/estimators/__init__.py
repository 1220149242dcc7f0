"""Estimators: functions of (model, x, noise) that return gradients as values."""
