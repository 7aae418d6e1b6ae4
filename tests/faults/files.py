"""Broken and hostile files: CIFAR-10's, checkpoints, records, pictures."""

import io
import itertools
import os
import pickle
import random
import resource
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from data import DataError
from data.cifar10 import ARCHIVE, BATCHES, CLASS_NAMES, load_cifar10
from tests.faults.common import Tally, call, checkpoint_of, flags_of, one_line
from tests.tiny_cifar10 import make_tiny_cifar10
from training.runs import CONFIG, HISTORY, RESULT, load_checkpoint, save_checkpoint

MAX_MEMORY = 2 * 2**20  # KiB that a refusal may take
FIRST = next(iter(BATCHES))
FOLDER = "cifar-10-batches-py/"


class _Harmful:
    """What a hostile pickle does: it makes a file."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


# --- CIFAR-10 -------------------------------------------------------------------------------------


def sources(scratch: Path, n: int) -> Tally:
    """CIFAR-10 as batches, archive and image folders, broken in every way: all are refused."""
    tiny = make_tiny_cifar10(scratch / "tiny", n_train=10, n_test=10)
    rng = random.Random(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def trial(i: int, make: Callable, spoil: Callable) -> str | None:
        source = scratch / f"source_{i}"
        if make is _image:
            shutil.copytree(tiny, source)
        else:
            source.mkdir()
        spoil(make(source, rng), rng)
        present = {*scratch.rglob("*")}
        try:
            load_cifar10(source)
        except DataError as error:
            wrong = None if str(source) in str(error) else f"names no file: {error}"
        else:
            wrong = "it was accepted"
        if made := {*scratch.rglob("*")} - present:
            wrong = f"made {made}"
        shutil.rmtree(source)
        return wrong

    cases = [
        *itertools.product((_batch, _image), (_garbage, _huge, _special)),
        *itertools.product((_archive,), (_garbage, _special, _escaping, _irregular, _bomb)),
        *itertools.product((_image,), (_other_image, _wrong_class)),
    ]
    tally = Tally("CIFAR-10 as batches, archive and image folders, broken or hostile")
    with mock.patch.object(tempfile, "tempdir", str(scratch)):
        tally.count_all(trial, ((i, *cases[i % len(cases)]) for i in range(n)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    tally.remark = f"memory grew by {grown / 2**20:.2f} GiB at most"
    if grown > MAX_MEMORY:
        tally.failures.append(tally.remark)
    return tally


def _batch(source: Path, rng: random.Random) -> Path:
    """The batch that is read first; the md5 of the others is wrong anyway."""
    for name in BATCHES:
        (source / name).write_bytes(rng.randbytes(1000))
    return source / FIRST


def _archive(source: Path, rng: random.Random) -> Path:
    return _write_archive(source / ARCHIVE, FOLDER)


def _image(source: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(source.rglob("*.png")))


def _garbage(path: Path, rng: random.Random) -> None:
    """Other bytes; a pickle that would make a file among them."""
    harmful = pickle.dumps({"data": _Harmful(path.with_name("harm")), "labels": []})
    changed = bytearray(path.read_bytes())
    for _ in range(20):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    path.write_bytes(rng.choice((b"", b"x", bytes(10**6), rng.randbytes(1000), harmful,
                                 changed[:20], changed[: len(changed) // 2])))  # fmt: skip


def _huge(path: Path, rng: random.Random) -> None:
    """A file of 100 GB, which takes no space."""
    with path.open("wb") as file:
        file.truncate(10**11)


def _special(path: Path, rng: random.Random) -> None:
    """Nothing, a device, a pipe, or a link to nothing."""
    path.unlink()
    if target := rng.choice(("/dev/zero", "/dev/full", "/nowhere", "", None)):
        path.symlink_to(target)
    elif target == "":
        os.mkfifo(path)


def _write_archive(path: Path, prefix: str, odd: tarfile.TarInfo | None = None) -> Path:
    """An archive of made-up batches, one of which is odd."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in BATCHES:
            member = tarfile.TarInfo(prefix + name)
            member.size = 1000
            if odd and odd.name == member.name:
                member = odd
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def _escaping(path: Path, rng: random.Random) -> None:
    prefixes = ("../", "/", f"/{FOLDER}", f"../{FOLDER}", f"{FOLDER}../", "")
    _write_archive(path, rng.choice(prefixes))


def _irregular(path: Path, rng: random.Random) -> None:
    """One of the batches is a link, a device, a pipe or a folder."""
    member = tarfile.TarInfo(FOLDER + FIRST)
    member.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                              tarfile.FIFOTYPE, tarfile.DIRTYPE))  # fmt: skip
    member.linkname = rng.choice(("/etc/passwd", "/dev/zero", "../../x"))
    _write_archive(path, FOLDER, member)


def _bomb(path: Path, rng: random.Random) -> None:
    """A member of 200 MB of zeros, in 200 KB."""
    member = tarfile.TarInfo(FOLDER + FIRST)
    member.size = 2 * 10**8
    _write_archive(path, FOLDER, member)


