"""Figures and claims of the recurrent nets, from made-up records; the measure of palindromes."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from data.palindromes import PalindromeBatches
from figures.effects import scientific
from figures.experiments import (
    EXPERIMENTS,
    FEW,
    FIVE_DIGITS,
    MANY,
    RNN_ADAM,
    RNN_HIDDEN,
    RNN_LENGTHS,
    RNN_LIMITS,
    RNN_LONGER,
    Experiment,
    Group,
)
from figures.gradient_claims import adam_effects, gradients, limits_text
from figures.measurements import (
    MEASURES,
    all_palindromes,
    measure_palindromes,
    n_distinct,
    read_measure,
)
from figures.rnn import (
    KINDS,
    first_steps,
    first_steps_text,
    hidden_sizes,
    lengths,
    lengths_text,
    limits,
    longer_lengths,
    solved_by_all,
)
from figures.rnn_claims import (
    five_digits,
    hidden_state,
    longer,
)
from part3_rnn import train
from part3_rnn.model import initial_net
from training import UsageError
from training.plotting import Figure, style
from training.runs import RunRecord, load_best, read_run, save_checkpoint

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


# --- Made-up records ------------------------------------------------------------------------------


@cache
def flags_of(text: str) -> dict:
    return vars(train.parse(text.split()))


def made_up_run(
    experiment: Experiment, seed: int, few: float, many: float, folder: Path = Path()
) -> RunRecord:
    """A run with an accuracy after FEW steps, and one after all of them."""
    config = dict(flags_of(experiment.flags)) | {"seed": seed}
    last = config["train_steps"]
    steps = np.array([0, FEW, last] if last > FEW else [0, last / 2, last])
    accuracy = np.array([0.1, few, many])
    history = {"step": steps, "val_loss": np.array([3.0, 2.0, 1.0])}
    for split in ("train", "test"):
        history |= {f"{split}_accuracy": accuracy, f"{split}_loss": 1.1 - accuracy}
    return RunRecord(folder, config, history, {"test_accuracy": many, "best_step": last})


def made_up_group(
    experiment: Experiment, few: Sequence[float], many: Sequence[float], folder: Path = Path()
) -> Group:
    """A seed for each accuracy; a run's folder is `folder`/GROUP/seedN."""
    runs = [
        made_up_run(experiment, i, *each, folder / experiment.group / f"seed{i}")
        for i, each in enumerate(zip(few, many, strict=True))
    ]
    return Group(experiment, runs)


def of_ten(solved: int, failed: float = 0.4) -> list[float]:
    """The accuracies of ten seeds of which some solve the task."""
    return [1.0] * solved + [failed] * (10 - solved)


def write_memory(
    group: Group,
    before: float,
    after: Sequence[float] | float,
    share: Sequence[float] | float = 0.5,
    built_in: float = 0.7,
) -> None:
    """Measures: the gradient at the first step, relative to the last; the last state's share."""
    each = (np.broadcast_to(values, len(group.runs)) for values in (after, share))
    for run, trained, last in zip(group.runs, *each, strict=True):
        run.path.mkdir(parents=True)
        T = run.config["input_length"]
        rows = [f"{t},{before if t == 1 else 1},{trained if t == 1 else 1},{built_in},"
                f"{last if t == T else 0.9}" for t in range(1, T + 1)]  # fmt: skip
        header = "step,initial_gradient,trained_gradient,initial_share,trained_share"
        (run.path / "memory.csv").write_text("\n".join([header, *rows]) + "\n")


# --- C6 -------------------------------------------------------------------------------------------


