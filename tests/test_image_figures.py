"""The nets on CIFAR-10: made-up records turn each verdict of C3 to C5, and fill every figure."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from data.cifar10 import CLASS_NAMES
from figures import image_claims, images
from figures.catalogue import ReportFigure, figures
from figures.effects import CONDITIONAL, CONTRADICTED, INCONCLUSIVE, SUPPORTED, VERDICTS, Claim
from figures.experiments import ABLATION, EXPERIMENTS, IMAGES, MLP, Experiment, Group
from figures.measurements import COLUMNS, DIRECTIONS, FILLS, SHIFTS
from figures.report import layers_text
from part1_mlp import train as mlp_train
from part2_cnn import train as cnn_train
from tests.figure_text import legend_of
from training.plotting import Axes, Figure, style
from training.runs import RunRecord

SEEDS = np.array([-0.01, 0.0, 0.01])  # what seeds differ by
AFTER = 0.05  # accuracy that the last weights have lost
SIDES = np.array([-0.02, 0.02, -0.01, 0.01])  # what directions of a shift differ by
CLOSE = 0.026  # a difference of means with p = 0.033 where seeds differ by SEEDS


# --- Made-up records ------------------------------------------------------------------------------


@cache
def flags_of(experiment: Experiment) -> dict:
    script = mlp_train if experiment.script == MLP else cnn_train
    return vars(script.parse(experiment.flags.split()))


def made_up_run(
    experiment: Experiment, seed: int, accuracy: float, folder: Path, epochs: int, **result: object
) -> RunRecord:
    """A run whose best weights, with this accuracy, are those of the last epoch but one."""
    curve = np.append(np.linspace(0.1, accuracy, epochs), accuracy - AFTER)
    history = {"epoch": np.arange(epochs + 1.0), "step": 10 * np.arange(epochs + 1),
               "val_loss": np.append(np.linspace(2.3, 1.0, epochs), 1.2)}  # fmt: skip
    history |= {"test_accuracy": curve, "train_accuracy": curve + 0.1, "test_loss": 2 - curve,
                "train_loss": 1.9 - curve}  # fmt: skip
    result = {"test_accuracy": accuracy, "epochs": float(epochs), "parameters": 1_000_000,
              "best_step": 10 * (epochs - 1)} | result  # fmt: skip
    config = flags_of(experiment) | {"seed": seed, "environment": {"device": "cpu"}}
    return RunRecord(folder, config, history, result)


def made_up_group(
    experiment: Experiment | str, accuracies: Iterable[float], folder: Path = Path(),
    epochs: Sequence[int] = (4, 5, 6), **result: object,
) -> Group:  # fmt: skip
    """A seed for each accuracy, from 100 on; a run's folder is `folder`/GROUP/seedN."""
    experiment = EXPERIMENTS[experiment] if isinstance(experiment, str) else experiment
    runs = [
        made_up_run(experiment, seed, float(accuracy), folder / experiment.group / f"seed{seed}",
                    n, **result)
        for seed, (accuracy, n) in enumerate(zip(accuracies, epochs, strict=False), start=100)
    ]  # fmt: skip
    return Group(experiment, runs)


def write(path: Path, columns: Iterable[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in (columns, *rows)))


def write_predictions(
    run: RunRecord, labels: np.ndarray, predicted: np.ndarray, confidence: np.ndarray | None = None
) -> None:
    """As `measure_predictions` does."""
    confidence = np.full(len(labels), 0.5) if confidence is None else confidence
    rows = zip(labels, predicted, (f"{value:.4f}" for value in confidence), strict=True)
    write(run.path / "predictions.csv", COLUMNS["predictions.csv"], rows)


def write_answers(run: RunRecord, right: np.ndarray) -> None:
    """Predictions of which these are right."""
    labels = np.arange(len(right)) % 10
    write_predictions(run, labels, np.where(right, labels, (labels + 1) % 10))


def write_shifts(
    run: RunRecord, accuracy: Callable[[int, str], float], same: Callable[[int, str], float]
) -> None:
    """As `measure_shifts` does: both by shift and fill, mean over the directions."""
    rows = [
        (shift, side, fill, 100, *(f"{f(shift, fill) + (shift > 0) * more:.4f}"
                                   for f in (accuracy, same)))
        for shift, fill, (side, more) in product(SHIFTS, FILLS, zip(DIRECTIONS, SIDES, strict=True))
    ]  # fmt: skip
    write(run.path / "shifts.csv", COLUMNS["shifts.csv"], rows)


def check_text(claim: Claim) -> None:
    """Every text is a sentence, and no number is missing."""
    for text in (claim.text, claim.design, claim.meaning):
        assert text[0].isupper()
        assert text.endswith(".")
    whole = f"{claim.design} {'; '.join(map(str, claim.effects))} {claim.meaning}"
    assert not any(blank in whole for blank in ("nan", "None", "  ", " .", "inf"))


# --- C3 -------------------------------------------------------------------------------------------

ALONE = [(60, 20), (62, 20), (64, 20)]  # of 200 images: right by the CNN alone, by the MLP alone


