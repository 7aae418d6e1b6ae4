"""Claim C8: how much the loss depends on each hidden state, before and after training."""

import csv
import io
from pathlib import Path

import numpy as np

from data.palindromes import draw_palindromes
from part3_rnn.analysis import gradient_norms
from part3_rnn.trained import initial_net, load_net
from training.errors import UsageError
from training.record import RunRecord

GRADIENTS_FILE = "gradients.csv"
COLUMNS = ("step", "initial", "trained")
SEQUENCES = 500
SEED = 11


def measure_gradients(run: RunRecord, *, data_dir: str | None = None, quick: bool = False) -> str:
    """The norms of d loss / d h_t for each t, as the text of a CSV file.

    Args:
        run: a finished run of the vanilla RNN that still has its weights.
        data_dir, quick: not needed; every measure takes them.
    """
    length = run.config["input_length"]
    sequences = draw_palindromes(SEQUENCES, length, SEED)
    norms = [gradient_norms(net, *sequences) for net in (initial_net(run), load_net(run))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (t, *(f"{norm:.4g}" for norm in at_t))
        for t, at_t in enumerate(zip(*norms, strict=True), start=1)
    )
    return text.getvalue()


def read_gradients(record: Path) -> dict[str, np.ndarray]:
    """The columns of a record's gradients.csv.

    Raises:
        UsageError: there are none, or they are broken.
    """
    path = record / GRADIENTS_FILE
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is missing or broken") from error
