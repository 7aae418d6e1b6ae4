"""A trained CNN, read back from its run."""

import torch

from data.cifar10 import CLASS_NAMES
from part2_cnn.model import CNN
from training.checkpoint import load_checkpoint
from training.errors import UsageError
from training.record import RunRecord


def load_net(run: RunRecord) -> CNN:
    """The run's net with the weights of its best evaluation, on the CPU.

    Raises:
        UsageError: the run is none of this part's, or its weights are gone, broken or foreign.
    """
    if "image_sizes" not in run.config:
        raise UsageError(f"{run.path} holds no run of part 2")
    if not run.checkpoint:
        raise UsageError(f"{run.path} has not kept its weights: there is no checkpoint.pt")
    net = CNN(3, len(CLASS_NAMES))
    try:
        net.load_state_dict(load_checkpoint(run.checkpoint)["best"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(f"{run.checkpoint}: not the weights of part 2's net") from error
    return net.eval().to(memory_format=torch.channels_last)
