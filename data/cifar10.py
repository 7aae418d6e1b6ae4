"""Find, fetch, verify and decode CIFAR-10 (Krizhevsky, 2009).

It may lie there as the extracted python version, as the archive, or as image folders; otherwise it
is downloaded. Whatever the source, the result is the same pair of uint8 arrays, kept in a cache.
"""

import contextlib
import hashlib
import io
import os
import pickle
import pickletools
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from data.download import DownloadError, download, md5_of
from data.errors import DataError
from data.pictures import open_picture

HERE = Path(__file__).resolve().parent
DEFAULT_DIR = HERE / "cifar10"
CACHE_DIR = Path(os.environ.get("CIFAR10_CACHE") or HERE / "cache")
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE = "cifar-10-python.tar.gz"
BATCH_FOLDER = "cifar-10-batches-py"
CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_BATCH = "test_batch"
SHAPE = (3, 32, 32)
MD5 = {  # as published with the data set
    ARCHIVE: "c58f30108f718f92721af3b95e74349a",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    TEST_BATCH: "40351d587109b95175f43aff81a1287e",
}
# Per-channel mean and standard deviation of the training pixels (as fractions of 255), as the
# report gives them; the deviations are those of the images' own means, a long-lived convention.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)

MOST_BYTES = 2**26  # of a batch's file, twice what the published ones have

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load_cifar10(
    data_dir: str | Path | None = None, *, url: str | None = None, check_md5: bool = True
) -> Arrays:
    """Load CIFAR-10 from `data_dir`, `$CIFAR10_DIR` or `data/cifar10/`, or download it there.

    Args:
        data_dir: a folder holding the batches, the archive or image folders; nothing else is
            searched when it is given.
        url: a mirror to download the archive from.
        check_md5: refuse batches and archives that are not the published ones, byte for byte.

    Returns:
        train images, train labels, test images, test labels: images uint8 of shape (N, 3, 32, 32),
        labels int64 of shape (N,).

    Raises:
        DataError: nothing usable was found, with the three ways to provide it; or what was found
            is broken, with the file's name.
    """
    source = _find(data_dir)
    if source is None:
        source = _fetch_archive(url or URL)
    return _load_cached(source, check_md5)


def _find(data_dir: str | Path | None) -> Path | None:
    """The folder of batches, archive or folder of image folders to read, or None to download."""
    if data_dir is not None:
        return _source_in(Path(data_dir), f"--data_dir: {data_dir}")
    if from_environment := os.environ.get("CIFAR10_DIR"):
        return _source_in(Path(from_environment), f"$CIFAR10_DIR: {from_environment}")
    return _source_in(DEFAULT_DIR, None) if DEFAULT_DIR.is_dir() else None


def _source_in(folder: Path, label: str | None) -> Path | None:
    """What `folder` holds of CIFAR-10. Nothing: None, or an error where a label says who asked."""
    try:
        if label and not folder.exists():
            raise DataError(f"{label} does not exist")
    except OSError as error:  # too long a name
        raise DataError(f"{label} cannot be read ({error.strerror})") from error
    if label and not folder.is_dir():
        raise DataError(f"{label} is not a folder; give the folder that holds {BATCH_FOLDER}/")
    if folder.name == BATCH_FOLDER:
        return folder
    if (folder / BATCH_FOLDER).is_dir():
        return folder / BATCH_FOLDER
    if (folder / ARCHIVE).is_file():
        return folder / ARCHIVE
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        return folder
    if label:
        raise DataError(
            f"{label} holds no CIFAR-10: expected {BATCH_FOLDER}/, {ARCHIVE}, "
            "or train/<class>/ and test/<class>/ with images"
        )
    return None


def _fetch_archive(url: str) -> Path:
    try:
        download(DEFAULT_DIR / ARCHIVE, url, MD5[ARCHIVE])
    except DownloadError as error:
        raise DataError(
            f"CIFAR-10 is not here and could not be fetched ({error}); either put {ARCHIVE} or "
            f"{BATCH_FOLDER}/ into {DEFAULT_DIR}, or name a folder that holds one of them (or "
            "image folders) with --data_dir or $CIFAR10_DIR, or name a mirror of the archive "
            "with --cifar10_url"
        ) from error
    return DEFAULT_DIR / ARCHIVE


# --- Decoding -------------------------------------------------------------------------------------


def _load_cached(source: Path, check_md5: bool) -> Arrays:
    """Decode `source`, or take what an earlier start decoded from the very same files."""
    cached = CACHE_DIR / f"cifar10-{_fingerprint(source, check_md5)}.npy"
    try:
        with cached.open("rb") as file:
            return tuple(np.load(file, allow_pickle=False) for _ in range(4))
    except (OSError, ValueError, EOFError):
        pass  # none yet, or a broken one: decode again
    arrays = _decode(source, check_md5)
    with contextlib.suppress(OSError):  # a read-only or full disk costs a slower start, no more
        _write_cache(cached, arrays)
    return arrays


