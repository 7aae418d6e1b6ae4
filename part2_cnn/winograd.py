"""3x3 convolution with a quarter of the multiplications (Winograd's minimal filtering).

Four outputs of a row filtered with three taps need 4 * 3 = 12 multiplications when done one by one.
Written as A^T [(G g) * (B^T d)], with the six inputs d, the three taps g and the constant matrices
below, they need 6; in two dimensions a 4x4 tile of outputs needs 36 instead of 144. What is left
in the middle is, at each of the 36 places, a matrix product over channels, which is what a
processor does best. The additions in B, G and A come on top, so the gain is less than 4.

Source: A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016, F(4x4, 3x3).
The results differ from a direct convolution by rounding only, some 1e-5 of the largest value.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

Chunks = list[tuple[torch.Tensor, ...]]

TILE, WINDOW = 4, 6  # a 4x4 tile of outputs depends on a 6x6 window of inputs
TILES_AT_ONCE = 128  # so that all intermediate values stay in the processor's cache
SMALLEST_DEPTH = 16  # with fewer input channels the additions cost more than is saved

_B_T = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_A_T = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]


def _two_dimensional(matrix: list[list[float]]) -> torch.Tensor:
    """The matrix that applies `matrix` to the rows and the columns of a flattened square."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one).float()