def write_palindromes(folder: Path, wrong: Sequence[int], seen: int = 1000) -> dict[str, Group]:
    group = made_up_group(EXPERIMENTS["rnn_T5_original"], of_ten(10), of_ten(10), folder)
    for run, each in zip(group.runs, wrong, strict=True):
        run.path.mkdir(parents=True)
        text = f"step,palindromes,seen,wrong\n0,1000,0,900\n2000,1000,{seen},{each}\n"
        (run.path / "palindromes.csv").write_text(text)
    return {"rnn_T5_original": group}


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
@pytest.mark.parametrize(
    ("wrong", "verdict", "says"),
    [
        (
            [0] * 10,
            "supported",
            "The net learns five digits: 10 of 10 seeds solve it (their share "
            "is 1.00 [0.72, 1.00]), and 0 of all 10,000 answers",
        ),
        ([10] * 9 + [11], "supported", "is 0.90 [0.60, 0.98]), and 101 of all 10,000"),
        ([11] * 2 + [0] * 8, "inconclusive", "The seeds do not decide"),
        ([11] * 9 + [0], "contradicted", "The net does not learn five digits: 1 of 10 seeds"),
    ],
)
def test_five_digits(wrong, verdict, says, tmp_path):
    claim = five_digits(write_palindromes(tmp_path, wrong))
    assert (claim.number, claim.verdict) == ("C6", verdict)
    assert says in claim.meaning
    assert "only 1,000 palindromes of this length, and training had shown each net every one" in (
        claim.meaning
    )
    (effect,) = claim.effects
    assert effect.values == (900, np.mean(wrong))
    assert "at least 99 % are right" in claim.design


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
def test_five_digits_says_how_many_were_seen(tmp_path):
    claim = five_digits(write_palindromes(tmp_path / "most", [0] * 10, seen=987))
    assert "training had shown each net 987 of them, so this measures how well" in claim.meaning
    claim = five_digits(write_palindromes(tmp_path / "few", [0] * 10, seen=400))
    assert "training had shown each net 400 of them." in claim.meaning


# --- C7 -------------------------------------------------------------------------------------------


def longer_records(
    solved: Callable[[float, int, int], int], others: Sequence[int] = (0, 0, 0, 0)
) -> dict[str, Group]:
    """`solved(scale, T, steps)` of ten seeds; `others`: of C8's other groups."""
    records = {
        experiment.group: made_up_group(experiment, of_ten(n), of_ten(n))
        for experiment, n in zip(RNN_LIMITS[1:], others, strict=True)
    }
    for experiment in RNN_LONGER:
        config = made_up_run(experiment, 0, 0, 0).config
        scale, T = config["input_scale"], config["input_length"]
        both = (of_ten(solved(scale, T, steps)) for steps in (FEW, MANY))
        records[experiment.group] = made_up_group(experiment, *both)
    return records


def test_longer_is_supported_and_tells_where_it_falls():
    def solved(scale: float, T: int, steps: int) -> int:
        longest = {(1, FEW): 5, (1, MANY): 15}.get((scale, steps), 20)
        if 5 < T == longest:
            return 6
        return 10 if longest > T or T == 5 else 5 * (T < 30)  # 5 of 10 are not most

    claim = longer(longer_records(solved))
    assert (claim.number, claim.verdict) == ("C7", "supported")
    assert (
        "With each of these input scales and numbers of steps fewer seeds solve the long"
        in claim.meaning
    )
    assert "T = 5 (input scale 1, 1,000 steps); T = 15 (input scale 1, 5,000 steps)" in (
        claim.meaning
    )
    assert claim.meaning.endswith("; T = 20 (input scale 0.316, 1,000 and 5,000 steps).")
    assert [effect.values for effect in claim.effects] == [(1, 0)] * 4
    assert all("short (T = 5) 1.00, long (T = 30) 0.00" in str(each) for each in claim.effects)


def test_longer_says_which_other_nets_solve_the_long_palindromes():
    records = longer_records(lambda scale, T, steps: 10 * (T == 5), others=(5, 0, 6, 10))
    assert longer(records).meaning.endswith(
        " Not every net fails at T = 30 (claim C8): small inputs and steps 6 of 10 seeds (mean "
        "accuracy 0.76); bistable 10 of 10 seeds (mean accuracy 1.00)."
    )


@pytest.mark.parametrize(
    ("short", "long", "slow", "verdict", "says"),
    [
        (10, 0, 10, "conditional", "with input scale 1, 5,000 steps; input scale 0.316, 5,000"),
        (10, 10, 10, "contradicted", "In no setting is a fall"),
        (0, 10, 10, "contradicted", "In no setting is a fall"),
        (10, 7, 7, "inconclusive", "The seeds do not decide"),
        (0, 0, 0, "inconclusive", "none (input scale 1, 1,000 and 5,000 "),
    ],
)
def test_longer_the_other_ways(short, long, slow, verdict, says):
    """`slow`: seeds that solve T = 30 after few steps."""
    found = {5: short, 30: long}
    claim = longer(
        longer_records(lambda _, T, steps: slow if (T, steps) == (30, FEW) else found.get(T, 0))
    )
    assert claim.verdict == verdict
    assert says in claim.meaning
    for sentence in ("In every setting", "In no setting is a fall", "The seeds do not decide"):
        right = {"In every setting": "supported", "In no setting is a fall": "contradicted"}
        assert (sentence in claim.meaning) == (verdict == right.get(sentence, "inconclusive"))


