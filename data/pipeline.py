"""From stored images to what a net is trained on: one assembly line for every net."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from data.augment import Normaliser, views
from data.batches import ImageBatches
from data.cifar10 import MEAN, STD
from data.whiten import Whitener

CHUNK = 250  # images that a net is asked about at once: bounds the memory
WHITENING_SAMPLES = 10_000  # training images that the statistics are taken from


class ImagePipeline(NamedTuple):
    """What prepares images, the batches of prepared ones, and the views to average, if any."""

    prepare: Callable[[torch.Tensor], torch.Tensor]
    batches: ImageBatches
    views: Callable[[torch.Tensor], Iterable[torch.Tensor]] | None


def image_pipeline(
    images: torch.Tensor,
    labels: torch.Tensor,
    batch_sizes: Sequence[int],
    *,
    seed: int,
    max_epochs: int,
    augment: bool,
    n_views: int,
    whiten: bool = False,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    image_sizes: Sequence[int] = (),
    rank: int = 0,
    world_size: int = 1,
) -> ImagePipeline:
    """Assemble the line for CIFAR-10's training images, uint8 (N, 3, 32, 32), on their device.

    Args:
        n_views: versions of a test image, see `data.augment.views`.
        batch_sizes, seed, max_epochs, augment, image_sizes, rank, world_size: see `ImageBatches`.
    """
    normalise = Normaliser(MEAN, STD, images.device, dtype)
    if whiten:
        normalise = Whitener(normalise, images[:WHITENING_SAMPLES])

    def prepare(chosen: torch.Tensor) -> torch.Tensor:
        return normalise(chosen).contiguous(memory_format=memory_format)

    batches = ImageBatches(
        images,
        labels,
        batch_sizes,
        seed,
        max_epochs=max_epochs,
        prepare=prepare,
        augment=augment,
        image_sizes=image_sizes,
        rank=rank,
        world_size=world_size,
    )
    return ImagePipeline(prepare, batches, partial(views, n_views=n_views) if n_views > 1 else None)


@torch.no_grad()
def class_probabilities(net: nn.Module, images: np.ndarray, n_views: int = 1) -> np.ndarray:
    """What a trained net believes of stored images.

    Args:
        net: takes normalised images, not whitened ones, and gives logits.
        images: uint8 (N, 3, 32, 32).
        n_views: versions of each image to average over, see `data.augment.views`.

    Returns:
        probabilities (N, n_classes).
    """
    normalise = Normaliser(MEAN, STD, torch.device("cpu"))
    net.eval()
    chunks = [
        torch.stack([net(normalise(view)).softmax(1) for view in views(chunk, n_views)]).mean(0)
        for chunk in torch.from_numpy(images).split(CHUNK)
    ]
    return torch.cat(chunks).numpy()