def for_c3(folder: Path, alone: Sequence[tuple[int, int]]) -> dict[str, Group]:
    """Recipe original: both nets are right on 100 images or a few more, and each alone on these."""
    found: dict[str, list[np.ndarray]] = {"mlp_pytorch_cifar10_original": [], "cnn_original": []}
    for more, (by_cnn, by_mlp) in enumerate(alone):
        both = 100 + more
        kinds = np.repeat([0, 1, 2, 3], [both, by_cnn, by_mlp, 200 - both - by_cnn - by_mlp])
        for right, other in zip(found.values(), (1, 2), strict=True):
            right.append((kinds != other) & (kinds != 3))
    records = {}
    for name, rights in found.items():
        records[name] = made_up_group(name, [right.mean() for right in rights], folder)
        for run, right in zip(records[name].runs, rights, strict=True):
            write_answers(run, right)
    return records


@pytest.mark.parametrize(
    ("alone", "verdict", "says"),
    [
        (ALONE, SUPPORTED, "The CNN is ahead, over the seeds and image by image with each"),
        ([pair[::-1] for pair in ALONE], CONTRADICTED, "The MLP is ahead."),
        ([(20, 20)] * 3, INCONCLUSIVE, "do not decide which net is better"),
        ([(60, 20), (60, 20), (25, 20)], INCONCLUSIVE, "do not decide which net is better"),
        ([(60, 20), (60, 20), (20, 60)], CONDITIONAL, "do not agree on which net is better"),
        (ALONE[:2], SUPPORTED, "The CNN is ahead"),
    ],
)
def test_which_net_is_better(alone, verdict, says, tmp_path):
    claim = image_claims.cnn_better(for_c3(tmp_path, alone))
    assert (claim.number, claim.verdict) == ("C3", verdict)
    for sentence in ("The CNN is ahead", "The MLP is ahead", "do not agree", "do not decide"):
        assert (sentence in claim.meaning) == (sentence in says)
    assert says in claim.meaning
    by_cnn, by_mlp = np.mean(alone, 0)
    assert f"On average {by_cnn:.0f} test images are classified correctly by the CNN alone, " in (
        claim.meaning
    )
    assert f" {by_mlp:.0f} by the MLP alone." in claim.meaning
    assert f"both nets, {len(alone)} seeds each" in claim.design
    assert len(claim.effects) == 1 + len(alone)
    check_text(claim)


def test_which_net_is_better_in_numbers(tmp_path):
    records = for_c3(tmp_path, ALONE)
    over_seeds, first, *_ = effects = image_claims.cnn_better(records).effects
    assert over_seeds.values == pytest.approx((np.mean([160, 163, 166]) / 200, 121 / 200))
    # McNemar's: 60 and 20 of 200 images; difference 0.2, variance (80 / 200 - 0.2^2) / 200.
    assert str(first) == (
        "the same 200 test images, seed 100: CNN 0.8000, MLP 0.6000: difference 0.2000 "
        "[0.1168, 0.2832], p < 0.0001"
    )
    cnn, mlp = (
        records[name].accuracies for name in ("cnn_original", "mlp_pytorch_cifar10_original")
    )
    alone = [stats.ttest_ind(cnn, mlp, equal_var=False).pvalue]
    alone += [stats.binomtest(a, a + b).pvalue for a, b in ALONE]
    corrected = np.maximum.accumulate(np.sort(alone) * (4, 3, 2, 1))
    assert np.sort([effect.p for effect in effects]) == pytest.approx(corrected)


def test_the_same_images_are_compared(tmp_path):
    records = for_c3(tmp_path, [(10, 0)] * 3)  # what the MLP gets right the CNN gets right, too
    before = image_claims.cnn_better(records)
    assert before.verdict == SUPPORTED
    for run in records["mlp_pytorch_cifar10_original"].runs:
        head, *rows = (run.path / "predictions.csv").read_text().splitlines()
        (run.path / "predictions.csv").write_text("\n".join([head, *rows[::-1]]) + "\n")
    after = image_claims.cnn_better(records)
    assert after.verdict == INCONCLUSIVE
    assert after.effects[0] == before.effects[0]
    assert [e.values for e in after.effects] == [e.values for e in before.effects]
    assert all(effect.p > 0.3 for effect in after.effects[1:])


def test_answers_that_were_computed_again_differ_by_a_few(tmp_path):
    records = for_c3(tmp_path, ALONE)
    assert "changes the number of right ones by 0 at most" in (
        image_claims.cnn_better(records).design
    )
    run = records["cnn_original"].runs[1]
    run.result["test_accuracy"] -= 3 / 200
    assert "changes the number of right ones by 3 at most" in (
        image_claims.cnn_better(records).design
    )


def test_which_net_is_better_is_corrected_for_judging_every_seed(tmp_path):
    claim = image_claims.cnn_better(for_c3(tmp_path, [(10, 2)] * 3))
    # McNemar's exact test of 10 against 2: p = 2 (1 + 12 + 66) / 2^12 = 0.039.
    assert [e.p for e in claim.effects[1:]] == pytest.approx([3 * 2 * 79 / 2**12] * 3)
    assert claim.verdict == INCONCLUSIVE


# --- C4 -------------------------------------------------------------------------------------------


def for_c4(ahead: Sequence[float], n_seeds: int = 3) -> dict[str, Group]:
    """Short runs in which the convolutional nets are ahead by so much, the smallest first."""
    records = {"mlp_pytorch_short_plain": made_up_group("mlp_pytorch_short_plain", [0.7, 0.8])}
    for pair, difference in zip(image_claims.SIZES.items(), ahead, strict=True):
        for name, mean in zip(pair, (0.5 + difference, 0.5), strict=True):
            records[name] = made_up_group(name, mean + SEEDS[:n_seeds])
    return records