def test_longer_corrects_for_judging_four_settings():
    # Fisher's test alone: p = 0.033 for 10 against 5 of 10 seeds.
    def solved(scale: float, T: int, steps: int) -> int:
        return 5 if (scale, T, steps) == (1, 30, FEW) else 10

    claim = longer(longer_records(solved))
    assert min(effect.p for effect in claim.effects) > 0.05
    assert claim.verdict == "inconclusive"


# --- C8 -------------------------------------------------------------------------------------------

VANISHED, THERE = 1e-6, 1.0


def limits_records(
    folder: Path,
    solved: Sequence[int],
    before: Sequence[float] = (VANISHED, THERE),
    after: Sequence[float] = (VANISHED, 1e-4, 1e-5, 2.0, 1e-7),
    bistable: tuple[int, float] = (10, 1e-20),
    shares: Sequence[float | Sequence[float]] = (0.5,) * 5,
    adam: Sequence[int] = (0, 0, 0, 10),
    built_in: float = 0.7,
) -> dict[str, Group]:
    """Groups in the order of KINDS: `solved` of ten seeds each; initial and trained gradients.

    `adam`: of ten seeds, in the order of RNN_ADAM. Before training the bistable nets have the
    correlation ratio `built_in`.
    """
    initial = (*before, *before, bistable[1])
    records = {}
    for experiment, n, first, last, share, untrained in zip(
        RNN_LIMITS, (*solved, bistable[0]), initial, after, shares, (0.1, 0.2, 0.1, 0.2, built_in),
        strict=True,
    ):  # fmt: skip
        records[experiment.group] = made_up_group(experiment, of_ten(0), of_ten(n), folder)
        write_memory(records[experiment.group], first, last, share, untrained)
    return records | {
        each.group: made_up_group(each, of_ten(0), of_ten(n))
        for each, n in zip(RNN_ADAM, adam, strict=True)
    }


@pytest.mark.parametrize(
    ("solved", "verdict", "says"),
    [
        ((0, 10, 0, 10), "supported", "Small inputs alone raise the share: 10 of 10 seeds"),
        (
            (0, 3, 0, 10),
            "conditional",
            "With RMSprop, significantly more seeds than of the original solve the task only where "
            "small steps come with the restored gradient: with both 10 of 10 seeds (mean accuracy "
            "1.00), with small inputs alone 3 of 10 seeds (mean accuracy 0.58), with small steps "
            "alone 0 of 10 seeds (mean accuracy 0.40), of the original 0 of 10 seeds (mean accuracy"
            " 0.40). Both against small inputs alone: p = 0.0031, not corrected.",
        ),
        (
            (0, 0, 0, 0),
            "contradicted",
            "restore the gradient and do not raise the share by 0.5: 0 of",
        ),
        ((0, 4, 0, 0), "inconclusive", "The seeds do not decide whether that raises the share"),
        ((0, 0, 10, 10), "inconclusive", "Small steps alone raise the share too (10 of 10 seeds"),
        (
            (6, 10, 0, 0),
            "inconclusive",
            "The original is solved by 6 of 10 seeds (mean accuracy 0.76): ",
        ),
        ((10, 10, 10, 10), "inconclusive", "nothing is to be explained"),
    ],
)
def test_gradients(solved, verdict, says, tmp_path):
    claim = gradients(limits_records(tmp_path, solved))
    assert (claim.number, claim.verdict) == ("C8", verdict)
    assert says in claim.meaning
    assert f"is 1.0 {TIMES} 10⁻⁶ in the original and 1 with small inputs" in claim.meaning
    assert "the correlation ratio is 0.20 with them, 0.10 in the original (means)." in claim.meaning
    assert [effect.values for effect in claim.effects] == [
        (n / 10, solved[0] / 10) for n in solved[1:]
    ]
    assert [effect.names[0] for effect in claim.effects] == list(KINDS[1:4])


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ((0.11, 1.0), "The original's gradient does not vanish"),
        ((1e-6, 0.09), "Small inputs do not restore the gradient"),
    ],
)
def test_gradients_that_test_nothing_decide_nothing(before, says, tmp_path):
    claim = gradients(limits_records(tmp_path, (0, 10, 0, 10), before))
    assert claim.verdict == "inconclusive"
    assert says in claim.meaning


