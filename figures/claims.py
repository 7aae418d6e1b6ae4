"""What decides the claims of the original: set before the runs that are judged, except SIZES."""

# C1, C2: the steps to reach these shares of the final validation accuracy are compared.
CONVERGED_C1 = (0.90, 0.95, 0.99)
CONVERGED_C2 = (0.85, 0.95, 0.99)
SAME_ACCURACY = 0.005  # C1: final accuracies that differ by less are the same
# C4: of each size a convolutional net and an MLP with about as many parameters, or more.
SIZES = {
    "cnn_short_pooled128": "mlp_pytorch_short_small",
    "cnn_short_pooled256": "mlp_pytorch_short_augmented",
    "cnn_short_augmented": "mlp_pytorch_short_large",
}
SOLVED = 0.99  # C6 to C9: accuracy at which a seed has solved a task
SHORT_T, LONG_T = 5, 30  # C7: the lengths that are compared
MOST = 0.5  # C6 to C9: a net solves a task if more than this share of its seeds do
HIDDEN_UNITS = 128  # C9: of all nets in other experiments; compared with the fewest
RESTORED = 0.1  # C8: first gradient over last at or above which gradients have not vanished
