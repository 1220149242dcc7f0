"""The folder of one run: checkpoints, records, events, images, lock, environment."""
