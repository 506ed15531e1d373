"""Pure functions: arrays and tensors in, arrays and numbers out."""
