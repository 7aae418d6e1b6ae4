"""Palindromes of digits: read all but the last digit, predict the last.

A palindrome of T + 1 digits is determined by its first half, and its last digit, the target digit,
equals its first. So the task is to remember one digit for T steps. Any digit may come first, 0 too.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from data.batches import Batches, mix

N_DIGITS = 10
STEPS_PER_EPOCH = 1000  # an epoch by definition, for the stream of palindromes has no end
BLOCK_DIGITS = 2**17  # drawn at once: the batches of as many steps as they suffice for
KEY_DIGITS = 18  # that fit in an integer of 64 bits
MIN_HELD_OUT_SPACE = 10**6  # with fewer palindromes in all, training sees the held-out ones, too


def half_length(input_length: int) -> int:
    """Digits that determine a palindrome of input_length + 1 digits."""
    return (input_length + 2) // 2


def unfold(halves: Tensor, input_length: int) -> tuple[Tensor, Tensor]:
    """First halves (n, half_length) -> inputs (n, input_length) and target digits (n,)."""
    place = torch.arange(input_length)
    return halves[:, torch.minimum(place, input_length - place)], halves[:, 0]


def draw_palindromes(n: int, input_length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw n palindromes uniformly and independently, as inputs (n, T) and targets (n,)."""
    return unfold(_draw_halves(n, input_length, torch.Generator().manual_seed(seed)), input_length)


def _draw_halves(n: int, input_length: int, generator: torch.Generator) -> Tensor:
    return torch.randint(N_DIGITS, (n, half_length(input_length)), generator=generator)


def _keys(halves: Tensor) -> Tensor:
    """The first digits of each half, as one number (n,)."""
    digits = halves[:, :KEY_DIGITS]
    return (digits * 10 ** torch.arange(digits.shape[1])).sum(1)


class PalindromeBatches(Batches):
    """Endless batches of palindromes, a function of the seed and the step alone.

    Args:
        input_length: T, the number of digits read.
        held_out: inputs (n, T) to keep out of training: a palindrome of the same first half (or
            first 18 digits) is drawn again. With fewer than a million palindromes in all (T below
            10) training sees every one sooner or later, and none is kept out.
    """

    def __init__(
        self,
        input_length: int,
        batch_size: int,
        seed: int,
        *,
        held_out: Tensor | None = None,
        device: torch.device | str = "cpu",
    ):
        super().__init__(STEPS_PER_EPOCH * batch_size, batch_size, seed)
        self.input_length, self._device = input_length, device
        self._steps_per_block = max(1, BLOCK_DIGITS // (batch_size * half_length(input_length)))
        self._held_out = None
        n_halves = N_DIGITS ** min(half_length(input_length), KEY_DIGITS)
        if held_out is not None and n_halves >= MIN_HELD_OUT_SPACE:
            self._held_out = _keys(held_out[:, : half_length(input_length)]).unique()

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs (batch_size, T) and target digits (batch_size,), int64, of each step."""
        step, end = self.steps_in(epoch) + first_step, self.steps_in(epoch + 1)
        while step < end:
            block, skip = divmod(step, self._steps_per_block)
            x, y = (each.to(self._device) for each in self._block(block))
            for i in range(skip, min(self._steps_per_block, skip + end - step)):
                yield x[i], y[i]
                step += 1

    def _block(self, block: int) -> tuple[Tensor, Tensor]:
        """The batches of several steps: (steps, batch_size, T) and (steps, batch_size)."""
        generator = torch.Generator().manual_seed(mix(self.seed, block))
        n = self._steps_per_block * self.batch_size
        halves = _draw_halves(n, self.input_length, generator)
        if self._held_out is not None:
            while len(again := torch.isin(_keys(halves), self._held_out).nonzero().squeeze(1)):
                halves[again] = _draw_halves(len(again), self.input_length, generator)
        x, y = unfold(halves, self.input_length)
        return x.view(-1, self.batch_size, self.input_length), y.view(-1, self.batch_size)