def test_gradients_say_whether_something_was_stored(tmp_path):
    ratios = [1e-5, 1e-4, 1e-3, 0.09, *[0.2] * 5, 3.0]  # four are small
    after, original = (VANISHED, ratios, 1e-5, 2.0, 1e-7), [0.51, *[0.5] * 9]

    def meaning(name: str, share: Sequence[float]) -> str:
        shares = (original, share, 0.5, 0.5, 0.5)
        return gradients(
            limits_records(tmp_path / name, (0, 0, 0, 10), after=after, shares=shares)
        ).meaning

    text = meaning("most", [0.51, 0.6, 0.9, *[0.4] * 7])
    assert (
        "depends on the first digit (correlation ratio above 0.5) in 3 of 10 nets with small "
        f"inputs alone and in 1 of 10 of the original; the gradient of the former is between 1.0 "
        f"{TIMES} 10⁻⁵ and 3. Of the 4 nets where it is below 0.1, 3 depend on the digit all the "
        "same, so a small gradient does not mean that nothing is stored."
    ) in text
    text = meaning("half", [0.51, 0.6, *[0.4] * 7, 0.9])
    assert "in 3 of 10 nets with small inputs alone" in text
    assert "nothing is stored" not in text


def test_gradients_tell_what_happens_with_another_optimiser(tmp_path):
    text = limits_text([*limits_records(tmp_path, (0, 3, 0, 10), adam=(2, 9, 4, 10)).values()])
    assert (
        "With Adam, 0.003, as in figure 7, 2 of 10 seeds (mean accuracy 0.52) of the original "
        "solve the task, 9 of 10 seeds (mean accuracy 0.94) with small inputs alone, 4 of 10 seeds "
        "(mean accuracy 0.64) with clipping at 0.1 alone, 10 of 10 seeds (mean accuracy 1.00) with "
        "both. Judged like C8, with clipping in the place of small steps, the claim would be "
        "supported with this optimiser (small inputs alone: p = 0.011)."
    ) in text
    for name, adam, before, verdict in (
        ("b", (2, 5, 4, 10), VANISHED, "conditional"),
        ("c", (2, 2, 2, 2), VANISHED, "contradicted"),
        ("d", (2, 9, 4, 10), THERE, "inconclusive"),
    ):
        records = limits_records(tmp_path / name, (0, 3, 0, 10), (before, THERE), adam=adam)
        text = limits_text([*records.values()])
        assert f"the claim would be {verdict} with this optimiser" in text


def test_the_effects_of_another_optimiser_are_corrected_for_judging_three():
    groups = [made_up_group(each, of_ten(0), of_ten(n))
              for each, n in zip(RNN_ADAM, (2, 9, 4, 10), strict=True)]  # fmt: skip
    effects = adam_effects(groups)
    assert [effect.names for effect in effects] == [
        ("small inputs", "original"), ("clipped", "original"), ("both", "original"),
    ]  # fmt: skip
    assert [effect.values for effect in effects] == [(0.9, 0.2), (0.4, 0.2), (1.0, 0.2)]
    assert effects[0].what == "share with Adam, 0.003"
    assert [effect.p for effect in effects] == pytest.approx([0.010955, 0.628, 0.00214], rel=0.01)


def test_the_bistable_initialisation_is_no_counter_example_only_if_it_could_be_one(tmp_path):
    solved = (0, 10, 0, 10)
    text = limits_text([*limits_records(tmp_path / "a", solved).values()])
    assert "That is no counter-example: before training the last state depends on the first " in (
        text
    )
    assert "(correlation ratio 0.70)" in text
    for name, bistable in (("b", (5, 1e-20)), ("c", (10, 0.5))):
        records = limits_records(tmp_path / name, solved, bistable=bistable)
        text = limits_text([*records.values()])
        assert "counter-example" not in text
        assert f"{bistable[0]} of 10 seeds" in text
        assert f"its gradient is {scientific(bistable[1])} before training" in text
    records = limits_records(tmp_path / "d", solved, built_in=0.5)
    assert "counter-example" not in limits_text([*records.values()])


def test_rank_correlation_is_within_the_group_whose_accuracies_differ_most(tmp_path):
    def claim(name: str, after: Sequence[float | Sequence[float]]) -> str:
        records = limits_records(tmp_path / name, (0, 5, 0, 10), after=after)
        small = records[RNN_LIMITS[3].group]  # differs less
        small.runs[0].result["test_accuracy"] = 0.9
        return gradients(records).meaning

    # Of ten seeds the first five solve it.
    with_gradient, without = [2.0] * 5 + [1e-6] * 5, [1e-6] * 5 + [2.0] * 5
    what = (
        "Within one group, small inputs, whose accuracies differ most (by 0.60; in the "
        "other 3 groups by 0.10 at most), the rank correlation of gradient after training and "
    )
    found = claim("a", (1e-6, with_gradient, 1e-6, without, 1e-9))
    assert f"{what}accuracy is 1.00." in found
    found = claim("b", (2.0, without, 2.0, 1e-6, 9.0))
    assert f"{what}accuracy is {MINUS}1.00." in found
    assert "there is no rank correlation" in claim("c", (1.0,) * 5)


