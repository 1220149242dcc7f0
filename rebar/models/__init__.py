"""Models: what has a joint distribution p(x, b) and a posterior q(b | x) to roll out."""
