"""Gradients of E f for an objective of one's own: a function call, without models or training."""