# --- C9 -------------------------------------------------------------------------------------------


def hidden_records(enough: Callable[[str, int, int], float]) -> dict[str, Group]:
    """Nets solve their task with the units that `enough(init, T, steps)` asks for, or more."""
    records = {}
    for experiment in RNN_HIDDEN:
        config = made_up_run(experiment, 0, 0, 0).config
        few, many = (
            of_ten(10 * (config["num_hidden"] >= enough(config["init"], config["input_length"], n)))
            for n in (FEW, MANY)
        )
        records[experiment.group] = made_up_group(experiment, few, many)
    return records


NEVER = 1000  # units

HIDDEN_CASES = [
    (lambda init, T, steps: 32, "supported", "Under every initialisation more units"),
    (lambda init, T, steps: 64 if init == "normal" else 1, "conditional",
     "Only with the normal initialisation do more units solve what the fewest do not. With the "
     "bistable initialisation the fewest units are enough"),
    (lambda init, T, steps: 64 if init == "identity" else 1, "conditional",
     "Only with the bistable initialisation do more units solve what the fewest do not. With the "
     "normal initialisation the fewest units are enough"),
    (lambda init, T, steps: 64 if init == "normal" else NEVER, "conditional",
     "With the other the seeds do not decide."),
    (lambda init, T, steps: 1, "contradicted", "Under no initialisation do more units"),
    (lambda init, T, steps: NEVER, "inconclusive", "The seeds do not decide under any"),
    (lambda init, T, steps: NEVER if init == "normal" else 1, "inconclusive",
     "With the bistable initialisation the fewest units are enough. With the other the seeds do "
     "not decide."),
]  # fmt: skip


@pytest.mark.parametrize(("enough", "verdict", "says"), HIDDEN_CASES)
def test_hidden_state(enough, verdict, says):
    claim = hidden_state(hidden_records(enough))
    assert (claim.number, claim.verdict) == ("C9", verdict)
    assert says in claim.meaning


def test_hidden_state_names_the_smallest_net_of_each_setting():
    needed = {("normal", 10, FEW): 64, ("normal", 10, MANY): 8, ("normal", 15, MANY): 256}

    def enough(init: str, T: int, steps: int) -> int:
        return needed.get((init, T, steps), NEVER if init == "normal" else 4)

    claim = hidden_state(hidden_records(enough))
    for text in ("64 units (T = 10, normal initialisation, 1,000 steps)",
                 "8 units (T = 10, normal initialisation, 5,000 steps)",
                 "none (T = 15, normal initialisation, 1,000 steps)",
                 "256 units (T = 15, normal initialisation, 5,000 steps)",
                 "4 units (T = 15, bistable initialisation, 1,000 and 5,000 steps)"):  # fmt: skip
        assert text in claim.meaning
    assert claim.verdict == "supported"
    assert "Not significant: T = 10, normal initialisation" not in claim.meaning
    assert "Not significant: T = 15, normal initialisation, 1,000 steps" in claim.meaning
    assert len(claim.effects) == 8
    assert claim.effects[0].names == ("128 units", "4 units")
    assert (
        "10 seeds, normal initialisation (4 to 256 hidden units, input scale 1) and bistable "
        "initialisation (2 to 256 hidden units, input scale 0.1). A seed" in claim.design
    )


@pytest.mark.parametrize(
    ("normal", "bistable", "says"),
    [
        (64, 8, "With the bistable initialisation fewer units are enough for every task than with "
         "the normal initialisation. Where at most half of the latter's seeds solve it with as many"
         " (T = 10 with 8, 16 and 32 units (1,000 and 5,000 steps); T = 15 with 8, 16 and 32 units "
         "(1,000 and 5,000 steps)), the state has room, and what is missing is training that uses "
         "it, at the one learning rate "),
        (8, 64, "With the normal initialisation fewer units are enough for every task than with "),
        (16, 8, "as many (T = 10 with 8 units (1,000 and 5,000 steps); T = 15 with 8 units ("),
        (8, 2, "as many (T = 10 with 4 units (1,000 and 5,000 steps); T = 15 with 4 units ("),
        (NEVER, 8, "as many (T = 10 with 8, 16, 32, 64, 128 and 256 units (1,000 "),
        (64, 64, ""),
    ],
)  # fmt: skip
def test_hidden_state_says_where_the_state_has_room(normal, bistable, says):
    units = {"normal": normal, "identity": bistable}
    meaning = hidden_state(hidden_records(lambda init, T, steps: units[init])).meaning
    assert says in meaning
    assert ("has room" in meaning) == bool(says)
    mixed = hidden_records(lambda init, T, steps: units[init] if steps == FEW else 128)
    assert "has room" not in hidden_state(mixed).meaning


