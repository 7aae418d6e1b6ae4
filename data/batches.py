"""Mini-batches: which samples, in which order, as a function of seed, epoch and step alone.

The batches have no state, so a resumed run needs none to continue exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data import DataError


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the n training samples in that epoch, int64 of shape (n,)."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def check_batch_size(batch_size: int, n_samples: int, n_processes: int = 1) -> None:
    """Raise a DataError unless the batch size is in 1..n_samples, and processes can share each."""
    if not 1 <= batch_size <= n_samples:
        allowed = f"1 to {n_samples}, the number of training samples, or full"
        raise DataError(f"--batch_size: {batch_size} is out of range, choose from {allowed}")
    smallest = n_samples % batch_size or batch_size
    if smallest < n_processes:
        problem = f"cannot share a batch of {smallest}, the smallest of an epoch"
        raise DataError(f"--batch_size: {n_processes} processes {problem}")


class Batches(ABC):
    """Training batches as a function of epoch and step alone; an epoch has n_samples samples.

    Raises:
        DataError: the batch size is not in 1..n_samples, or the processes outnumber a batch.
    """

    def __init__(self, n_samples: int, batch_size: int, seed: int, n_processes: int = 1):
        check_batch_size(batch_size, n_samples, n_processes)
        self.n_samples, self.batch_size, self.seed = n_samples, batch_size, seed
        self.steps_per_epoch = -(-n_samples // batch_size)  # the last batch holds what is left

    def position(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within the epoch; both from 0."""
        return divmod(step, self.steps_per_epoch)

    def steps_in(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs."""
        return epochs * self.steps_per_epoch

    @abstractmethod
    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield the batch of each step of that epoch, from step `first_step` on."""


class ArrayBatches(Batches):
    """Batches of NumPy arrays or tensors that need no further work.

    Each epoch is shuffled at once, so that a step costs two slices.
    """

    def __init__(self, x, y, batch_size: int, seed: int):
        super().__init__(len(x), batch_size, seed)
        self._x, self._y = x, y

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (x, y) of each step of that epoch, from step `first_step` on."""
        order = epoch_order(self.n_samples, self.seed, epoch)
        x, y, size = self._x[order], self._y[order], self.batch_size
        for start in range(first_step * size, self.n_samples, size):
            yield x[start : start + size], y[start : start + size]


class ImageBatches(Batches):
    """Batches of images, augmented and preprocessed step by step on their device.

    Args:
        images, labels: uint8 (N, C, H, W) and int64 (N,) tensors.
        prepare: turns a uint8 batch into the float batch that the net takes.
        augment: flip and crop at random.
        cutout: pixels a side of the square that is painted grey; 0: none.
        image_sizes: progressive resizing: pixels a side, each for an equal share of `max_epochs`.
        rank, world_size: this process and the number of processes that share each batch. Neither
            the choice of the images nor their augmentation depends on them.
    """

    def __init__(
        self,
        images,
        labels,
        batch_size: int,
        seed: int,
        *,
        max_epochs: int = 1,
        prepare: Callable,
        augment: bool = True,
        cutout: int = 0,
        image_sizes: Sequence[int] = (),
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(len(images), batch_size, seed, world_size)
        self._images, self._labels = images, labels
        self._prepare, self._augment, self._cutout = prepare, augment, cutout
        sizes = image_sizes or images.shape[-1:]
        self._image_sizes = [(max_epochs * i // len(sizes), s) for i, s in enumerate(sizes)]
        self._rank, self._world_size = rank, world_size

    def image_size(self, epoch: int) -> int:
        """Pixels a side of the images of that epoch."""
        return next(size for first, size in reversed(self._image_sizes) if first <= epoch)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (images, labels) of each step of that epoch, from step `first_step` on.

        Where processes share a batch, a third value follows: the weight of this process's mean
        loss. The mean over the processes of the weighted losses is the mean loss of the batch.
        """
        import torch  # not above: the NumPy MLP on a toy set runs without it

        from data import images as pixels

        device, n, size = self._images.device, self.n_samples, self.batch_size
        image_size = self.image_size(epoch)
        # Drawn for the whole epoch: one copy to the device, and every process draws the same.
        order = torch.from_numpy(epoch_order(n, self.seed, epoch)).to(device)
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        draws = [draw.to(device) for draw in pixels.draw_crop_flip(n, generator)]
        if self._cutout:
            side = self._images.shape[-1]
            holes = [draw.to(device) for draw in pixels.draw_cutout(n, side, generator)]
        for start in range(first_step * size, n, size):
            end = min(start + size, n)
            share = slice(start + self._rank, end, self._world_size)
            chosen = order[share]
            images = self._images.index_select(0, chosen)
            if self._augment:
                images = pixels.crop_flip(images, *(d[share] for d in draws))
            if self._cutout:
                images = pixels.cutout(images, *(d[share] for d in holes), self._cutout)
            batch = pixels.resize(self._prepare(images), image_size), self._labels[chosen]
            weight = len(chosen) * self._world_size / (end - start)
            yield batch if self._world_size == 1 else (*batch, weight)


def mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed out of several small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