@pytest.mark.parametrize(
    ("ahead", "verdict", "says"),
    [
        ((0.1, 0.1, 0.1), SUPPORTED, "At each of the 3 sizes compared the convolutional net is"),
        ((-0.1, -0.1, -0.1), CONTRADICTED, "At no size is the convolutional net ahead"),
        ((0.0, -0.1, 0.0), CONTRADICTED, "At no size is the convolutional net ahead"),
        ((0.1, 0.0, -0.1), CONDITIONAL, "At some sizes the convolutional net is ahead, at others"),
        ((0.1, 0.1, 0.0), INCONCLUSIVE, "The runs do not decide."),
        ((0.0, 0.0, 0.0), INCONCLUSIVE, "The runs do not decide."),
    ],
)
def test_nets_of_about_equal_size(ahead, verdict, says):
    claim = image_claims.cnn_smaller(for_c4(ahead))
    assert (claim.number, claim.verdict) == ("C4", verdict)
    assert claim.meaning.startswith(says)
    assert [effect.sign for effect in claim.effects] == np.sign(ahead).tolist()
    assert [e.values for e in claim.effects] == [pytest.approx((0.5 + d, 0.5)) for d in ahead]
    assert [effect.names for effect in claim.effects] == [
        ("CNN (0.29 M)", "MLP (0.80 M)"), ("CNN (1.15 M)", "MLP (1.74 M)"),
        ("CNN (6.40 M)", "MLP (6.40 M)"),
    ]  # fmt: skip
    assert "5 epochs of AdamW with crops and flips, 3 seeds each" in claim.design
    assert "The MLP of 1.74 M reaches 0.500 with crops and flips in these few epochs, 0.750" in (
        claim.meaning
    )
    check_text(claim)


def test_nets_of_about_equal_size_are_corrected_for_judging_every_size():
    effects = image_claims.cnn_smaller(for_c4([CLOSE] * 3)).effects
    alone = stats.ttest_ind(CLOSE + SEEDS, SEEDS, equal_var=False).pvalue
    assert alone < 0.05
    assert [effect.p for effect in effects] == pytest.approx([3 * alone] * 3)
    assert image_claims.cnn_smaller(for_c4([CLOSE] * 3)).verdict == INCONCLUSIVE


def test_two_seeds_are_enough_to_compare_sizes():
    claim = image_claims.cnn_smaller(for_c4((0.3, 0.3, 0.3), n_seeds=2))
    assert claim.verdict == SUPPORTED
    check_text(claim)


