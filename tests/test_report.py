"""The report: effects and verdicts, and that every number in it comes from the records."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures import regenerate, stories
from figures.claims import all_claims
from figures.effects import Claim, Effect, above, between_accuracies, exactly, over_seeds
from figures.experiments import CIRCLES_NOISE
from figures.layers import cnn_costs, mlp_costs, total
from figures.report import TEMPLATE, macro
from figures.results import in_words, training_seconds
from part1_mlp.mlp_pytorch import MLP
from part2_cnn.model import CNN
from tests.test_figures import RECORDS
from training.record import RunRecord


def test_interval_over_seeds_is_students():
    effect = over_seeds("x", [1.0, 2.0, 3.0, 4.0, 5.0])
    assert effect.value == 3
    # Student's t at 0.975 with 4 degrees of freedom is 2.776 (any table); the standard error is
    # sqrt(2.5 / 5).
    assert effect.high - 3 == pytest.approx(2.776 * 0.5**0.5, abs=1e-3)
    assert effect.high - 3 == pytest.approx(3 - effect.low)


def test_an_accuracy_without_a_mistake_still_has_an_interval():
    effect = above("x", 1.0, 10_000, 0.99)
    # With no mistake in n the interval of Clopper and Pearson ends at (alpha / 2) ** (1 / n).
    assert effect.low == pytest.approx(0.025 ** (1 / 10_000) - 0.99)
    assert effect.value == effect.high == pytest.approx(0.01)
    assert above("x", 0.5, 10, 0.5).word == "undecided"


def test_interval_between_accuracies():
    effect = between_accuracies("x", 0.9, 10_000, 0.5, 100)
    assert effect.value == pytest.approx(0.4)
    error = (0.9 * 0.1 / 10_000 + 0.5 * 0.5 / 100) ** 0.5
    assert effect.high - effect.value == pytest.approx(1.96 * error, rel=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "holds"), (-0.1, 0.2, "undecided"), (-0.2, -0.1, "does not hold")],
)
def test_the_word_follows_from_the_interval(low, high, word):
    effect = Effect("x", (low + high) / 2, low, high)
    assert effect.word == word
    assert Claim("C0", "", (effect,), "").verdict == word


def test_a_claim_is_as_good_as_its_worst_effect():
    good, unsure, bad = exactly("x", 1), Effect("x", 0, -1, 1), exactly("x", -1)
    assert Claim("C0", "", (good, unsure), "").verdict == "undecided"
    assert Claim("C0", "", (good, unsure, bad), "").verdict == "does not hold"


def test_circles_are_as_noisy_as_moons_where_they_are_compared():
    circles = bayes_accuracy("circles", CIRCLES_NOISE)
    assert circles == pytest.approx(bayes_accuracy("moons", DEFAULT_NOISE["moons"]), abs=0.002)


def test_nine_claims_each_with_a_verdict_and_numbers():
    claims = all_claims(RECORDS)
    assert [claim.number for claim in claims] == [f"C{i}" for i in range(1, 10)]
    for claim in claims:
        assert claim.verdict in ("holds", "does not hold", "undecided")
        assert len(re.findall(r"\d", claim.story)) > 5
        assert "nan" not in f"{claim.effects} {claim.story}"


def test_layers_stand_beside_fully_connected_ones_of_their_shapes():
    costs = cnn_costs()
    whole = total("CNN", costs)
    assert whole.parameters == sum(p.numel() for p in CNN(3, 10).parameters()) == 6_400_586
    first = costs[0]  # 3 x 32 x 32 to 64 x 32 x 32
    assert (first.parameters, first.multiply_adds) == (64 * 28, 64 * 27 * 32 * 32)
    assert first.dense_parameters == (3 * 1024 + 1) * 64 * 1024
    assert first.dense_multiply_adds == 3 * 1024 * 64 * 1024
    linears = [cost for cost in costs if not cost.is_convolution]
    assert [cost.parameters for cost in linears] == [cost.dense_parameters for cost in linears]
    mlp = MLP(3072, [512, 256, 128], 10)
    assert total("MLP", mlp_costs([512, 256, 128])).parameters == sum(
        p.numel() for p in mlp.parameters()
    )


def test_seeds_that_were_trained_at_once_took_their_time_once():
    def run(name: str, seconds: float, **config: str) -> RunRecord:
        return RunRecord(Path(name), config, {}, {"seconds": seconds})

    alone = [run(f"a_seed{seed}", 100) for seed in range(3)]
    together = [run(f"b_seed{seed}", 100, cell="rnn") for seed in range(3)]
    assert training_seconds([alone[0]]) == training_seconds(together) == 100
    assert training_seconds([*alone, *together]) == 400


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 seconds"), (90 * 60, "90 minutes"), (7560, "2.1 hours")]
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


def test_the_words_bear_runs_that_fell_short():
    def run(accuracy: float) -> RunRecord:
        config = {"cell": "lstm", "input_length": 7}
        validation = np.array([accuracy / 2, accuracy])
        history = {"val_accuracy": validation, "seconds": np.array([1.0, 30.0])}
        result = {"test_accuracy": accuracy, "seconds": 9}
        return RunRecord(Path("x_seed0"), config, history, result)

    assert "LSTM: none (of up to 7 that were tried)" in stories.lengths([run(0.5)])
    assert "best never reaches" in stories.cnn_best([run(0.9), run(0.8)])
    assert "best reaches after 30 seconds" in stories.cnn_best([run(0.8), run(0.9)])


def test_written_files_are_those_of_the_records():
    for path, text in regenerate.texts(RECORDS)[1].items():
        assert path.read_text() == text, path


def test_no_number_is_typed_into_the_report():
    assert not re.search(r"\d", TEMPLATE.read_text())


def test_every_number_has_a_macro_of_letters():
    numbers = json.loads((RECORDS.parent / "results.json").read_text())["numbers"]
    tex = (RECORDS.parent / "results.tex").read_text()
    names = {macro(name) for name in numbers}
    assert len(names) == len(numbers)
    for name in names:
        assert re.fullmatch(r"[a-zA-Z]+", name)
        assert f"\\newcommand{{\\{name}}}" in tex
