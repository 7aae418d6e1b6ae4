"""The data sets: splits, toy sets, palindromes, and CIFAR-10 from every source it may come from."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from sklearn.datasets import make_circles, make_moons
from torchvision.datasets import CIFAR10

from data import DataError, Dataset, cifar10, load_dataset
from data.cifar10 import ARCHIVE, BATCHES, CLASS_NAMES, load_cifar10
from data.images import MEAN, STD
from data.palindromes import PalindromeBatches, draw_palindromes, half_length
from data.toy import bayes_accuracy
from tests.tiny_cifar10 import make_tiny_cifar10

ROOT = Path(__file__).resolve().parents[1]
FOLDER = CIFAR10.base_folder
IMAGES_PER_BATCH = 20

# --- Toy sets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["moons", "circles"])
def test_toy_splits_hold_each_of_scikit_learns_points_once(name):
    data = load_dataset(name, seed=3, n_samples=500, noise=0.15)
    x, y = (
        make_moons(500, noise=0.15, random_state=3)
        if name == "moons"
        else make_circles(500, noise=0.15, factor=0.5, random_state=3)
    )
    assert [len(data.split(s)[1]) for s in ("train", "val", "test")] == [300, 100, 100]
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_val, data.x_test]), x)
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_val, data.y_test]), y)
    assert (data.n_inputs, data.n_classes, data.y_train.dtype) == (2, 2, np.int64)


def test_class_names_say_where_the_classes_lie():
    circles = load_dataset("circles", n_samples=500, noise=0.0)
    moons = load_dataset("moons", n_samples=500, noise=0.0)
    outer = circles.x_train[circles.y_train == circles.class_names.index("outer")]
    np.testing.assert_allclose(np.linalg.norm(outer, axis=1), 1)
    upper = moons.x_train[moons.y_train == moons.class_names.index("upper")]
    assert (upper[:, 1] >= 0).all()


def test_default_noise_is_that_of_each_set():
    noisy = load_dataset("circles", n_samples=20_000)
    radius = np.linalg.norm(noisy.x_train[noisy.y_train == 0], axis=1)
    assert radius.std() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_array_equal(
        load_dataset("moons").x_val, load_dataset("moons", n_samples=5000, noise=0.2).x_val
    )


def test_bayes_accuracy_equals_a_brute_force_estimate():
    """The densities on a grid of curve points, by a plain loop over the definition."""
    noise, n = 0.3, 20_000
    x, y = make_moons(n, noise=noise, random_state=5)
    t = np.linspace(0, np.pi, 400)
    upper, lower = (np.cos(t), np.sin(t)), (1 - np.cos(t), 0.5 - np.sin(t))
    density = [
        sum(np.exp(-((x[:, 0] - a) ** 2 + (x[:, 1] - b) ** 2) / (2 * noise**2)) for a, b in curve)
        for curve in (zip(*upper, strict=True), zip(*lower, strict=True))
    ]
    estimate = ((density[1] > density[0]) == y).mean()
    found = bayes_accuracy("moons", noise)
    assert found == pytest.approx(estimate, abs=3 * (estimate * (1 - estimate) / n) ** 0.5)
    assert bayes_accuracy("circles", 5.0) == pytest.approx(0.5, abs=0.05)
    assert bayes_accuracy("moons", 0.05) == pytest.approx(1, abs=1e-6)
    assert bayes_accuracy("moons", 0) == 1
    with pytest.raises(ValueError, match=r"below 0\.01"):
        bayes_accuracy("moons", 0.001)


def test_a_toy_set_imports_neither_torch_nor_pillow():
    code = (
        "import sys, data, data.batches; data.load_dataset('moons');"
        "print({'torch', 'PIL', 'matplotlib'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "spirals"}, "--dataset: 'spirals' is unknown; choose from moons, circles, cifar"),
        ({"name": "moons", "seed": -1}, "--seed: -1 is out of range"),
        ({"name": "circles", "seed": 2**32}, "--seed"),
        ({"name": "cifar10", "seed": -1}, "--seed"),
        ({"name": "moons", "n_samples": 9}, "--n_samples"),
        ({"name": "moons", "noise": -0.1}, "--noise"),
        ({"name": "moons", "noise": float("nan")}, "--noise"),
        ({"name": "moons", "noise": float("inf")}, "--noise"),
        ({"name": "cifar10", "noise": 0.1}, "--noise"),
        ({"name": "circles", "factor": 0.0}, "--factor"),
        ({"name": "circles", "factor": 1.0}, "--factor"),
        ({"name": "circles", "factor": float("nan")}, "--factor"),
        ({"name": "moons", "factor": 0.5}, "--factor is for circles"),
        ({"name": "cifar10", "factor": 0.5}, "--factor is for circles"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(DataError, match=words):
        load_dataset(**arguments)


# --- Splits of CIFAR-10 ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Image folders, read only."""
    return make_tiny_cifar10(tmp_path_factory.mktemp("images"), n_train=100, n_test=20)


