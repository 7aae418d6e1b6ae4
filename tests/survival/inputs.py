"""Nonsense on the command line, for every flag of every script."""

import argparse
import contextlib
import functools
import importlib
import io
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from data import DataError
from tests.survival.common import Tally, make_tiny_cifar10, new_folder
from training.flags import Parser
from training.script import ROOT, one_line_errors

SECONDS = 20  # that a command line may take
SCRIPTS = ("part1_mlp/train.py", "part2_cnn/train.py", "part3_rnn/train.py", "part1_mlp/plot.py",
           "part2_cnn/plot.py", "part3_rnn/plot.py", "part2_cnn/predict.py",
           "figures/regenerate.py")  # fmt: skip
NONSENSE = (
    "0", "-1", "1", "2", "3", "7", "10", "0.5", "1e-3", "1e308", "-1e308", "1e-308", "nan", "inf",
    "-inf", "", " ", "x", "None", "true", "0x10", "1_000", "1e3", "1,", ",", "1,2,3", "8,0", "-3,4",
    "9" * 400, "x" * 5000, "\u00e4\u4e2d\u0663", "\U0001f642", "1\u0660", "--", "-", "/",
    "/dev/null", "/proc/x", "..", "a/b", "a\nb", "a b", "%s", "{}", "$HOME", "*", "2147483648",
    "1000000000", "4294967296", "18446744073709551616", "100000000", "1000000", "1e6", "full", "on",
    "off",
)  # fmt: skip
EXPENSIVE = {"--compile", "--retrain", "--cifar10_url"}  # a minute each, or a download


def call(script: str, flags: Sequence[str]) -> tuple[int, str, str]:
    """Call a script in this process: its exit code, stdout and stderr."""
    name = str(Path(script).resolve().relative_to(ROOT)).removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(script), *flags]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            one_line_errors(module.main, DataError)
        except SystemExit as exit_:
            code = exit_.code or 0
        except Exception:
            traceback.print_exc(file=err)
            code = -1
    return code, out.getvalue(), err.getvalue()


class _Asked(Exception):
    """The parser that a script made, before it has parsed anything."""


@functools.cache
def _flags_of(script: str) -> list[argparse.Action]:
    def parse_args(self: Parser, *_: object) -> None:
        raise _Asked(self)

    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    try:
        with mock.patch.object(Parser, "parse_args", parse_args):
            module.main()
    except _Asked as asked:
        (parser,) = asked.args
    return [a for a in parser._actions if not EXPENSIVE & {*a.option_strings}]


def random_command_line(rng: random.Random, script: str, scratch: Path) -> list[str]:
    """A few flags with sensible or senseless values, up to all at once."""
    actions = _flags_of(script)
    chosen = rng.sample(actions, min(len(actions), rng.choice((1, 1, 2, 3, 5, 10, 40))))
    line = []
    for action in chosen:
        if isinstance(action, argparse._HelpAction):
            continue
        if action.option_strings:
            flag = rng.choice(action.option_strings)
            line.append(flag.replace("_", "-") if rng.random() < 0.2 else flag)
        if action.nargs == 0:
            continue
        sensible = [*map(str, action.choices or ())] or ["1", "2", "16", "0.01"]
        pool = sensible if rng.random() < 0.4 else NONSENSE
        values = [rng.choice(pool) for _ in range(rng.choice((1, 1, 1, 2)) if action.nargs else 1)]
        if line and action.option_strings and rng.random() < 0.5:
            line[-1] += "=" + values[0]  # so that a value may begin with a hyphen
        else:
            line += values
        if rng.random() < 0.05:
            line.pop()  # a flag without its value
    if script.endswith("train.py"):
        line += ["--dry_run", "--quiet"]
        if "--run_dir" not in " ".join(line).replace("-", "_"):
            line += ["--run_dir", str(scratch / "run")]
        if script.startswith("part2") and rng.random() < 0.9:
            line += ["--data_dir", str(scratch / "tiny"), "--cifar10_md5", "skip"]
    return line


class _TooLong(Exception):
    pass


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Work in that folder; Python 3.11 has `contextlib.chdir`."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def _alarm(*_: object) -> None:
    raise _TooLong(f"more than {SECONDS} s")


def command_lines(n: int, scratch: Path, seed: int = 0) -> Tally:
    """Random command lines: each runs, or is refused in one line with exit code 2.

    A dry run may also diverge (one line, exit code 1).
    """
    tally = Tally("random command lines")
    make_tiny_cifar10(scratch / "tiny")
    rng = random.Random(seed)
    accepted = 0
    before = signal.signal(signal.SIGALRM, _alarm)
    with (
        _folder(scratch),
        mock.patch.dict("os.environ", {"CIFAR10_CACHE": str(scratch / "cache"),
                                       "CIFAR10_DIR": str(scratch / "nowhere")}),
        mock.patch("data.cifar10.CACHE_DIR", scratch / "cache"),
        mock.patch.multiple("figures.regenerate", retrain=mock.DEFAULT, draw=mock.DEFAULT,
                            texts=mock.Mock(return_value=({}, {}))),  # its work takes minutes
    ):  # fmt: skip
        present = {*scratch.rglob("*")}
        for i in range(n):
            script = SCRIPTS[i % len(SCRIPTS)] if i % 2 else SCRIPTS[i // 2 % 3]
            line = random_command_line(rng, script, scratch)

            def trial(script=script, line=line) -> str | None:
                nonlocal accepted
                signal.alarm(SECONDS)
                try:
                    code, _, stderr = call(ROOT / script, line)
                finally:
                    signal.alarm(0)
                accepted += code == 0
                made = {f for f in {*scratch.rglob("*")} - present if "cache" not in f.parts}
                if made:
                    return f"made {sorted(map(str, made))[:3]}"
                if code == 0:
                    return None
                if stderr.count("\n") != 1 or "Traceback" in stderr or len(stderr) > 1000:
                    return f"said {stderr[-600:]!r}"
                if code == 1 and "diverged" in stderr:
                    return None
                return None if code == 2 else f"exit code {code}: {stderr!r}"

            tally.count(trial, f"{script} {' '.join(line)[:400]!r}")
    signal.signal(signal.SIGALRM, before)
    tally.remark = f"{accepted} of them were sensible and ran"
    return tally


def all_tallies(scratch: Path, n: int) -> Iterator[Tally]:
    """Every fault of this file."""
    yield command_lines(n, new_folder(scratch / "lines"))
