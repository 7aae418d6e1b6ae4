"""Flip, crop and normalise whole batches of images, on the device that holds them.

The distribution is that of torchvision's RandomHorizontalFlip followed by
RandomCrop(32, padding=4), with an offset and a flip of its own for every image.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

VIEW_SHIFTS = {1: None, 2: (0,), 18: (-2, 0, 2), 50: (-4, -2, 0, 2, 4)}  # views: rows and columns


def draw_crop_flip(
    n: int, padding: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw row and column offsets (uniform on 0..2*padding) and fair flips, each of shape (n,)."""
    offsets = torch.randint(0, 2 * padding + 1, (2, n), generator=generator)
    flips = torch.rand(n, generator=generator) < 0.5
    return offsets[0], offsets[1], flips


def crop_flip(
    images: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    flips: torch.Tensor,
    padding: int,
) -> torch.Tensor:
    """Flip each image or not, pad it with black, and cut its own window of the original size.

    Args:
        images: (N, C, H, W), any dtype.
        rows, columns: (N,) top left corner of each window in the padded image.
        flips: (N,) bool.
        padding: pixels added on each side.

    Returns:
        (N, C, H, W) of the same dtype.
    """
    height, width = images.shape[-2:]
    rows, columns, flips = (draw.to(images.device) for draw in (rows, columns, flips))
    every = torch.arange(len(images), device=images.device)
    # Choosing whole images from both versions is three times faster than torch.where on pixels.
    both = torch.cat([images, images.flip(-1)])
    padded = F.pad(both.index_select(0, every + len(images) * flips), (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # every window, as a view
    return windows[every, :, rows, columns]


class Normaliser:
    """Turns uint8 images (N, C, H, W) into floats: (pixel / 255 - mean) / std, by channel."""

    def __init__(
        self,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        options = {"device": device, "dtype": dtype}
        self._shift = 255 * torch.tensor(mean, **options).view(1, -1, 1, 1)
        self._scale = 1 / (255 * torch.tensor(std, **options).view(1, -1, 1, 1))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise a batch; the result has the same shape."""
        return images.to(self._shift.dtype).sub_(self._shift).mul_(self._scale)


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Scale float images (N, C, H, W) to `size` pixels a side, smoothed against aliasing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def views(images: torch.Tensor, n_views: int) -> Iterator[torch.Tensor]:
    """Yield versions of test images (N, C, H, W) whose predictions may be averaged.

    1: the images; 2: with their mirror images; 18 and 50: both, shifted over a 3x3 or a 5x5 grid of
    offsets 2 pixels apart, the rest filled with black as in training.
    """
    shifts = VIEW_SHIFTS[n_views]
    if shifts is None:
        yield images
        return
    height, width = images.shape[-2:]
    margin = max(shifts)
    padded = F.pad(images, (margin,) * 4)
    for row in shifts:
        for column in shifts:
            top, left = margin + row, margin + column
            shifted = padded[..., top : top + height, left : left + width]
            yield shifted
            yield shifted.flip(-1)