def convolutions(channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """By hand: the channels that each convolution takes and makes, and the width of its images."""
    found, before = [], 3
    for o, width in zip(channels, (32, 16, 8), strict=True):
        found += [(before, o, width), (o, o, width)]
        before = o
    return found


def dense(*widths: int) -> np.ndarray:
    """By hand: the parameters and the multiply-adds of linear layers."""
    return np.array([[(i + 1) * o, i * o] for i, o in pairwise(widths)]).sum(0)


@pytest.mark.parametrize(
    ("name", "kind", "channels", "linear"),
    [
        ("mlp_pytorch_short_tiny", "MLPs", (), (3072, 64, 32, 10)),
        ("mlp_pytorch_short_augmented", "MLPs", (), (3072, 512, 256, 128, 10)),
        ("mlp_pytorch_short_large", "MLPs", (), (3072, 1600, 850, 140, 10)),
        ("cnn_short_augmented", "CNN (original): three linear layers", (64, 128, 256),
         (256 * 4 * 4, 1024, 1024, 10)),
        ("cnn_short_pooled64", "convolutions, global pooling", (16, 32, 64), (64, 10)),
        ("cnn_short_pooled256", "convolutions, global pooling", (64, 128, 256), (256, 10)),
    ],
)  # fmt: skip
def test_sizes_of_nets(name, kind, channels, linear):
    group = made_up_group(name, [0.5])
    expected = dense(*linear)
    for i, o, width in convolutions(channels) if channels else ():
        expected += ((9 * i + 1) * o, 9 * i * o * width**2)
    assert image_claims.costs_of(group) == tuple(expected)
    assert image_claims.kind_of(group) == kind


def test_mlps_have_about_as_many_parameters_or_more():
    records = for_c4((0, 0, 0))
    for pair in image_claims.SIZES.items():
        cnn, mlp = (image_claims.costs_of(records[name])[0] for name in pair)
        assert mlp > 0.999 * cnn


def test_what_weight_sharing_saves():
    meaning = layers_text([512, 256, 128])
    layers = convolutions((64, 128, 256))
    shared = sum((9 * i + 1) * o for i, o, _ in layers)
    full = sum((i * w**2 + 1) * o * w**2 for i, o, w in layers)
    assert f"six convolutions have {shared:,} of them" in meaning
    assert f"would have {full / shared:,.0f} times as many" in meaning
    assert "CNN has 6,400,586 parameters, the MLP 1,738,890" in meaning
    assert "158,017,536 multiply-adds, the MLP 1,737,984" in meaning


# --- C5 -------------------------------------------------------------------------------------------

COMPARED = [
    f"{measure}, trained {how}, gap filled with {fill}"
    for how in ("without augmentation", "with crops and flips")
    for measure in ("accuracy kept", "same prediction")
    for fill in ("black", "edge")
]
OF_CROPS = "; ".join(COMPARED[4:])
MLP_MORE = " (there the MLP keeps more)"
FOR_THE_MLP = f"{MLP_MORE}; ".join(COMPARED[4:]) + MLP_MORE


def for_c5(
    folder: Path, ahead: Sequence[int], by: float = 0.1, seeds: np.ndarray = SEEDS,
    shifted: float = 0.5,
) -> dict[str, Group]:  # fmt: skip
    """Short runs that keep 0.6 at 4 pixels, the CNN more or less `by`; at other shifts vice versa.

    Args:
        ahead: 1, 0 or -1 for each of COMPARED.
        shifted: accuracy of recipe original's MLP on shifted images; 0.55 on others.
    """
    original = made_up_group("mlp_pytorch_cifar10_original", (0.55, 0.55), folder)
    for run in original.runs:
        write_shifts(run, lambda shift, fill: shifted if shift and fill == "black" else 0.55,
                     lambda shift, fill: 0.9)  # fmt: skip
    records = {"mlp_pytorch_cifar10_original": original}
    signs = dict(zip(product(("plain", "augmented"), (0, 1), FILLS), ahead, strict=True))
    for (net, unshifted), kind in product(
        (("cnn", 0.8), ("mlp_pytorch", 0.5)), ("plain", "augmented")
    ):
        name = f"{net}_short_{kind}"
        records[name] = made_up_group(name, unshifted + 0 * seeds, folder)
        for run, more in zip(records[name].runs, seeds, strict=True):

            def left(measure: int, shift: int, fill: str, more=more, net=net, kind=kind) -> float:
                gain = by * signs[kind, measure, fill] * (1 if shift == 4 else -1)
                return 0.6 + more + gain * (net == "cnn") if shift else 1.0

            write_shifts(
                run,
                lambda shift, fill, left=left, u=unshifted: u * left(0, shift, fill),
                lambda shift, fill, left=left: left(1, shift, fill),
            )
    return records


@pytest.mark.parametrize(
    ("ahead", "verdict", "says"),
    [
        ((1,) * 8, SUPPORTED, "whether training showed shifts or not"),
        (
            (1,) * 4 + (0,) * 4,
            CONDITIONAL,
            f"crops showed them, by 0 of 4 measures. Not by: {OF_CROPS}.",
        ),
        ((1,) * 4 + (-1,) * 4, CONDITIONAL, f"by 0 of 4 measures. Not by: {FOR_THE_MLP}."),
        (
            (1,) * 5 + (0, 1, -1),
            CONDITIONAL,
            f"by 2 of 4 measures. Not by: {COMPARED[5]}; {COMPARED[7]}{MLP_MORE}. The MLP's "
            "accuracy without a shift is 0.500 with crops, 0.500 without augmentation.",
        ),
        ((1, 1, -1, 1) + (1,) * 4, CONDITIONAL, "By some of these measures"),
        ((0,) * 4 + (1, 0, 0, -1), CONDITIONAL, "By some of these measures"),
        ((-1,) * 8, CONTRADICTED, "does not leave the CNN more than the MLP"),
        ((0, -1, 0, 0) + (0,) * 4, CONTRADICTED, "does not leave the CNN more than the MLP"),
        ((1, 1, 0, 1) + (1,) * 4, INCONCLUSIVE, "do not decide"),
        ((0,) * 4 + (1,) * 4, INCONCLUSIVE, "do not decide"),
        ((0,) * 8, INCONCLUSIVE, "do not decide"),
    ],
)
def test_robustness(ahead, verdict, says, tmp_path):
    claim = image_claims.robust(for_c5(tmp_path, ahead))
    assert (claim.number, claim.verdict) == ("C5", verdict)
    assert says in claim.meaning
    assert ("Not by" in claim.meaning) == ("Not by" in says)
    assert "black border" not in claim.meaning
    assert [effect.what for effect in claim.effects] == COMPARED
    assert [effect.sign for effect in claim.effects] == list(ahead)
    for effect, sign in zip(claim.effects, ahead, strict=True):
        assert effect.names == ("CNN", "MLP")
        assert effect.values == pytest.approx((0.6 + 0.1 * sign, 0.6), abs=2e-4)
    assert "5 epochs, with and without augmentation (crops and flips), 3 seeds" in claim.design
    assert "by 4 pixels" in claim.design
    assert "conditional, too, if it holds without augmentation alone" in claim.design
    check_text(claim)


def test_robustness_is_corrected_for_judging_every_comparison(tmp_path):
    claim = image_claims.robust(for_c5(tmp_path, (1,) * 8, by=CLOSE))
    alone = stats.ttest_ind(CLOSE + SEEDS, SEEDS, equal_var=False).pvalue
    assert [e.p for e in claim.effects] == pytest.approx([8 * alone] * 8, abs=0.02)
    assert claim.verdict == INCONCLUSIVE


def test_a_black_border_that_helps_is_named(tmp_path):
    claim = image_claims.robust(for_c5(tmp_path, (1,) * 8, shifted=0.575))
    assert claim.meaning.endswith(
        "recipe original's MLP keeps 1.045 times its accuracy when the test images are shifted by "
        "1 pixel and black fills the gap."
    )


def test_robustness_of_two_seeds(tmp_path):
    claim = image_claims.robust(for_c5(tmp_path, (1,) * 8, by=0.3, seeds=SEEDS[1:] / 10))
    assert claim.verdict == SUPPORTED
    check_text(claim)


def test_what_is_kept_and_what_stays_the_same(tmp_path):
    group = made_up_group("cnn_short_plain", (0.8, 0.4), tmp_path)
    slopes = {"black": 0.1, "edge": 0.05}
    for run in group.runs:
        unshifted = run.result["test_accuracy"]
        write_shifts(
            run,
            lambda shift, fill, u=unshifted: u * (1 - slopes[fill] * shift),
            lambda shift, fill, u=unshifted: 1 - slopes[fill] * shift * u,
        )
    for fill, slope in slopes.items():
        kept = image_claims.kept_share(group, "accuracy kept", fill)
        assert kept == pytest.approx(np.stack([1 - slope * np.arange(9)] * 2), abs=2e-4)
        same = image_claims.kept_share(group, "same prediction", fill)
        assert same == pytest.approx(1 - slope * np.outer([0.8, 0.4], np.arange(9)), abs=2e-4)


def test_claims_on_images_of_the_committed_records(records):
    for judge in (image_claims.cnn_better, image_claims.cnn_smaller, image_claims.robust):
        claim = judge(records)
        assert claim.verdict in VERDICTS
        check_text(claim)


# --- Discussions ----------------------------------------------------------------------------------


def without(*lost: Sequence[float]) -> list[Group]:
    """Recipe original, and with one thing removed at a time: the accuracy that each seed loses."""
    groups = [made_up_group("mlp_pytorch_cifar10_original", 0.6 + SEEDS)]
    for experiment, each in zip(ABLATION, lost, strict=True):
        groups.append(made_up_group(experiment, 0.6 + SEEDS[: len(each)] - each))
    return groups


LESS, MORE, EQUAL = (0.099, 0.1, 0.101), (-0.051, -0.05, -0.049), (0.01, 0.0, -0.01)
LAST = tuple(loss - AFTER for loss in LESS)  # the last weights lose LESS


def test_without_early_stopping_the_last_weights_count():
    groups = without(LESS, MORE, EQUAL, LESS, LAST)
    values = images.worth(groups)
    for group, each in zip(groups[:-1], values, strict=False):
        assert each.tolist() == group.accuracies.tolist()
    assert values[-1] == pytest.approx(0.6 + SEEDS - LESS)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ((LESS, MORE, EQUAL, LESS, LAST),
         "comparisons, worth something: augmentation, AdamW, early stopping; harmful: dropout; "
         "not significant: weight decay; with 3 seeds"),
        ((LESS,) * 4 + (LAST,), "5 comparisons, worth something: augmentation, dropout, weight "
         "decay, AdamW, early stopping; with 3 seeds"),
        ((EQUAL,) * 4 + ([each - AFTER for each in EQUAL],), "5 comparisons, not significant: "
         "augmentation, dropout, weight decay, AdamW, early stopping; with 3 seeds the intervals "
         "reach up to 2.5 points"),
        # Student's paired test of this alone: p = 0.026.
        (((0.0143, 0.02, 0.0257),) + (EQUAL,) * 3 + ([each - AFTER for each in EQUAL],),
         "5 comparisons, not significant: augmentation, dropout, weight decay, AdamW, early "
         "stopping;"),
    ],
)  # fmt: skip
def test_what_optimisations_are_worth_in_words(lost, says):
    text = images.optimisations_text(without(*lost))
    assert says in text
    for sentence in ("worth something", "harmful", "not significant"):
        assert (sentence in text) == (sentence in says)
    loss = np.array(lost[0])
    interval = stats.ttest_1samp(loss, 0).confidence_interval()
    assert text.startswith(
        "Test accuracy, paired by seed: augmentation: with all of them 0.6000, without it "
        f"{0.6 - loss.mean():.4f}: difference {loss.mean():.4f} [{interval.low:.4f}, "
        f"{interval.high:.4f}], p "
        .replace("[-", "[\N{MINUS SIGN}")
    )  # fmt: skip
    assert "from 5 to 5 epochs on average" in text
    assert "GPU" not in text


