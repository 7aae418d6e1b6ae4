"""Find, check, read and download CIFAR-10 (Krizhevsky, 2009), with torchvision.

It is read from the extracted python version, from its archive, or from image folders.
"""

import contextlib
import glob
import io
import os
import socket
import sys
import tarfile
import tempfile
import warnings
from http.client import HTTPException
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.datasets.utils import check_integrity, download_url

from data import CLASS_NAMES, DataError

DEFAULT_DIR = Path(__file__).resolve().parent / "cifar10"
BATCHES = dict(CIFAR10.train_list + CIFAR10.test_list)  # file name: md5; the test batch comes last
ARCHIVE, ARCHIVE_MD5 = CIFAR10.filename, CIFAR10.tgz_md5
LAYOUT = "train/<class>/* and test/<class>/*"
MAX_BATCH_BYTES = 2**26  # twice the size of a published batch
TIMEOUT = 60  # seconds that a server may be silent

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load_cifar10(data_dir: str | Path | None = None, *, url: str | None = None) -> Arrays:
    """Load CIFAR-10 from `data_dir`, `$CIFAR10_DIR` or `data/cifar10/`, or download it there.

    Args:
        data_dir: a folder with the batches (they may lie up to two folders deeper), the archive,
            or image folders (`train/<class>/*`, `test/<class>/*`); no other place is searched.
        url: a mirror to download the archive from.

    Returns:
        train images, train labels, test images, test labels: uint8 (N, 3, 32, 32) and int64 (N,).

    Raises:
        DataError: nothing was found, with the ways to provide it; or a file, by name, is broken.
    """
    for name, value in (("--data_dir", data_dir), ("$CIFAR10_DIR", os.environ.get("CIFAR10_DIR"))):
        if value is not None:
            return _read_given(name, value)
    arrays = _read(DEFAULT_DIR)
    if arrays is None:
        _download(CIFAR10.url if url is None else url)
        arrays = _read(DEFAULT_DIR)
    return arrays


def _read_given(name: str, value: str | Path) -> Arrays:
    """Read the folder that the flag or variable `name` gives."""
    if not str(value).strip():
        raise DataError(f"{name}: is empty; give the folder that holds CIFAR-10")
    folder = Path(os.path.abspath(os.path.expanduser(value)))
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"{name}: {folder} {problem}; give the folder that holds CIFAR-10")
    arrays = _read(folder)
    if arrays is None:
        expected = f"data_batch_1 and so on, {ARCHIVE}, or images in {LAYOUT}"
        raise DataError(f"{name}: {folder} holds no CIFAR-10: expected {expected}")
    return arrays


def _read(folder: Path) -> Arrays | None:
    """Read the batches, the archive or the image folders in `folder`; None: there are none."""
    error = None
    batch_folders = _find_batches(folder)
    for batches in batch_folders:
        try:
            return _read_batches(batches, batches)
        except DataError as problem:
            error = error or problem
    for place in (folder, *(batches.parent for batches in batch_folders)):
        if os.path.isfile(place / ARCHIVE):
            if error:
                print(f"{error}; {place / ARCHIVE} is read instead", file=sys.stderr)
            return _read_archive(place / ARCHIVE)
    if error:
        raise error
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        return _read_image_folders(folder)
    return None


# --- The python version ---------------------------------------------------------------------------


class _AllBatches(CIFAR10):
    """All images of one folder of batches, whose md5 have been checked."""

    base_folder = ""
    train_list = tuple((name, None) for name in BATCHES)
    test_list = ()

    def _load_meta(self) -> None:
        """Do without batches.meta: it only holds the names of the classes."""


def _find_batches(folder: Path) -> list[Path]:
    """The folders of batches nearest to `folder`: itself, or one or two levels deeper."""
    for levels in ((), ("*",), ("*", "*")):
        pattern = os.path.join(glob.escape(str(folder)), *levels, "data_batch_[1-5]")
        if found := glob.glob(pattern):
            return sorted({Path(file).parent for file in found})
    return []


def _read_batches(folder: Path, source: Path) -> Arrays:
    """Check, then read the six batches; an error names the file as it is called in `source`."""
    for name, md5 in BATCHES.items():
        path = folder / name
        if not os.path.isfile(path):  # a pipe or device could be read for ever
            raise DataError(f"{source / name}: is missing, or not a regular file")
        try:
            whole = os.path.getsize(path) <= MAX_BATCH_BYTES and check_integrity(path, md5)
        except OSError as error:
            raise DataError(f"{source / name}: cannot be read ({error.strerror})") from error
        if not whole:
            hint = f"a set of your own is given as images in {LAYOUT}"
            raise DataError(f"{source / name}: truncated or changed, its md5 is wrong; {hint}")
    batches = _AllBatches(folder)
    images = np.ascontiguousarray(batches.data.transpose(0, 3, 1, 2))
    labels = np.array(batches.targets, dtype=np.int64)
    n_train = len(images) // len(BATCHES) * len(CIFAR10.train_list)
    return images[:n_train], labels[:n_train], images[n_train:], labels[n_train:]