def test_hidden_state_corrects_for_judging_several_settings():
    records = hidden_records(lambda init, T, steps: 1)
    few = "rnn_units4_original_T10"
    # Fisher's test alone: p = 0.033 for 10 against 5 of 10 seeds.
    records[few] = made_up_group(EXPERIMENTS[few], of_ten(5), of_ten(10))
    claim = hidden_state(records)
    assert min(effect.p for effect in claim.effects) > 0.05
    assert claim.verdict == "inconclusive"


def test_fewer_units_that_solve_more_are_no_bottleneck():
    records = hidden_records(lambda init, T, steps: 1)
    for group in ("rnn_inputs1_T10", "rnn_inputs1_T15"):  # 128 units
        records[group] = made_up_group(EXPERIMENTS[group], of_ten(0), of_ten(0))
    assert hidden_state(records).verdict == "contradicted"


# --- What records say -----------------------------------------------------------------------------


def test_the_accuracy_after_few_steps_is_that_of_the_lowest_validation_loss_until_then():
    group = made_up_group(RNN_LONGER[0], [0.7, 0.8], [0.9, 1.0])
    assert group.single_view(MANY).tolist() == [0.9, 1.0]
    assert group.single_view(FEW).tolist() == group.single_view(MANY - 1).tolist() == [0.7, 0.8]
    group.runs[0].history["val_loss"][1] = 4  # worse than before the first step
    assert group.single_view(FEW).tolist() == [0.1, 0.8]
    assert group.single_view(FEW - 1).tolist() == [0.1, 0.1]


def short_run(run_main, folder: Path, *flags: object) -> RunRecord:
    flags = ("--num_hidden", 16, "--quiet", "--run_dir", folder, "--eval_freq", 10, *flags)
    assert run_main(train.main, "train.py", *flags)[0] == 0
    return read_run(folder)


@pytest.fixture
def few_evaluated(monkeypatch):
    monkeypatch.setattr(train, "EVALUATED", {"train": 50, "val": 300, "test": 300})


def test_a_run_cut_off_is_a_shorter_run(run_main, tmp_path, few_evaluated):
    long, short = (
        Group(RNN_LONGER[0], [short_run(run_main, tmp_path / f"{n}", "--train_steps", n)])
        for n in (40, 20)
    )
    assert long.single_view(20) == pytest.approx(short.accuracies)
    assert long.accuracies != pytest.approx(short.accuracies)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (0.0021, "0.0021"), (123, "120"), (3.44e-7, f"3.4 {TIMES} 10⁻⁷"),
     (2e12, f"2.0 {TIMES} 10¹²")],
)  # fmt: skip
def test_numbers_are_written_as_in_print(value, text):
    assert scientific(value) == text


# --- Figures --------------------------------------------------------------------------------------

SETTINGS = {  # of the nets in figure 7
    "vanilla RNN, input scale 1": "Adam, 0.003",
    "vanilla RNN, small inputs, clip 0.1": "Adam, 0.003",
    "LSTM, forget bias 1": "RMSprop, 0.01",
    "GRU": "RMSprop, 0.01",
    "vanilla RNN, bistable (hand-designed)": "RMSprop, 0.001",
}


def made_up_figures(folder: Path) -> dict[str, Figure]:
    """Every figure, from ten made-up seeds of each group."""

    def groups(experiments: Iterable[Experiment]) -> list[Group]:
        return [made_up_group(each, of_ten(3), of_ten(7), folder) for each in experiments]

    limited = groups(RNN_LIMITS)
    for group in limited:
        write_memory(group, 0.5, 0.25)
    return {
        "6": first_steps(groups(FIVE_DIGITS)),
        "7": lengths(groups(RNN_LENGTHS)),
        "longer": longer_lengths(groups(RNN_LONGER)),
        "limits": limits([*limited, *groups(RNN_ADAM)]),
        "hidden_sizes": hidden_sizes(groups(RNN_HIDDEN)),
    }


