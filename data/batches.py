"""Mini-batches: which samples, in which order, as a function of seed, epoch and step alone.

The batches have no state, so a resumed run needs none to continue exactly.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data import DataError


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the n training samples in that epoch, int64 of shape (n,)."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def equal_shares(values: Sequence[int], epochs: int) -> list[tuple[int, int]]:
    """(first epoch, value) for each value, where each holds for an equal share of the epochs."""
    return [(epochs * i // len(values), value) for i, value in enumerate(values)]


class _Batches:
    """How many batches of which size: each size holds for an equal share of `max_epochs`.

    Raises:
        DataError: a batch size is not in 1..n_samples.
    """

    def __init__(self, n_samples: int, batch_sizes: Sequence[int], seed: int, max_epochs: int):
        for size in batch_sizes:
            if not 1 <= size <= n_samples:
                allowed = f"1 to {n_samples}, the number of training samples, or full"
                raise DataError(f"--batch_size: {size} is out of range, choose from {allowed}")
        self.n_samples, self.seed = n_samples, seed
        self._phases = [(0, 0, batch_sizes[0])]  # first epoch, first step, batch size
        for first, size in equal_shares(batch_sizes, max_epochs)[1:]:
            self._phases.append((first, self.steps_in(first), size))

    def _steps_per_epoch(self, batch_size: int) -> int:
        return -(-self.n_samples // batch_size)  # the last batch holds what is left

    def _phase_of(self, epoch: int) -> tuple[int, int, int]:
        return next(phase for phase in reversed(self._phases) if phase[0] <= epoch)

    def position(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within the epoch; both from 0."""
        epoch, first_step, size = next(p for p in reversed(self._phases) if p[1] <= step)
        whole, rest = divmod(step - first_step, self._steps_per_epoch(size))
        return epoch + whole, rest

    def steps_in(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs."""
        epoch, first_step, size = self._phase_of(epochs)
        return first_step + (epochs - epoch) * self._steps_per_epoch(size)

    def phase(self, step: int) -> int:
        """The index of the batch size that a step has."""
        return sum(first_step <= step for _, first_step, _ in self._phases) - 1


class ArrayBatches(_Batches):
    """Batches of NumPy arrays or tensors that need no further work.

    Each epoch is shuffled at once, so that a step costs two slices.
    """

    def __init__(self, x, y, batch_sizes: Sequence[int], seed: int, *, max_epochs: int = 1):
        super().__init__(len(x), batch_sizes, seed, max_epochs)
        self._x, self._y = x, y

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (x, y) of each step of that epoch, from step `first_step` on."""
        order = epoch_order(self.n_samples, self.seed, epoch)
        x, y = self._x[order], self._y[order]
        _, _, size = self._phase_of(epoch)
        for start in range(first_step * size, self.n_samples, size):
            yield x[start : start + size], y[start : start + size]


class ImageBatches(_Batches):
    """Batches of images, augmented and preprocessed step by step on their device.

    Args:
        images, labels: uint8 (N, C, H, W) and int64 (N,) tensors.
        prepare: turns a uint8 batch into the float batch that the net takes.
        augment: flip and crop at random.
        image_sizes: progressive resizing: pixels a side, each for an equal share of the epochs.
        rank, world_size: this process and the number of processes that share each batch. Neither
            the choice of the images nor their augmentation depends on them.

    Raises:
        DataError: a batch size is not in 1..N, or a batch has fewer images than processes.
    """

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
        image_sizes: Sequence[int] = (),
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(len(images), batch_sizes, seed, max_epochs)
        self._images, self._labels = images, labels
        self._prepare = prepare
        self._augment = augment
        self._image_sizes = equal_shares(image_sizes or images.shape[-1:], max_epochs)
        self._rank, self._world_size = rank, world_size
        smallest = min(min(size, len(images) % size or size) for size in batch_sizes)
        if smallest < world_size:
            problem = f"cannot share a batch of {smallest}, the smallest of an epoch"
            raise DataError(f"--batch_size: {world_size} processes {problem}")

    def phase(self, step: int) -> int:
        """A number that increases when the size of the batches or of the images changes."""
        epoch, _ = self.position(step)
        return super().phase(step) + sum(first <= epoch for first, _ in self._image_sizes)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (images, labels) of each step of that epoch, from step `first_step` on.

        Where processes share a batch, a third value follows: the weight of this process's mean
        loss. The mean over the processes of the weighted losses is the mean loss of the batch.
        """
        import torch  # not above: the NumPy MLP on a toy set runs without it

        from data.images import PADDING, crop_flip, draw_crop_flip, resize

        device, n = self._images.device, self.n_samples
        _, _, size = self._phase_of(epoch)
        image_size = next(s for first, s in reversed(self._image_sizes) if first <= epoch)
        # Drawn for the whole epoch: one copy to the device, and every process draws the same.
        order = torch.from_numpy(epoch_order(n, self.seed, epoch)).to(device)
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        draws = [draw.to(device) for draw in draw_crop_flip(n, PADDING, generator)]
        for start in range(first_step * size, n, size):
            end = min(start + size, n)
            share = slice(start + self._rank, end, self._world_size)
            chosen = order[share]
            images = self._images.index_select(0, chosen)
            if self._augment:
                images = crop_flip(images, *(draw[share] for draw in draws), PADDING)
            images = resize(self._prepare(images), image_size)
            if self._world_size == 1:
                yield images, self._labels[chosen]
            else:
                weight = len(chosen) * self._world_size / (end - start)
                yield images, self._labels[chosen], weight


def mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed out of several small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
