"""The runs behind every figure: which script with which flags makes which record."""

from dataclasses import dataclass, replace

TOY_SEEDS = range(5)
CIFAR10_SEEDS = range(3)
MODELS = ("numpy", "pytorch")
QUICK_TOY = "--max_epochs 5"
QUICK_CIFAR10 = "--max_epochs 2 --batch_size 128"
QUICK_CNN = "--max_epochs 2 --batch_size 50 --image_sizes 16"
QUICK_RNN = "--train_steps 20 --eval_freq 10"
QUICK_SEEDS, QUICK_RNN_SEEDS = (0,), (0, 1)
CIRCLES_NOISE = 0.13  # at which circles can be told apart as well as moons with their 0.2
RNN_SEEDS = range(5)
RNN_LENGTHS = (1, 3, 5, 10, 15, 20, 25, 30, 40, 50, 70, 100)
GRU_LENGTHS = (5, 10, 20, 30, 50)
RNN_LONG_LENGTHS = (200, 500, 1000)
HIDDEN_SIZES = (16, 32, 64, 128, 256)
QUICK_LENGTHS, QUICK_SIZES = (1, 5, 10), (16, 64)
RNN_LIMITS = {
    "report": "",
    "small_inputs": "--input_scale 0.03",
    "orthogonal": "--init orthogonal",
    "both": "--init orthogonal --input_scale 0.03",
    "both_slow": "--init orthogonal --input_scale 0.03 --learning_rate 3e-4 --max_norm 0.1",
    "latches": "--recipe best",
}
# Evaluated before the first step and after the last one alone.
SHORT_MLP = "--model pytorch --dataset cifar10 --batch_size 128 --max_epochs 10 --eval_freq 3520"
SHORT_CNN = "--max_epochs 2 --eval_freq 1408"
# A run has shown what it can when it is perfect.
SWEEP = "--train_steps 1000 --eval_freq 250 --target_accuracy 1"
SWEEP_LSTM = "--train_steps 500 --eval_freq 250 --target_accuracy 1"  # whose steps take long
SWEEP_GRU = "--train_steps 3000 --eval_freq 250 --target_accuracy 1"  # to the end, for comparison
WIDE = (  # recipe best with free hidden sizes, and what so large a net needs against overfitting
    "--recipe best --dnn_hidden_units 1536,1536,1536 --skip on --learning_rate 1e-3 "
    "--dropout 0.1 --mixup 0.2 --max_epochs 100"
)


@dataclass(frozen=True)
class Experiment:
    """One training run.

    Attributes:
        record: name of its folder under `figures/records/`.
        script: the train script, relative to the project's root.
        flags: what to call it with, `--run_dir` excepted.
        quick: flags that shorten it for `--quick`; None: left out there.
        measures: files with what is measured on the trained net, to be kept beside the record.
        group: a name for runs that differ in their seeds alone and are trained in one process.
    """

    record: str
    script: str
    flags: tuple[str, ...]
    quick: tuple[str, ...] | None
    measures: tuple[str, ...] = ()
    group: str = ""

    @property
    def command(self) -> str:
        """How to run it by hand."""
        return " ".join(("python", self.script, *self.flags))

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.flags[self.flags.index("--seed") + 1])

    @property
    def needs_images(self) -> bool:
        """Whether it reads CIFAR-10."""
        return "cifar10" in self.flags or self.script.startswith("part2")


def toy_experiments(dataset: str) -> list[Experiment]:
    """Five seeds of the report's recipe with each of the two MLPs."""
    return [
        _mlp(f"mlp_{model}_{dataset}_report", model, dataset, seed, "", QUICK_TOY)
        for model in MODELS
        for seed in TOY_SEEDS
    ]


def equal_start_experiments(dataset: str) -> list[Experiment]:
    """PyTorch's MLP with the weights and the batches of the NumPy MLP, for claim C1."""
    name = f"mlp_pytorch_{dataset}_equal"
    return [_mlp(name, "pytorch", dataset, seed, "--init he", QUICK_TOY) for seed in TOY_SEEDS]


def matched_circles_experiments() -> list[Experiment]:
    """Circles that are as noisy as moons, for claim C2."""
    noise = f"--noise {CIRCLES_NOISE}"
    return [
        _mlp(f"mlp_{model}_circles_matched", model, "circles", seed, noise, QUICK_TOY)
        for model in MODELS
        for seed in TOY_SEEDS
    ]


def cifar10_report_experiments() -> list[Experiment]:
    """The report's recipe on CIFAR-10."""
    return [
        replace(
            _mlp("mlp_pytorch_cifar10_report", "pytorch", "cifar10", seed, "", QUICK_CIFAR10),
            measures=("shifts.csv",),
        )
        for seed in CIFAR10_SEEDS
    ]


