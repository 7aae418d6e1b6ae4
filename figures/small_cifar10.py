"""A small part of CIFAR-10, for runs that need to be quick."""

import pickle
from pathlib import Path

import numpy as np

from data.cifar10 import BATCH_FOLDER, TEST_BATCH, TRAIN_BATCHES, load_cifar10
from training.record import write_whole

IMAGES_A_BATCH = 100  # of 10,000; there are five batches to train on and one to test on


def write_small_cifar10(folder: Path, data_dir: str | None = None) -> Path:
    """Write the first images of CIFAR-10 in the format of its python version; returns the folder.

    They are not the published files: to be read with `--cifar10_md5 skip`.

    Args:
        data_dir: where CIFAR-10 lies; None: where it is always looked for.
    """
    train_images, train_labels, test_images, test_labels = load_cifar10(data_dir)
    n_train = len(TRAIN_BATCHES) * IMAGES_A_BATCH
    images = np.concatenate([train_images[:n_train], test_images[:IMAGES_A_BATCH]])
    labels = np.concatenate([train_labels[:n_train], test_labels[:IMAGES_A_BATCH]])
    (folder / BATCH_FOLDER).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate((*TRAIN_BATCHES, TEST_BATCH)):
        part = slice(i * IMAGES_A_BATCH, (i + 1) * IMAGES_A_BATCH)
        batch = {"data": images[part].reshape(IMAGES_A_BATCH, -1), "labels": labels[part].tolist()}
        write_whole(folder / BATCH_FOLDER / name, pickle.dumps(batch, protocol=2))
    return folder