def _fingerprint(source: Path, check_md5: bool) -> str:
    """A name for the state of the source's files: their paths, sizes and times of change."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.md5(repr((str(source.resolve()), stats, check_md5)).encode()).hexdigest()[:16]


def _write_cache(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            for array in arrays:
                np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
            for earlier in path.parent.glob("cifar10-*.npy"):  # 184 MB each: keep one
                earlier.unlink()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _decode(source: Path, check_md5: bool) -> Arrays:
    if source.is_file():
        read = _archive_reader(source, check_md5)
    elif source.name == BATCH_FOLDER:
        read = _folder_reader(source, check_md5)
    else:
        return _decode_image_folders(source)
    batches = [_decode_batch(*read(name)) for name in (*TRAIN_BATCHES, TEST_BATCH)]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images[:-1]), np.concatenate(labels[:-1]), images[-1], labels[-1]


def _folder_reader(folder: Path, check_md5: bool):
    def read(name: str) -> tuple[str, bytes]:
        path = folder / name
        try:
            if path.exists() and not path.is_file():  # a device never ends, a pipe never begins
                raise DataError(f"{path}: is no file")
            if path.stat().st_size > MOST_BYTES:
                raise DataError(f"{path}: has {path.stat().st_size:,} bytes, too many for a batch")
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if check_md5:
            _verify(path, hashlib.md5(content).hexdigest(), MD5[name])
        return str(path), content

    return read


def _archive_reader(archive: Path, check_md5: bool):
    """Read the batches of an archive, of which nothing is ever written to the disk."""
    contents: dict[str, bytes] = {}
    try:
        if check_md5:
            with archive.open("rb") as file:
                _verify(archive, md5_of(file), MD5[ARCHIVE])
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.size > MOST_BYTES:
                    raise DataError(f"{archive}: {member.name[:99]} has {member.size:,} bytes")
                folder, _, name = member.name.rpartition("/")
                if member.isfile() and folder == BATCH_FOLDER and name in MD5:
                    contents[name] = tar.extractfile(member).read()
    except DataError:
        raise
    except Exception as error:  # a broken archive can raise nearly anything
        raise DataError(f"{archive}: broken archive ({error})") from error

    def read(name: str) -> tuple[str, bytes]:
        if name not in contents:
            raise DataError(f"{archive}: has no {name}")
        return f"{archive}/{name}", contents[name]

    return read


def _verify(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"{path}: md5 is {found}, not the published {expected}: truncated or changed "
            "(--cifar10_md5 skip accepts a set of your own in this format)"
        )


class _ArraysOnlyUnpickler(pickle.Unpickler):
    """Reads batches, which are pickles, without letting a foreign one run code.

    A pickle calls what it names. Here that is always one of the two functions below.
    """

    @staticmethod
    def _empty_array(*_shape_and_type: object) -> np.ndarray:
        """What a pickled array is made from; its numbers follow, with their shape and type."""
        return np.empty(0, np.uint8)

    @staticmethod
    def _encode(text: str, *_encoding: str) -> bytes:
        """How Python 3 writes bytes into pickles for Python 2."""
        return text.encode("latin1")

    def find_class(self, module: str, name: str):
        if module.split(".")[0] == "numpy":
            if name == "_reconstruct":
                return self._empty_array
            if name == "ndarray":
                return None  # an argument of _reconstruct
            if name == "dtype":
                return np.dtype
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _check_opcodes(content: bytes) -> None:
    """Refuse a pickle that would take much memory for few bytes.

    Raises:
        pickle.UnpicklingError: it would.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and argument > len(content):
            raise pickle.UnpicklingError("it counts more objects than it has bytes")


def _decode_batch(label: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,) of one python-version batch."""
    try:
        _check_opcodes(content)
        batch = _ArraysOnlyUnpickler(io.BytesIO(content), encoding="latin1").load()
        images = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, *SHAPE)
        labels = np.asarray(batch["labels"], dtype=np.int64)
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{label}: not a CIFAR-10 batch, or truncated ({error})") from error
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(f"{label}: {len(images)} images but {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise DataError(f"{label}: labels must lie in 0..9, found {labels.min()}..{labels.max()}")
    return images, labels


def _decode_image_folders(folder: Path) -> Arrays:
    return *_decode_split(folder / "train"), *_decode_split(folder / "test")


def _decode_split(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for label, name in enumerate(CLASS_NAMES):
        if not (folder / name).is_dir():
            raise DataError(f"{folder / name}: missing class folder")
        files = sorted(
            f for f in (folder / name).iterdir() if f.suffix.lower() in (".png", ".jpg", ".jpeg")
        )
        if not files:
            raise DataError(f"{folder / name}: holds no .png or .jpg image")
        for path in files:
            pixels = np.asarray(open_picture(path, only_size=SHAPE[1:]))
            images.append(pixels.transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.array(labels, dtype=np.int64)