def _read_archive(archive: Path) -> Arrays:
    """Read the batches of an archive by way of a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="cifar10-") as temporary:
        try:
            _extract(archive, Path(temporary))
        except Exception as error:  # a broken archive can raise nearly anything
            raise DataError(f"{archive}: broken, or cannot be extracted ({error})") from error
        return _read_batches(Path(temporary), archive)


def _extract(archive: Path, folder: Path) -> None:
    """Extract the batches, and nothing else, from wherever they are in the archive."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            member.name = os.path.basename(member.name)
            if member.isfile() and member.name in BATCHES and member.size <= MAX_BATCH_BYTES:
                tar.extract(member, folder, filter="data")


def _download(url: str) -> None:
    """Download the archive and put its batches, all or none, into `data/cifar10/`."""
    target = DEFAULT_DIR / CIFAR10.base_folder
    timeout = socket.getdefaulttimeout()
    terminal = sys.stderr is not None and sys.stderr.isatty()
    bar = contextlib.nullcontext() if terminal else contextlib.redirect_stderr(io.StringIO())
    try:
        DEFAULT_DIR.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=DEFAULT_DIR) as temporary:
            batches = Path(temporary, "batches")
            batches.mkdir()
            socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none
            with bar:  # torchvision's progress bar is for a terminal
                download_url(url, temporary, ARCHIVE, ARCHIVE_MD5)
            _extract(Path(temporary, ARCHIVE), batches)
            if not target.is_dir():
                batches.rename(target)
            else:  # of a process that was faster, or without the batches
                for batch in batches.iterdir():
                    batch.replace(target / batch.name)
    except (
        OSError, ValueError, RuntimeError, HTTPException, tarfile.TarError,
        AttributeError,  # torchvision's, of an address that is not of the web
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RuntimeError):  # as torchvision reports a wrong md5
            reason = f"the file is not the published archive, or truncated: {reason}"
        raise DataError(
            f"CIFAR-10 was not found and could not be downloaded from {url} ({reason}); put "
            f"{ARCHIVE} or {CIFAR10.base_folder}/ into {DEFAULT_DIR}, or name a folder that holds "
            f"one of them, or images in {LAYOUT}, with --data_dir or $CIFAR10_DIR, or name a "
            "mirror of the archive with --cifar10_url"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        with contextlib.suppress(OSError):
            DEFAULT_DIR.rmdir()  # which fails unless nothing has come


# --- Image folders --------------------------------------------------------------------------------


def _read_image_folders(folder: Path) -> Arrays:
    skipped: list[str] = []
    arrays: list[np.ndarray] = []
    for split in ("train", "test"):
        paths, labels = zip(*_find_images(folder / split, skipped), strict=True)
        images = np.stack([_load_pixels(path) for path in paths]).transpose(0, 3, 1, 2)
        arrays += [np.ascontiguousarray(images), np.array(labels, dtype=np.int64)]
    if skipped:
        found = f"{len(skipped)} skipped that are not images, such as {skipped[0]}"
        print(f"{folder}: {found}", file=sys.stderr)
    return tuple(arrays)


def _find_images(root: Path, skipped: list[str]) -> list[tuple[str, int]]:
    """The sorted images of one split, `<class>/*`, and their labels, as ImageFolder finds them.

    Files whose suffix is not an image's are added to `skipped`, those whose names, or folders'
    names, begin with a dot (.DS_Store, ._0.png, .ipynb_checkpoints) are not.
    """

    def is_image(path: str) -> bool:
        if any(part.startswith(".") for part in Path(path).relative_to(root).parts):
            return False
        if path.lower().endswith((*IMG_EXTENSIONS, ".jfif")):
            return True
        skipped.append(path)
        return False

    labels = {name: label for label, name in enumerate(CLASS_NAMES)}
    try:
        paths = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
        skipped += [str(path) for path in paths if not path.is_dir()]
        folders = {path.name for path in paths if path.is_dir()}
        for name in sorted(folders.symmetric_difference(labels)):
            problem = "unknown class" if name in folders else "missing class folder"
            raise DataError(f"{root / name}: {problem}; the classes are {', '.join(labels)}")
        return make_dataset(root, labels, is_valid_file=is_image)
    except OSError as error:  # a class without images, a folder that is missing or not readable
        raise DataError(f"{root}: {str(error).strip()}; expected images in {LAYOUT}") from error


def _load_pixels(path: str) -> np.ndarray:
    """The RGB values of an image file, uint8 of shape (32, 32, 3)."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: is not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about a picture of very many pixels
            with Image.open(path) as image:
                if image.size == (32, 32) and not image.mode.startswith(("I", "F")):
                    return np.asarray(image.convert("RGB"))
                found = "{}x{}".format(*image.size) + f" pixels, mode {image.mode}"
    except Exception as error:  # a broken image can raise nearly anything
        raise DataError(f"{path}: not a readable image") from error
    raise DataError(f"{path}: is {found}; expected 32x32 pixels of 8 bits a channel")
