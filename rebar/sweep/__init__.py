"""Many runs from one command: a grid of hyperparameters and seeds, here or on a cluster."""
