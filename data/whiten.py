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
    """Normalises uint8 images, then scales the cosine coefficients of decorrelated channels.

    Args:
        normalise: uint8 (N, C, S, S) to float (N, C, S, S).
        sample: uint8 training images (N, C, S, S) to measure means and deviations on.
    """

    def __init__(self, normalise: Callable[[torch.Tensor], torch.Tensor], sample: torch.Tensor):
        self._normalise = normalise
        images = normalise(sample)
        self._dct = dct_matrix(images.shape[-1]).to(images).T.contiguous()
        channels = torch.cov(images.transpose(0, 1).flatten(1))
        self._mix = torch.linalg.eigh(channels).eigenvectors.T.contiguous()
        self._mean, self._scale = 0.0, 1.0
        coefficients = self(sample)
        self._mean = coefficients.mean(0, keepdim=True)
        self._scale = 1 / (coefficients.std(0, keepdim=True) + DAMPING)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Whitened coefficients, float of shape (N, C, S, S), of uint8 images of that shape."""
        x = self._normalise(images)
        shape = x.shape
        x = torch.matmul(self._mix, x.flatten(2)).view(shape)
        for _ in range(2):  # rows, then columns
            x = torch.matmul(x, self._dct).transpose(2, 3)
        return (x - self._mean).mul_(self._scale)
