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
ORIGINAL_ACCURACY = 0.5666  # the original's test accuracy of its MLP on CIFAR-10


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

    def with_one_seed(self) -> "Experiment":
        """The same with the first of its seeds."""
        return replace(self, seeds=self.seeds[:1])

    def shortened(self) -> "Experiment":
        """One short run in place of all, for `--quick`."""
        return replace(self.with_one_seed(), flags=f"{self.flags} {self.quick}")

    @property
    def is_original(self) -> bool:
        """Whether it trains a net of the original, not of recipe best or with other cells."""
        return "--recipe best" not in self.flags and "--cell" not in self.flags

    @property
    def needs_images(self) -> bool:
        """Whether it reads CIFAR-10."""
        return self.script == CNN or "cifar10" in self.flags


FRESH, TEN = (100, 101, 102), tuple(range(100, 110))  # with which nothing was chosen
THIRTY = tuple(range(100, 130))
SECOND_FIVE = tuple(range(200, 205))  # of settings changed after runs on the first fresh seeds
THIRD = (300, 301, 302)  # after runs on the second, too
# Measures, see figures/measurements.py.
SHIFTED, PREDICTED = ("shifts.csv",), ("predictions.csv",)
MEMORY, PALINDROMES = ("memory.csv",), ("palindromes.csv",)
QUICK_TOY, QUICK_MLP = "--max_epochs 5", "--max_epochs 2 --batch_size 128"
QUICK_CNN = "--max_epochs 2 --batch_size 50 --image_sizes 16"
QUICK_RNN = "--train_steps 20 --eval_freq 20"
# The noise at which circles of factor 0.5, or 0.8, have the Bayes accuracy of moons with their 0.2.
CIRCLES_NOISE, NARROW_NOISE = 0.1308, 0.0527
MATCHED, NARROW = f" --noise {CIRCLES_NOISE}", f" --factor 0.8 --noise {NARROW_NOISE}"
# Recipe best with free hidden sizes, and what a larger net needs against overfitting.
WIDE = (
    "--recipe best --dnn_hidden_units 1024,512,256 --learning_rate 0.014 --batch_size 2048 "
    "--dropout 0.1 --weight_decay 0.1 --max_epochs 500"
)
CIFAR10 = "--model pytorch --dataset cifar10"
# One recipe for nets of all kinds and sizes, set in advance. Short runs are evaluated before the
# first step and after the last one alone.
SHORT = (
    "--optimizer adamw --learning_rate 5e-4 --weight_decay 1e-4 --schedule constant "
    "--batch_size 128 --max_epochs 5 --patience 0 --eval_freq 1760"
)
SIZES = {"tiny": "64,32", "small": "256,64", "large": "1600,850,140"}  # 0.2, 0.8, 6.4 M parameters
POOLED = {"64": "16,32,64", "128": "32,64,128", "256": "64,128,256"}  # 0.07, 0.3, 1.15 M
CROPS, NO_CROPS = "short runs, crops and flips", "short runs, no augmentation"
# Recipe original of the MLP, with one thing removed at a time; plain SGD in place of AdamW has a
# learning rate of its own, chosen on validation.
REMOVED = {
    "augmentation": "--augment off",
    "dropout": "--dropout 0",
    "weight decay": "--weight_decay 0",
    "AdamW": "--optimizer sgd --learning_rate 0.3",
    "early stopping": "--patience 0",
}
# Runs of FEW steps are those of MANY, cut off: these are evaluated after FEW steps, too.
FEW, MANY = 1000, 5000
MANY_STEPS = f"--train_steps {MANY} --eval_freq 250 --target_accuracy 1"  # or until it is perfect
# The standard deviation of the input weights W_xh is called the input scale: 1, or for inputs of
# ten numbers 1 / sqrt(10).
INPUT_SCALES = {"inputs1": "1", "inputs0316": "0.3162"}
NORMAL_INIT = "--init normal --init_scale 1"  # of W_hh: standard deviation 1 / sqrt(units)
SMALL_INPUTS, SMALL_STEPS = "--input_scale 0.03", "--learning_rate 3e-4 --max_norm 0.1"
ADAM = "--optimizer adam --learning_rate 3e-3"