def test_optimisations_say_which_runs_were_trained_on_a_gpu():
    groups = without(LESS, MORE, EQUAL, LESS, LAST)
    for group in groups[3:]:
        for run in group.runs:
            run.config["environment"] = {"device": "cuda"}
    assert images.optimisations_text(groups).endswith(
        " The nets without weight decay, without AdamW and without early stopping were trained on "
        "a GPU, those with all of them, without augmentation and without dropout on a processor, "
        "where the same seed gives other numbers."
    )


def test_best_gain():
    groups = [
        made_up_group("mlp_pytorch_cifar10_original", 0.5 + SEEDS),
        made_up_group("mlp_pytorch_cifar10_best", 0.55 + SEEDS, parameters=1_500_000),
        made_up_group("mlp_pytorch_cifar10_wide", (0.61, 0.63), parameters=6_000_000),
    ]
    for group in groups[1:]:  # test-time augmentation gains what the history lacks
        for run in group.runs:
            run.result["test_accuracy"] += 0.02
    assert images.best_gain(groups) == (
        "Single view: recipe original 0.5000; recipe best (3 seeds, 1.5 times the parameters) "
        "0.5500, a difference of 5.0 points, and 0.5700 with test-time augmentation; recipe best, "
        "wide (2 seeds, 6.0 times the parameters) 0.6200, a difference of 12.0 points, and 0.6400 "
        "with test-time augmentation."
    )
    groups[1].config["views"] = 1
    assert "5.0 points; recipe best, wide" in images.best_gain(groups)


