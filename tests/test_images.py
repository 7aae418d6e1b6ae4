"""Batches of images: augmentation has torchvision's distribution, whitening whitens."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import lfilter
from scipy.stats import chisquare
from torch import nn
from torchvision.transforms import v2

from data import DataError, images
from data.batches import ArrayBatches, ImageBatches, epoch_order, mix
from data.images import MEAN, PADDING, STD, Normaliser, Whitener, crop_flip, draw_crop_flip

DRAWS = 40_000
UNLIKELY = 1e-4  # a p-value below which a uniform distribution is rejected
CPU = torch.device("cpu")


def random_images(n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(1, 256, (n, 3, 32, 32), dtype=np.uint8))


# --- Augmentation ---------------------------------------------------------------------------------


def test_offsets_are_uniform_and_flips_fair():
    rows, columns, flips = draw_crop_flip(DRAWS, torch.Generator().manual_seed(0))
    cells = torch.bincount((rows * 9 + columns) * 2 + flips, minlength=162)
    assert len(cells) == 162
    assert chisquare(cells.numpy()).pvalue > UNLIKELY  # uniform, and independent of each other


def test_every_crop_is_the_window_it_should_be():
    x = random_images(162)
    rows, columns, flips = (
        t.flatten() for t in torch.meshgrid(*(torch.arange(9),) * 2, torch.arange(2), indexing="ij")
    )
    crops = crop_flip(x, rows, columns, flips == 1)
    for i in range(162):
        image = v2.functional.horizontal_flip(x[i]) if flips[i] else x[i]
        window = v2.functional.crop(F.pad(image, (4,) * 4), rows[i], columns[i], 32, 32)
        assert torch.equal(crops[i], window)


def test_pixels_have_the_mean_and_variance_of_torchvision():
    n = 4000
    image = random_images(1)[0]
    generator = torch.Generator().manual_seed(2)
    ours = crop_flip(image.expand(n, -1, -1, -1), *draw_crop_flip(n, generator)).double()
    torch.manual_seed(3)
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=4)])
    theirs = torch.stack([transform(image) for _ in range(n)]).double()
    error = (ours.var(0) / n + theirs.var(0) / n).sqrt() + 1e-9
    assert ((ours.mean(0) - theirs.mean(0)).abs() / error).max() < 5.5  # of 3,072 pixels
    assert ((ours.var(0) - theirs.var(0)).abs() / theirs.var(0)).max() < 0.16


def test_every_centre_of_a_square_is_as_likely():
    rows, columns = images.draw_cutout(DRAWS, 32, torch.Generator().manual_seed(0))
    cells = torch.bincount(rows * 32 + columns, minlength=1024)
    assert (len(cells), cells.min() > 0) == (1024, True)
    assert chisquare(cells.numpy()).pvalue > UNLIKELY


@pytest.mark.parametrize("size", [1, 7, 8, 32])
def test_cutout_paints_its_square_grey_and_no_other_pixel(size):
    """With every centre in images of 20x32, so that squares reach beyond each border."""
    x = random_images(640)[..., :20, :]
    rows, columns = (t.flatten() for t in torch.meshgrid(torch.arange(20), torch.arange(32),
                                                         indexing="ij"))  # fmt: skip
    expected = x.clone()
    for image, row, column in zip(expected, rows.tolist(), columns.tolist(), strict=True):
        top, left = row - size // 2, column - size // 2
        image[:, max(0, top) : top + size, max(0, left) : left + size] = 121
    assert torch.equal(images.cutout(x, rows, columns, size), expected)
    assert torch.equal(x, random_images(640)[..., :20, :]), "the stored images stay as they are"


def test_resizing_smooths_against_aliasing_as_torchvision_does():
    x = Normaliser(CPU)(random_images(3))
    expected = v2.functional.resize(x, [16, 16], antialias=True)
    torch.testing.assert_close(images.resize(x, 16), expected)
    aliased = v2.functional.resize(x, [16, 16], antialias=False)
    assert (expected - aliased).abs().max() > 0.1
    assert images.resize(x, 32) is x


@pytest.mark.parametrize("n_views", [1, 2, 18, 50])
def test_views_are_all_shifts_of_the_image_and_of_its_mirror_image(n_views):
    x = random_images(2)
    views = list(images.view_images(x, n_views))
    steps = {1: [0], 2: [0], 18: [-2, 0, 2], 50: [-4, -2, 0, 2, 4]}[n_views]
    expected = []
    for down in steps:
        for right in steps:
            shifted = v2.functional.affine(x, 0.0, [right, down], 1.0, [0.0, 0.0])
            expected += [shifted] if n_views == 1 else [shifted, shifted.flip(3)]
    assert {view.numpy().tobytes() for view in views} == {v.numpy().tobytes() for v in expected}
    assert len(views) == n_views


# --- Normalisation and whitening ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normaliser_agrees_with_torchvision(dtype):
    x = random_images(5)
    expected = v2.functional.normalize(x.to(dtype) / 255, MEAN, STD)
    torch.testing.assert_close(Normaliser(CPU, dtype)(x), expected)


def test_dct_is_scipys_and_orthonormal():
    from scipy.fft import dct

    matrix = images.dct_matrix(32)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(32, dtype=torch.float64))
    expected = torch.from_numpy(dct(np.eye(32), axis=0, norm="ortho"))
    torch.testing.assert_close(matrix, expected)


def photographs(n: int, seed: int = 0) -> torch.Tensor:
    """Smooth images, uint8 (n, 3, 8, 8), of correlated channels: filtered noise."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(n, 3, 24, 24))
    smooth[:, 1:] += smooth[:, :1]
    for axis in (2, 3):
        smooth = lfilter([1], [1, -0.7], smooth, axis=axis)
    return torch.from_numpy((105 + 20 * smooth[:, :, 16:, 16:]).clip(0, 255).astype(np.uint8))


