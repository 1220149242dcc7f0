"""Pure functions of tensors: no variables, no input or output, no randomness."""
