"""Training: steps, moments, the loop over chunks of steps, evaluation, records, checkpoints."""
