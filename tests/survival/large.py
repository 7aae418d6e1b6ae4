"""Long runs, whose memory must not grow, and sizes at the edge of what makes sense."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.survival.common import Tally, new_folder, one_line, run
from training.record import HISTORY, read_run
from training.script import ROOT

MOST_GROWTH = 5.0  # MiB, once the run has warmed up
SOAKS = {
    "NumPy MLP": ("part1_mlp/train.py --model numpy --n_samples 1000 --batch_size 32 "
                  "--patience 0 --eval_freq {eval_freq} --max_steps {steps}", 200_000),
    "RNN": ("part3_rnn/train.py --input_length 5 --num_hidden 64 --eval_freq {eval_freq} "
            "--train_steps {steps}", 20_000),
}  # fmt: skip
EVALUATIONS = 100
TOY = "part1_mlp/train.py --max_epochs 2 "
RNN = "part3_rnn/train.py --train_steps 2 --eval_freq 1 "
SIZES = {  # what is trained, and the flag that is refused; none: it is not
    "RNN at T = 2,000": (RNN + "--input_length 2000 --num_hidden 64", None),
    "RNN at T = 1": (RNN + "--input_length 1", None),
    "RNN with one unit": (RNN + "--num_hidden 1", None),
    "RNN, batch of one": (RNN + "--batch_size 1", None),
    "NumPy MLP with 50 hidden layers": (TOY + "--dnn_hidden_units " + ",".join(["20"] * 50), None),
    "PyTorch MLP with 50 hidden layers": (
        TOY + "--model pytorch --dnn_hidden_units " + ",".join(["20"] * 50), None),
    "one unit": (TOY + "--dnn_hidden_units 1", None),
    "batch larger than the set": (TOY + "--n_samples 100 --batch_size 1000", "--batch_size"),
    "one sample": (TOY + "--n_samples 1", "--n_samples"),
    "10 samples": (TOY + "--n_samples 10 --batch_size full", None),
    "one class": ("part3_rnn/train.py --num_classes 1", "--num_classes"),
    "a net larger than the memory": (TOY + "--dnn_hidden_units 1000000,1000000",
                                     "--dnn_hidden_units"),
    "states larger than the memory": (RNN + "--input_length 1000000 --batch_size 100000",
                                      "--input_length"),
}  # fmt: skip
# Trains as train.py does, and prints the growth of the memory between the evaluations of the second
# tenth of the run and those of the last; medians, for buffers come and go.
WATCHED = """
import runpy, statistics, sys
from training.run import Run
memory = []
evaluate = Run._evaluate
def watched(self, bar):
    evaluate(self, bar)
    pages = int(open("/proc/self/statm").read().split()[1])
    memory.append(pages * 4096 / 2**20)
Run._evaluate = watched
script, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as exit_:
    code = exit_.code
tenth = len(memory) // 10
print(statistics.median(memory[-tenth:]) - statistics.median(memory[tenth : 2 * tenth]))
sys.exit(code)
"""


def soaks(share: float, scratch: Path) -> Tally:
    """Hundreds of thousands of steps in a memory that stays the same."""
    tally = Tally("a long run: memory and history as expected")
    grown = []
    for trainer, (flags, steps) in SOAKS.items():

        def trial(trainer=trainer, flags=flags, steps=int(steps * share)) -> str | None:
            folder = scratch / trainer
            given = flags.format(steps=steps, eval_freq=steps // EVALUATIONS).split()
            script = str(ROOT / given[0])
            watched = [sys.executable, "-c", WATCHED, script, *given[1:]]
            ended = run([*watched, "--quiet", "--run_dir", str(folder)], 1800, cwd=ROOT)
            if ended.returncode:
                return ended.stderr[-300:]
            growth = float(ended.stdout.split()[-1])
            grown.append(f"{trainer} {steps:,} steps, {growth:.1f} MiB more")
            if growth > MOST_GROWTH:
                return f"memory grew by {growth:.1f} MiB"
            if len(read_run(folder).history["step"]) != EVALUATIONS + 1:
                return "not one line an evaluation"
            size = (folder / HISTORY).stat().st_size
            return None if size < 150 * (EVALUATIONS + 2) else f"history.csv has {size} bytes"

        tally.count(trial, trainer)
    tally.remark = "; ".join(grown)
    return tally


def sizes(scratch: Path) -> Tally:
    """Very small and very large tasks work, or are refused in one line."""
    tally = Tally("very large and very small: " + ", ".join(SIZES))
    for i, (what, (flags, refused)) in enumerate(SIZES.items()):

        def trial(i=i, flags=flags, refused=refused) -> str | None:
            script, *given = flags.split()
            ended = run([sys.executable, str(ROOT / script), *given, "--quiet", "--run_dir",
                         str(scratch / str(i))], 600)  # fmt: skip
            if refused:
                return one_line(ended.returncode, ended.stderr, 2, (refused,))
            return ended.stderr[-300:] if ended.returncode else None

        tally.count(trial, what)
    return tally


def all_tallies(scratch: Path, share: float) -> Iterator[Tally]:
    """Every fault of this file."""
    yield soaks(share, new_folder(scratch / "soaks"))
    yield sizes(new_folder(scratch / "sizes"))