def test_whitened_pixels_are_uncorrelated_and_of_equal_variance():
    """On images other than those that the statistics were taken from."""
    normalise = Normaliser(CPU)
    whiten = Whitener(normalise, photographs(3000))
    new = photographs(6000, seed=1)
    spread, correlation = [], []
    for prepare in (normalise, whiten):
        covariance = torch.cov(prepare(new).flatten(1).T)
        variances = torch.linalg.eigvalsh(covariance)  # along the principal axes
        spread.append((variances.max() / variances.min()).item())
        deviations = covariance.diagonal().sqrt()
        correlation.append(covariance / torch.outer(deviations, deviations) - torch.eye(192))
    assert spread[0] > 3000
    assert spread[1] < 12  # not 1: DAMPING, and principal axes that are not quite cosines
    assert correlation[0].abs().max() > 0.7
    assert correlation[1].abs().max() < 0.3
    assert whiten(new).mean(0).abs().max() < 0.1


def test_whitening_is_a_symmetric_map_of_the_pixels():
    """So that a whitened pixel still belongs to its place and channel (ZCA)."""
    whiten = Whitener(lambda pixels: pixels / 255, photographs(1000))
    units = (255 * torch.eye(192)).to(torch.uint8).view(192, 3, 8, 8)
    matrix = (whiten(units) - whiten(torch.zeros_like(units))).flatten(1)
    torch.testing.assert_close(matrix, matrix.T, atol=1e-4, rtol=0)
    assert torch.linalg.eigvalsh(matrix).min() > 0
    assert (matrix.diagonal() > 2 * (matrix - matrix.diagonal().diag()).abs().max(1)[0]).all()


def test_pipeline_whitens_by_at_least_a_thousand_training_images():
    x = photographs(1200)
    prepare, *_ = images.image_pipeline(
        x, torch.zeros(len(x)), 8, seed=0, augment=False, whiten=True
    )
    expected = Whitener(Normaliser(CPU), x)
    torch.testing.assert_close(prepare(x[:5]), expected(x[:5]))


