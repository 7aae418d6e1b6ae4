"""The batched augmentation has torchvision's distribution, and whitening whitens."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import chisquare
from torchvision.transforms import v2

from data.augment import Normaliser, crop_flip, draw_crop_flip, views
from data.batches import ImageBatches
from data.cifar10 import MEAN, STD
from data.whiten import Whitener, dct_matrix

DRAWS = 40_000
UNLIKELY = 1e-4  # p-value below which a uniform draw is not believed


def test_offsets_are_uniform_and_flips_fair():
    rows, columns, flips = draw_crop_flip(DRAWS, 4, torch.Generator().manual_seed(0))
    for offsets in (rows, columns):
        counts = torch.bincount(offsets, minlength=9)
        assert len(counts) == 9
        assert chisquare(counts.numpy()).pvalue > UNLIKELY
    pairs = torch.bincount(rows * 9 + columns, minlength=81)
    assert chisquare(pairs.numpy()).pvalue > UNLIKELY  # and independent of each other
    assert abs(flips.float().mean() - 0.5) < 4 * 0.5 / DRAWS**0.5


def test_pixels_have_the_mean_and_variance_of_torchvision():
    image = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(1))
    image = image.to(torch.uint8)
    n = 20_000
    batch = image.expand(n, -1, -1, -1)
    generator = torch.Generator().manual_seed(2)
    ours = crop_flip(batch, *draw_crop_flip(n, 4, generator), 4).double()
    torch.manual_seed(3)
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=4)])
    theirs = torch.stack([transform(image) for _ in range(n)]).double()
    error = (ours.var(0) / n + theirs.var(0) / n).sqrt() + 1e-9
    assert ((ours.mean(0) - theirs.mean(0)).abs() / error).max() < 5.5  # of 3,072 pixels
    spread = (ours.var(0) - theirs.var(0)).abs() / theirs.var(0).clamp(min=1)
    assert spread.max() < 0.08
    assert ours.var(0).mean() == pytest.approx(theirs.var(0).mean().item(), rel=0.005)


def test_every_crop_is_the_window_it_should_be():
    images = torch.randint(0, 256, (81, 3, 32, 32)).to(torch.uint8)
    rows, columns = (t.flatten() for t in torch.meshgrid(*(torch.arange(9),) * 2, indexing="ij"))
    flips = torch.arange(81) % 2 == 0
    crops = crop_flip(images, rows, columns, flips, 4)
    for i in range(81):
        image = images[i].flip(-1) if flips[i] else images[i]
        padded = torch.nn.functional.pad(image, (4,) * 4)
        window = padded[:, rows[i] : rows[i] + 32, columns[i] : columns[i] + 32]
        assert torch.equal(crops[i], window)


def test_normaliser_agrees_with_torchvision():
    images = torch.randint(0, 256, (5, 3, 32, 32)).to(torch.uint8)
    expected = v2.functional.normalize(images / 255, MEAN, STD)
    torch.testing.assert_close(Normaliser(MEAN, STD, images.device)(images), expected)


def _batches(seed: int = 0) -> ImageBatches:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8))
    return ImageBatches(
        images, torch.arange(70), (32,), seed, prepare=Normaliser(MEAN, STD, images.device)
    )


def test_batches_repeat_from_any_step_and_differ_between_epochs_and_seeds():
    whole, from_second = list(_batches().epoch(3)), list(_batches().epoch(3, 1))
    assert [len(y) for _, y in whole] == [32, 32, 6]
    for (x, y), (again_x, again_y) in zip(whole[1:], from_second, strict=True):
        assert torch.equal(x, again_x)
        assert torch.equal(y, again_y)
    assert sorted(torch.cat([y for _, y in whole]).tolist()) == list(range(70))
    for other in (_batches().epoch(4), _batches(seed=1).epoch(3)):
        assert not torch.equal(whole[0][0], next(iter(other))[0])


def test_dct_is_orthonormal():
    matrix = dct_matrix(32)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(32, dtype=torch.float64))


def test_whitening_removes_the_correlation_of_neighbouring_pixels():
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(3000, 3, 64, 64))
    for axis in (2, 3):  # each pixel is 0.95 of its neighbour, plus noise
        smooth = lfilter([1], [1, -0.95], smooth, axis=axis)
    images = torch.from_numpy((127 + 4 * smooth[:, :, 32:, 32:]).clip(0, 255).astype(np.uint8))
    prepare = Normaliser(MEAN, STD, images.device)

    def correlation(x: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([x[:, 0, 15, 15], x[:, 0, 15, 16]]))[0, 1])

    assert correlation(prepare(images)) > 0.9
    whitened = Whitener(prepare, images)(images)
    assert whitened.shape == images.shape
    assert abs(correlation(whitened)) < 0.45  # the faintest frequencies stay damped


@pytest.mark.parametrize("n_views", [1, 2, 18, 50])
def test_views_hold_the_image_itself_and_are_distinct(n_views):
    images = torch.randint(1, 256, (2, 3, 32, 32)).to(torch.uint8)
    seen = list(views(images, n_views))
    assert len(seen) == n_views
    assert sum(torch.equal(view, images) for view in seen) == 1
    assert len({view.numpy().tobytes() for view in seen}) == n_views
