"""Part 2: the CNN's layers, its convolution, learning, resumption, torchrun, predictions, plots."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from data import DataError
from data.batches import ImageBatches
from data.cifar10 import CLASS_NAMES
from data.pictures import open_picture, square_pixels
from data.pipeline import class_probabilities
from part2_cnn import model, plot, predict, train
from part2_cnn.model import CNN, layer_table
from part2_cnn.trained import load_net
from part2_cnn.winograd import Conv3x3, Winograd
from training import device, team
from training.checkpoint import load_checkpoint
from training.errors import UsageError
from training.muon import orthogonalised
from training.record import read_run
from training.script import ROOT
from training.torch_learner import TorchLearner, make_optimizer

SCRIPT = ROOT / "part2_cnn" / "train.py"
TINY = ("--cifar10_md5", "skip", "--image_sizes", 8, "--batch_size", 60, "--max_epochs", 2)


@pytest.fixture
def trained(run_main, tiny_cifar10, tmp_path) -> Path:
    """The folder of a short run on the made-up set."""
    folder = tmp_path / "trained"
    code, _, err = run_main(
        train.main, "train.py", "--data_dir", tiny_cifar10, *TINY, "--run_dir", folder
    )
    assert (code, err) == (0, "")
    return folder


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoint.pt")["best"]


# --- Architecture ---------------------------------------------------------------------------------


def test_the_layers_are_those_of_the_report():
    net = CNN(3, 10)
    kinds = [type(layer) for layer in (*net.features, *net.classifier)]
    block = [Conv3x3, nn.ReLU, Conv3x3, nn.ReLU, nn.MaxPool2d]
    hidden = [nn.Linear, nn.ReLU, nn.Dropout]
    assert kinds == [*block, *block, *block, nn.Flatten, *hidden, *hidden, nn.Linear]
    convolutions = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    channels = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert channels == [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    for layer in convolutions:
        assert (layer.kernel_size, layer.padding, layer.stride) == ((3, 3), (1, 1), (1, 1))
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == (2, 2, 0)
    linears = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in linears]
    assert sizes == [(4096, 1024), (1024, 1024), (1024, 10)]
    assert [layer.p for layer in net.classifier if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    assert sum(p.numel() for p in net.parameters()) == 6_400_586


def test_the_layer_table_counts_what_a_convolution_does():
    rows = layer_table(CNN(3, 10), (3, 32, 32))
    shapes = {name: shape for name, shape, _, _ in rows}
    assert shapes["conv 3x3, 256 -> 256, padding 1"] == "256 x 8 x 8"
    assert [row[1] for row in rows].count("256 x 4 x 4") == 1  # after the last pooling
    assert sum(row[2] for row in rows) == 6_400_586
    counted = {name: count for name, _, _, count in rows}
    assert counted["conv 3x3, 64 -> 128, padding 1"] == 16 * 16 * 128 * (64 * 3 * 3)
    assert counted["linear 4096 -> 1024"] == 4096 * 1024


def test_running_the_model_prints_the_table(capsys):
    model.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split() == ["total", "6,400,586", "158,017,536"]


@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 10, 32), (1, 7, 32), (3, 10, 20)])
def test_forward_gives_logits_for_any_size_and_number_of_classes(channels, classes, size):
    net = CNN(channels, classes)
    logits = net(torch.randn(2, channels, size, size))
    assert logits.shape == (2, classes)
    assert (logits < 0).any(), "logits, not probabilities"
    assert (logits.sum(1) - 1).abs().min() > 1e-3


def test_initialisation_keeps_the_scale_of_the_activations():
    torch.manual_seed(0)
    net = CNN(3, 10).eval()
    x = torch.randn(64, 3, 32, 32)
    for layer in net.features:
        x = layer(x)
        if isinstance(layer, Conv3x3):
            assert 0.5 < x.std() < 3, layer
    logits = net(torch.randn(64, 3, 32, 32))
    loss = F.cross_entropy(logits, torch.arange(64) % 10).item()
    assert loss == pytest.approx(np.log(10), abs=0.3)  # all classes about as likely


# --- Winograd's convolution -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 16, 32, 32, 24), (70, 16, 8, 8, 8), (2, 5, 7, 10, 3),
                                   (1, 1, 1, 3, 1)])  # fmt: skip
def test_winograd_and_its_gradients_equal_the_direct_convolution(shape):
    n, channels, height, width, filters = shape
    torch.manual_seed(0)
    inputs = [
        torch.randn(s)
        for s in ((n, channels, height, width), (filters, channels, 3, 3), (filters,))
    ]
    upstream = torch.randn(n, filters, height, width)
    ours = [value.clone().requires_grad_() for value in inputs]
    theirs = [value.double().requires_grad_() for value in inputs]
    y = Winograd.apply(*ours)
    expected = F.conv2d(*theirs, padding=1)
    gradients = torch.autograd.grad(y, ours, upstream)
    expected_gradients = torch.autograd.grad(expected, theirs, upstream.double())
    for got, wanted in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= 3e-5 * wanted.abs().max()


def test_winograd_is_used_where_it_pays_alone():
    images = torch.randn(1, 16, 8, 8, requires_grad=True)
    assert "Winograd" in Conv3x3(16, 4)(images).grad_fn.name()
    assert "Winograd" not in Conv3x3(16, 4, winograd=False)(images).grad_fn.name()
    assert "Winograd" not in Conv3x3(3, 4)(images[:, :3]).grad_fn.name()
    assert "Winograd" not in Conv3x3(16, 4).double()(images.double()).grad_fn.name()
    with torch.autocast("cpu", torch.bfloat16):
        assert "Winograd" not in Conv3x3(16, 4)(images).grad_fn.name()


# --- Learning -------------------------------------------------------------------------------------


def test_sixty_four_images_are_learnt_by_heart():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)
    labels = torch.randint(0, 10, (64,))
    net = CNN(3, 10)

    def prepare(pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float() / 64 - 2

    learner = TorchLearner(
        net,
        make_optimizer("adam", net.parameters(), learning_rate=3e-4),
        {"train": (images, labels)},
        prepare=prepare,
    )
    for _ in range(100):
        learner.train_step(prepare(images), labels)
        if learner.evaluate("train")[1] == 1.0:
            break
    assert learner.evaluate("train")[1] == 1.0


def test_a_run_learns_and_leaves_its_files(trained):
    run = read_run(trained)
    assert run.result["parameters"] == 6_400_586
    assert run.history["epoch"].tolist() == [0, 1, 2]
    assert run.config.items() >= {"dataset": "cifar10", "recipe": "report", "seed": 0}.items()
    assert np.isfinite(run.history["val_loss"]).all()


def test_images_grow_by_equal_shares_and_are_evaluated_at_their_size():
    images = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    batches = ImageBatches(
        images, torch.arange(20) % 10, (8,), 0, max_epochs=6, prepare=lambda x: x.float(),
        image_sizes=(8, 16, 32),
    )  # fmt: skip
    sizes = [next(batches.epoch(epoch))[0].shape[-1] for epoch in range(6)]
    assert sizes == [8, 8, 16, 16, 32, 32]
    phases = [batches.phase(batches.steps_in(epoch)) for epoch in range(6)]
    assert phases == sorted(phases)
    assert len(set(phases)) == 3


@pytest.mark.parametrize("recipe", ["report", "best"])
def test_resuming_changes_no_bit(recipe, run_main, tiny_cifar10, tmp_path, monkeypatch):
    flags = ("--data_dir", tiny_cifar10, "--recipe", recipe, *TINY, "--image_sizes", "8,16",
             "--checkpoint_seconds", 0, "--views", 1)  # fmt: skip
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "whole")
    steps = iter(range(100))
    step = TorchLearner.train_step

    def interrupted(self, *batch):
        step(self, *batch)
        if next(steps) == 3:  # in the second epoch, at the second image size
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TorchLearner, "train_step", interrupted)
    parts = (*flags, "--run_dir", tmp_path / "parts")
    assert run_main(train.main, "train.py", *parts)[0] == 143
    monkeypatch.setattr(TorchLearner, "train_step", step)
    assert run_main(train.main, "train.py", *parts, "--resume")[0] == 0
    whole, resumed = best_weights(tmp_path / "whole"), best_weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    histories = [read_run(tmp_path / name).history for name in ("whole", "parts")]
    for column in ("train_loss", "val_loss", "test_accuracy"):
        np.testing.assert_array_equal(*(history[column] for history in histories))


# --- Muon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 32)])
def test_orthogonalised_matrices_turn_all_directions_alike(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(-1.5, 0, shape[1])  # from steep to flat
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    assert result.shape == matrix.shape
    values = torch.linalg.svdvals(result)
    assert ((values > 0.3) & (values < 1.3)).all()
    inside = u.T @ result @ v.T
    assert (inside - inside.diag().diag()).abs().max() < 0.02, "the singular vectors are kept"


def test_muon_moves_filters_by_the_learning_rate_and_the_rest_by_a_twentieth():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    optimizer = make_optimizer("muon", net.parameters(), learning_rate=0.1, momentum=0.9)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    net(torch.randn(16, 4, 3, 3)).square().mean().backward()
    optimizer.step()
    filters, bias, *linear = (a - b for a, b in zip(net.parameters(), before, strict=True))
    assert 0.05 < torch.linalg.matrix_norm(filters.detach().flatten(1), 2) < 0.13
    for change in (bias, *linear):  # AdamW's first step is the learning rate times the sign
        assert change.abs().max().item() == pytest.approx(0.1 * 0.05, rel=1e-3)


def test_the_schedule_keeps_the_shares_of_the_learning_rate():
    net = nn.Conv2d(4, 8, 3)
    optimizer = make_optimizer("muon", net.parameters(), learning_rate=0.1)
    learner = TorchLearner(net, optimizer, {})
    learner.learning_rate = 0.02
    assert learner.learning_rate == 0.02
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.001])


# --- Device and precision -------------------------------------------------------------------------


def test_bfloat16_is_chosen_where_the_device_has_units_for_it(monkeypatch):
    cpu = torch.device("cpu")
    for units, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(device, "has_bfloat16", lambda _, units=units: units)
        assert device.choose_precision("auto", cpu) == expected
    assert device.choose_precision("float32", cpu) == torch.float32
    with pytest.raises(UsageError, match="--precision: this cpu has no bfloat16 units"):
        device.choose_precision("bfloat16", cpu)


@pytest.mark.parametrize(("feature", "expected"), [("avx512_bf16", True), ("avx512_vnni", False)])
def test_a_cpu_has_bfloat16_with_these_features(feature, expected, monkeypatch):
    monkeypatch.setattr(device, "_cpu_has", lambda name: name == feature)
    assert device.has_bfloat16(torch.device("cpu")) is expected


def test_a_gpu_is_asked_whether_it_has_bfloat16(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, a=answer: a
        )
        assert device.has_bfloat16(torch.device("cuda")) is answer
    assert not device.has_bfloat16(torch.device("mps"))


def test_cuda_is_chosen_first_and_each_process_takes_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.choose_device("auto") == torch.device("cuda", 1)


def test_nccl_joins_gpus_and_gloo_cpus():
    assert team.choose_backend("cuda") == "nccl"
    assert team.choose_backend("cpu") == "gloo"
    with pytest.raises(UsageError, match="--device"):
        team.choose_backend("mps")


def test_bfloat16_products_leave_weights_and_logits_in_float32():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x, y = torch.randn(8, 3, 2, 2), torch.arange(8) % 3
    losses = {}
    for precision in (torch.float32, torch.bfloat16):
        optimizer = make_optimizer("sgd", net.parameters(), learning_rate=0.0)
        learner = TorchLearner(net, optimizer, {"train": (x, y)}, precision=precision)
        learner._replayable = False
        learner.train_step(x, y)
        losses[precision] = learner.evaluate("train")[0]
    assert net[1].weight.dtype == net[1].weight.grad.dtype == torch.float32
    assert losses[torch.bfloat16] != losses[torch.float32]
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of GNU's C library alone")
def test_freed_memory_is_used_again_without_asking_the_system():
    code = """
