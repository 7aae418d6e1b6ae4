"""`plot.py --animate`: the replay of a run on a toy set, and the GIF that is drawn from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from data import load_dataset
from part1_mlp import plot, train
from part1_mlp.mlp_numpy import MLP
from part1_mlp.replay import difference, replay
from training.flags import read_own_run
from training.plotting import style
from training.runs import load_checkpoint

SHORT = ("--n_samples", 200, "--max_epochs", 4, "--eval_freq", 2)  # evaluations at 0, 2, ..., 16
RANDOM = ("--dropout", 0.2, "--batch_norm", "on", "--mixup", 0.2, "--average_decay", 0.5)
NETS = {"numpy": ("--model", "numpy"), "pytorch": ("--model", "pytorch", *RANDOM)}


@pytest.fixture
def trained(run_main, tmp_path):
    """Train in a folder of that name, with these flags; returns the folder."""

    def run(name: str, *flags: object) -> Path:
        given = (*SHORT, "--seed", 3, *flags, "--run_dir", tmp_path / name)
        run_main(train.main, "train.py", *given)
        return tmp_path / name

    return run


@pytest.fixture
def animated(run_main):
    """Call plot.py with --animate, which must succeed; returns its lines on stderr."""

    def run(*flags: object) -> list[str]:
        code, out, err = run_main(plot.main, "plot.py", *flags, "--animate")
        assert code == 0, err
        for gif in (line for line in out.splitlines() if line.endswith(".gif")):
            assert Path(gif).is_file()
        return err.splitlines()

    return run


def read_gif(path: Path) -> tuple[np.ndarray, list[int]]:
    """The frames (N, height, width, 3) and the milliseconds for which each is shown."""
    with Image.open(path) as gif:
        frames = [
            (np.array(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(gif)
        ]
    return np.stack([image for image, _ in frames]).astype(int), [ms for _, ms in frames]


def change(folder: Path, **values: object) -> None:
    """Set values in a run's config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(
        json.dumps({k: v for k, v in config.items() if v is not None or k not in values})
    )


def blueness(image: np.ndarray) -> float:
    return float((image[..., 2] - image[..., 0]).mean())


def test_the_default_run(run_main, animated, tmp_path, monkeypatch):
    run_main(train.main, "train.py", "--run_dir", tmp_path / "run")
    drawn = []

    def draw_frames(run, history, grid, probabilities):
        drawn.extend(probabilities)
        return plot_draw_frames(run, history, grid, probabilities)

    plot_draw_frames = plot.draw_frames
    monkeypatch.setattr(plot, "draw_frames", draw_frames)
    assert animated(tmp_path / "run") == []
    path = tmp_path / "run" / "boundary.gif"
    assert path.stat().st_size < 1_000_000
    frames, milliseconds = read_gif(path)
    assert 30 <= len(frames) == len(drawn) <= 60
    steps = read_own_run(tmp_path / "run", train).history["step"]
    assert drawn[:8] == list(steps[:8]), "early evaluations are all there"
    assert drawn[-1] == steps[-1]
    assert set(drawn) <= set(steps)
    assert sum(step <= steps[-1] / 10 for step in drawn) > len(drawn) / 3, "a logarithmic scale"
    assert milliseconds[-1] > 10 * milliseconds[0]
    assert len(set(milliseconds[:-1])) == 1
    below_the_panels = frames[:, -40:]
    assert below_the_panels.std() > 0
    assert (below_the_panels == below_the_panels[0]).all(), "the limits are the same"
    assert (np.diff(frames, axis=0) != 0).any((1, 2, 3)).all(), "no frame is drawn twice"


def last_net(run, model: str):
    """The net after the last step, as it is evaluated; from the checkpoint."""
    state = load_checkpoint(run.checkpoint)["model"]
    if model == "numpy":
        net = MLP.from_config(run.config, 2, 2)
        net.load_state_dict(state["net"])
        return net
    from part1_mlp.mlp_pytorch import MLP as TorchMLP

    net = TorchMLP.from_config(run.config, 2, 2)
    prefix = "module."
    average = {k.removeprefix(prefix): v for k, v in state["average"].items() if prefix in k}
    net.load_state_dict(average)
    return net.eval()


