"""A made-up CIFAR-10 as image folders, small and quick to learn."""

from pathlib import Path

import numpy as np
from PIL import Image

from data.cifar10 import CLASS_NAMES


def make_tiny_cifar10(folder: Path, n_train: int = 60, n_test: int = 20, seed: int = 0) -> Path:
    """Write 32x32 PNGs to `train/<class>/` and `test/<class>/`, balanced; returns `folder`.

    Each class has a coarse pattern of 4x4 colours, each image that pattern and noise of its own.
    """
    rng = np.random.default_rng(seed)
    patterns = rng.integers(60, 196, (len(CLASS_NAMES), 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    for split, n in (("train", n_train), ("test", n_test)):
        for name in CLASS_NAMES:
            (folder / split / name).mkdir(parents=True)
        for i in range(n):
            label = i % len(CLASS_NAMES)
            image = patterns[label] + rng.integers(-60, 60, (32, 32, 3))
            path = folder / split / CLASS_NAMES[label] / f"{i:05}.png"
            Image.fromarray(image.astype(np.uint8)).save(path, compress_level=1)
    return folder
