"""Random command lines, of every flag of every script."""

import contextlib
import functools
import itertools
import os
import random
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from tests.faults.common import HANGS, Tally, call, module_of, one_line
from tests.tiny_cifar10 import make_tiny_cifar10

TRAIN = ("part1_mlp/train.py", "part2_cnn/train.py", "part3_rnn/train.py")
REGENERATE = "figures/regenerate.py"  # only its flags are parsed: its work takes minutes
OTHERS = ("part1_mlp/plot.py", "part2_cnn/plot.py", "part3_rnn/plot.py", "part2_cnn/predict.py",
          REGENERATE)  # fmt: skip
# Whole numbers are refused, small, or so large that no memory holds a net of that size; those in
# between would only be slow.
NONSENSE = (
    "0", "-1", "1", "2", "3", "7", "0.5", "1e-3", "1e308", "-1e308", "1e-308", "nan", "inf",
    "-inf", "", " ", "x", "None", "true", "0x10", "1_000", "1e3", "1,", ",", "1,2,3", "8,0", "-3,4",
    "9" * 400, "x" * 5000, "\u00e4\u4e2d\u0663", "\U0001f642", "1\u0660", "--", "-", "/",
    "/dev/null", "/proc/x", "..", "a/b", "a\nb", "a b", "%s", "{}", "$HOME", "*", "2147483648",
    "1000000000", "4294967296", "18446744073709551616", "1e6", "full", "on", "off",
)  # fmt: skip
SENSIBLE = ("1", "2", "8", "0.01", "on")
EXPENSIVE = ("--compile", "--cifar10_url")  # a minute, or a download
MEMORY = 2**31  # bytes that a command line may take, beyond those that the process has already
FLAG = re.compile(r"^  (--\w+|[A-Z]+)(?: (\S.*?))?(?:  |$)", re.MULTILINE)


@functools.cache
def flags_in_help(script: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The flags and arguments that `--help` lists, each with sensible values if it takes any."""
    code, text, stderr = call(script, ["--help"], _main_of(script))
    assert code == 0, stderr
    found = []
    for name, value in FLAG.findall(text):
        if "{" in value:
            values = tuple(re.search(r"\{(.*?)\}", value)[1].split(","))
        elif value or not name.startswith("-"):
            values = (*SENSIBLE, *value.split("|")[1:])  # of on|off and N|full the word
        else:
            values = ()
        found.append((name, values))
    assert found
    return tuple(each for each in found if each[0] not in EXPENSIVE)


def random_command_line(rng: random.Random, script: str, scratch: Path) -> list[str]:
    """A few flags with sensible or senseless values, up to all at once."""
    flags = flags_in_help(script)
    line: list[str] = []
    for name, sensible in rng.sample(flags, min(len(flags), rng.choice((1, 1, 2, 3, 5, 10, 40)))):
        is_flag = name.startswith("-")
        if is_flag:
            line.append(name.replace("_", "-") if rng.random() < 0.2 else name)
        if not sensible:
            continue
        value = rng.choice(sensible if rng.random() < 0.4 else NONSENSE)
        if is_flag and rng.random() < 0.5:
            line[-1] += "=" + value  # so that a value may begin with a hyphen
        else:
            line.append(value)
        if rng.random() < 0.05:
            line.pop()  # a flag without its value
    if script in TRAIN:
        line += ["--dry_run", "--quiet"]
        if "--run_dir" not in " ".join(line).replace("-", "_").replace("__", "--"):
            line += ["--run_dir", str(scratch / "run")]
        if script.startswith("part2") and rng.random() < 0.9:
            line += ["--data_dir", str(scratch / "tiny")]
    return line


def command_lines(scratch: Path, n: int, seed: int = 0) -> Tally:
    """Random command lines: each runs, or is refused in one line with exit code 2.

    A dry run may also diverge, or ask for more memory than there is (one line, exit code 1).
    """
    make_tiny_cifar10(scratch / "tiny", n_train=10, n_test=10)
    present = {*scratch.rglob("*")}
    accepted = 0

    def trial(script: str, line: list[str]) -> str | None:
        nonlocal accepted
        code, _, stderr = call(script, line, _main_of(script))
        accepted += code == 0
        if made := {*scratch.rglob("*")} - present:
            present.update(made)
            return f"made {sorted(map(str, made))[:3]}"
        if code == 0:
            return None
        failed = code == 1 and ("diverged" in stderr or "out of memory" in stderr)
        return one_line(code, stderr, 1 if failed else 2)

    rng, tally = random.Random(seed), Tally("random command lines")
    every_second, others = itertools.cycle(TRAIN), itertools.cycle((*OTHERS, *TRAIN))
    scripts = [next(others if i % 2 else every_second) for i in range(n)]
    with _folder(scratch), mock.patch.dict(os.environ, CIFAR10_DIR=str(scratch / "nowhere")):
        for script in scripts:
            line = random_command_line(rng, script, scratch)
            with _limits():
                tally.count(trial, script, line)
    tally.remark = f"{accepted} of them were sensible and ran"
    return tally


def _main_of(script: str) -> Callable[[], int]:
    module = module_of(script)
    if script != REGENERATE:
        return module.main
    return lambda: module.build_parser(("1", "2")).parse_args() and 0


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Work in that folder; Python 3.11 has `contextlib.chdir`."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Limit the memory, so that no machine is brought down, and end what hangs."""

    def alarm(*_: object) -> None:
        raise TimeoutError("it hangs")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
