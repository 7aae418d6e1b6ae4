"""Figures 1 to 3, claims C1 and C2: made-up records turn every verdict, and the text follows."""

import copy
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ive
from scipy.stats import rice

from data import load_dataset
from data.toy import bayes_accuracy
from figures import toy, toy_claims
from figures.effects import CONDITIONAL, CONTRADICTED, INCONCLUSIVE, SUPPORTED, Claim
from figures.experiments import (
    CIRCLES_NOISE,
    DESCENT,
    EXPERIMENTS,
    NARROW_NOISE,
    THIRTY,
    TOY,
    Group,
)
from figures.report import claim_text
from part1_mlp import train
from tests.figure_text import legend_of
from training.plotting import Figure, style
from training.runs import RunRecord, read_run

SHARES = (0.85, 0.90, 0.95, 0.99)
STEPS = np.arange(0, 2020, 20.0)
SEEDS = np.array([0, 20, 40, 60, 80, 0])  # by which the steps of seeds differ
NOISES = {"matched": (CIRCLES_NOISE, None), "narrow": (NARROW_NOISE, 0.8)}


def run(reached: tuple[int, ...], accuracy: float, config: dict, loss: float = 0.1) -> RunRecord:
    """A made-up run that reaches 85, 90, 95 and 99 % of its final validation accuracy then."""
    assert list(reached) == sorted(reached)
    final = 0.9
    val_accuracy = np.full(len(STEPS), 0.5)
    for share, step in zip(SHARES, reached, strict=True):
        val_accuracy[step <= STEPS] = share * final
    val_accuracy[-1] = final
    flat = ("train_loss", "val_loss", "test_loss", "train_accuracy", "test_accuracy")
    history = {name: np.full(len(STEPS), loss) for name in flat}
    history |= {"step": STEPS, "epoch": STEPS / 100, "val_accuracy": val_accuracy}
    return RunRecord(Path(), config, history, {"test_accuracy": accuracy})


def group(
    name: str, reached: tuple[int, ...], accuracy: float = 0.95, *, spread=SEEDS, loss: float = 0.1
) -> Group:
    """A made-up group of six seeds, whose steps differ by `spread`."""
    _, _, dataset, kind = name.split("_")
    noise, factor = NOISES.get(kind, (None, None))
    config = {"dataset": dataset, "noise": noise, "factor": factor}
    luck = np.array([-0.001, 0.0, 0.001, 0.001, 0.0, -0.001])  # of a seed's test points
    runs = [
        run(tuple(step + int(more) for step in reached), accuracy + less, config, loss)
        for more, less in zip(spread, luck, strict=True)
    ]
    return Group(EXPERIMENTS[name], runs)


# --- Claim C1 -------------------------------------------------------------------------------------

NUMPY = (300, 400, 500, 600)  # steps to each share


def for_c1(torch: tuple[int, ...], accuracy: float = 0.95, equal_later: int = 0) -> dict:
    """Records of NumPy's MLP, PyTorch's with these steps, and PyTorch's with NumPy's weights."""
    records = {}
    for dataset in ("circles", "moons"):
        names = [net.format(dataset) for net in toy.NETS]
        later = tuple(step + equal_later for step in NUMPY)
        groups = (
            group(names[0], NUMPY),
            group(names[1], torch, accuracy, spread=SEEDS[::-1]),
            group(names[2], later, loss=0.1003),
        )
        records |= dict(zip(names, groups, strict=True))
    return records


