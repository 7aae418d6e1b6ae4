"""Broken and hostile files: CIFAR-10's, checkpoints, records, pictures."""

import io
import os
import pickle
import random
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from data import DataError, cifar10
from data.cifar10 import ARCHIVE, BATCH_FOLDER, CLASS_NAMES, TEST_BATCH, TRAIN_BATCHES
from tests.survival.common import (
    Tally,
    checkpoint_of,
    command,
    make_tiny_cifar10,
    new_folder,
    one_line,
)
from tests.survival.inputs import call
from training.checkpoint import load_checkpoint
from training.record import CONFIG, HISTORY, RESULT
from training.script import ROOT

MOST_MEMORY = 2 * 2**30  # bytes that a refusal may take
NAMES = (*TRAIN_BATCHES, TEST_BATCH)


class _Harmful:
    """What a hostile pickle does: it makes a file."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


# --- CIFAR-10 -------------------------------------------------------------------------------------


def sources(n: int, scratch: Path) -> Tally:
    """CIFAR-10 as folder and as archive, broken in every way: refused, harming nothing.

    Half are checked by md5; the other half are not, and broken beyond their pixels.
    """
    tally = Tally("CIFAR-10 folders and archives, broken or hostile")
    tiny = make_tiny_cifar10(scratch / "tiny", images_per_batch=10)
    harm = scratch / "harm"
    rng = random.Random(0)
    kinds = [*FOLDERS, *ARCHIVES]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def trial(i: int, kind: Callable) -> str | None:
        source = scratch / f"source_{i}"
        if kind in FOLDERS:
            shutil.copytree(tiny, source)
            kind(source / BATCH_FOLDER, rng, harm)
        else:
            source.mkdir()
            kind(tiny / BATCH_FOLDER, source / ARCHIVE, rng)
        present = {*scratch.rglob("*")}
        checked = i // len(kinds) % 2 == 1
        try:
            cifar10.load_cifar10(source, check_md5=checked)
        except DataError as error:
            wrong = None if str(source) in str(error) else f"names no file: {error}"
        else:
            wrong = "it was accepted"
        if made := {*scratch.rglob("*")} - present:
            wrong = f"made {made}"
        shutil.rmtree(source)
        return wrong

    with mock.patch.object(cifar10, "CACHE_DIR", scratch / "cache"):
        for i in range(n):
            kind = kinds[i % len(kinds)]
            tally.count(lambda i=i, kind=kind: trial(i, kind), f"{i} {kind.__name__}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20  # KiB -> GiB
    tally.remark = f"memory grew by {grown:.2f} GiB at most"
    if grown * 2**30 > MOST_MEMORY:
        tally.failures.append(tally.remark)
    return tally


def _flipped(folder: Path, rng: random.Random, harm: Path) -> None:
    """Bytes of the pickle's beginning, not of its pixels, which any value fits."""
    path = folder / rng.choice(NAMES)
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[rng.randrange(3)] ^= 1 << rng.randrange(8)
    content[0] = 0
    path.write_bytes(content)


def _truncated(folder: Path, rng: random.Random, harm: Path) -> None:
    path = folder / rng.choice(NAMES)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size - 1)])


def _missing(folder: Path, rng: random.Random, harm: Path) -> None:
    (folder / rng.choice(NAMES)).unlink()


def _wrong_pickle(folder: Path, rng: random.Random, harm: Path) -> None:
    labels, images = list(range(10)), np.zeros((10, 3072), np.uint8)
    wrong = rng.choice([
        [], 3, "x", {}, None, {"data": images}, {"labels": labels},
        {"data": images[:, :-1], "labels": labels}, {"data": images[:9], "labels": labels},
        {"data": images, "labels": [10] * 10}, {"data": images, "labels": [-1] * 10},
        {"data": images, "labels": ["cat"] * 10}, {"data": "images", "labels": labels},
        {"data": images[:0], "labels": []}, {"data": None, "labels": None},
    ])  # fmt: skip
    (folder / rng.choice(NAMES)).write_bytes(pickle.dumps(wrong, rng.choice((2, 4, 5))))


def _harmful(folder: Path, rng: random.Random, harm: Path) -> None:
    content = pickle.dumps({"data": _Harmful(harm), "labels": []}, rng.choice((0, 1, 2, 4)))
    (folder / rng.choice(NAMES)).write_bytes(content)


def _greedy(folder: Path, rng: random.Random, harm: Path) -> None:
    """Few bytes that ask for much memory."""
    content = rng.choice([
        b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",  # an array of two thousand million
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\xff\xff\xff\x7ftR.",
        b"\x80\x02]r\xff\xff\xff\x7f.",  # the two thousand millionth object
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b".",
        b"I" + b"9" * 10**6 + b"\n.",
        b"(" * 10**6 + b".",
    ])  # fmt: skip
    (folder / rng.choice(NAMES)).write_bytes(content)


