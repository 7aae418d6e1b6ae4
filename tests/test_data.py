"""The one loader: toy sets, and CIFAR-10 from every source it may come from."""

import functools
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import make_circles, make_moons
from torchvision.datasets import CIFAR10

from data import DataError, cifar10, load_dataset
from data.cifar10 import ARCHIVE, BATCH_FOLDER, CLASS_NAMES, MD5, load_cifar10
from data.toy import bayes_accuracy
from tests.survival.common import TINY_BATCH

# --- Toy sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["moons", "circles"])
def test_toy_splits_are_scikit_learns_points_each_once(name):
    data = load_dataset(name, seed=3, n_samples=500, noise=0.15)
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [300, 100, 100]
    expected, _ = (
        make_moons(500, noise=0.15, random_state=3)
        if name == "moons"
        else make_circles(500, noise=0.15, factor=0.5, random_state=3)
    )
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_val, data.x_test]), expected)
    assert (data.n_inputs, data.n_classes) == (2, 2)


def test_toy_seeds_count():
    a, b, c = (load_dataset("moons", seed=s, n_samples=50) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.x_train, b.x_train)
    assert not np.array_equal(a.x_train, c.x_train)


def test_class_names_say_where_the_classes_lie():
    circles = load_dataset("circles", seed=0, n_samples=500, noise=0.0)
    moons = load_dataset("moons", seed=0, n_samples=500, noise=0.0)
    outer = circles.x_train[circles.y_train == circles.class_names.index("outer")]
    np.testing.assert_allclose(np.linalg.norm(outer, axis=1), 1)
    upper = moons.x_train[moons.y_train == moons.class_names.index("upper")]
    assert (upper[:, 1] >= 0).all()


def test_bayes_accuracy_is_that_of_overlapping_gaussians():
    """Circles of noise far below their distance meet like two half planes 0.5 apart."""
    assert bayes_accuracy("circles", 0.01, n_samples=2000) == 1.0
    assert bayes_accuracy("moons", 1e-5, n_samples=2000) == 1.0
    assert 0.96 < bayes_accuracy("moons", 0.2, n_samples=20_000) < 0.98
    assert bayes_accuracy("circles", 5.0, n_samples=20_000) == pytest.approx(0.5, abs=0.05)


# --- CIFAR-10: sources --------------------------------------------------------------------------


def _pack(tiny: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny / BATCH_FOLDER, arcname=BATCH_FOLDER)


def _unpack_as_images(tiny: Path, folder: Path) -> None:
    x, y, x_test, y_test = load_cifar10(tiny, check_md5=False)
    for split, images, labels in (("train", x, y), ("test", x_test, y_test)):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / CLASS_NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{i:05}.png")


def _by_content(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))


def test_the_three_sources_hold_the_same_images(tiny_cifar10, tmp_path):
    from_batches = load_cifar10(tiny_cifar10, check_md5=False)
    (tmp_path / "archive").mkdir()
    _pack(tiny_cifar10, tmp_path / "archive" / ARCHIVE)
    _unpack_as_images(tiny_cifar10, tmp_path / "images")
    for source in ("archive", "images"):
        other = load_cifar10(tmp_path / source, check_md5=False)
        assert _by_content(*other[:2]) == _by_content(*from_batches[:2])
        assert _by_content(*other[2:]) == _by_content(*from_batches[2:])


def test_environment_names_the_folder(tiny_cifar10, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(tiny_cifar10))
    assert len(load_cifar10(check_md5=False)[0]) == 5 * TINY_BATCH


def test_splits_are_disjoint_and_depend_on_the_seed(tiny_cifar10):
    load = functools.partial(load_dataset, "cifar10", data_dir=tiny_cifar10, check_md5=False)
    data, other = load(seed=0), load(seed=1)
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (180, 20, 40)
    train, val = ({x.tobytes() for x in split} for split in (data.x_train, data.x_val))
    assert not train & val
    assert not np.array_equal(data.x_val, other.x_val)
    np.testing.assert_array_equal(data.x_test, other.x_test)
    assert len(load(seed=0, n_samples=50).x_train) == 45


def test_cache_is_used_and_forgotten_when_a_file_changes(tiny_cifar10, no_cache, monkeypatch):
    first = load_cifar10(tiny_cifar10, check_md5=False)
    with monkeypatch.context() as patched:
        patched.setattr("data.cifar10._decode", lambda *_: pytest.fail("decoded again"))
        np.testing.assert_array_equal(load_cifar10(tiny_cifar10, check_md5=False)[0], first[0])
    batch = tiny_cifar10 / BATCH_FOLDER / "test_batch"
    content = pickle.loads(batch.read_bytes())
    content["labels"] = content["labels"][::-1]
    batch.write_bytes(pickle.dumps(content, protocol=2))
    assert load_cifar10(tiny_cifar10, check_md5=False)[3][0] == first[3][-1]


def test_broken_cache_is_decoded_again(tiny_cifar10, no_cache):
    first = load_cifar10(tiny_cifar10, check_md5=False)
    (cached,) = no_cache.iterdir()
    cached.write_bytes(cached.read_bytes()[:5000])
    np.testing.assert_array_equal(load_cifar10(tiny_cifar10, check_md5=False)[0], first[0])


def test_md5_table_is_torchvisions():
    published = dict(CIFAR10.train_list + CIFAR10.test_list) | {ARCHIVE: CIFAR10.tgz_md5}
    assert published == MD5