def check_numbers(claim: Claim) -> None:
    """Every effect's sentence is part of the claim, and no placeholder is left."""
    assert all(str(effect) in claim_text(claim) for effect in claim.effects)
    for text in (claim.text, claim.design, claim.meaning):
        assert text[0].isupper()
        assert text.endswith(".")
        assert not {"  ", " .", " ,", "nan", "None"} & {text[i : i + 2] for i in range(len(text))}


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
@pytest.mark.parametrize(
    ("torch", "accuracy", "verdict", "says"),
    [
        ((100, 100, 200, 300), 0.95, SUPPORTED, "needs fewer steps to every threshold; the test"),
        ((900, 1000, 1100, 1200), 0.95, CONTRADICTED, "the NumPy MLP needs fewer steps to 90 %"),
        ((300, 400, 500, 1200), 0.95, CONTRADICTED, "needs fewer steps to 99 % (circles and "),
        ((100, 100, 500, 1200), 0.95, CONDITIONAL,
         "PyTorch's MLP needs fewer steps to 90 % (circles and moons); the NumPy MLP needs fewer "
         "steps to 99 % (circles and moons); the test"),
        ((300, 400, 500, 600), 0.95, INCONCLUSIVE, "No difference in steps is significant; "),
        ((200, 200, 500, 600), 0.95, INCONCLUSIVE, "steps to 90 % (circles and moons); no "),
        ((100, 100, 200, 300), 0.94, INCONCLUSIVE, "; equal test accuracies, within 0.005, are "
         "not shown."),
    ],
)  # fmt: skip
def test_c1_follows_from_steps_and_from_equal_accuracies(torch, accuracy, verdict, says):
    claim = toy_claims.same_nets(for_c1(torch, accuracy))
    assert claim.verdict == verdict
    assert says in claim.meaning
    assert ("to every threshold" in claim.meaning) == (torch == (100, 100, 200, 300))
    both = "are equivalent within 0.005 on circles (p < 0.0001) and moons (p < 0.0001)."
    assert (both in claim.meaning) == (accuracy == 0.95)
    assert (
        "To no threshold does PyTorch's MLP need significantly fewer steps" in claim.meaning
    ) == (verdict == CONTRADICTED)
    assert ("the initialisation does" in claim.meaning) == (torch != NUMPY)
    mean, measured = np.mean(SEEDS), "; ".join(map(str, claim.effects))
    for effect, at in zip(claim.effects, (1, 2, 3) * 2, strict=False):
        assert effect.values == pytest.approx((NUMPY[at] + mean, torch[at] + mean))
    assert f"99 % (moons): NumPy {600 + mean:.1f}, PyTorch {torch[3] + mean:,.1f}" in measured
    assert f"(moons): NumPy 0.9500, PyTorch {accuracy:.4f}: difference" in measured
    assert "6 seeds on circles" in claim.design
    check_numbers(claim)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
def test_c1_is_equivalent_on_one_set_alone():
    records = for_c1((100, 100, 200, 300))
    records["mlp_pytorch_moons_original"] = group("mlp_pytorch_moons_original", (20,) * 4, 0.9)
    claim = toy_claims.same_nets(records)
    assert claim.verdict == INCONCLUSIVE
    one = "are equivalent within 0.005 on circles (p < 0.0001), on moons this is not shown."
    assert one in claim.meaning


def test_c1_pairs_seeds_and_corrects_for_all_differences_in_steps():
    """Seeds that differ a lot have the same small difference, which pairs alone can show."""
    wide, few = np.array([0, 200, 400, 600, 800, 1000]), np.array([0, 0, 0, 0, 20, 20])
    records = for_c1(NUMPY)
    for name in ("mlp_numpy_circles_original", "mlp_pytorch_circles_equal"):
        records[name] = group(name, NUMPY, spread=wide)
    later = group("mlp_pytorch_circles_original", NUMPY, spread=wide + 100 + few)
    claim = toy_claims.same_nets(records | {"mlp_pytorch_circles_original": later})
    assert [effect.sign for effect in claim.effects] == [-1] * 3 + [0] * 5
    # A difference of 40 [7, 73] alone: p is 0.025, and 0.05 or more after a correction.
    uneven = wide + np.array([20, 20, 20, 40, 40, 100])
    later = group("mlp_pytorch_circles_original", (300, 400, 500, 600), spread=uneven)
    claim = toy_claims.same_nets(records | {"mlp_pytorch_circles_original": later})
    assert claim.effects[0].high < 0
    assert {effect.sign for effect in claim.effects} == {0}


