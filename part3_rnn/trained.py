"""A trained recurrent net, read back from its run."""

from argparse import Namespace

from part3_rnn.model import GatedRNN, VanillaRNN
from part3_rnn.train import make_net
from training.checkpoint import load_checkpoint
from training.errors import UsageError
from training.record import RunRecord


def initial_net(run: RunRecord) -> VanillaRNN | GatedRNN:
    """The run's net with the weights that it began with, on the CPU.

    Raises:
        UsageError: the run is none of this part's.
    """
    if "input_length" not in run.config:
        raise UsageError(f"{run.path} holds no run of part 3")
    return make_net(Namespace(**run.config))


def load_net(run: RunRecord) -> VanillaRNN | GatedRNN:
    """The run's net with the weights of its best evaluation, on the CPU.

    Raises:
        UsageError: the run is none of this part's, or its weights are gone, broken or foreign.
    """
    net = initial_net(run)
    if not run.checkpoint:
        raise UsageError(f"{run.path} has not kept its weights: there is no checkpoint.pt")
    try:
        net.load_state_dict(load_checkpoint(run.checkpoint)["best"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(f"{run.checkpoint}: not the weights of this run") from error
    return net.eval()