import resource, torch
from training.device import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
plain = faults()
keep_freed_memory()
for _ in range(5):  # the heap grows to what is needed
    faults()
print(plain, faults())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    plain, kept = map(int, done.stdout.split())
    assert plain > 5 * 1000  # 64 MiB each, in pages of 4 KiB at least
    assert kept < plain / 100


# --- Several processes ----------------------------------------------------------------------------


def torchrun(*flags: object, processes: int = 2, restarts: int = 0) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc_per_node={processes}", f"--max-restarts={restarts}",
        str(SCRIPT), *map(str, flags), "--quiet",
    ]  # fmt: skip


def test_one_and_two_processes_give_the_same_curve(run_main, tiny_cifar10, tmp_path, monkeypatch):
    # 180 training images in batches of 50: shares of 25, and the last batch of 30.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--data_dir", tiny_cifar10, *TINY, "--dropout", 0, "--optimizer", "sgd",
             "--momentum", 0.9, "--learning_rate", 0.01, "--schedule", "constant",
             "--batch_size", 50)  # fmt: skip
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "one")
    command = torchrun(*flags, "--run_dir", tmp_path / "two")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1, "the leader alone speaks"
    one, two = (read_run(tmp_path / name).history for name in ("one", "two"))
    for split in ("train", "val", "test"):
        np.testing.assert_allclose(one[f"{split}_loss"], two[f"{split}_loss"], rtol=2e-4)
    assert one["train_loss"][-1] < one["train_loss"][0]