def test_the_discussion_of_curves_takes_the_kept_weights():
    stopped = made_up_group("mlp_pytorch_cifar10_test_stopped", (0.5, 0.6), epochs=(40, 50))
    assert images.image_curves([made_up_group("cnn_original", [0.8], epochs=[9]), stopped]) == (
        "Recipe original, mean of 1 seed: trained for 9 epochs; with the weights that are kept "
        "the accuracy is 0.8000 on test images and 0.9000 on training images, a gap of 10.0 "
        "points. Recipe original, stopped by the test loss, mean of 2 seeds: trained for 45 "
        "epochs; with the weights that are kept the accuracy is 0.5500 on test images and 0.6500 "
        "on training images, a gap of 10.0 points."
    )


def mistaken(folder: Path) -> Group:
    """Two seeds that answer 1,200 images, 120 of each class."""
    group = made_up_group("cnn_original", (0.8, 0.8), folder)
    numbers = {name: number for number, name in enumerate(CLASS_NAMES)}
    labels = np.arange(1200) % 10
    one_seed = [  # image's tens, its class, the answer, the confidence
        (110, "cat", "dog", 0.9), (1, "cat", "dog", 0.8), (2, "dog", "cat", 0.8),
        (3, "cat", "frog", 0.95), (4, "cat", "frog", 0.7), (5, "bird", "deer", 0.6),
        (6, "truck", "automobile", 0.99), (7, "frog", "bird", 0.85), (8, "horse", "deer", 0.5),
        (9, "deer", "bird", 0.55), *((i, "airplane", "bird", 0.4) for i in (10, 11)),
    ]  # fmt: skip
    other = [(i, "dog", "cat", 0.999) for i in range(3)]
    other += [(4, "automobile", "truck", 0.2), (5, "horse", "dog", 0.2), (6, "cat", "bird", 0.1)]
    for run, wrong in zip(group.runs, (one_seed, other), strict=True):
        predicted, confidence = labels.copy(), np.full(1200, 0.97)
        for tens, name, answer, sure in wrong:
            i = 10 * tens + numbers[name]
            predicted[i], confidence[i] = numbers[answer], sure
        write_predictions(run, labels, predicted, confidence)
    return group


def test_mistakes_in_words(tmp_path):
    text = images.mistakes_text([mistaken(tmp_path)])
    # Of 240 answers each: no mistake on ships, 5 on cats; of 18 mistakes 6 confuse cat and dog.
    assert text == (
        "The class with the highest accuracy is ship (1.000), with the lowest cat (0.979). 33 % of "
        "all mistakes confuse cat and dog. Of seed 100, 8 mistakes have a confidence of at least "
        "0.6000, rounded; the first 8 of them, with the images' numbers in the test set: truck "
        "taken for automobile (69); cat taken for "
        "frog (33); cat taken for dog (1,103); frog taken for bird (76); cat taken for dog (13); "
        "dog taken for cat (25); cat taken for frog (43); bird taken for deer (52). "
        "`part2_cnn/plot.py` draws those of a run of one's own."
    )


# --- Figures --------------------------------------------------------------------------------------

NAMES = ("4", "optimisations", "mlp_best", "5", "cnn_mistakes", "cnn_best", "mlp_and_cnn",
         "efficiency", "shifts")  # fmt: skip


def made_up_groups(figure: ReportFigure, n_seeds: int, folder: Path) -> list[Group]:
    """Groups with all their measures."""
    groups = []
    for i, experiment in enumerate(figure.experiments):
        accuracies = 0.5 + 0.02 * i + 2 * SEEDS[:n_seeds]
        group = made_up_group(experiment, accuracies, folder, parameters=(i + 1) * 1_000_000)
        for run, accuracy in zip(group.runs, accuracies, strict=True):
            rng = np.random.default_rng([i, run.config["seed"]])
            write_answers(run, rng.random(200) < accuracy)
            write_shifts(run, lambda shift, fill, a=accuracy: a * (1 - 0.05 * shift),
                         lambda shift, fill, i=i: 1 - (0.05 + 0.01 * i) * shift)  # fmt: skip
        groups.append(group)
    return groups


def draw(name: str, groups: Sequence[Group]) -> Figure:
    """Without any warning, such as of a mean of nothing."""
    with style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries among themselves
        figure = figures()[name].draw(groups)
        figure.draw_without_rendering()
    return figure


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
@pytest.mark.parametrize("name", NAMES)
def test_figures_are_drawn_from_two_seeds_and_from_one_short_run_each(name, tmp_path):
    figure = figures()[name]
    groups = made_up_groups(figure, 2, tmp_path)
    draw(name, groups)
    if figure.discussion:
        assert "nan" not in figure.discussion(groups)
    quick = figure.shortened()
    assert len(quick.experiments) == len(figure.experiments)
    draw(name, made_up_groups(quick, 1, tmp_path / "quick"))


def three_seeds(name: str, folder: Path) -> tuple[list[Group], Figure]:
    groups = made_up_groups(figures()[name], 3, folder)
    return groups, draw(name, groups)