def as_set(x: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in x}


def test_splits_are_disjoint_and_whole_and_depend_on_the_seed(images):
    load = partial(load_dataset, "cifar10", data_dir=images)
    data, same, other = load(seed=0), load(seed=0), load(seed=1)
    x, y, x_test, y_test = load_cifar10(images)
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (90, 10, 20)
    assert not as_set(data.x_train) & as_set(data.x_val)
    assert as_set(data.x_train) | as_set(data.x_val) == as_set(x)
    np.testing.assert_array_equal(data.x_test, x_test)
    np.testing.assert_array_equal(data.y_test, y_test)
    label_of = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    for split in ("train", "val"):
        np.testing.assert_array_equal(data.split(split)[0], same.split(split)[0])
        labels = [label_of[image.tobytes()] for image in data.split(split)[0]]
        np.testing.assert_array_equal(data.split(split)[1], labels)
    assert as_set(data.x_val) != as_set(other.x_val)


def test_fewer_test_images_are_of_many_classes_and_the_same_for_every_seed(images):
    whole = load_dataset("cifar10", data_dir=images)
    few, other = (load_dataset("cifar10", data_dir=images, n_samples=10, seed=s) for s in (0, 1))
    assert len(few.x_test) == 10
    assert len(set(few.y_test)) > 5  # image folders are read class by class
    assert (few.x_test == other.x_test).all()
    assert (few.y_test == other.y_test).all()
    rows = [np.flatnonzero((whole.x_test == image).all((1, 2, 3))).item() for image in few.x_test]
    assert rows == sorted(rows)
    assert whole.y_test[rows].tolist() == few.y_test.tolist()


def test_n_samples_counts_the_training_images_with_validation(images):
    few = load_dataset("cifar10", data_dir=images, n_samples=50)
    assert (len(few.x_train), len(few.x_val), len(few.x_test)) == (45, 5, 20)  # it has 20 in all
    fewer = load_dataset("cifar10", data_dir=images, n_samples=10)
    assert (len(fewer.x_train), len(fewer.x_val), len(fewer.x_test)) == (9, 1, 10)
    for n in (9, 101):
        with pytest.raises(DataError, match=f"--n_samples: {n} .* from 10 to 100"):
            load_dataset("cifar10", data_dir=images, n_samples=n)


def test_evaluation_takes_the_first_5000_training_samples_and_all_others():
    x, y = np.arange(5200)[:, None], np.arange(5200) % 2
    data = Dataset("made up", x, y, x[:5100], y[:5100], x[:5150], y[:5150], ("a", "b"))
    evaluated = data.evaluated()
    assert [len(evaluated[s][0]) for s in ("train", "val", "test")] == [5000, 5100, 5150]
    np.testing.assert_array_equal(evaluated["train"][0], x[:5000])
    assert [len(data.head(7).split(s)[1]) for s in ("train", "val", "test")] == [7, 7, 7]


# --- CIFAR-10: the python version -----------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A folder with batches in the published format and layout."""
    folder = tmp_path_factory.mktemp("python version")
    (folder / FOLDER).mkdir()
    rng = np.random.default_rng(0)
    for name in BATCHES:
        labels = rng.integers(0, 10, IMAGES_PER_BATCH)
        batch = {"data": rng.integers(0, 256, (IMAGES_PER_BATCH, 3072), np.uint8)}
        content = pickle.dumps(batch | {"labels": labels.tolist()}, protocol=2)
        (folder / FOLDER / name).write_bytes(content)
    return folder


