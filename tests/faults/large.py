"""Long runs, whose memory must not grow, and sizes at the edge of what makes sense."""

import resource
import statistics
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.faults.common import Tally, module_of, one_line, run
from training.cli import ROOT
from training.runs import HISTORY, RunFolder, read_history
from training.trainer import Trainer

MAX_GROWTH = 5.0  # MiB, once the run has warmed up
MAX_MEMORY = 2**34  # bytes of a process, so that a larger net fails on every machine
SOAKS = {
    "NumPy MLP": ("part1_mlp/train.py", "--model numpy --n_samples 1000 --batch_size 32 "
                  "--patience 0 --eval_freq {eval_freq} --max_steps {steps}", 200_000),
    "RNN": ("part3_rnn/train.py", "--input_length 5 --num_hidden 64 --eval_freq {eval_freq} "
            "--train_steps {steps}", 20_000),
}  # fmt: skip
EVALUATIONS = 100
TOY = "part1_mlp/train.py --max_epochs 2 "
RNN = "part3_rnn/train.py --train_steps 2 --eval_freq 1 "
MANY_LAYERS = "--dnn_hidden_units " + ",".join(["20"] * 50)
SIZES = {  # what is trained, the exit code, and what the refusal says
    "RNN at T = 2,000": (RNN + "--input_length 2000 --num_hidden 64", 0, ""),
    "RNN at T = 1": (RNN + "--input_length 1", 0, ""),
    "RNN with one unit": (RNN + "--num_hidden 1", 0, ""),
    "RNN, batch of one": (RNN + "--batch_size 1", 0, ""),
    "NumPy MLP with 50 hidden layers": (TOY + MANY_LAYERS, 0, ""),
    "PyTorch MLP with 50 hidden layers": (TOY + "--model pytorch " + MANY_LAYERS, 0, ""),
    "one unit": (TOY + "--dnn_hidden_units 1", 0, ""),
    "batch larger than the set": (TOY + "--n_samples 100 --batch_size 1000", 2, "--batch_size"),
    "one sample": (TOY + "--n_samples 1", 2, "--n_samples"),
    "10 samples": (TOY + "--n_samples 10 --batch_size full", 0, ""),
    "one class": ("part3_rnn/train.py --num_classes 1", 2, "--num_classes"),
    "a net larger than the memory": (
        TOY + "--dnn_hidden_units 1000000,1000000", 1, "out of memory"),
    "a batch larger than the memory": (RNN + "--batch_size 1000000000", 1, "out of memory"),
}  # fmt: skip


def soaks(scratch: Path, share: float = 1.0, trainers: Iterable[str] = SOAKS) -> Tally:
    """Hundreds of thousands of steps, or that share of them, in a memory that stays the same."""
    grown = []

    def trial(trainer: str) -> str | None:
        folder = scratch / trainer
        script, flags, steps = SOAKS[trainer]
        steps = int(steps * share)
        flags = flags.format(steps=steps, eval_freq=steps // EVALUATIONS).split()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            growth = pool.submit(_memory_growth, script, flags, folder).result()
        grown.append(f"{trainer} {steps:,} steps, {growth:.1f} MiB more")
        if growth > MAX_GROWTH:
            return f"memory grew by {growth:.1f} MiB"
        if len(read_history(folder / HISTORY)["step"]) != EVALUATIONS + 1:
            return "not one line an evaluation"
        size = (folder / HISTORY).stat().st_size
        return None if size < 150 * (EVALUATIONS + 2) else f"history.csv has {size} bytes"

    tally = Tally("a long run: memory and history as expected")
    tally.count_all(trial, ((name,) for name in trainers))
    tally.remark = "; ".join(grown)
    return tally


def _memory_growth(script: str, flags: list[str], folder: Path) -> float:
    """Train; MiB between the evaluations of the second tenth of the run and those of the last.

    Medians, for buffers come and go.
    """
    train, memory = module_of(script), []
    args = train.parse([*flags, "--quiet", "--run_dir", str(folder)])
    model, batches = train.build(args)

    def evaluate(split: str, *, final: bool = False) -> tuple[float, float]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(pages * resource.getpagesize() / 2**20)
        return model.evaluate(split, final=final)

    run_folder = RunFolder(folder)
    run_folder.open(resume=False, overwrite=False)
    Trainer(model, batches, args, run_folder, evaluate=evaluate).fit()
    tenth = len(memory) // 10
    return statistics.median(memory[-tenth:]) - statistics.median(memory[tenth : 2 * tenth])


def sizes(scratch: Path) -> Tally:
    """Very small and very large tasks work, or are refused in one line."""

    def trial(what: str) -> str | None:
        line, expected, words = SIZES[what]
        script, *flags = line.split()
        ended = run(
            [sys.executable, str(ROOT / script), *flags, "--quiet", "--run_dir", scratch / what],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY)),
        )
        if expected:
            return one_line(ended.returncode, ended.stderr, expected, (words,))
        return ended.stderr[-300:] if ended.returncode else None

    tally = Tally("very large and very small: " + ", ".join(SIZES))
    return tally.count_all(trial, ((what,) for what in SIZES))