def check_curves(axes: Axes, quantity: str, group: Group, more: int = 0) -> None:
    """For each seed the curve of each split, and a dot where the weights were kept."""
    assert len(axes.lines) == 3 * len(group.runs) + more
    for i, run in enumerate(group.runs):
        for split, line in zip(("train", "test"), axes.lines[3 * i :], strict=False):
            assert line.get_ydata().tolist() == run.history[f"{split}_{quantity}"].tolist()
        (epoch,) = axes.lines[3 * i + 2].get_xdata()
        assert epoch == run.result["epochs"] - 1


def test_figure_4(tmp_path):
    groups, figure = three_seeds("4", tmp_path)
    panels = np.reshape(figure.axes, (2, 2))
    for group, name, (loss, accuracy) in zip(groups, ("validation", "test"), panels, strict=True):
        check_curves(loss, "loss", group)
        check_curves(accuracy, "accuracy", group, more=1)
        assert legend_of(accuracy) == ["train", "test", "the original, 0.5666"]
        assert set(accuracy.lines[-1].get_ydata()) == {0.5666}
        assert legend_of(loss) == ["train", "test"]
        title = f"MLP on CIFAR-10, 3 seeds,\nstopped by the {name} loss"
        assert loss.get_title() == title
        assert accuracy.get_title() == f"dots: lowest {name} loss"
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "epoch", "epoch"]


def test_figure_5(tmp_path):
    (group,), figure = three_seeds("5", tmp_path)
    loss, accuracy = figure.axes
    check_curves(loss, "loss", group)
    check_curves(accuracy, "accuracy", group)
    assert legend_of(loss) == legend_of(accuracy) == ["train", "test"]
    assert loss.get_title() == "CNN on CIFAR-10, 3 seeds,\nstopped by the validation loss"
    assert loss.get_ylim()[0] == 0


@pytest.mark.parametrize(("name", "net", "n"), [("mlp_best", "MLP", 3), ("cnn_best", "CNN", 2)])
def test_curves_of_recipe_best(name, net, n, tmp_path):
    groups, figure = three_seeds(name, tmp_path)
    loss, accuracy = figure.axes
    assert loss.get_title() == f"test loss, {net} on CIFAR-10"
    assert legend_of(figure) == [
        f"recipe {kind}, 3 seeds" for kind in ("original", "best", "best, wide")[:n]
    ]
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        assert len(axes.lines) == len(axes.collections) == len(groups) == n
        for line, group in zip(axes.lines, groups, strict=True):
            curves = [run.history[f"test_{quantity}"][:5] for run in group.runs]  # of the shortest
            assert line.get_ydata() == pytest.approx(np.mean(curves, 0))
            assert line.get_xdata().tolist() == [0, 1, 2, 3, 4]
        looks = [(line.get_linestyle(), line.get_marker(), line.get_color()) for line in axes.lines]
        assert all(len(set(look)) == n for look in zip(*looks, strict=True))


def test_figure_of_optimisations(tmp_path):
    groups, figure = three_seeds("optimisations", tmp_path)
    accuracy, epochs = figure.axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == [
        "all of them", "without augmentation", "without dropout", "without weight decay",
        "without AdamW", "without early stopping",
    ]  # fmt: skip
    values = [*(group.accuracies for group in groups[:-1]), groups[-1].accuracies - AFTER]
    *lines, dotted = accuracy.lines
    assert set(dotted.get_xdata()) == {values[0].mean()}
    assert len(epochs.lines) == len(lines) == 12
    for row, each in enumerate(values):
        for drawn, x in ((lines, each), (epochs.lines, [4, 5, 6])):
            seeds, mean = drawn[2 * row : 2 * row + 2]
            assert seeds.get_xdata() == pytest.approx(x)
            assert mean.get_xdata() == pytest.approx([np.mean(x)])
            assert set(seeds.get_ydata()) == {*mean.get_ydata()} == {row}
    assert accuracy.get_ylim()[0] > accuracy.get_ylim()[1]  # all of them on top
    assert accuracy.get_title() == "MLP on CIFAR-10, 3 seeds each"


def test_figure_of_mistakes(tmp_path):
    matrix, classes, colour_bar = draw("cnn_mistakes", [mistaken(tmp_path)]).axes
    assert matrix.get_title().startswith("CNN: 2,400 answers")
    counts = np.reshape([int(text.get_text()) for text in matrix.texts], (10, 10))
    assert counts.sum() == 2400
    assert (counts[3, 5], counts[5, 3], counts[3, 6], counts[8, 8]) == (2, 4, 2, 240)
    assert matrix.images[0].get_array()[3].tolist() == pytest.approx(counts[3] / 240)
    assert [label.get_text() for label in matrix.get_yticklabels()] == list(CLASS_NAMES)
    assert colour_bar.get_ylabel() == "share of the true class"
    names = [label.get_text() for label in classes.get_yticklabels()]
    assert (names[0], names[1], names[-1]) == ("cat", "dog", "ship")
    widths = [bar.get_width() for bar in classes.patches]
    assert widths == sorted(widths)
    right = dict(zip(CLASS_NAMES, counts.diagonal() / 240, strict=True))
    assert widths == pytest.approx([right[name] for name in names])
    first, second = (dict(zip(names, line.get_xdata(), strict=True)) for line in classes.lines)
    assert (first["cat"], second["cat"]) == pytest.approx((116 / 120, 119 / 120))
    assert (first["dog"], second["dog"]) == pytest.approx((119 / 120, 117 / 120))
    assert classes.get_title() == "marks: 2 seeds"