def test_batches_are_shared_without_loss_or_repetition():
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1).expand(50, 1, 8, 8)
    labels = torch.arange(50)

    def shares(world_size):
        return [
            list(
                ImageBatches(
                    images, labels, (8,), 3, prepare=lambda x: x.float(), rank=rank,
                    world_size=world_size,
                ).epoch(0)
            )
            for rank in range(world_size)
        ]  # fmt: skip

    (whole,), parts = shares(1), shares(2)
    for step, (x, y) in enumerate(whole):
        ours = [part[step] for part in parts]
        assert sorted(torch.cat([share[1] for share in ours]).tolist()) == sorted(y.tolist())
        assert np.mean([share[2] for share in ours]) == 1
        for i, (share_x, share_y, weight) in enumerate(ours):
            assert torch.equal(share_x, x[i::2])  # augmented alike, too
            assert weight == len(share_y) * 2 / len(y)


def test_a_batch_that_cannot_be_shared_is_refused():
    images = torch.zeros(9, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(DataError, match="--batch_size: 2 processes cannot share a batch of 1"):
        ImageBatches(images, torch.arange(9), (4,), 0, prepare=lambda x: x, world_size=2)


def test_a_killed_worker_goes_on_from_the_checkpoint(tiny_cifar10, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--data_dir", tiny_cifar10, *TINY, "--max_epochs", 8, "--patience", 0,
             "--checkpoint_seconds", 0)  # fmt: skip
    folder, log = tmp_path / "run", tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            torchrun(*flags, "--run_dir", folder, restarts=3),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint.pt").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(_worker_of(process.pid), signal.SIGKILL)
        assert process.wait(timeout=200) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "test accuracy" in log.read_text()
    run = read_run(folder)
    assert run.result["steps"] == 24
    assert run.history["epoch"].tolist() == list(range(9))


def _worker_of(pid: int) -> int:
    """The last process that torchrun started: not the leader, which is the first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[-1])


def test_torchrun_is_refused_by_the_other_parts(run_main, monkeypatch, tmp_path):
    from part1_mlp import train as part1

    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run_main(part1.main, "train.py", "--run_dir", tmp_path / "run")
    assert code == 2
    assert "torchrun" in err
    assert not (tmp_path / "run").exists()


# --- Predictions ----------------------------------------------------------------------------------


def picture(folder: Path, name: str, size=(80, 50), mode="RGB", **saving) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(folder / name, **saving)
    return folder / name


def test_predict_prints_and_draws_probabilities(run_main, trained, tmp_path):
    pictures = [picture(tmp_path, "a.jpg"), picture(tmp_path, "b.png", (31, 200))]
    out = tmp_path / "out"
    flags = ("--run", trained, "--out", out, "--top", 10, *pictures)
    code, stdout, err = run_main(predict.main, "predict.py", *flags)
    assert (code, err) == (0, "")
    lines = stdout.splitlines()
    assert len(lines) == 4  # two pictures, two files
    for line, path in zip(lines, pictures, strict=False):
        name, _, answer = line.partition(": ")
        assert name == str(path)
        shares = {part.rpartition(" ")[0]: part.rpartition(" ")[2] for part in answer.split(", ")}
        assert shares.keys() == set(CLASS_NAMES)
        assert sum(float(share.rstrip("%")) for share in shares.values()) == pytest.approx(
            100, abs=1
        )
    assert {file.name for file in out.iterdir()} == {"predictions.png", "predictions.pdf"}


def test_predictions_are_those_that_the_run_was_judged_by(trained, tiny_cifar10):
    from data import load_dataset

    run = read_run(trained)
    dataset = load_dataset("cifar10", data_dir=tiny_cifar10, check_md5=False)
    predicted = class_probabilities(load_net(run), dataset.x_test).argmax(1)
    assert (predicted == dataset.y_test).mean() == pytest.approx(run.result["test_accuracy"])


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("L", "png"), ("RGBA", "png"), ("P", "gif"), ("CMYK", "jpg"), ("1", "png"), ("LA", "png"),
     ("I;16", "png"), ("RGB", "bmp"), ("YCbCr", "jpg")],
)  # fmt: skip
def test_pictures_of_every_kind_are_read(mode, ending, tmp_path):
    if mode == "I;16":
        values = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
        path = tmp_path / "deep.png"
        Image.fromarray(values).save(path)
    else:
        path = picture(tmp_path, f"a.{ending}", (40, 30), mode)
    opened = open_picture(path)
    assert opened.mode == "RGB"
    pixels = square_pixels(opened, 32)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), np.uint8)
    if mode == "I;16":
        assert pixels.min() < 60
        assert 200 < pixels.max() <= 255


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 2000), (32, 32)])
def test_pictures_of_every_size_are_read(size, tmp_path):
    pixels = square_pixels(open_picture(picture(tmp_path, "a.png", size)), 32)
    assert pixels.shape == (3, 32, 32)


def test_a_picture_is_upright_on_white_ground_and_cut_in_the_middle(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40, 0] = 255  # the central square is red
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = square_pixels(open_picture(tmp_path / "wide.png"), 32)
    assert (pixels[0] > 250).all()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (square_pixels(open_picture(tmp_path / "clear.png"), 32) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(wide).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (20, 60)


# --- Plots ----------------------------------------------------------------------------------------


def test_plot_draws_curves_confusions_mistakes_and_filters(run_main, trained, tmp_path):
    code, out, err = run_main(plot.main, "plot.py", trained, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    names = {"curves", "confusion", "mistakes", "filters"}
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("png", "pdf")
    }
    (trained / "checkpoint.pt").unlink()
    code, out, err = run_main(plot.main, "plot.py", trained, "--out", tmp_path / "curves")
    assert code == 0
    assert "has not kept its weights" in err
    assert out.count("\n") == 2


# --- Bad input ------------------------------------------------------------------------------------


@pytest.fixture
def refused(run_main):
    """Assert that a script refuses its flags in one line that holds the words."""

    def check(main, *flags: object, words: str) -> None:
        code, out, err = run_main(main, "script.py", *flags)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err
        assert words in err

    return check


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--image_sizes", "4"), "--image_sizes"),
        (("--image_sizes", "16,x"), "--image_sizes"),
        (("--precision", "float16"), "--precision"),
        (("--winograd", "yes"), "--winograd"),
        (("--dropout", "1"), "--dropout"),
        (("--dataset", "moons"), "--dataset"),
        (("--recipe", "worst"), "--recipe"),
        (("--optimizer", "adam", "--momentum", "0.9"), "--momentum"),
        (("--batch_size", "181"), "--batch_size: 181 is out of range, choose from 1 to 180"),
        (("--resume", "--overwrite"), "--resume"),
        (("--dnn_hidden_units", "10"), "--dnn_hidden_units"),
    ],
)
def test_flags_that_are_refused(flags, words, refused, tiny_cifar10, tmp_path):
    base = ("--data_dir", tiny_cifar10, "--cifar10_md5", "skip", "--run_dir", tmp_path / "run")
    refused(train.main, *base, *flags, words=words)
    assert not (tmp_path / "run").exists()


def test_compiling_needs_a_compiler(refused, monkeypatch):
    monkeypatch.setattr("part2_cnn.train.shutil.which", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(train.main, "--compile", words="--compile")


def test_precision_that_the_device_lacks(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(device, "has_bfloat16", lambda _: False)
    folder = tmp_path / "run"
    refused(train.main, "--precision", "bfloat16", "--run_dir", folder, words="--precision")
    assert not folder.exists()


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def _save(state: object, path: Path) -> None:
    torch.save(state, path)


def test_broken_and_foreign_checkpoints_are_refused(refused, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shot = picture(tmp_path, "a.png")
    checkpoint = trained / "checkpoint.pt"
    good = load_checkpoint(checkpoint)

    def check(words: str) -> None:
        refused(predict.main, "--run", trained, shot, words=words)

    checkpoint.write_bytes(checkpoint.read_bytes()[:100_000])
    check("checkpoint.pt: broken or foreign checkpoint")
    _save({"best": RunsCode()}, checkpoint)
    check("checkpoint.pt: broken or foreign checkpoint")
    checkpoint.write_bytes(pickle.dumps(RunsCode()))
    check("checkpoint.pt: broken or foreign checkpoint")
    assert not (tmp_path / "pwned").exists()
    _save({"weights": good["best"]}, checkpoint)
    check("not the weights of part 2's net")
    _save({"best": CNN(3, 7).state_dict()}, checkpoint)  # of another number of classes
    check("not the weights of part 2's net")
    _save({"best": [1, 2]}, checkpoint)
    check("not the weights of part 2's net")
    checkpoint.unlink()
    check("has not kept its weights")


def test_a_foreign_checkpoint_is_not_resumed(run_main, trained, tiny_cifar10):
    (trained / "result.json").unlink()
    state = load_checkpoint(trained / "checkpoint.pt")
    state["learner"]["net"] = CNN(3, 7).state_dict()
    _save(state, trained / "checkpoint.pt")
    flags = ("--data_dir", tiny_cifar10, *TINY, "--run_dir", trained, "--resume")
    code, _, err = run_main(train.main, "train.py", *flags)
    assert code == 2
    assert "not a checkpoint of this run" in err


def test_runs_of_another_part_are_refused(refused, run_main, tmp_path):
    from part1_mlp import train as part1

    folder = tmp_path / "moons"
    run_main(part1.main, "train.py", "--n_samples", 100, "--max_epochs", 1, "--run_dir", folder)
    shot = picture(tmp_path, "a.png")
    refused(predict.main, "--run", folder, shot, words="holds no run of part 2")
    refused(plot.main, folder, words="holds no run of part 2")
    refused(predict.main, "--run", tmp_path / "absent", shot, words="is not a run folder")


def test_what_is_no_picture_is_refused(refused, trained, tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    whole = picture(tmp_path, "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, words in (
        ("text.jpg", "text.jpg: not a readable image"),
        ("empty.png", "empty.png: not a readable image"),
        ("cut.png", "cut.png: not a readable image"),
        ("absent.png", "absent.png: there is no such file"),
        (".", "is a folder, not a picture"),
    ):
        refused(predict.main, "--run", trained, tmp_path / name, words=words)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(predict.main, "--run", trained, tmp_path / "whole.png", words="too large")
    refused(predict.main, "--run", trained, "--top", 11, "x.png", words="--top")
