"""Claims C8 and C9: what hinders a vanilla RNN's memory, before and after training."""

import csv
import io
from pathlib import Path

import numpy as np

from data.palindromes import draw_palindromes
from part3_rnn.analysis import first_digit_shares, gradient_norms
from part3_rnn.trained import initial_net, load_net
from training.errors import UsageError
from training.record import RunRecord

MEMORY_FILE = "memory.csv"
COLUMNS = ("step", "initial_gradient", "trained_gradient", "initial_share", "trained_share")
SEQUENCES = 500
SEED = 11


def measure_memory(run: RunRecord, *, data_dir: str | None = None) -> str:
    """How far gradients reach and the first digit stays, as the text of a CSV file.

    For each step t: the norm of d loss / d h_t, and the share of the variance of h_t that the
    first digit explains, see `part3_rnn.analysis`.

    Args:
        run: a finished run of the vanilla RNN that still has its weights.
        data_dir: not needed; every measure takes it.
    """
    x, y = draw_palindromes(SEQUENCES, run.config["input_length"], SEED)
    nets = initial_net(run), load_net(run)
    measured = [f(net, x, y) for f in (gradient_norms, first_digit_shares) for net in nets]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (t, *(f"{value:.4g}" for value in at_t))
        for t, at_t in enumerate(zip(*measured, strict=True), start=1)
    )
    return text.getvalue()


def read_memory(record: Path) -> dict[str, np.ndarray]:
    """The columns of a record's memory.csv.

    Raises:
        UsageError: there are none, or they are broken.
    """
    path = record / MEMORY_FILE
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is missing or broken") from error