def cifar10_best_experiments() -> list[Experiment]:
    """The best recipe, with the report's hidden sizes and with free ones."""
    return [
        _mlp("mlp_pytorch_cifar10_best", "pytorch", "cifar10", 0, "--recipe best", QUICK_CIFAR10),
        _mlp("mlp_pytorch_cifar10_wide", "pytorch", "cifar10", 0, WIDE, QUICK_CIFAR10),
    ]


def cnn_experiment(recipe: str) -> Experiment:
    """The CNN with one of its two recipes."""
    flags = ("--recipe", recipe, "--seed", "0")
    measures = ("shifts.csv",) if recipe == "report" else ()
    quick = tuple(QUICK_CNN.split())
    return Experiment(f"cnn_{recipe}_seed0", "part2_cnn/train.py", flags, quick, measures)


def short_experiments() -> list[Experiment]:
    """Both nets after a few minutes, with and without random crops and flips, for C3 and C5."""
    kinds = {"augmented": "--augment on", "plain": "--augment off"}
    return [
        Experiment(
            f"{net}_short_{kind}_seed{seed}",
            script,
            tuple(f"{flags} {augment} --seed {seed}".split()),
            tuple(quick.split()) if seed in QUICK_SEEDS else None,
            ("shifts.csv",),
        )
        for seed in CIFAR10_SEEDS
        for kind, augment in kinds.items()
        for net, script, flags, quick in (
            ("mlp_pytorch", "part1_mlp/train.py", SHORT_MLP, QUICK_CIFAR10),
            ("cnn", "part2_cnn/train.py", SHORT_CNN, QUICK_CNN),
        )
    ]


def rnn_curve_experiments() -> list[Experiment]:
    """The report's recipe at T = 5."""
    return _rnn("rnn_T5_report", "--input_length 5 --eval_freq 20")


def rnn_length_experiments() -> list[Experiment]:
    """Every length with the report's recipe, with the best one, with an LSTM and with a GRU.

    The best one goes further, to lengths at which it is perfect within a few steps.
    """
    few = "--train_steps 60 --eval_freq 20 --target_accuracy 1"
    gru = f"--cell gru --optimizer adam --learning_rate 1e-2 --max_norm 1 {SWEEP_GRU}"
    sweeps = (
        ("report", RNN_LENGTHS, SWEEP),
        ("best", RNN_LENGTHS, f"--recipe best {SWEEP}"),
        ("best", RNN_LONG_LENGTHS, f"--recipe best {few}"),
        ("lstm", RNN_LENGTHS, f"--cell lstm {SWEEP_LSTM}"),
        ("gru", GRU_LENGTHS, gru),
    )
    return [
        run
        for kind, lengths, flags in sweeps
        for length in lengths
        for run in _rnn(
            f"rnn_length_{kind}_T{length}",
            f"--input_length {length} {flags}",
            in_quick=length in QUICK_LENGTHS,
        )
    ]


def rnn_hidden_experiments() -> list[Experiment]:
    """The number of hidden units at fixed lengths, as the report begins and as latches."""
    return [
        run
        for kind, length in (("report", 10), ("report", 15), ("best", 15))
        for hidden in HIDDEN_SIZES
        for run in _rnn(
            f"rnn_hidden{hidden}_{kind}_T{length}",
            f"--input_length {length} --num_hidden {hidden} --recipe {kind} {SWEEP}",
            in_quick=hidden in QUICK_SIZES,
        )
    ]


def rnn_limit_experiments() -> list[Experiment]:
    """One change after the other at one length, by the name of what was changed."""
    return [
        run
        for kind, flags in RNN_LIMITS.items()
        for run in _rnn(
            f"rnn_limits_{kind}_T30", f"--input_length 30 {flags} {SWEEP}", ("memory.csv",)
        )
    ]


def _rnn(
    name: str, flags: str, measures: tuple[str, ...] = (), *, in_quick: bool = True
) -> list[Experiment]:
    """Five seeds, trained at once."""
    return [
        Experiment(
            f"{name}_seed{seed}",
            "part3_rnn/train.py",
            (*flags.split(), "--seed", str(seed)),
            tuple(QUICK_RNN.split()) if in_quick and seed in QUICK_RNN_SEEDS else None,
            measures,
            group=name,
        )
        for seed in RNN_SEEDS
    ]


def _mlp(name: str, model: str, dataset: str, seed: int, extra: str, quick: str) -> Experiment:
    flags = f"--model {model} --dataset {dataset} --seed {seed} {extra}"
    return Experiment(
        f"{name}_seed{seed}",
        "part1_mlp/train.py",
        tuple(flags.split()),
        tuple(quick.split()) if seed in QUICK_SEEDS else None,
    )
