"""The runs behind every figure: which script with which flags makes which record."""

from dataclasses import dataclass, replace

TOY_SEEDS = range(5)
CIFAR10_SEEDS = range(3)
MODELS = ("numpy", "pytorch")
QUICK_TOY = "--max_epochs 5"
QUICK_CIFAR10 = "--max_epochs 2 --n_samples 5000 --batch_size 128"
QUICK_CNN = "--max_epochs 2 --n_samples 1000 --batch_size 50 --image_sizes 16"
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
        quick: flags that shorten it for `--quick`.
        shifts: whether to keep how the trained net fares on shifted test images.
    """

    record: str
    script: str
    flags: tuple[str, ...]
    quick: tuple[str, ...]
    shifts: bool = False

    @property
    def command(self) -> str:
        """How to run it by hand."""
        return " ".join(("python", self.script, *self.flags))


def toy_experiments(dataset: str) -> list[Experiment]:
    """Five seeds of the report's recipe with each of the two MLPs."""
    return [
        _mlp(f"mlp_{model}_{dataset}_report", model, dataset, seed, "", QUICK_TOY)
        for model in MODELS
        for seed in TOY_SEEDS
    ]


def cifar10_report_experiments() -> list[Experiment]:
    """The report's recipe on CIFAR-10."""
    return [
        replace(
            _mlp("mlp_pytorch_cifar10_report", "pytorch", "cifar10", seed, "", QUICK_CIFAR10),
            shifts=True,
        )
        for seed in CIFAR10_SEEDS
    ]


def cifar10_best_experiments() -> list[Experiment]:
    """The best recipe, with the report's hidden sizes and with free ones."""
    return [
        _mlp("mlp_pytorch_cifar10_best", "pytorch", "cifar10", 0, "--recipe best", QUICK_CIFAR10),
        _mlp("mlp_pytorch_cifar10_wide", "pytorch", "cifar10", 0, WIDE, QUICK_CIFAR10),
    ]


def cnn_report_experiment() -> Experiment:
    """The CNN with the report's recipe."""
    flags = ("--recipe", "report", "--seed", "0")
    quick = tuple(QUICK_CNN.split())
    return Experiment("cnn_report_seed0", "part2_cnn/train.py", flags, quick, shifts=True)


def _mlp(name: str, model: str, dataset: str, seed: int, extra: str, quick: str) -> Experiment:
    flags = f"--model {model} --dataset {dataset} --seed {seed} {extra}"
    return Experiment(
        f"{name}_seed{seed}", "part1_mlp/train.py", tuple(flags.split()), tuple(quick.split())
    )
