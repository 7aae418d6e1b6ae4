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


def equal_shares(values: Sequence[int], epochs: int) -> list[tuple[int, int, int]]:
    """The first epoch, the one after the last, and the value, for each of the values in turn."""
    bounds = [epochs * i // len(values) for i in range(len(values) + 1)]
    return list(zip(bounds, bounds[1:], values, strict=False))


class _Batches:
    """How many batches of which size; shared by the two kinds of batches.

    Args:
        batch_sizes: samples a step; of several sizes, each holds for an equal share of the epochs.
        max_epochs: the epochs to share between them.
    """

    def __init__(self, n_samples: int, batch_sizes: Sequence[int], seed: int, max_epochs: int):
        for size in batch_sizes:
            if not 1 <= size <= n_samples:
                raise DataError(
                    f"--batch_size: {size} is out of range, choose from 1 to {n_samples}, "
                    "the number of training samples, or full"
                )
        self.n_samples, self.seed = n_samples, seed
        self._phases: list[tuple[int, int, int]] = []  # first epoch, first step, batch size
        step = 0
        for first, last, size in equal_shares(batch_sizes, max_epochs):
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
    """Batches of images that are augmented and prepared as they are drawn, on their device.

    Args:
        images, labels: uint8 (N, C, H, W) and int64 (N,) tensors.
        image_sizes: pixels a side that the images are scaled to, each for an equal share of the
            epochs; empty: as they are.
        rank, world_size: this process and the number of processes that share each batch. Which
            images make a batch and how they are augmented does not depend on them.
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
        self._image_sizes = equal_shares(image_sizes, max_epochs) if image_sizes else []
        self._rank, self._world_size = rank, world_size
        smallest = min(min(size, len(images) % size or size) for size in batch_sizes)
        if smallest < world_size:
            raise DataError(
                f"--batch_size: {world_size} processes cannot share a batch of {smallest}, "
                "the smallest of an epoch"
            )

    def phase(self, step: int) -> int:
        """A number that rises when the size of the batches or of the images changes."""
        epoch, _ = self.position(step)
        return super().phase(step) + sum(first <= epoch for first, _, _ in self._image_sizes)

    def image_size(self, epoch: int) -> int:
        """Pixels a side of the images in that epoch."""
        sizes = (size for first, _, size in reversed(self._image_sizes) if first <= epoch)
        return next(sizes, self._images.shape[-1])

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield (images, labels) of each step of that epoch, from step `first_step` on.

        Where processes share a batch, a third value follows: the weight of this process's mean
        loss. The mean over the processes of the weighted losses is the mean loss of the batch.
        """
        import torch  # not above: the NumPy MLP on a toy set runs without it

        from data.augment import crop_flip, draw_crop_flip, resize

        order = torch.from_numpy(epoch_order(self.n_samples, self.seed, epoch))
        generator = torch.Generator()
        size, image_size = self.batch_size(epoch), self.image_size(epoch)
        share = slice(self._rank, None, self._world_size)
        for step in range(first_step, self._steps_per_epoch(size)):
            batch = order[step * size : (step + 1) * size]
            chosen = batch[share].to(self._images.device)
            images = self._images.index_select(0, chosen)
            if self._augment:
                generator.manual_seed(mix(self.seed, epoch, step))
                draws = draw_crop_flip(len(batch), PADDING, generator)
                images = crop_flip(images, *(draw[share] for draw in draws), PADDING)
            images = resize(self._prepare(images), image_size)
            if self._world_size == 1:
                yield images, self._labels[chosen]
            else:
                yield images, self._labels[chosen], len(chosen) * self._world_size / len(batch)


def mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed out of several small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