def test_pipeline_prepares_batches_and_views():
    x, y = random_images(20), torch.arange(20)
    prepare, batches, views = images.image_pipeline(
        x, y, 20, seed=0, n_views=18, augment=False, dtype=torch.float64,
        memory_format=torch.channels_last,
    )  # fmt: skip
    batch, labels = next(batches.epoch(0))
    expected = Normaliser(CPU, torch.float64)(x[labels])
    torch.testing.assert_close(batch, expected)
    torch.testing.assert_close(prepare(x[labels]), expected)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert len(list(views(x))) == 18
    *_, two_views = images.image_pipeline(x, y, 20, seed=0, n_views=2)
    assert len(list(two_views(x))) == 2
    assert images.image_pipeline(x, y, 20, seed=0, n_views=1)[2] is None
    assert images.image_pipeline(x, y, 20, seed=0)[2] is None


def test_class_probabilities_are_the_mean_over_views_of_a_net_in_evaluation_mode():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 10)).train()
    x = random_images(300)  # more than are evaluated at once
    found = images.class_probabilities(net, x.numpy(), n_views=2)
    normalised = v2.functional.normalize(x / 255, MEAN, STD)
    both = [net.eval()(view).softmax(1) for view in (normalised, normalised.flip(3))]
    np.testing.assert_allclose(found, torch.stack(both).mean(0).detach(), atol=1e-6)


# --- Batches --------------------------------------------------------------------------------------

N = 70


def batches(seed: int = 0, size: int = 32, **options) -> ImageBatches:
    """Augmented batches of 70 images, whose labels are their numbers."""
    options = {"prepare": Normaliser(CPU), "cutout": 8} | options
    return ImageBatches(random_images(N), torch.arange(N), size, seed, **options)


def same(a: list[tuple], b: list[tuple]) -> bool:
    return all(torch.equal(i, j) for x, y in zip(a, b, strict=True) for i, j in zip(x, y))  # noqa: B905


def test_batches_are_a_function_of_seed_epoch_and_step():
    whole = list(batches().epoch(3))
    assert [len(y) for _, y in whole] == [32, 32, 6]
    assert sorted(torch.cat([y for _, y in whole]).tolist()) == list(range(N))
    for first in range(4):
        assert same(whole[first:], list(batches().epoch(3, first)))
    for other in (batches().epoch(4), batches(seed=1).epoch(3)):
        assert not torch.equal(whole[0][1], next(other)[1])


def test_augmentation_of_an_image_changes_from_epoch_to_epoch_and_from_image_to_image():
    one = random_images(1)
    repeated = ImageBatches(one.expand(N, -1, -1, -1), torch.arange(N), N, 0, prepare=lambda x: x)
    first, second = (next(repeated.epoch(epoch))[0] for epoch in (0, 1))
    assert len({image.numpy().tobytes() for image in first}) > N / 2  # 162 are possible
    assert (first != second).any((1, 2, 3)).float().mean() > 0.9
    padded = F.pad(torch.cat([one, one.flip(3)]), (PADDING,) * 4)
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    possible = {window.contiguous().numpy().tobytes() for window in windows}
    assert {image.numpy().tobytes() for image in first} <= possible
    plain = batches(augment=False, cutout=0, prepare=lambda x: x)
    assert all(torch.equal(x, random_images(N)[y]) for x, y in plain.epoch(0))


def test_squares_depend_on_seed_and_epoch_alone():
    def squares(seed: int, epoch: int, size: int = 32, **options) -> torch.Tensor:
        black = torch.zeros(N, 3, 32, 32, dtype=torch.uint8)
        options |= {"cutout": 8, "prepare": lambda x: x}
        drawn = ImageBatches(black, torch.arange(N), size, seed, **options)
        return torch.cat([x for x, _ in drawn.epoch(epoch)])

    first = squares(0, 0)
    assert torch.equal(first, squares(0, 0, size=13))
    assert torch.equal(first, squares(0, 0, augment=False)), "neither flipped nor cropped"
    for other in (squares(1, 0), squares(0, 1)):
        assert (first != other).any((1, 2, 3)).float().mean() > 0.9
    assert len(first.unique(dim=0)) > N / 2