@pytest.mark.parametrize("model", NETS)
def test_a_replay_predicts_as_the_net_did(model, trained):
    """At the best evaluation and at the last, by the weights in the checkpoint."""
    folder = trained("run", *NETS[model], "--learning_rate", 1, "--noise", 1, "--max_epochs", 30)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    run = read_own_run(folder, train)
    steps, best = run.history["step"], run.result["best_step"]
    assert 0 < best < steps[-1]
    points = load_dataset("moons", seed=3).x_test
    predictions = {}

    def predict(net):
        return plot.probability_by(net, points)

    history, predictions = replay(run, {0, best}, predict)
    assert difference(run, history) == ""
    assert list(predictions) == [0, best, steps[-1]]
    expected = {
        best: plot.predict_probability(run, points),
        steps[-1]: predict(last_net(run, model)),
    }
    for step, probability in expected.items():
        np.testing.assert_allclose(predictions[step], probability, atol=1e-6)
    assert np.abs(expected[best] - expected[steps[-1]]).max() > 1e-3
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_frame_shows_its_own_step(trained):
    run = read_own_run(trained("run"), train)
    grid = plot.make_grid(load_dataset("moons", seed=3, n_samples=200).x_test, 50)
    steps = [int(step) for step in run.history["step"]]
    fields = {step: np.full((50, 50), 0.05 if i % 2 else 0.95) for i, step in enumerate(steps)}
    with style():
        frames = [image.astype(int) for image in plot.draw_frames(run, run.history, grid, fields)]
    for i, image in enumerate(frames):
        is_blue = blueness(image[40:230, 100:360]) > 0
        assert is_blue == bool(i % 2), "0 is blue, 1 is orange, and nothing is left of the last"
    inked = [(image[:200, 510:] < 180).any(-1).sum() for image in frames]
    assert (np.diff(inked) > 0).all(), "the curves grow"


def test_both_panels_of_a_frame_have_a_legend(trained, monkeypatch):
    run = read_own_run(trained("run"), train)
    with_legend, legend = [], plot.Axes.legend

    def recorded(axes: plot.Axes, *args: object, **options: object) -> object:
        with_legend.append(axes)
        return legend(axes, *args, **options)

    monkeypatch.setattr(plot.Axes, "legend", recorded)
    grid = plot.make_grid(plot.toy_set(run).x_test, 20)
    with style():
        list(plot.draw_frames(run, run.history, grid, {0: np.full((20, 20), 0.4)}))
    assert len(set(with_legend)) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries among themselves
@pytest.mark.filterwarnings("error")
def test_the_decision_boundary_is_drawn_where_there_is_one(trained):
    run = read_own_run(trained("run"), train)
    grid = plot.make_grid(load_dataset("moons", seed=3, n_samples=200).x_test, 50)
    half = np.tile(np.linspace(0.41, 0.59, 50), (50, 1))  # white on both sides of the boundary
    fields = {0: np.full((50, 50), 0.45), 2: half, 4: np.full((50, 50), np.nan)}
    with style():
        without, boundary, undefined = plot.draw_frames(run, run.history, grid, fields)
    black = [
        (image[40:200, 100:330] < 60).all(-1).sum() for image in (without, boundary, undefined)
    ]
    assert black[1] > 150 > 10 > max(black[0], black[2])


def test_without_the_flag_there_is_no_animation(run_main, trained):
    folder = trained("run")
    assert run_main(plot.main, "plot.py", folder)[0] == 0
    assert (folder / "boundary.png").exists()
    assert not list(folder.glob("*.gif"))


def test_cifar10_is_refused_before_anything_is_drawn(run_main, trained, tiny_cifar10, tmp_path):
    flags = ("--dataset", "cifar10", "--data_dir", tiny_cifar10, "--n_samples", 20)
    images = trained("images", *flags, "--batch_size", "full")
    for runs in ([images], [trained("toy"), images]):
        code, out, err = run_main(
            plot.main, "plot.py", *runs, "--animate", "--out", tmp_path / "out"
        )
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "--animate" in err
        assert str(images) in err
        assert not (tmp_path / "out").exists()


