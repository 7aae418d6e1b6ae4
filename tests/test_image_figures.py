"""Claims C3 to C5 and figures 4 and 5: made-up records turn every verdict, and the text follows."""

from pathlib import Path

import numpy as np
import pytest

from figures import images
from figures.effects import CONDITIONAL, CONTRADICTED, INCONCLUSIVE, SUPPORTED, VERDICTS, Claim
from figures.experiments import EXPERIMENTS, Group
from figures.measurements import SHIFT_COLUMNS
from training.runs import RunRecord

SEEDS = np.array([-0.01, 0.0, 0.01])  # what seeds differ by


def group(name: str, accuracies: np.ndarray, epochs: float = 2.0, **config) -> Group:
    """A made-up group whose seeds have these test accuracies."""
    runs = [
        RunRecord(Path(), config, {}, {"test_accuracy": float(each), "epochs": epochs})
        for each in accuracies
    ]
    return Group(EXPERIMENTS[name], runs)


def for_c3(cnn: float, mlp: float, n_original: int = 1) -> dict[str, Group]:
    """Short runs with these means; recipe original the other way round."""
    return {
        "cnn_short_augmented": group("cnn_short_augmented", cnn + SEEDS),
        "mlp_pytorch_short_augmented": group("mlp_pytorch_short_augmented", mlp + SEEDS, 10.0),
        "cnn_original": group("cnn_original", mlp + SEEDS[:n_original]),
        "mlp_pytorch_cifar10_original": group("mlp_pytorch_cifar10_original", cnn + SEEDS),
    }


@pytest.mark.parametrize(
    ("cnn", "mlp", "n", "verdict"),
    [(0.6, 0.5, 1, SUPPORTED), (0.5, 0.6, 1, CONTRADICTED), (0.5, 0.505, 1, INCONCLUSIVE),
     (0.6, 0.5, 3, CONDITIONAL)],
)  # fmt: skip
def test_which_net_is_better_is_judged_where_there_are_seeds(cnn, mlp, n, verdict):
    claim = images.cnn_better(for_c3(cnn, mlp, n))
    assert claim.verdict == verdict
    assert f"CNN {cnn:.4f}, MLP {mlp:.4f}: difference" in claim.measured
    assert len(claim.effects) == (1 if n == 1 else 2)
    assert ("not judged" in claim.meaning) == (n == 1)
    assert ("The CNN is ahead" in claim.meaning) == (verdict == SUPPORTED)
    assert ("The MLP is ahead" in claim.meaning) == (verdict == CONTRADICTED)
    assert "2 epochs of the CNN and 10 of the MLP, 3 seeds" in claim.design


@pytest.mark.parametrize(
    ("cnn", "mlp", "verdict", "words"),
    [(0.6, 0.5, SUPPORTED, "the CNN is ahead"), (0.5, 0.6, CONTRADICTED, "the MLP is ahead"),
     (0.5, 0.5, INCONCLUSIVE, "do not decide")],
)  # fmt: skip
def test_parameters_are_compared_at_equal_numbers(cnn, mlp, verdict, words):
    large, units = "mlp_pytorch_short_large", [1600, 850, 140]
    original = "mlp_pytorch_cifar10_original"
    claim = images.cnn_smaller({
        "cnn_short_augmented": group("cnn_short_augmented", cnn + SEEDS),
        large: group(large, mlp + SEEDS, dnn_hidden_units=units),
        original: group(original, SEEDS, dnn_hidden_units=[512, 256, 128]),
    })  # fmt: skip
    assert claim.verdict == verdict
    assert words in claim.meaning
    assert "CNN (6.40 M)" in claim.measured
    assert "MLP (6.40 M)" in claim.measured
    assert "whole CNN has 6,400,586 parameters, the original's MLP 1,738,890" in claim.meaning
    assert "158,017,536 multiply-adds, the MLP 1,737,984" in claim.meaning


def for_c5(folder: Path, lost: dict[tuple[str, str], float]) -> dict[str, Group]:
    """Short runs that lose so much at 4 pixels, by net and training."""
    found = {}
    for (net, kind), loss in lost.items():
        runs = []
        for seed, more in enumerate(SEEDS):
            path = folder / f"{net}_{kind}{seed}"
            path.mkdir()
            rows = [",".join(SHIFT_COLUMNS)]
            for shift in range(9):
                for direction in ("left",) if shift == 0 else ("left", "right", "up", "down"):
                    accuracy = 0.7 - (loss + more) * shift / 4
                    rows.append(f"{shift},{direction},100,{accuracy}")
            (path / "shifts.csv").write_text("\n".join(rows) + "\n")
            runs.append(RunRecord(path, {}, {}, {"test_accuracy": 0.7}))
        found[f"{net}_short_{kind}"] = Group(EXPERIMENTS[f"{net}_short_{kind}"], runs)
    return found


@pytest.mark.parametrize(
    ("plain", "augmented", "verdict", "words"),
    [((0.1, 0.2), (0.0, 0.1), SUPPORTED, "whether training showed shifts or not"),
     ((0.1, 0.2), (0.1, 0.1), CONDITIONAL, "were not trained to be robust"),
     ((0.1, 0.2), (0.2, 0.1), CONDITIONAL, "were not trained to be robust"),
     ((0.2, 0.1), (0.0, 0.1), CONDITIONAL, "Under one way of training"),
     ((0.2, 0.1), (0.1, 0.1), CONTRADICTED, "does not cost the CNN less"),
     ((0.1, 0.1), (0.1, 0.1), INCONCLUSIVE, "do not decide")],
)  # fmt: skip
def test_robustness_is_judged_with_and_without_crops(plain, augmented, verdict, words, tmp_path):
    lost = {
        ("cnn", "plain"): plain[0], ("mlp_pytorch", "plain"): plain[1],
        ("cnn", "augmented"): augmented[0], ("mlp_pytorch", "augmented"): augmented[1],
    }  # fmt: skip
    claim = images.robust(for_c5(tmp_path, lost))
    assert claim.verdict == verdict
    assert words in claim.meaning
    first, second = claim.effects
    assert first.values == pytest.approx(plain[::-1], abs=1e-6)
    assert second.values == pytest.approx(augmented[::-1], abs=1e-6)
    assert "100 images for the CNN" in claim.design


def test_claims_on_images_of_the_committed_records(records):
    for judge in (images.cnn_better, images.cnn_smaller, images.robust):
        claim = judge(records)
        assert isinstance(claim, Claim)
        assert claim.verdict in VERDICTS
        assert "nan" not in f"{claim.measured} {claim.meaning}"


def test_the_discussion_of_the_cnn_follows_runs_that_fell_short():
    def trained(accuracy: float) -> Group:
        validation = np.array([accuracy / 2, accuracy])
        history = {"step": np.array([0, 704]), "val_accuracy": validation,
                   "seconds": np.array([1.0, 30.0]),
                   "val_loss": 1 - validation, "test_accuracy": validation}  # fmt: skip
        result = {"test_accuracy": accuracy, "seconds": 9}
        return Group(EXPERIMENTS["cnn_best"], [RunRecord(Path(), {}, history, result)])

    assert "best never reaches" in images.cnn_gain([trained(0.9), trained(0.8)])
    assert "best reaches after 30 seconds" in images.cnn_gain([trained(0.8), trained(0.9)])
