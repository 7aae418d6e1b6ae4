"""The one table of experiments: which script with which flags and seeds makes which records.

A group holds the runs that differ in their seed alone; its records are in
`figures/records/GROUP/seedN/`. Figures, claims and tables take its label from here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.runs import RunRecord, read_run

MLP, CNN, RNN = (f"{part}/train.py" for part in ("part1_mlp", "part2_cnn", "part3_rnn"))
MODELS = {"numpy": "NumPy", "pytorch": "PyTorch"}
ORIGINAL_MLP = 0.5666  # the original's test accuracy of its MLP on CIFAR-10
PUBLISHED = {  # test accuracies that others give, by group
    "mlp_pytorch_cifar10_original": ("the original", ORIGINAL_MLP),
    # Neyshabur, Towards Learning Convolutions from Scratch (2020).
    "mlp_pytorch_cifar10_wide": ("best published without convolution", 0.8519),
}


@dataclass(frozen=True)
class Experiment:
    """Runs that differ in their seed alone.

    Attributes:
        group: names their folder under `figures/records/`.
        flags: what to call the script with, `--seed` and `--run_dir` excepted.
        label: of the group in legends and tables.
        quick: flags that shorten it for `--quick`; empty: left out there.
        measures: files with what is measured on the trained net, kept beside each record.
    """

    group: str
    script: str
    flags: str
    label: str
    seeds: tuple[int, ...]
    quick: str
    measures: tuple[str, ...] = ()

    def command(self, seed: int) -> str:
        """How to train one of its runs by hand."""
        return f"python {self.script} {self.flags} --seed {seed}"

    def shortened(self) -> "Experiment":
        """One short run in place of all, for `--quick`."""
        return replace(self, flags=f"{self.flags} {self.quick}", seeds=self.seeds[:1])

    @property
    def needs_images(self) -> bool:
        """Whether it reads CIFAR-10."""
        return self.script == CNN or "cifar10" in self.flags


ONE, THREE, FIVE = (0,), (0, 1, 2), (0, 1, 2, 3, 4)  # seeds
SHIFTS, MEMORY = ("shifts.csv",), ("memory.csv",)  # measures
QUICK_TOY, QUICK_MLP = "--max_epochs 5", "--max_epochs 2 --batch_size 128"
QUICK_CNN = "--max_epochs 2 --batch_size 50 --image_sizes 16"
QUICK_RNN = "--train_steps 20 --eval_freq 10"
CIRCLES_NOISE = 0.13  # with which the Bayes accuracy is that of moons with their 0.2
LENGTHS = (1, 3, 5, 10, 15, 20, 25, 30, 40, 50, 70, 100)
HIDDEN_SIZES = (16, 32, 64, 128, 256)
# Recipe best with free hidden sizes, and what so large a net needs against overfitting.
WIDE = (
    "--recipe best --dnn_hidden_units 1536,1536,1536 --skip on --learning_rate 1e-3 "
    "--dropout 0.1 --mixup 0.2 --max_epochs 100"
)
CIFAR10 = "--model pytorch --dataset cifar10"
# Short runs are evaluated before the first step and after the last one alone.
SHORT_MLP = f"{CIFAR10} --batch_size 128 --max_epochs 10 --eval_freq 3520"
SHORT_CNN = "--max_epochs 2 --eval_freq 1408"
CROPS, NO_CROPS = "short runs, random crops", "short runs, no crops"
PERFECT = "--eval_freq 250 --target_accuracy 1"  # a run of a sweep ends when it is perfect
SWEEP = f"--train_steps 1000 {PERFECT}"
SWEEP_LONG = "--recipe best --train_steps 60 --eval_freq 20 --target_accuracy 1"
SWEEP_LSTM = f"--cell lstm --train_steps 500 {PERFECT}"  # its steps take long
ADAM = "--optimizer adam --learning_rate 1e-2 --max_norm 1"
SWEEP_GRU = f"--cell gru {ADAM} --train_steps 3000 {PERFECT}"
SMALL_STEPS = "--learning_rate 3e-4 --max_norm 0.1"
NORMAL, BISTABLE = "vanilla RNN, normal", "vanilla RNN, bistable"  # by initialisation

# fmt: off
TOY = [
    Experiment(f"mlp_{model}_{dataset}_{kind}", MLP, f"--model {model} --dataset {dataset}{more}",
               label, FIVE, QUICK_TOY)
    for model, dataset, kind, more, label in (
        ("numpy", "circles", "original", "", "NumPy"),
        ("pytorch", "circles", "original", "", "PyTorch"),
        ("pytorch", "circles", "equal", " --init he", "PyTorch, NumPy's weights"),
        ("numpy", "moons", "original", "", "NumPy"),
        ("pytorch", "moons", "original", "", "PyTorch"),
        ("pytorch", "moons", "equal", " --init he", "PyTorch, NumPy's weights"),
        ("numpy", "circles", "matched", f" --noise {CIRCLES_NOISE}", "NumPy, noise as moons"),
        ("pytorch", "circles", "matched", f" --noise {CIRCLES_NOISE}", "PyTorch, noise as moons"),
    )
]
IMAGES = [
    Experiment(group, script, flags, label, seeds, QUICK_CNN if script == CNN else QUICK_MLP, more)
    for group, script, flags, label, seeds, more in (
        ("mlp_pytorch_cifar10_original", MLP, CIFAR10, "recipe original", THREE, SHIFTS),
        ("mlp_pytorch_cifar10_best", MLP, f"{CIFAR10} --recipe best", "recipe best", ONE, ()),
        ("mlp_pytorch_cifar10_wide", MLP, f"{CIFAR10} {WIDE}", "recipe best, wide", ONE, ()),
        ("cnn_original", CNN, "--recipe original", "recipe original", ONE, SHIFTS),
        ("cnn_best", CNN, "--recipe best", "recipe best", ONE, ()),
        ("mlp_pytorch_short_augmented", MLP, f"{SHORT_MLP} --augment on", CROPS, THREE, SHIFTS),
        ("cnn_short_augmented", CNN, f"{SHORT_CNN} --augment on", CROPS, THREE, SHIFTS),
        ("mlp_pytorch_short_plain", MLP, f"{SHORT_MLP} --augment off", NO_CROPS, THREE, SHIFTS),
        ("cnn_short_plain", CNN, f"{SHORT_CNN} --augment off", NO_CROPS, THREE, SHIFTS),
    )
]
FIVE_DIGITS = "rnn_T5_original", RNN, "--input_length 5 --eval_freq 20", NORMAL, FIVE, QUICK_RNN
RNN_LENGTHS = [
    Experiment(f"rnn_length_{kind}_T{T}", RNN, f"--input_length {T} {flags}", label, FIVE,
               QUICK_RNN if T in (1, 5, 10) else "")
    for kind, lengths, flags, label in (
        ("original", LENGTHS, SWEEP, NORMAL),
        ("best", LENGTHS, f"--recipe best {SWEEP}", BISTABLE),
        ("best", (200, 500, 1000), SWEEP_LONG, BISTABLE),
        ("lstm", LENGTHS, SWEEP_LSTM, "LSTM"),
        ("gru", (5, 10, 20, 30, 50), SWEEP_GRU, "GRU, Adam at 0.01"),
    )
    for T in lengths
]
RNN_HIDDEN = [
    Experiment(f"rnn_hidden{hidden}_{recipe}_T{T}", RNN,
               f"--input_length {T} --num_hidden {hidden} --recipe {recipe} {SWEEP}", label, FIVE,
               QUICK_RNN if hidden in (16, 64) else "")
    for recipe, T, label in (("original", 10, NORMAL), ("original", 15, NORMAL),
                             ("best", 15, BISTABLE))
    for hidden in HIDDEN_SIZES
]
RNN_LIMITS = [
    Experiment(f"rnn_limits_{kind}_T30", RNN, f"--input_length 30 {change}{SWEEP}", label, FIVE,
               QUICK_RNN, MEMORY)
    for kind, change, label in (
        ("original", "", "as the original"),
        ("small_inputs", "--input_scale 0.03 ", "inputs 0.03"),
        ("orthogonal", "--init orthogonal ", "orthogonal"),
        ("both", "--init orthogonal --input_scale 0.03 ", "orthogonal, 0.03"),
        ("both_slow", f"--init orthogonal --input_scale 0.03 {SMALL_STEPS} ",
         "orthogonal, 0.03, small steps"),
        ("bistable", "--recipe best ", "bistable (best)"),
    )
]
# fmt: on
SWEEPS = [*RNN_LENGTHS, *RNN_HIDDEN, *RNN_LIMITS]
EXPERIMENTS = {each.group: each for each in (*TOY, *IMAGES, Experiment(*FIVE_DIGITS), *SWEEPS)}


@dataclass(frozen=True)
class Group:
    """The records of an experiment, in the order of its seeds."""

    experiment: Experiment
    runs: list[RunRecord]

    @property
    def label(self) -> str:
        """The experiment's label."""
        return self.experiment.label

    @property
    def net(self) -> str:
        """MLP, CNN or RNN."""
        return {MLP: "MLP", CNN: "CNN", RNN: "RNN"}[self.experiment.script]

    @property
    def config(self) -> dict:
        """The flags, which all runs share but for the seed."""
        return self.runs[0].config

    @property
    def accuracies(self) -> np.ndarray:
        """The test accuracy of each seed."""
        return np.array([run.result["test_accuracy"] for run in self.runs])

    @property
    def seconds(self) -> float:
        """What it took to train all seeds, one after another.

        The seeds of vanilla RNNs were once trained at the same time, in one process; each record
        from then, which does not name its version of Python, has the time of all.
        """
        alone, shared = [], [0.0]
        for run in self.runs:
            at_once = run.config.get("cell") == "rnn" and not run.config["environment"]["python"]
            (shared if at_once else alone).append(run.result["seconds"])
        return sum(alone) + max(shared)


class Records:
    """The records of the experiments, each from the first of some folders that holds it."""

    def __init__(self, *folders: Path):
        self._folders = folders
        self._groups: dict[Experiment, Group] = {}

    def read(self, experiment: Experiment) -> Group:
        """All runs of an experiment; UsageError if a record is missing or broken."""
        if experiment not in self._groups:
            runs = []
            for name in (f"{experiment.group}/seed{seed}" for seed in experiment.seeds):
                holding = [folder for folder in self._folders if (folder / name).is_dir()]
                runs.append(read_run((holding or self._folders)[0] / name))
            self._groups[experiment] = Group(experiment, runs)
        return self._groups[experiment]

    def __getitem__(self, group: str) -> Group:
        """All runs of the experiment with this name."""
        return self.read(EXPERIMENTS[group])


def by_label(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """The groups of each label."""
    labelled: dict[str, list[Group]] = {}
    for group in groups:
        labelled.setdefault(group.label, []).append(group)
    return labelled
