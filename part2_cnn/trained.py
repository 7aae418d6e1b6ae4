"""A trained CNN, read back from its run."""

import torch

from data.cifar10 import CLASS_NAMES
from part2_cnn.model import CNN
from training.checkpoint import load_best
from training.errors import UsageError
from training.record import RunRecord


def check_part(run: RunRecord) -> None:
    """Refuse a run of another part.

    Raises:
        UsageError: it is one.
    """
    if "image_sizes" not in run.config:
        raise UsageError(f"{run.path} holds no run of part 2")


def load_net(run: RunRecord) -> CNN:
    """The run's net with the weights of its best evaluation, on the CPU.

    Raises:
        UsageError: the run is none of this part's, or its weights are gone, broken or foreign.
    """
    check_part(run)
    net = CNN(3, len(CLASS_NAMES))
    load_best(net, run, "part 2's net")
    return net.eval().to(memory_format=torch.channels_last)