def _other_image(path: Path, rng: random.Random) -> None:
    """An image of another size or depth; one of a hundred million pixels among them."""
    Image.new(*rng.choice((("RGB", (31, 32)), ("L", (1, 1)), ("I;16", (32, 32)),
                           ("1", (10_000, 10_000))))).save(path)  # fmt: skip


def _wrong_class(path: Path, rng: random.Random) -> None:
    """A class, or a whole split, is missing or has another name."""
    folder = rng.choice((path.parent, path.parent.parent))
    folder.rename(folder.with_name("zebra"))


# --- Checkpoints and records ----------------------------------------------------------------------


def checkpoints(scratch: Path, n: int) -> Tally:
    """A run's checkpoint is broken, foreign or hostile: --resume refuses it in one line."""
    rng = random.Random(0)
    harm = scratch / "harm"
    trainers = ("NumPy MLP", "PyTorch MLP", "RNN")
    contents = {}
    for trainer in trainers:
        call(*flags_of(trainer, scratch / trainer, scratch))
        (scratch / trainer / RESULT).unlink()  # as if it had not ended
        contents[trainer] = checkpoint_of(scratch / trainer).read_bytes()

    def changed(path: Path, change: Callable[[dict], object]) -> bytes:
        state = load_checkpoint(path)
        change(state)
        save_checkpoint(path, state)
        return path.read_bytes()

    def confuse(state: dict) -> None:
        state[rng.choice(("model", "progress"))] = rng.choice(("", "x", "[]", "3", "{}"))

    def trial(i: int) -> str | None:
        trainer = trainers[i % 3]
        script, flags = flags_of(trainer, scratch / trainer, scratch)
        path, whole = checkpoint_of(scratch / trainer), contents[trainer]
        kinds = (
            lambda: whole[: rng.randrange(len(whole) - 1)],
            lambda: rng.randbytes(rng.randrange(2000)),
            lambda: contents[trainers[(i + 1) % 3]],
            lambda: pickle.dumps({"model": _Harmful(harm), "best": {}, "progress": "{}"}),
            lambda: changed(path, lambda state: state.pop(rng.choice(sorted(state)))),
            lambda: changed(path, confuse),
        )
        path.write_bytes(kinds[i // 3 % len(kinds)]())
        code, _, stderr = call(script, [*flags, "--resume"])
        path.write_bytes(whole)
        return "its code was run" if harm.exists() else one_line(code, stderr, 2, (path.name,))

    tally = Tally("checkpoints: broken, foreign, incomplete, with code in them")
    return tally.count_all(trial, ((i,) for i in range(n)))


def records(scratch: Path, n: int) -> Tally:
    """The files of a record are broken: plot.py says which."""
    rng = random.Random(0)
    run = scratch / "run"
    call(*flags_of("NumPy MLP", run, scratch))

    def trial(i: int) -> str | None:
        name = (HISTORY, HISTORY, CONFIG, RESULT)[i % 4]
        path = run / name
        whole = path.read_bytes()
        if name == HISTORY:
            lines = whole.split(b"\n")
            at = rng.randrange(len(lines) - 1)
            lines[at] = rng.choice((b"x", b"1,2", b"\xff" + lines[at], lines[at] + b",1",
                                    b"nan" + lines[at], lines[at].replace(b",", b";")))  # fmt: skip
            content = b"\n".join(lines)
        else:
            content = rng.choice((b"", b"[]", b"{", b"\xff", b"[" * 10**5, b"null",
                                  whole[: rng.randrange(len(whole) - 2)]))  # fmt: skip
        path.write_bytes(content)
        code, _, stderr = call("part1_mlp/plot.py", [str(run), "--out", str(scratch / "plots")])
        path.write_bytes(whole)
        return one_line(code, stderr, 2, (name,))

    tally = Tally("records: broken config.json, history.csv or result.json")
    return tally.count_all(trial, ((i,) for i in range(n)))


# --- Pictures -------------------------------------------------------------------------------------


def pictures(scratch: Path) -> Tally:
    """predict.py on every kind of picture, and on what is none."""
    run = scratch / "run"
    call(*flags_of("CNN", run, scratch))
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
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
    broken = ("truncated.png", "text.png", "empty.png", "folder.png", "device.png", "pipe.png",
              "bomb.png", "absent.png")  # fmt: skip

    def predict(*names: str) -> tuple[int, str, str]:
        given = [str(scratch / name) for name in names]
        return call("part2_cnn/predict.py", ["--run", str(run), *given])

    def read(name: str) -> str | None:
        code, out, stderr = predict(name)
        classes = [c for c in CLASS_NAMES if c in out]
        return stderr if code else (None if len(classes) == 3 else f"printed {out}")

    def refused(*names: str) -> str | None:
        code, _, stderr = predict(*names)
        return one_line(code, stderr, 2, names or ("PICTURE",))

    tally = Tally("predict.py: odd pictures are read, broken ones refused")
    tally.count_all(read, ((name,) for name in odd))
    return tally.count_all(refused, ((), *((name,) for name in broken)))
