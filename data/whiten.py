"""Whitening: make an image's pixels and channels uncorrelated, so that every direction is learnt.

Neighbouring pixels of a photograph are nearly equal, so a few slow directions (overall brightness)
carry nearly all the variance and gradient descent sees little else. The discrete cosine transform
is close to the principal components of natural images (Ahmed, Natarajan and Rao, 1974) and needs
two 32x32 products in place of one of 3072x3072; dividing each coefficient by its own deviation then
whitens. The whole is one fixed linear map of the pixels.
"""

import math
from collections.abc import Callable

import torch

# Added to every deviation (of normalised pixels), so that faint frequencies do not become noise.
DAMPING = 0.1


def dct_matrix(n: int) -> torch.Tensor:
    """The orthonormal DCT-II of size n: row k holds sqrt(2/n) cos(pi (2i + 1) k / 2n)."""
    k, i = torch.arange(n, dtype=torch.float64).unsqueeze(1), torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


class Whitener:
    """Normalises uint8 images, evens out their cosine coefficients, and turns them back to pixels.

    Going back to pixels (ZCA whitening; Bell and Sejnowski, 1997) keeps each input a local feature,
    which Adam, whose steps depend on the basis, learns better from than from coefficients.

    Args:
        normalise: uint8 (N, C, S, S) to float (N, C, S, S).
        sample: uint8 training images (N, C, S, S) to measure means and deviations on.
    """

    def __init__(self, normalise: Callable[[torch.Tensor], torch.Tensor], sample: torch.Tensor):
        self._normalise = normalise
        images = normalise(sample)
        self._dct = dct_matrix(images.shape[-1]).to(images)
        self._to_channels = _principal_axes(images)
        coefficients = self._coefficients(images)
        self._mean = coefficients.mean(0, keepdim=True)
        self._scale = 1 / (coefficients.std(0, keepdim=True) + DAMPING)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Whitened pixels, float of shape (N, C, S, S), of uint8 images of that shape."""
        coefficients = self._coefficients(self._normalise(images))
        whitened = _along_both_axes(coefficients.sub_(self._mean).mul_(self._scale), self._dct)
        return _mix_channels(whitened, self._to_channels.T)

    def _coefficients(self, images: torch.Tensor) -> torch.Tensor:
        return _along_both_axes(_mix_channels(images, self._to_channels), self._dct.T)


def _principal_axes(images: torch.Tensor) -> torch.Tensor:
    """Rows: the eigenvectors of the channels' covariance, (C, C), for images (N, C, S, S)."""
    covariance = torch.cov(images.transpose(0, 1).flatten(1))
    return torch.linalg.eigh(covariance).eigenvectors.T.contiguous()


def _mix_channels(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return torch.matmul(matrix, images.flatten(2)).view(images.shape)


def _along_both_axes(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Multiply columns, then rows, by the matrix: M^T X M for each channel X of (N, C, S, S)."""
    n, channels, size, _ = images.shape
    for _ in range(2):
        images = (images.reshape(-1, size) @ matrix).view(n, channels, size, size).transpose(2, 3)
    return images