def _huge(folder: Path, rng: random.Random, harm: Path) -> None:
    """A file of 100 GB, which takes no room."""
    with (folder / rng.choice(NAMES)).open("wb") as file:
        file.truncate(10**11)


def _device(folder: Path, rng: random.Random, harm: Path) -> None:
    path = folder / rng.choice(NAMES)
    path.unlink()
    path.symlink_to(rng.choice(("/dev/zero", "/dev/full", "/nowhere", ".")))


def _pipe(folder: Path, rng: random.Random, harm: Path) -> None:
    path = folder / rng.choice(NAMES)
    path.unlink()
    os.mkfifo(path)


def _write_archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _members(batches: Path, prefix: str) -> dict[str, bytes]:
    return {f"{prefix}{name}": (batches / name).read_bytes() for name in NAMES}


def _escaping(batches: Path, archive: Path, rng: random.Random) -> None:
    here = f"{BATCH_FOLDER}/"
    prefix = rng.choice(
        ("../", "/", f"/{here}", f"../{here}", f"{here}../", f"{here}../{here}", "")
    )
    _write_archive(archive, _members(batches, prefix))


def _no_plain_file(batches: Path, archive: Path, rng: random.Random) -> None:
    """One of the batches is a link, a device, a pipe or a folder."""
    members = _members(batches, f"{BATCH_FOLDER}/")
    name = f"{BATCH_FOLDER}/{rng.choice(NAMES)}"
    member = tarfile.TarInfo(name)
    member.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                              tarfile.FIFOTYPE, tarfile.DIRTYPE))  # fmt: skip
    member.linkname = rng.choice(("/etc/passwd", "/dev/zero", "../../x"))
    _write_archive(archive, members | {name: member})


def _bomb(batches: Path, archive: Path, rng: random.Random) -> None:
    """A member of 200 MB of zeros, in 200 KB."""
    members = _members(batches, f"{BATCH_FOLDER}/")
    members[f"{BATCH_FOLDER}/{rng.choice(NAMES)}"] = bytes(2 * 10**8)
    _write_archive(archive, members)


