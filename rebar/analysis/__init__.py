"""Bias, variance and cost of estimators, and pictures of models."""
