"""Speed of part 3, against PyTorch's own RNN and against the plain script of the course.

    python tests/benchmarks/part3.py

Run it on an idle machine. It prints a table and writes it to tests/benchmarks/part3.json, from
where figures/regenerate.py takes it into the documentation.
"""

import random
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from data.palindromes import draw_palindromes
from part3_rnn import train
from tests.benchmarks.common import medians, row, seconds_of, write_table

OUTPUT = Path(__file__).with_suffix(".json")
LENGTHS = {5: (1.5, 8), 20: (2, 4), 50: (2, 4)}  # and the goals against the two others
BATCH, HIDDEN = 128, 128
WARM_UP, STEPS = 20, 200


class PytorchRNN(nn.Module):
    """nn.RNN and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(10, HIDDEN, batch_first=True)
        self.linear = nn.Linear(HIDDEN, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One-hot digits (N, T, 10) -> logits (N, 10)."""
        states, _ = self.rnn(x)
        return self.linear(states[:, -1])


class PlainRNN(nn.Module):
    """The recurrence as a Python loop over linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.recurrent = nn.Linear(10, HIDDEN), nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.output = nn.Linear(HIDDEN, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One-hot digits (N, T, 10) -> logits (N, 10)."""
        h = torch.zeros(len(x), HIDDEN)
        for t in range(x.shape[1]):
            h = torch.tanh(self.inputs(x[:, t]) + self.recurrent(h))
        return self.output(h)


class DigitByDigit(IterableDataset):
    """Palindromes as the course makes them, one at a time."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __iter__(self):
        while True:
            half = [random.randint(0, 9) for _ in range((self._length + 2) // 2)]
            whole = half + half[: self._length + 1 - len(half)][::-1]
            yield F.one_hot(torch.tensor(whole[:-1]), 10).float(), whole[-1]


def tensor_batches(length: int):
    """One-hot palindromes, a whole batch at a time."""
    seed = 0
    while True:
        x, y = draw_palindromes(BATCH, length, seed)
        yield F.one_hot(x, 10).float(), y
        seed += 1


def seconds_per_step(step, batches) -> float:
    """Mean over STEPS steps, drawing the batches included."""

    def steps(n: int) -> None:
        for batch in islice(batches, n):
            step(*batch)

    steps(WARM_UP)
    return seconds_of(lambda: steps(STEPS)) / STEPS


def their_seconds(net: nn.Module, batches) -> float:
    """The usual loop with PyTorch's RMSprop, with two threads if there are two."""
    torch.set_num_threads(THREADS)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        loss.item()

    return seconds_per_step(step, batches)


def our_seconds(length: int) -> float:
    """The same through train.py's own code, with as many threads as that chooses."""
    torch.set_num_threads(THREADS)
    flags = ("--input_length", length, "--num_hidden", HIDDEN, "--batch_size", BATCH)
    model, batches = train.build(train.parse([str(flag) for flag in flags]))
    return seconds_per_step(model.train_step, batches.epoch(0))


def products_seconds(length: int) -> float:
    """The matrix products of a step that involve the recurrent weights, and nothing else."""
    torch.set_num_threads(THREADS)
    h, weight = torch.randn(BATCH, HIDDEN), torch.randn(HIDDEN, HIDDEN)
    states = torch.randn((length - 1) * BATCH, HIDDEN)

    def products() -> None:
        for _ in range(2 * (length - 1)):  # forward and backward
            torch.mm(h, weight)
        torch.mm(states.T, states)  # the gradient of the weights

    return seconds_of(lambda: [products() for _ in range(STEPS)]) / STEPS


def rows() -> list[dict]:
    """All lines of the table."""
    lines = []
    for length, (goal, plain_goal) in LENGTHS.items():
        ours, products, pytorch, plain = medians(
            lambda length=length: our_seconds(length),
            lambda length=length: products_seconds(length),
            lambda length=length: their_seconds(PytorchRNN(), tensor_batches(length)),
            lambda length=length: their_seconds(
                PlainRNN(), iter(DataLoader(DigitByDigit(length), BATCH))
            ),
        )
        what = f"vanilla RNN, T = {length}, batch {BATCH}, {HIDDEN} units: a step with its data"
        lines += [
            row(what, "us", 1e6 * ours, "nn.RNN, linear, RMSprop, batches drawn as tensors",
                1e6 * pytorch, pytorch / ours, f"at least {goal}"),
            row(what, "us", 1e6 * ours, "the course's plain version: digit by digit, DataLoader, "
                "loop over nn.Linear", 1e6 * plain, plain / ours, f"at least {plain_goal}"),
            row(what, "us", 1e6 * ours, "its products with the recurrent weights alone",
                1e6 * products, products / ours, ""),
        ]  # fmt: skip
    return lines


THREADS = torch.get_num_threads()

if __name__ == "__main__":
    write_table(OUTPUT, rows())
