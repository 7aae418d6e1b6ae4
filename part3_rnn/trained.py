"""A trained recurrent net, read back from its run."""

from argparse import Namespace

from part3_rnn.model import GatedRNN, VanillaRNN
from part3_rnn.train import make_net
from training.checkpoint import load_checkpoint
from training.errors import UsageError
from training.record import RunRecord


def load_net(run: RunRecord) -> VanillaRNN | GatedRNN:
    """The run's net with the weights of its best evaluation, on the CPU.

    Raises:
        UsageError: the run is none of this part's, or its weights are gone, broken or foreign.
    """
    if "input_length" not in run.config:
        raise UsageError(f"{run.path} holds no run of part 3")
    if not run.checkpoint:
        raise UsageError(f"{run.path} has not kept its weights: there is no checkpoint.pt")
    net = make_net(Namespace(**run.config))
    try:
        net.load_state_dict(load_checkpoint(run.checkpoint)["best"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(f"{run.checkpoint}: not the weights of this run") from error
    return net.eval()