@pytest.mark.parametrize(("later", "same"), [(0, True), (20, True), (40, False)])
def test_c1_tells_how_far_equal_nets_are_apart(later, same):
    """The library makes no difference if equal nets are one evaluation apart at most."""
    claim = toy_claims.same_nets(for_c1((100, 100, 200, 300), equal_later=later))
    apart = "3.0 \N{MULTIPLICATION SIGN} 10⁻⁴"
    assert f"by {later} steps and {apart} in validation loss at most" in claim.meaning
    assert ("the library makes no difference" in claim.meaning) == same
    assert ("the initialisation is not all" in claim.meaning) == (not same)


# --- Claim C2 -------------------------------------------------------------------------------------

MOONS = (200, 600, 1000)  # steps to 85, 95 and 99 %


def for_c2(half: tuple, narrow: tuple, torch_half: tuple | None = None) -> dict:
    """Moons, and circles of both factors: steps to 85, 95 and 99 %, and test accuracies."""
    records = {}
    for model in ("numpy", "pytorch"):
        records[f"mlp_{model}_moons_original"] = group(
            f"mlp_{model}_moons_original", (MOONS[0], *MOONS)
        )
        own = torch_half if model == "pytorch" and torch_half else half
        for kind, (low, middle, high, accuracy) in (("matched", own), ("narrow", narrow)):
            name = f"mlp_{model}_circles_{kind}"
            records[name] = group(name, (low, low, middle, high), accuracy)
    return records


SAME = (*MOONS, 0.95)
ALL_HARDER, ALL_EASIER = (400, 900, 1300, 0.90), (40, 300, 500, 0.97)
LATER_EASIER = (400, 600, 800, 0.95)
REASON = "A likely reason"


@pytest.mark.parametrize(
    ("half", "narrow", "verdict", "says"),
    [
        (ALL_HARDER, ALL_HARDER, SUPPORTED,
         "Circles are harder by every measure and with both factors."),
        (ALL_EASIER, ALL_EASIER, CONTRADICTED,
         "Circles are significantly harder by no measure; moons are by steps to 85 % (factor 0.5 "
         "and factor 0.8), steps to 95 % (factor 0.5 and factor 0.8), steps to 99 %"),
        (SAME, (200, 600, 700, 0.95), CONTRADICTED,
         "significantly harder by no measure; moons are by steps to 99 % (factor 0.8)."),
        (LATER_EASIER, LATER_EASIER, CONDITIONAL,
         "Circles are harder by steps to 85 % (factor 0.5 and factor 0.8); moons are harder by "
         "steps to 99 % (factor 0.5 and factor 0.8). Which set is harder depends on the measure. "
         f"{REASON}"),
        (ALL_HARDER, ALL_EASIER, CONDITIONAL, "Which set is harder depends on the factor."),
        (LATER_EASIER, ALL_HARDER, CONDITIONAL,
         f"Which set is harder depends on the measure and the factor. {REASON}"),
        (SAME, SAME, INCONCLUSIVE, "No difference is significant."),
        # A difference of 60 [18, 102] alone: p is 0.01, and 0.08 after a correction for eight.
        ((260, 600, 1000, 0.95), SAME, INCONCLUSIVE, "No difference is significant."),
        (SAME, (*MOONS, 0.90), INCONCLUSIVE,
         "Circles are harder by gap to the Bayes accuracy (factor 0.8); no other difference"),
    ],
)  # fmt: skip
def test_c2_names_what_disagrees(half, narrow, verdict, says):
    claim = toy_claims.circles_harder(for_c2(half, narrow))
    assert claim.verdict == verdict
    assert says in claim.meaning
    assert ("depends on" in claim.meaning) == (verdict == CONDITIONAL)
    assert ("by every measure" in claim.meaning) == (verdict == SUPPORTED)
    assert (REASON in claim.meaning) == (LATER_EASIER in (half, narrow))
    assert (
        "In no measure do the two nets differ significantly in opposite directions."
        in claim.meaning
    )
    for effects, steps in ((claim.effects[:4], half), (claim.effects[4:], narrow)):
        for effect, step, moons in zip(effects[:3], steps[:3], MOONS, strict=True):
            assert effect.values == pytest.approx((step + np.mean(SEEDS), moons + np.mean(SEEDS)))
        gap = bayes_accuracy("moons", 0.2) - 0.95
        assert effects[3].difference == pytest.approx(0.95 - steps[3], abs=1e-4)
        assert effects[3].values[1] == pytest.approx(gap)
        assert f"moons {gap:.4f}: difference" in str(effects[3])
    assert f"noise {CIRCLES_NOISE} (0.9710)" in claim.design
    assert f"noise {NARROW_NOISE} (0.9710)" in claim.design
    check_numbers(claim)


