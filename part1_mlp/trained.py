"""A trained PyTorch MLP, read back from its run."""

from part1_mlp.mlp_pytorch import MLP
from training.checkpoint import load_best
from training.record import RunRecord


def load_net(run: RunRecord, n_inputs: int, n_classes: int) -> MLP:
    """The run's net with the weights of its best evaluation, on the CPU.

    Raises:
        UsageError: the weights are gone, broken or foreign.
    """
    net = MLP(
        n_inputs,
        run.config["dnn_hidden_units"],
        n_classes,
        dropout=run.config["dropout"],
        batch_norm=run.config["batch_norm"],
        skip=run.config["skip"],
        activation=run.config["activation"],
    )
    load_best(net, run)
    return net.eval()