def test_batches_differ_in_the_squares_alone():
    plain, cut = (
        torch.cat([x for x, _ in batches(cutout=size, prepare=lambda x: x).epoch(1)])
        for size in (0, 8)
    )
    changed = plain != cut
    assert (cut[changed] == images.GREY).all()
    painted = changed.any(1).sum((1, 2))
    assert (painted.min() >= 16, painted.max()) == (True, 64)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_partition_each_batch_and_weights_make_its_mean(world_size):
    """The batches are of 32, 32 and 6 images, so that shares are uneven with three processes."""
    whole = list(batches().epoch(2))
    shared = [
        list(batches(rank=rank, world_size=world_size).epoch(2)) for rank in range(world_size)
    ]
    for step, (x, y) in enumerate(whole):
        shares = [process[step] for process in shared]
        image_of = {label: x[i] for i, label in enumerate(y.tolist())}
        assert sorted(label for _, s, _ in shares for label in s.tolist()) == sorted(y.tolist())
        for images_, labels, _ in shares:
            assert all(torch.equal(i, image_of[n]) for i, n in zip(images_, labels.tolist()))  # noqa: B905
        loss = sum(weight * images_.mean() for images_, _, weight in shares) / world_size
        assert loss.item() == pytest.approx(x.mean().item(), abs=1e-6)
    resumed = list(batches(rank=1, world_size=world_size).epoch(2, 1))
    assert same([b[:2] for b in shared[1][1:]], [b[:2] for b in resumed])


def test_too_many_processes_for_the_last_batch_are_refused():
    batches(rank=0, world_size=6)
    with pytest.raises(DataError, match="--batch_size: 7 processes cannot share a batch of 6"):
        batches(rank=0, world_size=7)


@pytest.mark.parametrize("size", [0, N + 1])
def test_batch_sizes_out_of_range_are_refused(size):
    with pytest.raises(DataError, match=f"--batch_size: {size} is out of range, .* 1 to {N}"):
        batches(size=size)


def test_sizes_of_images_hold_for_equal_shares_of_the_epochs():
    grown = ImageBatches(
        random_images(N), torch.arange(N), 35, 0,
        max_epochs=7, image_sizes=(8, 16, 32), prepare=lambda x: x.float(),
    )  # fmt: skip
    shapes = [{tuple(x.shape) for x, _ in grown.epoch(epoch)} for epoch in range(7)]
    assert shapes == [{(35, 3, side, side)} for side in (8, 8, 16, 16, 32, 32, 32)]


def test_array_batches_are_a_function_of_seed_epoch_and_step():
    x = np.arange(23)[:, None]
    points = ArrayBatches(x, np.arange(23), 10, 4)
    whole = list(points.epoch(2))
    assert [points.steps_in(epoch) for epoch in range(4)] == [0, 3, 6, 9]
    assert [points.position(step) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]
    np.testing.assert_array_equal(np.concatenate([y for _, y in whole]), epoch_order(23, 4, 2))
    assert sorted(np.concatenate([x for x, _ in whole]).ravel()) == list(range(23))
    assert all((x.ravel() == y).all() for x, y in whole)
    for (_, a), (_, b) in zip(whole[1:], points.epoch(2, 1), strict=True):
        np.testing.assert_array_equal(a, b)
    orders = {epoch_order(23, *key).tobytes() for key in ((4, 2), (2, 4), (4, 3), (5, 2))}
    assert len(orders) == 4


def test_mixed_seeds_differ_and_are_63_bits():
    seeds = {mix(a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2500
    assert max(seeds) < 2**63
    assert min(seeds) >= 0