def test_c2_tells_where_the_two_nets_contradict_each_other():
    claim = toy_claims.circles_harder(for_c2(ALL_HARDER, SAME, torch_half=ALL_EASIER))
    opposite = [effect.what for effect in claim.effects[:4]]
    assert f"of opposite sign in {opposite[0]}, {opposite[1]}, {opposite[2]} and" in claim.meaning
    assert "is reversed" not in claim.meaning


def test_c2_counts_a_seed_once():
    """Two nets of each of six seeds give intervals for six values."""
    effect = toy_claims.circles_harder(for_c2(LATER_EASIER, SAME)).effects[0]
    error = np.sqrt(2 * SEEDS.var(ddof=1) / len(SEEDS))
    assert effect.high - effect.difference == pytest.approx(2.228 * error, rel=1e-3)  # t, 10 df


# --- What is measured -----------------------------------------------------------------------------


def test_steps_are_counted_to_a_share_of_the_final_accuracy():
    history = {"step": np.arange(5) * 20.0, "val_accuracy": np.array([0.2, 0.84, 0.96, 0.99, 0.9])}
    record = RunRecord(Path(), {}, history, {})
    assert [toy.steps_to_reach(record, share) for share in (0.93, 0.95, 1.0)] == [20, 40, 40]
    assert toy.steps_to_reach(record, 0.2) == 0


def test_circles_are_as_noisy_as_moons_where_they_are_compared():
    moons = bayes_accuracy("moons", 0.2)
    for kind, (noise, factor) in NOISES.items():
        circles = bayes_accuracy("circles", noise, factor=factor)
        assert circles == pytest.approx(moons, abs=0.0005)
        for model in ("numpy", "pytorch"):
            flags = EXPERIMENTS[f"mlp_{model}_circles_{kind}"].flags.split()
            args = train.parse(flags)
            assert (args.noise, args.factor, args.recipe) == (noise, factor, "original")
    assert {experiment.seeds for experiment in TOY} == {tuple(range(100, 130))}


@pytest.mark.parametrize(("noise", "factor"), [(0.1, 0.5), (CIRCLES_NOISE, 0.5), (0.0527, 0.8)])
def test_bayes_accuracy_of_circles_is_that_of_their_radii(noise, factor):
    """The distance from the centre has Rice's distribution; the classes are told apart by it."""

    def log_ratio(r: float) -> float:
        densities = [np.log(ive(0, r * R / noise**2)) + R * (r - R / 2) / noise**2
                     for R in (1, factor)]  # fmt: skip
        return densities[0] - densities[1]

    boundary = brentq(log_ratio, factor, 1)
    outer = rice.sf(boundary, 1 / noise, scale=noise)
    inner = rice.cdf(boundary, factor / noise, scale=noise)
    found = bayes_accuracy("circles", noise, factor=factor)
    assert found == pytest.approx((outer + inner) / 2, abs=2e-5)


def test_bayes_accuracy_of_a_run_is_that_of_its_noise_and_factor():
    config = {"dataset": "circles", "noise": None, "factor": None}
    assert toy.bayes_accuracy_of(config) == bayes_accuracy("circles", 0.1)
    config |= {"noise": 0.3, "factor": 0.8}
    assert toy.bayes_accuracy_of(config) == bayes_accuracy("circles", 0.3, factor=0.8)


# --- Figures --------------------------------------------------------------------------------------


def drawn(draw, groups) -> Figure:
    """The figure, laid out; no curve is cut off."""
    with style():
        figure = draw(groups)
        figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = np.sort(axes.get_ylim())
        for line in (each for each in axes.get_lines() if len(each.get_xdata()) > 2):
            assert (low <= line.get_ydata()).all(), axes.get_title()
            assert (line.get_ydata() <= high).all(), axes.get_title()
    return figure