def test_real_cifar10(real_cifar10):
    load_dataset("cifar10", seed=0, data_dir=real_cifar10)
    start = time.perf_counter()
    data = load_dataset("cifar10", seed=0, data_dir=real_cifar10)
    assert time.perf_counter() - start < 2  # the second start, from the cache
    assert data.x_train.shape == (45_000, 3, 32, 32)
    assert (len(data.x_val), len(data.x_test), data.n_inputs) == (5_000, 10_000, 3072)
    both = np.concatenate([data.y_train, data.y_val])
    np.testing.assert_array_equal(np.bincount(both), 5_000)
    assert (data.x_train / 255).mean((0, 2, 3)) == pytest.approx(cifar10.MEAN, abs=2e-3)


# --- CIFAR-10: what can be wrong ----------------------------------------------------------------


def _truncate(folder: Path) -> None:
    batch = folder / BATCH_FOLDER / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:1000])


def _remove(folder: Path) -> None:
    (folder / BATCH_FOLDER / "data_batch_2").unlink()


def _plant_code(folder: Path) -> None:
    class Harmful:
        def __reduce__(self):
            return os.system, ("touch /tmp/should_never_exist",)

    (folder / BATCH_FOLDER / "data_batch_1").write_bytes(pickle.dumps(Harmful()))


def _mislabel(folder: Path) -> None:
    batch = {"data": np.zeros((1, 3072), np.uint8), "labels": [10]}
    (folder / BATCH_FOLDER / "test_batch").write_bytes(pickle.dumps(batch))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "data_batch_3: not a CIFAR-10 batch"),
        (_remove, "data_batch_2: cannot be read"),
        (_plant_code, "it asks for"),
        (_mislabel, "labels must lie in 0..9"),
    ],
)
def test_broken_batches_are_named(tiny_cifar10, damage, words):
    damage(tiny_cifar10)
    with pytest.raises(DataError, match=words):
        load_cifar10(tiny_cifar10, check_md5=False)


def test_wrong_md5_is_refused(tiny_cifar10):
    with pytest.raises(DataError, match=r"data_batch_1: md5 is .* not the published c99c"):
        load_cifar10(tiny_cifar10)


def test_a_folder_without_cifar10_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=rf"--data_dir.*expected {BATCH_FOLDER}/, {ARCHIVE}, or"):
        load_cifar10(tmp_path)


def test_a_missing_folder_and_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"--data_dir.*is not a folder"):
        load_cifar10(tmp_path / "file")
    with pytest.raises(DataError, match=r"--data_dir.*does not exist"):
        load_cifar10(tmp_path / "absent")


def test_image_folders_are_checked(tiny_cifar10, tmp_path):
    folder = tmp_path / "images"
    _unpack_as_images(tiny_cifar10, folder)
    picture = next((folder / "train" / "cat").iterdir())
    Image.new("RGB", (31, 32)).save(picture)
    with pytest.raises(DataError, match=f"{picture.name}: is 31x32 pixels, expected 32x32"):
        load_cifar10(folder)
    picture.write_text("no image")
    with pytest.raises(DataError, match=f"{picture.name}: not a readable image"):
        load_cifar10(folder)
    picture.unlink()
    (folder / "test" / "dog").rename(tmp_path / "dog")
    with pytest.raises(DataError, match=r"test/dog: missing class folder"):
        load_cifar10(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"name": "spirals"},
            "--dataset: 'spirals' is unknown; choose from moons, circles",
        ),
        ({"name": "moons", "n_samples": 3}, "--n_samples"),
        ({"name": "moons", "noise": -0.1}, "--noise"),
        ({"name": "moons", "noise": float("nan")}, "--noise"),
        ({"name": "cifar10", "noise": 0.1}, "--noise"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(DataError, match=words):
        load_dataset(**arguments)


# --- CIFAR-10: download -------------------------------------------------------------------------


class _Server(http.server.ThreadingHTTPServer):
    """Serves one file on loopback, and breaks off its first answers half way."""

    def __init__(self, content: bytes, broken_answers: int):
        self.content, self.broken_answers, self.ranges = content, broken_answers, []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/{ARCHIVE}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.broken_answers:
            self.server.broken_answers -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tiny_cifar10, tmp_path, monkeypatch):
    """Start a server whose archive counts as the published one; nothing is found elsewhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tiny_cifar10 / BATCH_FOLDER, arcname=BATCH_FOLDER)
    content, servers = packed.getvalue(), []
    monkeypatch.setitem(MD5, ARCHIVE, hashlib.md5(content).hexdigest())
    monkeypatch.setattr("data.cifar10.DEFAULT_DIR", tmp_path / "downloads")
    monkeypatch.setattr("data.download.time.sleep", lambda _: None)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)

    def start(*, broken_answers: int = 0, content: bytes = content) -> _Server:
        servers.append(_Server(content, broken_answers))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_goes_on_where_it_broke(serve, tmp_path):
    server = serve(broken_answers=2)
    images = load_cifar10(url=server.url)[0]
    assert len(images) == 5 * TINY_BATCH
    assert server.ranges[0] is None
    assert [r.startswith("bytes=") for r in server.ranges[1:]] == [True, True]
    assert [f.name for f in (tmp_path / "downloads").iterdir()] == [ARCHIVE]
    load_cifar10(url=server.url)
    assert len(server.ranges) == 3  # found, not fetched again


def test_wrong_download_is_not_left_behind(serve, tmp_path):
    server = serve(content=b"something else")
    with pytest.raises(DataError, match="md5 of the download") as error:
        load_cifar10(url=server.url)
    for way in (BATCH_FOLDER, "--data_dir", "--cifar10_url"):
        assert way in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_dead_mirror_says_the_three_ways(serve):
    with pytest.raises(DataError, match="--cifar10_url"):
        load_cifar10(url="http://127.0.0.1:9/nothing")
