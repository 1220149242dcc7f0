"""Gradients of E f for user-defined functions, without models or training."""