def test_figure_of_mlp_and_cnn(tmp_path):
    records = for_c3(tmp_path, ALONE)
    groups = [records[e.group] for e in figures()["mlp_and_cnn"].experiments]
    curves, bars = draw("mlp_and_cnn", groups).axes
    assert legend_of(curves) == ["MLP, 1.00 M parameters", "CNN, 1.00 M parameters"]
    runs = [run for group in groups for run in group.runs]
    for line, run in zip(curves.lines, runs, strict=True):
        assert line.get_xdata().tolist() == run.history["epoch"][1:].tolist()  # no logarithm of 0
        assert line.get_ydata().tolist() == run.history["test_accuracy"][1:].tolist()
    assert (curves.get_title(), curves.get_ylabel()) == ("CIFAR-10, 3 seeds", "test accuracy")
    assert curves.get_ylim() == (0, 1)
    assert legend_of(bars) == ["both", "CNN alone", "MLP alone", "neither"]
    left = np.zeros(3)
    by_cnn, by_mlp = np.array(ALONE).T
    both = np.array([100, 101, 102])
    counts = both, by_cnn, by_mlp, 200 - both - by_cnn - by_mlp
    for drawn, count in zip(bars.containers, counts, strict=True):
        assert [bar.get_width() for bar in drawn] == pytest.approx(count / 200)
        assert [bar.get_x() for bar in drawn] == pytest.approx(left)
        left += count / 200
    assert [text.get_text() for text in bars.texts[:6]] == [
        "50 %", "50 %", "51 %", "30 %", "31 %", "32 %"
    ]  # fmt: skip
    assert bars.get_ylim()[0] > bars.get_ylim()[1]  # the first seed on top
    assert bars.get_xlim() == (0, 1)
    few = for_c3(tmp_path / "few", [(60, 9), (60, 10), (60, 11)])  # of 200
    groups = [few[e.group] for e in figures()["mlp_and_cnn"].experiments]
    texts = draw("mlp_and_cnn", groups).axes[1].texts
    assert [text.get_text() for text in texts[6:9]] == ["", "5 %", "6 %"]
    assert [label.get_text() for label in bars.get_yticklabels()] == [
        "seed 100", "seed 101", "seed 102"
    ]  # fmt: skip


def test_figure_of_efficiency(tmp_path):
    groups, figure = three_seeds("efficiency", tmp_path)
    assert {group.experiment.group for group in groups} == {
        e.group for e in IMAGES if e.group.startswith(("cnn_short", "mlp_pytorch_short"))
        and not e.group.endswith("plain")
    }  # fmt: skip
    kinds = {"MLPs": 4, "CNN (original): three linear layers": 1, "convolutions, global pooling": 3}
    assert legend_of(figure) == list(kinds)
    assert figure.axes[0].get_title() == "short runs on CIFAR-10, 3 seeds"
    of_size = {image_claims.costs_of(group): group for group in groups}
    for axes, which in zip(figure.axes, (0, 1), strict=True):
        labelled = [line for line in axes.lines if line.get_label() in kinds]
        assert [len(line.get_xdata()) for line in labelled] == list(kinds.values())
        assert len(axes.lines) == len(labelled) + len(groups)  # and strokes of each group's seeds
        for line in labelled:
            mine = {size[which]: group for size, group in of_size.items()
                    if image_claims.kind_of(group) == line.get_label()}  # fmt: skip
            assert line.get_xdata().tolist() == sorted(mine)
            means = [mine[x].accuracies.mean() for x in sorted(mine)]
            assert line.get_ydata() == pytest.approx(means)
        strokes = [line for line in axes.lines if line.get_label() not in kinds]
        drawn = {line.get_xdata()[0]: list(line.get_ydata()) for line in strokes}
        assert drawn == {size[which]: g.accuracies.tolist() for size, g in of_size.items()}
        assert axes.get_xscale() == "log"
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "multiply-adds an image"]


def test_figure_of_shifts(tmp_path):
    groups, figure = three_seeds("shifts", tmp_path)
    assert legend_of(figure) == ["MLP, black", "MLP, edge", "CNN, black", "CNN, edge"]
    panels = np.reshape(figure.axes, (2, 3))
    titles = ["short runs, no augmentation", "short runs, crops and flips", "recipe original"]
    assert [axes.get_title() for axes in panels[0]] == titles
    for measure, row in zip(("accuracy kept", "same prediction"), panels, strict=True):
        assert row[0].get_ylabel() == measure
        for title, axes in zip(titles, row, strict=True):
            nets = {group.net: group for group in groups if group.label == title}
            assert len(axes.lines) == len(axes.collections) == 4
            for line in axes.lines:
                net, fill = line.get_label().split(", ")
                left = image_claims.kept_share(nets[net], measure, fill)
                assert line.get_ydata() == pytest.approx(left.mean(0))
                assert (line.get_marker(), line.get_linestyle()) == (
                    {"MLP": "o", "CNN": "s"}[net], {"black": "--", "edge": "-"}[fill]
                )  # fmt: skip
            grey = [patch.get_width() for patch in axes.patches]
            assert grey == ([] if title == "short runs, no augmentation" else [4])