def _broken_archive(batches: Path, archive: Path, rng: random.Random) -> None:
    _write_archive(archive, _members(batches, f"{BATCH_FOLDER}/"))
    content = bytearray(archive.read_bytes())
    if rng.random() < 0.5:
        content = content[: rng.randrange(len(content) - 10)]
    else:
        for _ in range(20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    archive.write_bytes(content)


def _no_archive(batches: Path, archive: Path, rng: random.Random) -> None:
    archive.write_bytes(rng.choice((b"", b"x", bytes(10**6), rng.randbytes(1000), b"PK\3\4")))


FOLDERS = (_flipped, _truncated, _missing, _wrong_pickle, _harmful, _greedy, _huge, _device, _pipe)
ARCHIVES = (_escaping, _no_plain_file, _broken_archive, _no_archive, _bomb)


# --- Checkpoints and records ----------------------------------------------------------------------


def checkpoints(n: int, scratch: Path) -> Tally:
    """A run's checkpoint is broken, foreign, old or hostile: --resume refuses it in one line."""
    tally = Tally("checkpoints: broken, foreign, of an older version, with code in them")
    rng = random.Random(0)
    harm = scratch / "harm"
    trainers = ("NumPy MLP", "PyTorch MLP", "RNN")
    runs = {}
    for trainer in trainers:
        script, *flags = command(trainer, scratch / trainer, scratch)[1:]
        call(script, flags)
        (scratch / trainer / RESULT).unlink()  # as if it had not ended
        runs[trainer] = script, flags, checkpoint_of(scratch / trainer).read_bytes()

    def trial(i: int) -> str | None:
        trainer = trainers[i % 3]
        script, flags, whole = runs[trainer]
        path = checkpoint_of(scratch / trainer)
        kind = i // 3 % 6
        if kind == 0:
            content = whole[: rng.randrange(len(whole) - 1)]
        elif kind == 1:
            content = rng.randbytes(rng.randrange(2000))
        elif kind == 2:
            content = runs[trainers[(i + 1) % 3]][2]
        elif kind == 3:
            content = pickle.dumps({"learner": _Harmful(harm), "best": {}, "progress": "{}"})
        elif kind == 4:
            content = _changed(path, whole, lambda state: state.pop(rng.choice(sorted(state))))
        else:
            content = _changed(path, whole, lambda state: _confuse(state, rng))
        path.write_bytes(content)
        code, _, stderr = call(script, [*flags, "--resume"])
        path.write_bytes(whole)
        if harm.exists():
            return "its code was run"
        return one_line(code, stderr, 2, (path.name,))

    for i in range(n):
        tally.count(lambda i=i: trial(i), i)
    return tally


def _changed(path: Path, whole: bytes, change: Callable[[dict], object]) -> bytes:
    from training.checkpoint import save_checkpoint

    path.write_bytes(whole)
    state = load_checkpoint(path)
    change(state)
    save_checkpoint(path, state)
    return path.read_bytes()


def _confuse(state: dict, rng: random.Random) -> None:
    """A part of a checkpoint is something else."""
    state[rng.choice(("learner", "progress"))] = rng.choice(("", "x", "[]", "3", "{}"))


def records(n: int, scratch: Path) -> Tally:
    """The files of a record are broken: plot.py says which, and of history.csv which line."""
    tally = Tally("records: broken config.json, history.csv or result.json")
    rng = random.Random(0)
    run = scratch / "run"
    script, *flags = command("NumPy MLP", run, scratch)[1:]
    call(script, flags)
    plot = [str(run), "--out", str(scratch / "plots")]

    def trial(i: int) -> str | None:
        name = (HISTORY, HISTORY, CONFIG, RESULT)[i % 4]
        path = run / name
        whole = path.read_bytes()
        lines = whole.split(b"\n")
        at = rng.randrange(len(lines) - 1)
        if name == HISTORY:
            expected = f"line {at + 1}"
            lines[at] = rng.choice((b"x", b"1,2", b"\xff" + lines[at], b"", lines[at] + b",1",
                                    b"nan" + lines[at], lines[at].replace(b",", b";")))  # fmt: skip
            content = b"\n".join(lines)
        else:
            expected = name
            content = rng.choice((b"", b"[]", b"{", b"\xff", b"[" * 10**5, b"null",
                                  whole[: rng.randrange(len(whole) - 2)]))  # fmt: skip
        path.write_bytes(content)
        code, _, stderr = call(ROOT / "part1_mlp/plot.py", plot)
        path.write_bytes(whole)
        return one_line(code, stderr, 2, (name, expected))

    for i in range(n):
        tally.count(lambda i=i: trial(i), i)
    return tally


# --- Pictures -------------------------------------------------------------------------------------


def pictures(scratch: Path) -> Tally:
    """predict.py on every kind of picture, and on what is none."""
    tally = Tally("predict.py: odd pictures are read, broken ones refused")
    run = scratch / "run"
    script, *flags = command("CNN", run, scratch)[1:]
    with mock.patch.object(cifar10, "CACHE_DIR", scratch / "cache"):
        call(script, flags)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
    colours = Image.fromarray(pixels)
    odd = {
        "cmyk.jpg": colours.convert("CMYK"), "grey.png": colours.convert("L"),
        "deep.png": Image.fromarray(rng.integers(0, 2**16, (40, 50)).astype(np.uint16)),
        "alpha.png": colours.convert("RGBA"), "palette.gif": colours.convert("P"),
        "bit.png": colours.convert("1"), "dot.png": colours.crop((0, 0, 1, 1)),
        "line.png": Image.new("RGB", (20_000, 3)), "plain.bmp": colours,
        "grey_alpha.png": colours.convert("LA"), "float.tiff": colours.convert("F"),
    }  # fmt: skip
    for name, picture in odd.items():
        picture.save(scratch / name)
    (scratch / "truncated.png").write_bytes((scratch / "alpha.png").read_bytes()[:500])
    (scratch / "text.png").write_text("no picture")
    (scratch / "empty.png").write_bytes(b"")
    (scratch / "folder.png").mkdir()
    (scratch / "device.png").symlink_to("/dev/zero")
    os.mkfifo(scratch / "pipe.png")
    Image.new("1", (10_000, 10_000)).save(scratch / "bomb.png")

    def read(name: str) -> str | None:
        code, out, stderr = _predict(run, scratch / name)
        classes = [c for c in CLASS_NAMES if c in out]
        return stderr if code else (None if len(classes) == 3 else f"said {out}")

    def refused(name: str) -> str | None:
        code, _, stderr = _predict(run, scratch / name)
        return one_line(code, stderr, 2, (name,))

    for name in odd:
        tally.count(lambda name=name: read(name), name)
    broken = ("truncated.png", "text.png", "empty.png", "folder.png", "device.png", "pipe.png",
              "bomb.png", "absent.png")  # fmt: skip
    for name in broken:
        tally.count(lambda name=name: refused(name), name)

    def none_given() -> str | None:
        code, _, stderr = call(ROOT / "part2_cnn/predict.py", ["--run", str(run)])
        return one_line(code, stderr, 2, ("PICTURE",))

    tally.count(none_given, "no picture")
    return tally


def _predict(run: Path, picture: Path) -> tuple[int, str, str]:
    return call(ROOT / "part2_cnn/predict.py", ["--run", str(run), str(picture)])


def all_tallies(scratch: Path, n_sources: int, n_checkpoints: int) -> Iterator[Tally]:
    """Every fault of this file."""
    yield sources(n_sources, new_folder(scratch / "sources"))
    yield checkpoints(n_checkpoints, new_folder(scratch / "checkpoints"))
    yield records(n_checkpoints, new_folder(scratch / "records"))
    yield pictures(new_folder(scratch / "pictures"))