def test_figures_are_drawn_from_short_runs_of_one_seed_too(tmp_path):
    quick: list[list[Group]] = []
    for experiments in (FIVE_DIGITS, RNN_LENGTHS, RNN_LONGER, RNN_LIMITS, RNN_HIDDEN):
        short = [each.shortened() for each in experiments if each.quick]
        quick.append([made_up_group(each, [0.1], [0.2], tmp_path) for each in short])
    for group in quick[3]:
        write_memory(group, 0.5, 0.25)
    draws = (first_steps, lengths, longer_lengths, limits, hidden_sizes)
    with style():
        for draw, groups in zip(draws, quick, strict=True):
            draw(groups).draw_without_rendering()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, Figure]:
    with style():
        figures = made_up_figures(tmp_path_factory.mktemp("drawn"))
        for figure in figures.values():
            figure.draw_without_rendering()
    return figures


def test_lines_differ_in_line_style_or_marker(drawn):
    for name, figure in drawn.items():
        for axes in figure.axes:
            lines = [each for each in axes.lines if not each.get_label().startswith("_")]
            lines += [each.lines[0] for each in axes.containers if hasattr(each, "lines")]
            styles = [(str(e._unscaled_dash_pattern), e.get_marker()) for e in lines]
            assert len(set(styles)) == len(styles), name


def test_figure_7_says_with_which_settings_how_many_seeds_of_each_net_solve_it(drawn):
    top, bottom = drawn["7"].axes
    labels = [label.get_text() for label in top.get_yticklabels()]
    assert labels == [f"{net}\n{settings}" for net, settings in SETTINGS.items()]
    assert {text.get_text() for text in top.texts} == {"7/10"}
    assert [label.get_text() for label in bottom.get_xticklabels()] == [
        "5", "10", "20", "30", "50", "100"
    ]  # fmt: skip
    assert len(top.texts) == len(RNN_LENGTHS)
    assert len(bottom.containers) == len(labels)
    ends = [line.lines[0].get_ydata() for line in bottom.containers]
    assert all(np.allclose(y, 0.82) for y in ends)


def test_who_solves_it_is_drawn_for_both_optimisers(drawn):
    solved, scatter = drawn["limits"].axes[2:4]
    labels = [label.get_text() for label in solved.get_yticklabels()]
    assert labels[::4] == ["original (10)", "bistable (10)", "Adam, both (10)"]
    assert len(labels) == len(solved.patches) == 9
    assert len(scatter.lines) == 5 + 1  # the nets whose gradients are measured, and chance


def test_the_nets_of_figure_7_differ_in_their_settings_alone():
    configs = [flags_of(experiment.flags) for experiment in RNN_LENGTHS]
    for flag in ("train_steps", "batch_size", "num_hidden", "schedule", "eval_freq"):
        assert len({config[flag] for config in configs}) == 1, flag
    assert configs[0]["train_steps"] == MANY
    assert {len(experiment.seeds) for experiment in RNN_LENGTHS} == {5}


def test_the_text_of_figure_7_names_the_longest_length_of_each_net():
    longest = dict(zip(SETTINGS, (0, 10, 100, 50, 5), strict=True))
    groups = []
    for experiment in RNN_LENGTHS:
        T = flags_of(experiment.flags)["input_length"]
        solved = 6 if longest[experiment.label] >= T else 5  # of ten: 5 are not most
        groups.append(made_up_group(experiment, of_ten(0), of_ten(solved)))
        groups[-1].runs[0].result["parameters"] = 1234
    found = "; ".join(
        f"{net} ({settings}, 1,234 parameters): "
        f"{f'T = {longest[net]} (6 of 10, 0.31 to 0.83)' if longest[net] else 'none'}"
        for net, settings in SETTINGS.items()
    )
    text = lengths_text(groups)
    assert text.startswith(
        "Of the lengths tried, the longest T that most of 10 seeds solve (accuracy 0.99), how many "
        f"do, and their share's interval: {found}. The bistable"
    )
    assert text.endswith(
        "The bistable initialisation was designed by hand for this task (see figure limits)."
    )


def test_shares_are_drawn_after_few_and_all_steps(drawn):
    few, many = (axes.containers[0].lines[0].get_ydata() for axes in drawn["longer"].axes)
    assert set(few) == {0.3}
    assert set(many) == {0.7}


def test_figure_6_tells_how_far_its_curves_are_apart():
    first, rest = (made_up_group(each, [0.2, 0.3], [0.5, 0.7]) for each in FIVE_DIGITS)
    for group in (first, rest):
        for run in group.runs:
            run.history["train_accuracy"] = run.history["test_accuracy"].copy()
    rest.runs[0].history["train_accuracy"][-1] += 0.5  # of two seeds
    assert "their mean accuracies differ by 0.250 at most." in first_steps_text([first, rest])


