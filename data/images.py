"""What is done to batches of images: normalise, whiten, flip, crop, resize, test-time augmentation.

Everything works on whole batches, on the device that holds them.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.batches import ImageBatches

# Per-channel mean and standard deviation of the training pixels (as fractions of 255), as the
# original gives them; the latter are means over the images of each one's own standard deviation.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
PADDING = 4  # black pixels added on each side, into which a random crop may reach
GREY = 121  # about the mean of all training pixels
DAMPING = 0.1  # added to every deviation, so that faint frequencies do not become noise
WHITENING_SAMPLES = 10_000  # training images that the statistics are taken from
VIEW_OFFSETS = {2: (4,), 18: (2, 4, 6), 50: (0, 2, 4, 6, 8)}  # rows and columns, by n_views
CHUNK = 250  # images evaluated at once: bounds the memory


def draw_crop_flip(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw row and column offsets, uniform on 0..2*PADDING, and fair flips, each of shape (n,).

    So `crop_flip` has the joint distribution of RandomHorizontalFlip and RandomCrop of torchvision.
    """
    rows, columns = torch.randint(0, 2 * PADDING + 1, (2, n), generator=generator)
    return rows, columns, torch.rand(n, generator=generator) < 0.5


def crop_flip(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
    """Flip each image or not, pad it with black, and crop its window to the original size.

    Args:
        images: (N, C, H, W), any dtype.
        rows, columns: (N,) top left corner of each window in the padded image.
        flips: (N,) bool. The draws are on the images' device.
    """
    height, width = images.shape[-2:]
    every = torch.arange(len(images), device=images.device)
    # Choosing whole images from both versions is three times faster than torch.where on pixels.
    both = torch.cat([images, images.flip(-1)])
    padded = F.pad(both.index_select(0, every + len(images) * flips), (PADDING,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # every window, as a view
    return windows[every, :, rows, columns]


def draw_cutout(n: int, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw the row and column of the centre of each image's square, uniform, each of shape (n,)."""
    return tuple(torch.randint(0, size, (2, n), generator=generator))


def cutout(images: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """Cutout (DeVries and Taylor, 2017): paint a square of each image grey.

    Args:
        images: uint8 (N, C, H, W).
        rows, columns: (N,) centre of each square, which may reach beyond the image.
        size: pixels a side.
    """

    def covered(centres: Tensor, n_pixels: int) -> Tensor:
        place = torch.arange(n_pixels, device=images.device) - centres[:, None] + size // 2
        return (place >= 0) & (place < size)

    height, width = images.shape[-2:]
    hole = covered(rows, height)[:, None, :, None] & covered(columns, width)[:, None, None, :]
    return images.masked_fill(hole, GREY)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize float images (N, C, H, W) to `size` pixels a side, bilinear with antialiasing."""
    if images.shape[-1] == size:
        return images
    # PyTorch 2.6 has no antialiasing on Apple's GPUs.
    at = images.cpu() if images.device.type == "mps" else images
    return F.interpolate(at, (size, size), mode="bilinear", antialias=True).to(images.device)


def view_images(images: Tensor, n_views: int) -> Iterator[Tensor]:
    """Test-time augmentation: yield views of images (N, C, H, W) to average the predictions of.

    1: the images; 2: and their mirror images; 18 and 50: both, shifted over a 3x3 or a 5x5 grid of
    offsets 2 pixels apart, the rest filled with black as in training.
    """
    if n_views == 1:
        yield images
        return
    height, width = images.shape[-2:]
    padded = F.pad(images, (PADDING,) * 4)
    for top in VIEW_OFFSETS[n_views]:
        for left in VIEW_OFFSETS[n_views]:
            shifted = padded[..., top : top + height, left : left + width]
            yield shifted
            yield shifted.flip(-1)


class Normaliser:
    """Turns uint8 images (N, 3, H, W) into floats: (pixel / 255 - MEAN) / STD, by channel."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32):
        mean, std = torch.tensor([MEAN, STD], device=device, dtype=dtype).view(2, 1, -1, 1, 1)
        self._shift, self._scale = 255 * mean, 1 / (255 * std)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch; the result has the same shape."""
        return images.to(self._shift.dtype).sub_(self._shift).mul_(self._scale)


def dct_matrix(n: int) -> Tensor:
    """The orthonormal DCT-II of size n: row k holds sqrt(2/n) cos(pi (2i + 1) k / 2n)."""
    k, i = torch.arange(n, dtype=torch.float64).unsqueeze(1), torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


class Whitener:
    """Whitens uint8 images: makes their pixels and channels far less correlated.

    Neighbouring pixels of a photograph are nearly equal, so a few directions (overall brightness)
    carry nearly all the variance and dominate gradient descent. The discrete cosine transform is
    close to the principal components of natural images (Ahmed, Natarajan and Rao, 1974); dividing
    each coefficient by its own deviation whitens; DAMPING is added to it, so that coefficients that
    are nearly constant stay small. Transforming back to pixels (ZCA; Bell and Sejnowski, 1997)
    keeps each input a local feature, which suits Adam, whose steps depend on the basis. The whole
    is one fixed affine map of the pixels.

    Args:
        normalise: uint8 (N, C, S, S) to float (N, C, S, S).
        sample: uint8 training images (N, C, S, S) to measure means and deviations on.
    """

    def __init__(self, normalise: Callable[[Tensor], Tensor], sample: Tensor):
        self._normalise = normalise
        images = normalise(sample)
        self._dct = dct_matrix(images.shape[-1]).to(images)
        covariance = torch.cov(images.transpose(0, 1).flatten(1))  # of the channels, (C, C)
        # On the CPU: Apple's GPUs have no eigenvectors (pytorch issue 151874).
        self._axes = torch.linalg.eigh(covariance.cpu()).eigenvectors.to(images)
        coefficients = self._coefficients(images)
        self._mean = coefficients.mean(0, keepdim=True)
        self._scale = 1 / (coefficients.std(0, keepdim=True) + DAMPING)

    def __call__(self, images: Tensor) -> Tensor:
        """Whitened pixels, float of shape (N, C, S, S), of uint8 images of that shape."""
        coefficients = self._coefficients(self._normalise(images))
        whitened = _along_both_axes(coefficients.sub_(self._mean).mul_(self._scale), self._dct)
        return (self._axes @ whitened.flatten(2)).view(images.shape)

    def _coefficients(self, images: Tensor) -> Tensor:
        mixed = (self._axes.T @ images.flatten(2)).view(images.shape)
        return _along_both_axes(mixed, self._dct.T)


def _along_both_axes(images: Tensor, matrix: Tensor) -> Tensor:
    """Multiply columns, then rows, by the matrix: M^T X M for each channel X of (N, C, S, S)."""
    n, channels, size, _ = images.shape
    for _ in range(2):
        images = (images.reshape(-1, size) @ matrix).view(n, channels, size, size).transpose(2, 3)
    return images


def image_pipeline(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    *,
    seed: int,
    n_views: int = 1,
    whiten: bool = False,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    **batch_options: Any,
) -> tuple[Callable[[Tensor], Tensor], ImageBatches, Callable[[Tensor], Iterator[Tensor]] | None]:
    """What a run on images consists of, besides its net.

    Args:
        images: of the training set, uint8 (N, 3, 32, 32).
        labels, batch_size, seed, batch_options: as `ImageBatches` takes them.
        n_views: views of a test image, see `view_images`.
        whiten: whiten after normalisation, by statistics of the training images.
        dtype, memory_format: of the prepared images.

    Returns:
        The preprocessing, the training batches, and the test-time augmentation or None.
    """
    normalise = Normaliser(images.device, dtype)
    if whiten:
        normalise = Whitener(normalise, images[:WHITENING_SAMPLES])

    def prepare(chosen: Tensor) -> Tensor:
        return normalise(chosen).contiguous(memory_format=memory_format)

    batches = ImageBatches(images, labels, batch_size, seed, prepare=prepare, **batch_options)
    views = partial(view_images, n_views=n_views) if n_views > 1 else None
    return prepare, batches, views


@torch.no_grad()
def class_probabilities(net: nn.Module, images: np.ndarray, n_views: int = 1) -> np.ndarray:
    """The class probabilities (N, n_classes) that a trained net gives for images.

    Args:
        net: takes normalised images, not whitened ones, and gives logits.
        images: uint8 (N, 3, 32, 32).
        n_views: views of each image to average over, see `view_images`.
    """
    device = next(net.parameters()).device
    normalise = Normaliser(device)
    net.eval()
    probabilities = []
    for chunk in torch.from_numpy(images).split(CHUNK):
        views = view_images(chunk.to(device), n_views)
        of_views = torch.stack([net(normalise(view)).softmax(1) for view in views])
        probabilities.append(of_views.mean(0).cpu())
    return torch.cat(probabilities).numpy()
