"""Choose flags by validation: train every combination of a grid and list what validation says.

Test columns are not read. Runs are kept, so that a call that was interrupted continues.
"""

import hashlib
import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training import UsageError
from training.cli import (
    ROOT,
    interruptible,
    markdown_table,
    run_cli,
    side_by_side,
    train_in_process,
)
from training.flags import Parser, folder, number
from training.runs import RunRecord, read_run, write_atomically

OWN = {"seed", "n_seeds", "run_dir", "resume", "overwrite", "dry_run"}  # flags that it sets itself
ALIASES = {"lr": "learning_rate", "epochs": "max_epochs", "model_type": "cell"}
EPILOG = """Flags after two hyphens are those of every run: python training/tune.py
part1_mlp/train.py --grid learning_rate=1e-3,3e-3 batch_size=128,512 --seeds 0 1 -- --model pytorch
--dataset cifar10"""
LONGEST_NAME = 200  # bytes of a folder's name that are kept before its hash
Trial = tuple[tuple[str, ...], list[RunRecord]]  # values of the flags; the runs, one a seed


def flag_name(given: str) -> str:
    """The name of a flag that is given in any of its forms, such as `--lr=0.1` or `max-epochs`."""
    name = given.partition("=")[0].removeprefix("--").replace("-", "_")
    return ALIASES.get(name, name)


def combinations(grid: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The flags of a grid, and all combinations of their values.

    Raises:
        UsageError: a flag without values, named twice, or that is for tune.py to set.
    """
    pairs = [(flag_name(each), each.partition("=")[2]) for each in grid]
    for flag, values in pairs:
        if not flag or not all(values.split(",")):
            raise UsageError(f"--grid: {flag}={values} is not of the form flag=value,value")
        if flag in OWN or [name for name, _ in pairs].count(flag) > 1:
            raise UsageError(f"--grid: {flag} is named twice, or is set by tune.py itself")
    # A value that holds a comma itself, such as 512,256, is written 512+256; 1e+3 stays a number.
    choices = [
        list(dict.fromkeys(re.sub(r"(?<!\d[eE])\+", ",", v) for v in values.split(",")))
        for _, values in pairs
    ]
    return [flag for flag, _ in pairs], list(itertools.product(*choices))


def table(flags: Sequence[str], trials: Sequence[Trial]) -> str:
    """A row a combination, the lowest validation loss first; means over the seeds.

    The loss is infinite if a run diverged.
    """
    head = (*flags, "validation loss", "validation accuracy", "min", "max", "epochs", "s a run")
    rows = []
    for values, runs in trials:
        loss, accuracy, epochs, seconds = (
            [run.result[name] for run in runs]
            for name in ("val_loss", "val_accuracy", "epochs", "seconds")
        )
        if any(run.result["stopped_by"] == "diverged" for run in runs):
            loss = [np.inf]
        cells = [f"{np.mean(loss):.4g}", f"{np.mean(accuracy):.4f}", f"{min(accuracy):.4f}"]
        cells += [f"{max(accuracy):.4f}"]
        cells += [f"{x:.0f}" if x > 99 else f"{x:.3g}" for x in map(np.mean, (epochs, seconds))]
        rows.append((np.mean(loss), [*values, *cells]))
    rows.sort(key=lambda row: row[0])
    return markdown_table(head, [cells for _, cells in rows]) + "\n"


# fmt: off
def build_parser() -> Parser:
    """All flags."""
    parser = Parser(prog="tune.py", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("script", help="a train script")
    add("--grid", nargs="+", required=True, metavar="FLAG=V,V,...",
        help="flags and the values to try; in a value, + stands for a comma")
    add("--seeds", nargs="+", type=number(int, 0, 4), default=[0, 1], metavar="N",
        help="seeds kept for tuning, 0 to 4 (default: 0 1)")
    add("--jobs", type=number(int, 1, 1000), default=1, metavar="N", help="runs at once")
    add("--run_dir", type=folder, default=ROOT / "runs" / "tuning", metavar="DIR",
        help="folder of the runs (default: runs/tuning/)")
    add("--out", type=folder, metavar="FILE", help="also write the table there, with the command")
    return parser
# fmt: on


def main() -> int:
    """Train the grid and print the table; returns the exit code."""
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    parser, fixed = build_parser(), given[end + 1 :]
    args, unknown = parser.parse_known_args(given[:end])
    if unknown:
        advice = "flags of the runs come last, after two hyphens"
        parser.error(f"unrecognized arguments: {shlex.join(unknown)}; {advice}")
    script = Path(args.script)
    if not script.is_file():
        raise UsageError(f"{script} is no train script")
    flags, values = combinations(args.grid)
    if set_here := [e for e in fixed if e.startswith("--") and flag_name(e) in OWN.union(flags)]:
        raise UsageError(f"{set_here[0]} is set by tune.py itself, or by --grid")
    seeds = list(dict.fromkeys(args.seeds))
    if args.out:
        if args.out.is_dir():
            raise UsageError(f"--out: {args.out} is a folder, name a file")
        args.out.parent.mkdir(parents=True, exist_ok=True)  # before hours of training

    def run(chosen: tuple[str, ...], seed: int) -> tuple[tuple, RunRecord]:
        given = [f"--{flag}={value}" for flag, value in zip(flags, chosen, strict=True)]
        command = [str(script), *fixed, *given, f"--seed={seed}"]
        name = "_".join([script.resolve().parent.name, *fixed, *given, str(seed)])
        name = re.sub(r'[/\\:*?"<>|]', "-", name.replace("--", ""))  # which Windows refuses, too
        encoded = name.encode(errors="surrogateescape")
        if len(encoded) > LONGEST_NAME:
            kept = encoded[:LONGEST_NAME].decode(errors="ignore")
            name = f"{kept}_{hashlib.md5(encoded).hexdigest()}"
        path = args.run_dir / name
        train_in_process(command, path, jobs=args.jobs, name=path.name, may_diverge=True)
        return (chosen, seed), read_run(path)

    with interruptible():
        runs = dict(side_by_side(run, itertools.product(values, seeds), args.jobs))
    trials = [(each, [runs[each, seed] for seed in seeds]) for each in values]
    text = table(flags, trials)
    print(text, end="")
    if args.out:
        command = f"python training/tune.py {shlex.join(sys.argv[1:])}"
        write_atomically(args.out, f"```sh\n{command}\n```\n\n{text}")
    return 0


if __name__ == "__main__":
    run_cli(main)
