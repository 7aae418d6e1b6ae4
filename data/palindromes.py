"""Palindromes of digits: read all but the last digit, say the last.

A palindrome of T + 1 digits is decided by its first half, and its last digit is its first. So the
task is to remember one digit for T steps. Any digit may come first, 0 as well.
"""

from collections.abc import Iterator

import torch

from data.batches import mix

N_DIGITS = 10
STEPS_PER_EPOCH = 1000  # the stream of palindromes has no end: what is called an epoch of it
DIGITS_AT_ONCE = 2**17  # drawn in one go, for as many steps as they make
KEY_DIGITS = 18  # that fit in one whole number of 64 bits
SMALLEST_SPACE = 10**6  # palindromes from which on the held-out ones are kept out of training


def half_length(input_length: int) -> int:
    """Digits that decide a palindrome of input_length + 1 digits."""
    return (input_length + 2) // 2


def unfold(halves: torch.Tensor, input_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First halves (n, half_length) -> inputs (n, input_length) and the digit to say, (n,)."""
    place = torch.arange(input_length)
    return halves[:, torch.minimum(place, input_length - place)], halves[:, 0]


def draw_palindromes(n: int, input_length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw n palindromes uniformly and independently, as inputs (n, T) and digits to say (n,)."""
    return unfold(_draw_halves(n, input_length, torch.Generator().manual_seed(seed)), input_length)


def _draw_halves(n: int, input_length: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(N_DIGITS, (n, half_length(input_length)), generator=generator)


def _keys(halves: torch.Tensor) -> torch.Tensor:
    """The first digits of each half, as one number (n,)."""
    digits = halves[:, :KEY_DIGITS]
    return (digits * 10 ** torch.arange(digits.shape[1])).sum(1)


class PalindromeBatches:
    """Endless batches of palindromes, a function of the seed and the step alone.

    Args:
        input_length: T, the digits that are read.
        held_out: inputs (n, T) that training must not see. Where there are fewer than a million
            palindromes (T below 10) a net sees them all in the end, and none is kept out;
            otherwise a palindrome that begins like a held-out one, with the same half or the same
            18 digits, is drawn again.
    """

    def __init__(
        self,
        input_length: int,
        batch_size: int,
        seed: int,
        *,
        held_out: torch.Tensor | None = None,
        device: torch.device | str = "cpu",
    ):
        self.input_length, self.batch_size, self.seed = input_length, batch_size, seed
        self._device = device
        self._steps_at_once = max(1, DIGITS_AT_ONCE // (batch_size * half_length(input_length)))
        self._held_out: torch.Tensor | None = None
        if held_out is not None and N_DIGITS ** half_length(input_length) >= SMALLEST_SPACE:
            self._held_out = _keys(held_out[:, : half_length(input_length)]).unique()

    def position(self, step: int) -> tuple[int, int]:
        """The epoch that step belongs to, and its number within the epoch; both from 0."""
        return divmod(step, STEPS_PER_EPOCH)

    def steps_in(self, epochs: int) -> int:
        """Steps in the first so many epochs."""
        return epochs * STEPS_PER_EPOCH

    def phase(self, step: int) -> int:
        """Always the same: neither batches nor palindromes grow."""
        return 0

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield inputs (batch_size, T) and digits to say (batch_size,), both int64."""
        step, end = epoch * STEPS_PER_EPOCH + first_step, (epoch + 1) * STEPS_PER_EPOCH
        while step < end:
            block, skip = divmod(step, self._steps_at_once)
            x, y = (each.to(self._device) for each in self._block(block))
            for i in range(skip, min(self._steps_at_once, skip + end - step)):
                yield x[i], y[i]
                step += 1

    def _block(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batches of several steps: (steps, batch_size, T) and (steps, batch_size)."""
        generator = torch.Generator().manual_seed(mix(self.seed, block))
        n = self._steps_at_once * self.batch_size
        halves = _draw_halves(n, self.input_length, generator)
        if self._held_out is not None:
            while len(again := torch.isin(_keys(halves), self._held_out).nonzero().squeeze(1)):
                halves[again] = _draw_halves(len(again), self.input_length, generator)
        x, y = unfold(halves, self.input_length)
        return x.view(-1, self.batch_size, self.input_length), y.view(-1, self.batch_size)