TO_WINDOWS = _two_dimensional(_B_T)  # (36, 36)
TO_FILTERS = _two_dimensional(_G)  # (36, 9)
TO_TILES = _two_dimensional(_A_T)  # (16, 36)


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d(in_channels, out_channels, 3, padding=1)`, by Winograd's method where it pays.

    Attributes:
        winograd: use it for float32 on a CPU; otherwise PyTorch's own convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, winograd: bool = True):
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.winograd = winograd and in_channels >= SMALLEST_DEPTH

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        plain = x.device.type == "cpu" and x.dtype == torch.float32
        if self.winograd and plain and not torch.is_autocast_enabled("cpu"):
            return Winograd.apply(x, self.weight, self.bias)
        return super().forward(x)


class Winograd(torch.autograd.Function):
    """The convolution and its gradients, a few images at a time.

    At each of the 36 places, forward is a matrix product of windows (tiles, C) and filters (C, K);
    the gradients are the same products transposed, so they save as much.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """x (N, C, H, W), weight (K, C, 3, 3), bias (K,) -> (N, K, H, W), channels last."""
        ctx.save_for_backward(x, weight)
        filters = _transform(TO_FILTERS, weight.permute(2, 3, 1, 0))  # (36, C, K)
        shape = (len(x), len(weight), *x.shape[2:])
        y = torch.empty(shape, memory_format=torch.channels_last)

        def convolve(chunks: Chunks) -> None:
            for images, out in chunks:
                windows = _transform(TO_WINDOWS, _windows(images))  # (36, tiles, C)
                tiles = _transform(TO_TILES, torch.bmm(windows, filters))  # (16, tiles, K)
                torch.add(_join_tiles(tiles, out.shape), bias, out=out)

        _in_parallel(convolve, _chunks(x, y))
        return y

    @staticmethod
    @once_differentiable  # a gradient of these gradients would be silently wrong
    def backward(ctx, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        filters = _transform(TO_FILTERS, weight.permute(2, 3, 0, 1))  # (36, K, C)
        dx = torch.empty_like(x, memory_format=torch.channels_last)

        def differentiate(chunks: Chunks) -> torch.Tensor:
            dfilters = filters.new_zeros(len(filters), filters.shape[2], filters.shape[1])
            for images, dimages, dout in chunks:
                windows = _transform(TO_WINDOWS, _windows(images))  # (36, tiles, C)
                dproducts = _transform(TO_TILES.T, _split_tiles(dout))  # (36, tiles, K)
                dfilters.baddbmm_(windows.transpose(1, 2), dproducts)
                dwindows = _transform(TO_WINDOWS.T, torch.bmm(dproducts, filters))
                dimages.copy_(_add_windows(dwindows, images.shape))
            return dfilters  # (36, C, K)

        dfilters = sum(_in_parallel(differentiate, _chunks(x, dx, dy)))
        dweight = _transform(TO_FILTERS.T, dfilters).view(3, 3, *dfilters.shape[1:])
        return dx, dweight.permute(3, 2, 0, 1), dy.sum((0, 2, 3))


def _in_parallel(work: Callable[[Chunks], Any], chunks: Chunks) -> list:
    """Give each of as many threads as PyTorch uses its share of the chunks.

    One thread for each chunk is faster than all threads for each operation, which are small. Each
    thread's share depends on the number of threads alone, so that a run is repeatable to the bit.
    """
    n = torch.get_num_threads()

    def share(i: int) -> Any:
        with torch.no_grad():  # a state of each thread
            return work(chunks[i::n])

    return [share(0)] if n == 1 else list(_threads(n).map(share, range(n)))


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    """Threads whose operations start no threads of their own."""
    return ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,))


def _transform(matrix: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """matrix (P, Q) times values (Q or its two factors, ..., A, B) -> (P, tiles or A, B)."""
    flat = values.reshape(matrix.shape[1], -1)
    return (matrix @ flat).view(len(matrix), -1, values.shape[-1])


def _chunks(*tensors: torch.Tensor) -> Chunks:
    """Tensors (N, channels, H, W) as (n, H, W, channels), in pieces that fit in the cache."""
    tensors = [tensor.permute(0, 2, 3, 1) for tensor in tensors]
    rows, columns = _tiles(tensors[0].shape)
    n = max(1, TILES_AT_ONCE // (rows * columns))
    return list(zip(*(tensor.split(n) for tensor in tensors), strict=True))


def _tiles(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns of tiles that cover images of shape (N, H, W, channels)."""
    return -(-shape[1] // TILE), -(-shape[2] // TILE)


def _windows(images: torch.Tensor) -> torch.Tensor:
    """Images (n, H, W, C) -> their overlapping windows (6, 6, n, rows, columns, C), as a view."""
    _, height, width, _ = images.shape
    rows, columns = _tiles(images.shape)
    padding = (1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height)
    padded = F.pad(images, (0, 0, *padding))
    return padded.unfold(1, WINDOW, TILE).unfold(2, WINDOW, TILE).permute(4, 5, 0, 1, 2, 3)


def _add_windows(windows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The transpose of `_windows`: add each window (36, tiles, C) where it was cut out."""
    n, height, width, channels = shape
    rows, columns = _tiles(shape)
    windows = windows.view(WINDOW, WINDOW, n, rows, columns, channels)
    padded = windows.new_zeros(n, rows + 1, TILE, columns + 1, TILE, channels)
    near, far = (slice(0, TILE), 0), (slice(TILE, WINDOW), 1)  # part of a window, tiles further on
    for part_r, r in (near, far):
        for part_c, c in (near, far):
            part = windows[part_r, part_c].permute(2, 3, 0, 4, 1, 5)
            padded[:, r : r + rows, : part.shape[2], c : c + columns, : part.shape[4]] += part
    padded = padded.view(n, TILE * (rows + 1), TILE * (columns + 1), channels)
    return padded[:, 1 : height + 1, 1 : width + 1]


def _split_tiles(images: torch.Tensor) -> torch.Tensor:
    """Images (n, H, W, K) -> their tiles (4, 4, n, rows, columns, K), filled up with zeros."""
    n, height, width, channels = images.shape
    rows, columns = _tiles(images.shape)
    images = F.pad(images, (0, 0, 0, TILE * columns - width, 0, TILE * rows - height))
    return images.reshape(n, rows, TILE, columns, TILE, channels).permute(2, 4, 0, 1, 3, 5)


def _join_tiles(tiles: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The inverse of `_split_tiles`: tiles (16, tiles, K) -> images of that shape."""
    n, height, width, channels = shape
    rows, columns = _tiles(shape)
    tiles = tiles.view(TILE, TILE, n, rows, columns, channels).permute(2, 3, 0, 4, 1, 5)
    return tiles.reshape(n, TILE * rows, TILE * columns, channels)[:, :height, :width]