def test_figure_6_tells_when_every_seed_has_solved_it():
    group = made_up_group(FIVE_DIGITS[0], of_ten(10), of_ten(10))
    rest = made_up_group(FIVE_DIGITS[1], of_ten(10), of_ten(10))
    step = "from step 15 on\nevery seed is at\n0.99 or above"
    assert step in [text.get_text() for text in first_steps([group, rest]).axes[0].texts]
    assert "from step 15 on all of them are at 0.99 or above" in first_steps_text([group, rest])
    for run in group.runs:
        run.history["test_accuracy"] = np.array([0.1, 1.0, 1.0, 1.0, 1.0])
        run.history["step"] = np.array([0, 5, 10, 20, 30])
    assert solved_by_all(group) == 5
    group.runs[3].history["test_accuracy"][2] = 0.98  # falls below it once more
    assert solved_by_all(group) == 20
    for run in group.runs:
        run.history["test_accuracy"] = np.ones(5)
    assert solved_by_all(group) == 0
    group = made_up_group(FIVE_DIGITS[0], of_ten(9), of_ten(9, failed=0.5))
    assert not first_steps([group, rest]).axes[0].texts
    text = first_steps_text([group, rest])
    assert "lowest test accuracy of 10 seeds is 0.5000; not all of them reach 0.99" in text


# --- The measure of palindromes -------------------------------------------------------------------


@pytest.mark.parametrize(("length", "n"), [(1, 10), (2, 100), (3, 100), (5, 1000), (6, 10_000)])
def test_all_palindromes_are_there_once(length, n):
    x, y = all_palindromes(length)
    assert len(x) == len(x.unique(dim=0)) == n
    whole = torch.cat([x, y[:, None]], 1)
    assert torch.equal(whole, whole.flip(1))


def test_palindromes_in_the_first_batches_are_counted():
    batches = PalindromeBatches(3, 7, 5)
    held: set[tuple[int, ...]] = set()
    for i, (x, _) in enumerate(batches.epoch(0)):
        assert n_distinct(batches, i) == len(held)
        held |= set(map(tuple, x.tolist()))
        if i == 20:
            break
    few = PalindromeBatches(2, 1, 0)  # of 100, over the end of an epoch
    assert n_distinct(few, 1500) == 100


def test_palindromes_of_a_trained_net(run_main, tmp_path, few_evaluated):
    flags = ("--input_length", 3, "--train_steps", 30, "--seed", 4, "--batch_size", 3)
    run = short_run(run_main, tmp_path / "run", *flags)
    assert MEASURES["palindromes.csv"] is measure_palindromes
    (tmp_path / "palindromes.csv").write_text(measure_palindromes(run, data_dir=None))
    initial, kept = read_measure(tmp_path, "palindromes.csv")
    assert initial["step"] == initial["seen"] == 0
    assert kept["step"] == run.result["best_step"] == 30
    assert initial["palindromes"] == kept["palindromes"] == 100
    seen = [n_distinct(PalindromeBatches(3, 3, seed), 30) for seed in (4, 0)]
    assert kept["seen"] == seen[0] != seen[1]
    x, y = all_palindromes(3)
    trained = initial_net(run.config)
    load_best(trained, run)
    for row, net in ((initial, initial_net(run.config)), (kept, trained)):
        assert row["wrong"] == sum(
            int(net(x[i : i + 1]).argmax()) != int(y[i]) for i in range(len(x))
        )
    assert initial["wrong"] != kept["wrong"]


def test_palindromes_are_measured_with_the_kept_weights(run_main, tmp_path, few_evaluated):
    flags = ("--input_length", 1, "--train_steps", 20, "--seed", 1)
    run = short_run(run_main, tmp_path / "run", *flags)
    net = initial_net(run.config)
    with torch.no_grad():
        net.W_xh.zero_()
        net.W_hy.zero_()
        net.b_y.copy_(torch.eye(10)[7])  # says 7 to all
    save_checkpoint(run.checkpoint, {"best": net.state_dict()})
    assert measure_palindromes(run).splitlines()[-1].endswith(",10,10,9")


@pytest.mark.parametrize("text", ["", "step,palindromes\n1,2\n", "step,palindromes,seen,wrong\n"])
def test_broken_palindromes_are_named(text, tmp_path):
    with pytest.raises(UsageError, match=r"palindromes\.csv"):
        read_measure(tmp_path, "palindromes.csv")
    (tmp_path / "palindromes.csv").write_text(text)
    with pytest.raises(UsageError, match=r"palindromes\.csv"):
        read_measure(tmp_path, "palindromes.csv")