def test_figure_1_shows_every_training_point_of_the_first_seed():
    for axes, name in zip(drawn(toy.toy_sets, []).axes, ("circles", "moons"), strict=True):
        points = np.concatenate([scatter.get_offsets() for scatter in axes.collections])
        expected = load_dataset(name, seed=THIRTY[0]).x_train
        assert len(points) == 3000
        np.testing.assert_array_equal(np.sort(points, 0), np.sort(expected, 0))
        assert "3,000 points" in axes.get_title()
        assert legend_of(axes) == list(load_dataset(name).class_names)
    assert "0.9936 on circles and 0.9710 on moons" in toy.toy_sets_discussion([])


def toy_pair(dataset: str = "moons") -> list[Group]:
    """NumPy's MLP and PyTorch's, with flat curves at 0.1 and at 0.2."""
    nets = ("numpy", NUMPY, 0.1), ("pytorch", (100, 200, 300, 400), 0.2)
    return [group(f"mlp_{net}_{dataset}_original", steps, loss=loss) for net, steps, loss in nets]


def test_figures_2_and_3_show_both_nets_in_each_panel():
    figure = drawn(toy.toy_curves, toy_pair())
    for i, axes in enumerate(figure.axes):
        own, other = ("NumPy", "PyTorch")[:: 1 if i % 2 == 0 else -1]
        assert sorted(legend_of(axes)) == sorted(
            [f"{own}, train", f"{own}, test", f"{other}, test"]
        )
        assert axes.get_xscale() == "log"
        lines = [line for line in axes.get_lines() if len(line.get_xdata()) == len(STEPS) - 1]
        assert len({line.get_linestyle() for line in lines}) == 3
        assert all((line.get_xdata() > 0).all() for line in lines)
        levels = {line.get_label().partition(",")[0]: line.get_ydata()[0] for line in lines}
        assert levels == {"NumPy": pytest.approx(0.1), "PyTorch": pytest.approx(0.2)}
    assert any("Bayes accuracy 0.971" in text.get_text() for text in figure.axes[0].texts)
    text = toy.toy_curves_discussion(toy_pair())
    assert (
        f"0.9500 and reaches 95 % of its final validation accuracy after {500 + 100 / 3:.0f}"
        in text
    )
    assert "(means of 6 seeds)" in text
    assert "The Bayes accuracy is 0.9710." in text
    above = [group("mlp_numpy_moons_original", NUMPY, 0.975), *toy_pair()[1:]]
    assert "a seed can be above it" in toy.toy_curves_discussion(above)


def test_the_figure_of_c1_has_a_mark_for_each_seed_and_mean():
    records = for_c1((100, 100, 200, 300))
    groups = [records[net.format(dataset)] for dataset in toy.SETS for net in toy.NETS]
    figure = drawn(toy.convergence, groups)
    for axes, nets in zip(figure.axes, (groups[:3], groups[3:]), strict=True):
        marks = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 6]
        expected = [[toy.steps_to_reach(run, share) for run in net.runs]
                    for net in nets for share in (0.9, 0.95, 0.99)]  # fmt: skip
        np.testing.assert_array_equal(marks, expected)
        means = [bars.lines[0].get_xdata().item() for bars in axes.containers]
        np.testing.assert_allclose(means, np.mean(expected, 1))
        (bars,) = axes.containers[0].lines[2]
        (low, _), (high, _) = bars.get_segments()[0]
        # Student's t at 0.975 with 5 degrees of freedom is 2.571.
        assert (high - low) / 2 == pytest.approx(2.571 * SEEDS.std(ddof=1) / 6**0.5, rel=1e-3)
    assert legend_of(figure) == ["NumPy", "PyTorch", "PyTorch, NumPy's weights"]


