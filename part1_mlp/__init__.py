"""Part 1: the same multi-layer perceptron by hand in NumPy and as a PyTorch module."""