@pytest.fixture
def batches(published, tmp_path, monkeypatch) -> Path:
    """The parent of a copy of those batches, whose md5 count as the published ones."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(cifar10, "DEFAULT_DIR", tmp_path / "default")
    for file in (published / FOLDER).iterdir():
        monkeypatch.setitem(BATCHES, file.name, hashlib.md5(file.read_bytes()).hexdigest())
    return Path(shutil.copytree(published, tmp_path / "copy"))


def pack(folder: Path, archive: Path, name: str = FOLDER) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder / FOLDER, arcname=name)


def parent(folder: Path) -> Path:
    return folder


def in_itself(folder: Path) -> Path:
    return folder / FOLDER


def linked(folder: Path) -> Path:
    (folder.parent / "link").symlink_to(folder / FOLDER)
    return folder.parent / "link"


def renamed(folder: Path) -> Path:
    return (folder / FOLDER).rename(folder / "my data [1]")


def inside_a_renamed_one(folder: Path) -> Path:
    return renamed(folder).parent


def one_deeper(folder: Path) -> Path:
    return folder.rename(folder.parent / "cifar-10-python").parent


def with_a_dot(folder: Path) -> str:
    os.chdir(folder / FOLDER)
    return "."


def with_dots(folder: Path) -> str:
    return f"{folder}/./{FOLDER}/../{FOLDER}/"


def in_the_home(folder: Path) -> str:
    os.environ["HOME"] = str(folder.parent)
    return f"~/{folder.name}"


def packed(folder: Path) -> Path:
    pack(folder, folder / ARCHIVE)
    shutil.rmtree(folder / FOLDER)
    return folder


def packed_with_a_dot(folder: Path) -> Path:
    pack(folder, folder / ARCHIVE, f"./{FOLDER}")
    shutil.rmtree(folder / FOLDER)
    return folder


def half_beside_the_archive(folder: Path) -> Path:
    pack(folder, folder / ARCHIVE)
    (folder / FOLDER / "data_batch_1").unlink()
    (folder / FOLDER / "data_batch_4").write_bytes(b"half")
    return folder


def half_named_itself(folder: Path) -> Path:
    return half_beside_the_archive(folder) / FOLDER


FORMS = [
    parent, in_itself, linked, renamed, inside_a_renamed_one, one_deeper, with_a_dot, with_dots,
    in_the_home, packed, packed_with_a_dot, half_beside_the_archive, half_named_itself,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_data_dir_is_recognised_by_what_it_holds(batches, form, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # put back at the end, as HOME is
    monkeypatch.setenv("HOME", str(tmp_path))
    contents = [pickle.loads((batches / FOLDER / name).read_bytes()) for name in BATCHES]
    data_dir = form(batches)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    x, y, x_test, y_test = load_cifar10(data_dir)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    pixels = np.concatenate([content["data"] for content in contents]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(np.concatenate([x, x_test]), pixels)
    np.testing.assert_array_equal(
        np.concatenate([y, y_test]), np.concatenate([content["labels"] for content in contents])
    )
    assert (len(x), x.dtype, y.dtype) == (5 * IMAGES_PER_BATCH, np.uint8, np.int64)


def test_sources_are_searched_in_order(batches, images, monkeypatch, tmp_path):
    default = shutil.copytree(images, tmp_path / "default")
    assert len(load_cifar10()[0]) == 100
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    n = 5 * IMAGES_PER_BATCH
    assert len(load_cifar10()[0]) == n
    assert len(load_cifar10(default)[2]) == 20
    monkeypatch.setenv("CIFAR10_DIR", "")
    with pytest.raises(DataError, match=r"\$CIFAR10_DIR: is empty"):
        load_cifar10()
    with pytest.raises(DataError, match="--data_dir: is empty"):
        load_cifar10(" ")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def own_set(path: Path) -> None:
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "unpickled"),)

    path.write_bytes(pickle.dumps({"data": Harmful(), "labels": []}))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def huge(path: Path) -> None:
    os.truncate(path, 10**12)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "truncated or changed"),
        (own_set, r"a set of your own is given as images in train/<class>/\* and test/<class>/\*"),
        (Path.unlink, "is missing"),
        (pipe, "not a regular file"),
        (device, "not a regular file"),
        (dangling, "not a regular file"),
        (huge, "truncated or changed"),
    ],
)
def test_broken_batches_are_named_and_never_unpickled(batches, name, damage, words):
    damage(batches / FOLDER / name)
    with pytest.raises(DataError, match=rf"{name}: .*{words}") as error:
        load_cifar10(batches)
    assert "\n" not in str(error.value)
    assert not (batches / FOLDER / "unpickled").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b half of one"])
def test_broken_archives_are_named(tmp_path, content):
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: broken"):
        load_cifar10(tmp_path)


def test_hostile_archives_leave_no_file_behind(batches, tmp_path):
    with tarfile.open(batches / ARCHIVE, "w:gz") as tar:
        tar.add(batches / FOLDER / "data_batch_1", arcname="../../data_batch_1")
        tar.add(batches / FOLDER / "data_batch_2", arcname="../../other")
        member = tarfile.TarInfo("data_batch_3")
        member.type, member.linkname = tarfile.SYMTYPE, str(batches / FOLDER / "data_batch_3")
        tar.addfile(member)
    (batches / FOLDER).rename(tmp_path / "elsewhere")
    before = {*tmp_path.parent.rglob("*")}
    with pytest.raises(DataError, match=rf"{ARCHIVE}/data_batch_2: is missing"):
        load_cifar10(batches)
    assert {*tmp_path.parent.rglob("*")} == before


def test_a_folder_without_cifar10_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=rf"--data_dir.*expected data_batch_1.*{ARCHIVE}.*train/"):
        load_cifar10(tmp_path)
    with pytest.raises(DataError, match=r"--data_dir.*does not exist"):
        load_cifar10(tmp_path / "absent")
    with pytest.raises(DataError, match=r"--data_dir.*does not exist"):
        load_cifar10(tmp_path / ("long" * 999))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"--data_dir.*is not a folder"):
        load_cifar10(tmp_path / "file")


def test_real_cifar10(real_cifar10):
    data = load_dataset("cifar10", data_dir=real_cifar10)
    assert data.x_train.shape == (45_000, 3, 32, 32)
    assert (len(data.x_val), len(data.x_test), data.n_inputs) == (5_000, 10_000, 3072)
    np.testing.assert_array_equal(np.bincount(np.r_[data.y_train, data.y_val]), 5_000)
    assert data.x_train.mean((0, 2, 3)) / 255 == pytest.approx(MEAN, abs=2e-3)
    deviations = data.x_train[:3000].astype(np.float32).std((2, 3)).mean(0) / 255
    assert deviations == pytest.approx(STD, abs=5e-3)


# --- CIFAR-10: download ---------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves a folder on this machine; yields the folder and the address of the archive in it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    server.handle_error = lambda *_: None  # a client may hang up early
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/{ARCHIVE}"
    server.shutdown()
    server.server_close()


def test_a_download_is_checked_kept_and_found_again(batches, server, monkeypatch, tmp_path, capfd):
    folder, url = server
    pack(batches, folder / ARCHIVE)
    md5 = hashlib.md5((folder / ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", md5)
    (tmp_path / "default" / FOLDER).mkdir(parents=True)  # without the batches
    first = load_cifar10(url=url)
    assert [path.name for path in (tmp_path / "default").iterdir()] == [FOLDER]
    (folder / ARCHIVE).unlink()
    for a, b, c in zip(first, load_cifar10(url=url), load_cifar10(batches), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert capfd.readouterr().err == ""  # a progress bar is for a terminal


@pytest.mark.parametrize("content", [b"something else", None], ids=["wrong", "absent"])
def test_a_failed_download_is_one_line_with_the_ways_out(batches, server, tmp_path, content, capfd):
    folder, url = server
    if content:
        (folder / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError) as error:
        load_cifar10(url=url)
    for words in (url, FOLDER, ARCHIVE, "--data_dir", "$CIFAR10_DIR", "--cifar10_url", "train/"):
        assert words in str(error.value)
    assert ("not the published archive" in str(error.value)) == bool(content)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "default").exists()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://127.0.0.1:9/nothing", "file:///nowhere", "file:///dev/null"]
)
def test_wrong_addresses_are_refused(batches, url):
    with pytest.raises(DataError, match=rf"downloaded from {url} \(.*--cifar10_url"):
        load_cifar10(url=url)


# --- CIFAR-10: image folders ----------------------------------------------------------------------


def test_image_folders_are_read_whole_and_in_order(images):
    x, y, x_test, y_test = load_cifar10(images)
    assert (x.shape, x_test.shape) == ((100, 3, 32, 32), (20, 3, 32, 32))
    assert (x.dtype, y.dtype, x_test.dtype, y_test.dtype) == (np.uint8, np.int64) * 2
    np.testing.assert_array_equal(y, np.arange(10).repeat(10))
    third = np.asarray(Image.open(images / "train" / "cat" / "00023.png"))
    np.testing.assert_array_equal(x[3 * 10 + 2].transpose(1, 2, 0), third)


@pytest.fixture
def few(tmp_path) -> Path:
    """One image a class and split, to be changed."""
    return make_tiny_cifar10(tmp_path / "few", n_train=10, n_test=10)


def test_what_imagefolder_reads_is_read_and_other_files_are_counted(few, tmp_path, capfd):
    cat = few / "train" / "cat"
    image = Image.open(cat / "00003.png")
    names = ("a.bmp", "a.webp", "a.jpg", "a.JPEG", "a.jfif", "a.tif", "a.TIFF", "a.PNG", "a.ppm")
    for name in names:
        image.save(cat / name, format="JPEG" if name.endswith("jfif") else None)
    (cat / "tabby").mkdir()
    image.save(cat / "tabby" / "b.png")
    (few / "train" / "dog").rename(tmp_path / "other disk")
    (few / "train" / "dog").symlink_to(tmp_path / "other disk")
    for hidden in (cat / "._0.png", cat / ".DS_Store", few / "train" / ".DS_Store"):
        hidden.write_bytes(b"\0\5\26\7")
    (cat / ".ipynb_checkpoints").mkdir()
    image.save(cat / ".ipynb_checkpoints" / "0-checkpoint.png")
    (few / "train" / ".ipynb_checkpoints").mkdir()
    labels = load_cifar10(few)[1]
    assert np.bincount(labels).tolist() == [1, 1, 1, 2 + len(names), 1, 1, 1, 1, 1, 1]
    assert capfd.readouterr().err == ""
    for other in (cat / "notes.txt", few / "train" / "labels.csv", few / "test" / "cat" / "0.gif"):
        other.write_text("")
    assert len(load_cifar10(few)[0]) == len(labels)
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "3 skipped" in error
    assert "labels.csv" in error


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
def test_colour_modes_become_rgb(few, mode):
    path = few / "test" / "ship" / "00008.png"
    grey = Image.new("L", (32, 32), 255)
    path.unlink()
    ending = ".jpg" if mode == "YCbCr" else ".tif"  # Pillow before 13 reads no such TIFF
    grey.convert("RGB").convert(mode).save(path.with_suffix(ending))
    assert (load_cifar10(few)[2][8] >= 254).all()


def replace(few: Path, content: bytes | Image.Image) -> str:
    path = few / "train" / "frog" / "00006.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path)
    return f"{path}: "


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Image.new("RGB", (31, 32)), "is 31x32 pixels.*expected 32x32"),
        (Image.new("I;16", (32, 32)), "mode I.*8 bits a channel"),
        (b"", "not a readable image"),
        (PNG + b"broken", "not a readable image"),
    ],
)
def test_wrong_images_are_named(few, content, words):
    path = replace(few, content)
    with pytest.raises(DataError, match=f"{path}.*{words}"):
        load_cifar10(few)


def test_truncated_images_and_pipes_are_named(few):
    path = few / "test" / "deer" / "00004.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=f"{path}: not a readable image"):
        load_cifar10(few)
    pipe(path)
    with pytest.raises(DataError, match=f"{path}: is not a regular file"):
        load_cifar10(few)


def test_class_folders_are_checked(few):
    (few / "train" / "monkey").mkdir()
    with pytest.raises(DataError, match=r"train/monkey: unknown class.*airplane, automobile"):
        load_cifar10(few)
    (few / "train" / "monkey").rmdir()
    shutil.rmtree(few / "test" / "dog")
    with pytest.raises(DataError, match=r"test/dog: missing class folder"):
        load_cifar10(few)
    (few / "test" / "dog").mkdir()
    with pytest.raises(DataError, match=r"few/test: .*no valid file for the classes dog"):
        load_cifar10(few)
    shutil.rmtree(few / "test")
    with pytest.raises(DataError, match=r"few/test: .*train/<class>"):
        load_cifar10(few)


def test_the_tiny_set_is_learnable_and_depends_on_its_seed(images, tmp_path):
    x, y, x_test, y_test = load_cifar10(images)
    means = np.stack([x[y == label].mean(0) for label in range(len(CLASS_NAMES))])
    distances = ((x_test[:, None] - means[None]) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == y_test).all()
    other = make_tiny_cifar10(tmp_path / "other", 10, 10, seed=1)
    assert not np.array_equal(load_cifar10(other)[2], load_cifar10(images)[2][::2])


# --- Palindromes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 5, 10, 11, 50])
def test_they_are_palindromes_without_their_last_digit(length):
    x, y = draw_palindromes(300, length, 0)
    assert (x.shape, y.shape) == ((300, length), (300,))
    whole = torch.cat([x, y[:, None]], 1)
    assert torch.equal(whole, whole.flip(1))
    assert whole.unique().tolist() == list(range(10))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_every_palindrome_is_as_likely(length):
    half = half_length(length)
    assert half == -(-(length + 1) // 2)
    batches = PalindromeBatches(length, 500, 3)
    x = torch.cat([x for x, _ in islice(batches.epoch(0), 200)])
    numbers = (x[:, :half] * 10 ** torch.arange(half)).sum(1)
    counts = torch.bincount(numbers, minlength=10**half).numpy()
    assert len(counts) == 10**half
    assert chisquare(counts).pvalue > 1e-3


def test_palindromes_of_different_seeds_differ():
    test, validation, same = (draw_palindromes(1000, 20, seed)[0] for seed in (1, 2, 1))
    assert torch.equal(test, same)
    assert not {*map(tuple, test.tolist())} & {*map(tuple, validation.tolist())}


@pytest.mark.parametrize("length", [10, 11, 40])
def test_held_out_palindromes_are_kept_out_where_there_are_many(length):
    """The held-out ones are what would otherwise be trained on first."""
    seen = next(PalindromeBatches(length, 1000, 0).epoch(0))[0]
    batches = PalindromeBatches(length, 1000, 0, held_out=seen)
    trained = torch.cat([x for x, _ in islice(batches.epoch(0), 20)])
    held_out = {*map(tuple, seen.tolist())}
    assert not held_out & {*map(tuple, trained.tolist())}
    assert len(trained) == 20_000
    few = next(PalindromeBatches(length, 1000, 0, held_out=seen[:10]).epoch(0))[0]
    changed = (few != seen).any(1)
    assert changed[:10].all()
    assert changed.sum() < 12  # no others are drawn again, but for the rare duplicate


@pytest.mark.parametrize("length", [5, 9])
def test_held_out_palindromes_are_trained_on_where_there_are_few(length):
    plain = next(PalindromeBatches(length, 100, 0).epoch(0))[0]
    with_them = next(PalindromeBatches(length, 100, 0, held_out=plain).epoch(0))[0]
    assert torch.equal(with_them, plain)


def test_palindrome_batches_are_a_function_of_seed_and_step():
    batches = PalindromeBatches(7, 300, 5)
    whole, rest = list(batches.epoch(1)), list(batches.epoch(1, 990))
    assert (len(whole), len(rest)) == (batches.steps_in(1), 10)
    for (x, y), (same_x, same_y) in zip(whole[990:], rest, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)
    assert batches.position(1990) == (1, 990)
    firsts = [whole[0][0], whole[1][0], next(batches.epoch(0))[0]]
    firsts.append(next(PalindromeBatches(7, 300, 6).epoch(1))[0])
    assert len({x.numpy().tobytes() for x in firsts}) == 4
