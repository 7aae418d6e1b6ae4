"""A trained PyTorch MLP, read back from its run."""

from part1_mlp.mlp_pytorch import MLP
from training.checkpoint import load_checkpoint
from training.errors import UsageError
from training.record import RunRecord


def load_net(run: RunRecord, n_inputs: int, n_classes: int) -> MLP:
    """The run's net with the weights of its best evaluation, on the CPU.

    Raises:
        UsageError: the weights are gone, broken or foreign.
    """
    if not run.checkpoint:
        raise UsageError(f"{run.path} has not kept its weights: there is no checkpoint")
    net = MLP(
        n_inputs,
        run.config["dnn_hidden_units"],
        n_classes,
        dropout=run.config["dropout"],
        batch_norm=run.config["batch_norm"],
        skip=run.config["skip"],
        activation=run.config["activation"],
    )
    try:
        net.load_state_dict(load_checkpoint(run.checkpoint)["best"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(f"{run.checkpoint}: not the weights of this run") from error
    return net.eval()
