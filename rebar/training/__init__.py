"""Training: steps, optimizers, moments of gradients, evaluation, and the loop of a run."""