def test_the_figure_of_c2_has_a_line_for_each_set():
    records = for_c2(ALL_HARDER, SAME)
    kinds = ("moons_original", "circles_matched", "circles_narrow")
    groups = [records[f"mlp_{model}_{kind}"] for model in ("numpy", "pytorch") for kind in kinds]
    for axes, nets in zip(
        drawn(toy.difficulty, groups).axes, (groups[:3], groups[3:]), strict=True
    ):
        assert legend_of(axes) == ["moons", "circles, factor 0.5", "circles, factor 0.8"]
        lines = [line for line in axes.get_lines() if len(line.get_xdata()) == len(STEPS) - 1]
        assert len({line.get_linestyle() for line in lines}) == 3
        for line, net in zip(lines, nets, strict=True):
            mean = np.mean([run.history["val_accuracy"][1:] for run in net.runs], 0)
            np.testing.assert_allclose(line.get_ydata(), mean)


@pytest.fixture(scope="module")
def descents(tmp_path_factory) -> list[Group]:
    """Short runs of gradient descent by batch size."""
    groups = []
    for experiment in DESCENT:
        folder = tmp_path_factory.mktemp(experiment.group)
        short = (
            f"{experiment.flags} --max_epochs 12 --n_samples 100 --eval_freq 1 --run_dir {folder}"
        )
        train.run_training(train.parse(short.split()), train.SCRIPT, train.run_name, train.build)
        groups.append(Group(experiment, [read_run(folder)]))
    return groups


def test_boundaries_are_drawn_after_the_same_epochs(descents):
    figure = drawn(toy.gradient_descent, descents)
    titles = [axes.get_title() for axes in figure.axes[3:]]
    for title, net, steps in zip(titles, descents, (600, 20, 10), strict=True):
        accuracy = net.runs[0].history["val_accuracy"][steps]
        assert f"10 epochs:\n{steps} steps, accuracy {accuracy:.3f}" in title
    assert figure.axes[1].get_title() == "NumPy MLP on moons, 1 seed"
    assert legend_of(figure) == ["single sample", "mini-batch of 32", "full batch"]
    for axes, x in zip(figure.axes, ("epoch", "step", "epoch"), strict=False):
        for line, net in zip(axes.get_lines(), descents, strict=False):
            np.testing.assert_array_equal(line.get_xdata(), net.runs[0].history[x][1:])


def test_gradient_descents_are_discussed_by_their_numbers(descents):
    descents = copy.deepcopy(descents)
    for i, (net, steps) in enumerate(zip(descents, (600, 20, 10), strict=True)):
        accuracy = net.runs[0].history["val_accuracy"]
        accuracy[steps], accuracy[-1] = 0.9 - 0.1 * i, 0.123
    text = toy.gradient_descent_discussion(descents)
    assert "learning rate (0.1)" in text
    for net, steps in zip(descents, (600, 20, 10), strict=True):
        accuracy = net.runs[0].history["val_accuracy"]
        assert f"{net.label} {accuracy[steps]:.3f} ({steps} steps)" in text
        assert f"{net.label} 0.123 after 12 epochs" in text
    assert "is ahead; at the end no longer: " in text
    losses = [net.runs[0].history["train_loss"] for net in descents]
    for loss, steps in zip(losses, (720, 24, 12), strict=True):
        loss[:] = 1 + 0.01 * (np.arange(len(loss)) % 2)  # in the last quarter of the steps
        loss[: steps * 3 // 4] = 9 * np.arange(steps * 3 // 4)
        loss[:] -= 0.2 * np.arange(len(loss))  # a trend is no noise
    losses[0][540:] += 0.1 * (np.arange(181) % 2)
    text = toy.gradient_descent_discussion(descents)
    assert "changes over 1 steps, apart from its trend, by 0.1, 0.01, 0.009 on average" in text
    assert "the smallest batch are the noisiest" in text
    for net in descents:
        net.runs[0].history["val_accuracy"][-1] = 0.8 - 0.1 * descents.index(net)
    assert "is ahead: single sample 0.800" in toy.gradient_descent_discussion(descents)
    reversed_ = toy.gradient_descent_discussion(descents[::-1])
    assert "a smaller batch is not always ahead" in reversed_
    assert "the smallest batch are not the noisiest" in reversed_