def test_a_run_without_weights_of_an_earlier_version(trained, animated, tmp_path):
    folder, out = trained("run", "--model", "pytorch"), tmp_path / "new" / "out"
    (folder / "checkpoint.pt").unlink()
    change(folder, device="auto", validation=None, script=None, environment=None)
    before = sorted(folder.iterdir())
    assert animated(folder, "--out", out) == ["no boundary.png: no run has kept its weights"]
    assert len(read_gif(out / "boundary.gif")[0]) == 9
    assert sorted(folder.iterdir()) == before


def test_a_device_that_this_machine_lacks(trained):
    folder = trained("run", "--model", "pytorch", "--device", "cpu")
    change(folder, device="cuda:99")
    assert replay(read_own_run(folder, train), {0}, lambda net: None)[1].keys() == {0, 16}


def test_each_of_several_runs_has_its_animation(trained, animated, tmp_path):
    few = ("--eval_freq", 16)  # frames
    runs = [trained("a/run", *few), trained("b/run", "--dataset", "circles", *few)]
    assert animated(*runs) == []
    own = [(run / "boundary.gif").read_bytes() for run in runs]
    assert own[0] != own[1]
    assert animated(*runs, "--out", tmp_path / "out") == []
    gifs = sorted((tmp_path / "out").glob("*.gif"))
    assert [gif.read_bytes() for gif in gifs] == own


def test_a_replay_that_differs_is_reported_and_drawn(trained, animated):
    folder = trained("run")
    change(folder, learning_rate=0.2)
    (line,) = animated(folder)
    assert str(folder / "boundary.gif") in line
    assert "differs" in line
    assert "from step 2 on" in line
    recorded = read_own_run(folder, train).history["val_loss"][-1]
    assert line.endswith(f"{recorded:.4g}")
    assert len(read_gif(folder / "boundary.gif")[0]) == 9


def test_what_a_difference_is(trained):
    run = read_own_run(trained("run"), train)

    def changed(column: str, factor: float) -> dict[str, np.ndarray]:
        values = run.history[column].copy()
        values[3] *= factor
        return run.history | {column: values}

    assert difference(run, run.history) == ""
    for column in ("step", "train_loss", "val_loss", "test_loss"):
        assert difference(run, changed(column, 1 + 1e-7)) == ""
        assert "from step 6 on" in difference(run, changed(column, 1 + 1e-5))
    assert difference(run, changed("seconds", 2)) == ""
    shorter = {name: values[:-1] for name, values in run.history.items()}
    assert "from step 16 on" in difference(run, shorter)


def test_a_replay_that_ends_elsewhere_shows_its_own_end(trained):
    folder = trained("run")
    lines = (folder / "history.csv").read_text().splitlines(keepends=True)
    (folder / "history.csv").write_text("".join(lines[:4]))  # as if it had ended at step 4
    run = read_own_run(folder, train)
    history, predictions = replay(run, {0, 4}, lambda net: None)
    assert list(predictions) == [0, 4, 16]
    assert "from step 6 on" in difference(run, history)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the training itself
def test_a_run_that_diverged(trained, animated):
    folder = trained("run", "--learning_rate", 1e6)
    assert read_own_run(folder, train).result["stopped_by"] == "diverged"
    assert animated(folder) == []
    frames, _ = read_gif(folder / "boundary.gif")
    assert len(frames) == len(read_own_run(folder, train).history["step"])


def test_the_samples_drawn_are_those_of_the_run(trained):
    drawn = {"factor": 0.8, "noise": 0.05}
    flags = [word for name, value in drawn.items() for word in (f"--{name}", value)]
    run = read_own_run(trained("run", "--dataset", "circles", *flags), train)
    axes = plot.draw_boundaries([run]).axes[0]
    dataset = load_dataset("circles", seed=3, n_samples=200, **drawn)
    for label, points in enumerate(axes.collections[-2:]):
        expected = dataset.x_test[dataset.y_test == label]
        np.testing.assert_array_equal(points.get_offsets(), expected)


def test_a_committed_record_can_be_replayed():
    """Up to what other library versions change."""
    group = Path(__file__).resolve().parents[1] / "figures/records/mlp_numpy_moons_original"
    run = read_own_run(min(group.iterdir()), train)
    history, predictions = replay(run, {0}, lambda net: None)
    assert list(predictions) == [0, run.result["steps"]]
    np.testing.assert_allclose(history["val_loss"], run.history["val_loss"], rtol=0.05)
