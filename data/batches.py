"""Mini-batches: which samples, in which order, as a function of seed, epoch and step alone.

Nothing here remembers where it is, so a resumed run needs no state of the loader to go on exactly.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data.errors import DataError

PADDING = 4  # pixels around an image that a random crop may reach into


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the n training samples in that epoch, int64 of shape (n,)."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class _Batches:
    """How many batches of which size; shared by the two kinds of batches.

    Args:
        batch_sizes: samples a step; of several sizes, each holds for an equal share of the epochs.
        max_epochs: the epochs to share between them.
    """

    def __init__(self, n_samples: int, batch_sizes: Sequence[int], seed: int, max_epochs: int = 1):
        for size in batch_sizes:
            if not 1 <= size <= n_samples:
                raise DataError(
                    f"--batch_size: {size} is out of range, choose from 1 to {n_samples}, "
                    "the number of training samples, or full"
                )
        self.n_samples, self.seed = n_samples, seed
        self._phases: list[tuple[int, int, int]] = []  # first epoch, first step, batch size
        step = 0
        for i, size in enumerate(batch_sizes):
            first, last = (max_epochs * k // len(batch_sizes) for k in (i, i + 1))
            self._phases.append((first, step, size))
            step += (last - first) * self._steps_per_epoch(size)

    def _steps_per_epoch(self, batch_size: int) -> int:
        return -(-self.n_samples // batch_size)  # the last batch holds what is left

    def position(self, step: int) -> tuple[int, int]:
        """The epoch that step belongs to, and its number within the epoch; both from 0."""
        epoch, first_step, size = next(p for p in reversed(self._phases) if p[1] <= step)
        whole, rest = divmod(step - first_step, self._steps_per_epoch(size))
        return epoch + whole, rest

    def steps_in(self, epochs: int) -> int:
        """Steps in the first so many epochs."""
        epoch, first_step, size = next(p for p in reversed(self._phases) if p[0] <= epochs)
        return first_step + (epochs - epoch) * self._steps_per_epoch(size)

    def phase(self, step: int) -> int:
        """Which of the batch sizes, counted from 0, that step has."""
        return sum(first_step <= step for _, first_step, _ in self._phases) - 1

    def batch_size(self, epoch: int) -> int:
        """Samples a step in that epoch."""
        return next(size for first, _, size in reversed(self._phases) if first <= epoch)


class ArrayBatches(_Batches):
    """Batches of NumPy arrays or tensors that need no further work.

    Each epoch is put in order at once, so that a step costs two slices.
    """

    def __init__(self, x, y, batch_sizes: Sequence[int], seed: int, *, max_epochs: int = 1):
        super().__init__(len(x), batch_sizes, seed, max_epochs)
        self._x, self._y = x, y

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (x, y) of each step of that epoch, from step `first_step` on."""
        order = epoch_order(self.n_samples, self.seed, epoch)
        x, y = self._x[order], self._y[order]
        size = self.batch_size(epoch)
        for start in range(first_step * size, self.n_samples, size):
            yield x[start : start + size], y[start : start + size]


class ImageBatches(_Batches):
    """Batches of images that are augmented and prepared as they are drawn, on their device."""

    def __init__(
        self,
        images,
        labels,
        batch_sizes: Sequence[int],
        seed: int,
        *,
        max_epochs: int = 1,
        prepare: Callable,
        augment: bool = True,
    ):
        super().__init__(len(images), batch_sizes, seed, max_epochs)
        self._images, self._labels = images, labels  # uint8 (N, C, H, W) and int64 (N,) tensors
        self._prepare = prepare
        self._augment = augment

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (float32 images, labels) of each step of that epoch, from step `first_step` on."""
        import torch  # not above: the NumPy MLP on a toy set runs without it

        from data.augment import crop_flip, draw_crop_flip

        order = torch.from_numpy(epoch_order(self.n_samples, self.seed, epoch))
        generator = torch.Generator()
        size = self.batch_size(epoch)
        for step in range(first_step, self._steps_per_epoch(size)):
            chosen = order[step * size : (step + 1) * size]
            chosen = chosen.to(self._images.device)
            images = self._images.index_select(0, chosen)
            if self._augment:
                generator.manual_seed(_mix(self.seed, epoch, step))
                images = crop_flip(
                    images, *draw_crop_flip(len(images), PADDING, generator), PADDING
                )
            yield self._prepare(images), self._labels[chosen]


def _mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed out of several small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
