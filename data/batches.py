"""Mini-batches: which samples, in which order, as a function of seed, epoch and step alone.

Nothing here remembers where it is, so a resumed run needs no state of the loader to go on exactly.
"""

from collections.abc import Callable, Iterator

import numpy as np

from data.errors import DataError

PADDING = 4  # pixels around an image that a random crop may reach into


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the n training samples in that epoch, int64 of shape (n,)."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class _Batches:
    """What the two kinds of batches share: their number and their size."""

    def __init__(self, n_samples: int, batch_size: int, seed: int):
        if not 1 <= batch_size <= n_samples:
            raise DataError(
                f"--batch_size: {batch_size} is out of range, choose from 1 to {n_samples}, "
                "the number of training samples, or full"
            )
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one holds what is left."""
        return -(-self.n_samples // self.batch_size)


class ArrayBatches(_Batches):
    """Batches of NumPy arrays or tensors that need no further work.

    Each epoch is put in order at once, so that a step costs two slices.
    """

    def __init__(self, x, y, batch_size: int, seed: int):
        super().__init__(len(x), batch_size, seed)
        self._x, self._y = x, y

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (x, y) of each step of that epoch, from step `first_step` on."""
        order = epoch_order(self.n_samples, self.seed, epoch)
        x, y = self._x[order], self._y[order]
        for start in range(first_step * self.batch_size, self.n_samples, self.batch_size):
            stop = start + self.batch_size
            yield x[start:stop], y[start:stop]


class ImageBatches(_Batches):
    """Batches of images that are augmented and prepared as they are drawn, on their device."""

    def __init__(
        self, images, labels, batch_size: int, seed: int, *, prepare: Callable, augment: bool = True
    ):
        super().__init__(len(images), batch_size, seed)
        self._images, self._labels = images, labels  # uint8 (N, C, H, W) and int64 (N,) tensors
        self._prepare = prepare
        self._augment = augment

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (float32 images, labels) of each step of that epoch, from step `first_step` on."""
        import torch  # not above: the NumPy MLP on a toy set runs without it

        from data.augment import crop_flip, draw_crop_flip

        order = torch.from_numpy(epoch_order(self.n_samples, self.seed, epoch))
        generator = torch.Generator()
        for step in range(first_step, self.steps_per_epoch):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            chosen = chosen.to(self._images.device)
            images = self._images[chosen]
            if self._augment:
                generator.manual_seed(_mix(self.seed, epoch, step))
                images = crop_flip(
                    images, *draw_crop_flip(len(images), PADDING, generator), PADDING
                )
            yield self._prepare(images), self._labels[chosen]


def _mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed out of several small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