# fmt: off
TOY = [
    Experiment(f"mlp_{model}_{dataset}_{kind}", MLP, f"--model {model} --dataset {dataset}{more}",
               MODELS[model] + label, THIRTY, QUICK_TOY)
    for dataset, kind, more, label, models in (
        ("circles", "original", "", "", MODELS),
        ("circles", "equal", " --init he", ", NumPy's weights", ("pytorch",)),
        ("moons", "original", "", "", MODELS),
        ("moons", "equal", " --init he", ", NumPy's weights", ("pytorch",)),
        ("circles", "matched", MATCHED, ", factor 0.5, noise matched", MODELS),
        ("circles", "narrow", NARROW, ", factor 0.8, noise matched", MODELS),
    )
    for model in models
]
# One NumPy net by single-sample, mini-batch and full-batch gradient descent, at the same rate.
DESCENT = [
    Experiment(f"mlp_numpy_moons_{kind}", MLP, f"--model numpy --dataset moons {flags}", label,
               FRESH, QUICK_TOY)
    for kind, flags, label in (
        ("single_sample", "--batch_size 1 --eval_freq 300", "single sample"),
        ("mini_batch", "--batch_size 32 --eval_freq 20", "mini-batch of 32"),
        ("full_batch", "--batch_size full --max_epochs 4000 --eval_freq 10", "full batch"),
    )
]
IMAGES = [
    Experiment(group, script, flags, label,
               THIRD if "--recipe best" in flags else FRESH,
               QUICK_CNN if script == CNN else QUICK_MLP, more)
    for group, script, flags, label, more in (
        ("mlp_pytorch_cifar10_original", MLP, CIFAR10, "recipe original", SHIFTED + PREDICTED),
        ("mlp_pytorch_cifar10_test_stopped", MLP, f"{CIFAR10} --validation test",
         "recipe original, stopped by the test loss", ()),
        ("mlp_pytorch_cifar10_best", MLP, f"{CIFAR10} --recipe best", "recipe best", ()),
        ("mlp_pytorch_cifar10_wide", MLP, f"{CIFAR10} {WIDE}", "recipe best, wide", ()),
        ("cnn_original", CNN, "--recipe original", "recipe original", SHIFTED + PREDICTED),
        ("cnn_best", CNN, "--recipe best", "recipe best", ()),
        ("mlp_pytorch_short_augmented", MLP, f"{CIFAR10} {SHORT} --augment on", CROPS, SHIFTED),
        *((f"mlp_pytorch_short_{name}", MLP,
           f"{CIFAR10} {SHORT} --augment on --dnn_hidden_units {units}", CROPS, ())
          for name, units in SIZES.items()),
        ("cnn_short_augmented", CNN, f"{SHORT} --augment on", CROPS, SHIFTED),
        *((f"cnn_short_pooled{name}", CNN,
           f"{SHORT} --augment on --global_pooling on --dropout 0 --channels {channels}", CROPS, ())
          for name, channels in POOLED.items()),
        ("mlp_pytorch_short_plain", MLP, f"{CIFAR10} {SHORT} --augment off", NO_CROPS, SHIFTED),
        ("cnn_short_plain", CNN, f"{SHORT} --augment off", NO_CROPS, SHIFTED),
    )
]
ABLATION = [
    Experiment(f"mlp_pytorch_cifar10_without_{name.lower().replace(' ', '_')}", MLP,
               f"{CIFAR10} {flags}", f"without {name}", FRESH, QUICK_MLP)
    for name, flags in REMOVED.items()
]
FIVE_DIGITS = [
    Experiment("rnn_T5_first", RNN, "--input_length 5 --train_steps 30 --eval_freq 1",
               "recipe original, first steps", TEN, "--train_steps 10"),
    Experiment("rnn_T5_original", RNN, "--input_length 5 --eval_freq 50", "recipe original", TEN,
               QUICK_RNN, PALINDROMES),
]
RNN_LONGER = [
    Experiment(f"rnn_{name}_T{T}", RNN,
               f"--input_length {T} {NORMAL_INIT} --input_scale {scale} {MANY_STEPS}",
               f"vanilla RNN, input scale {float(scale):.3g}", TEN,
               QUICK_RNN if T in (5, 30) else "",
               MEMORY if (scale, T) == ("1", 30) else ())
    for name, scale in INPUT_SCALES.items()
    for T in (5, 10, 15, 20, 30, 50)
]
RNN_LIMITS = [  # T = 30; the first is the original's net
    next(each for each in RNN_LONGER if each.measures),
    *(Experiment(f"rnn_T30_{kind}", RNN, f"--input_length 30 {change} {MANY_STEPS}", kind, TEN,
                 QUICK_RNN, MEMORY)
      for kind, change in (
          ("small_inputs", f"{NORMAL_INIT} {SMALL_INPUTS}"),
          ("small_steps", f"{NORMAL_INIT} --input_scale 1 {SMALL_STEPS}"),
          ("small_both", f"{NORMAL_INIT} {SMALL_INPUTS} {SMALL_STEPS}"),
          ("bistable", "--recipe best"),
      ))
]
# Figure 7: each net with its optimiser and rate, chosen on validation from one grid (T = 30).
RNN_LENGTHS = [
    Experiment(f"rnn_length_{kind}_T{T}", RNN,
               f"--input_length {T} {flags} {MANY_STEPS}", label,
               SECOND_FIVE if "--cell" in flags else TEN[:5],
               QUICK_RNN if T in (5, 10) else "")
    for kind, flags, label in (
        ("original", f"{NORMAL_INIT} --input_scale 1 {ADAM}", "vanilla RNN, input scale 1"),
        ("small", f"{NORMAL_INIT} {SMALL_INPUTS} --max_norm 0.1 {ADAM}",
         "vanilla RNN, small inputs, clip 0.1"),
        ("lstm", "--cell lstm --forget_bias 1 --optimizer rmsprop --learning_rate 1e-2",
         "LSTM, forget bias 1"),
        ("gru", "--cell gru --optimizer rmsprop --learning_rate 1e-2", "GRU"),
        ("bistable", "--recipe best --schedule constant", "vanilla RNN, bistable (hand-designed)"),
    )
    for T in (5, 10, 20, 30, 50, 100)
]
# What makes figure 7's vanilla nets differ at T = 30: neither change, each alone, and both.
RNN_ADAM = [
    *(each for each in RNN_LENGTHS if each.group == "rnn_length_original_T30"),
    *(Experiment(f"rnn_T30_adam_{kind}", RNN,
                 f"--input_length 30 {NORMAL_INIT} {change} {ADAM} {MANY_STEPS}", kind, TEN[:5], "")
      for kind, change in (("small_inputs", SMALL_INPUTS),
                           ("clipped", "--input_scale 1 --max_norm 0.1"))),
    *(each for each in RNN_LENGTHS if each.group == "rnn_length_small_T30"),
]
RNN_HIDDEN = [
    *(each for each in RNN_LONGER if each.group in ("rnn_inputs1_T10", "rnn_inputs1_T15")),
    *(Experiment(f"rnn_units{n}_{recipe}_T{T}", RNN,
                 f"--input_length {T} --num_hidden {n} --recipe {recipe} {flags} {MANY_STEPS}",
                 recipe, TEN, QUICK_RNN if n in (16, 64) else "")
      for recipe, flags, sizes in (
          ("original", f"{NORMAL_INIT} --input_scale 1", (4, 8, 16, 32, 64, 256)),
          ("best", "--schedule constant", (2, 4, 8, 16, 32, 64, 128, 256)))
      for T in (10, 15) for n in sizes),
]
# fmt: on
SWEEPS = [*FIVE_DIGITS, *RNN_LONGER, *RNN_LIMITS, *RNN_HIDDEN, *RNN_LENGTHS, *RNN_ADAM]
EXPERIMENTS = {each.group: each for each in (*TOY, *DESCENT, *IMAGES, *ABLATION, *SWEEPS)}


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

    def single_view(self, steps: float = np.inf) -> np.ndarray:
        """The test accuracy of each seed without test-time augmentation.

        It is that of the evaluation with the lowest validation loss, the weights that a run keeps,
        had the run ended after so many steps. If it was longer, its learning rate must be constant.
        """
        reached = []
        for history in (run.history for run in self.runs):
            losses = np.where(history["step"] <= steps, history["val_loss"], np.inf)
            reached.append(history["test_accuracy"][np.argmin(losses)])
        return np.array(reached)

    def averaged(self) -> np.ndarray | None:
        """The test accuracy of each seed with test-time augmentation; None if there is none."""
        return self.accuracies if self.config.get("views", 1) > 1 else None

    @property
    def epochs(self) -> float:
        """How many epochs its runs trained for, the mean over the seeds."""
        return float(np.mean([run.result["epochs"] for run in self.runs]))

    @property
    def on_gpu(self) -> bool:
        """Whether runs of it were trained on a GPU."""
        return any(map(is_on_gpu, self.runs))

    @property
    def seconds(self) -> float:
        """What it took to train all seeds, one after another."""
        return sum(run.result["seconds"] for run in self.runs)


def is_on_gpu(run: RunRecord) -> bool:
    """Whether the run was trained on a GPU."""
    return run.config["environment"]["device"] not in ("cpu", "auto")


def seeds_of(group: Group) -> str:
    """How many seeds it has, in words."""
    return f"{len(group.runs)} seed{'s' * (len(group.runs) > 1)}"


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
                runs.append(read_run((holding or self._folders[-1:])[0] / name))
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
