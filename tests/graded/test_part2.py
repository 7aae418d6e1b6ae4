"""Part 2, 30 points: the convolutional network on CIFAR-10."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

N_PARAMETERS = 6_400_586


@pytest.fixture
def net() -> torch.nn.Module:
    from part2_cnn.model import CNN

    torch.manual_seed(0)
    return CNN(3, 10)


def by_the_report(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The logits of the report's net with the parameters of `net`, in their order."""
    parameters = iter(net.parameters())
    for _ in range(3):
        for _ in range(2):
            x = F.relu(F.conv2d(x, next(parameters), next(parameters), padding=1))
        x = F.max_pool2d(x, 2, stride=2)
    x = x.flatten(1)
    for _ in range(2):
        x = F.relu(F.linear(x, next(parameters), next(parameters)))
    return F.linear(x, next(parameters), next(parameters))


@pytest.mark.points(4)
def test_parameters(net):
    """Six convolutions 3x3 and three linear layers, with 6,400,586 parameters."""
    shapes = [tuple(p.shape) for p in net.parameters() if p.dim() > 1]
    assert shapes == [
        (64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3),
        (256, 256, 3, 3), (1024, 4096), (1024, 1024), (10, 1024),
    ]  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == N_PARAMETERS


@pytest.mark.points(8)
def test_forward(net):
    """Blocks of conv, ReLU, conv, ReLU, max-pool; then linear, ReLU, linear, ReLU, linear."""
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.normal_(std=0.1)
        logits, expected = net.eval()(x), by_the_report(net, x)
    assert logits.shape == (4, 10)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.points(3)
def test_other_channels_and_classes():
    """CNN(n_channels, n_classes) builds the net for other images as well."""
    from part2_cnn.model import CNN

    net = CNN(1, 7).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.points(3)
def test_dropout(net):
    """Half of the hidden linear units are dropped in training, none in evaluation."""
    x = torch.randn(2, 3, 32, 32)
    rates = [module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.5, 0.5]
    with torch.no_grad():
        net.train()
        assert not torch.equal(net(x), net(x))
        net.eval()
        torch.testing.assert_close(net(x), net(x), rtol=0, atol=0)


@pytest.mark.points(2)
def test_initialisation(net):
    """At first no class is likelier: the loss is near ln 10, and every layer has a gradient."""
    torch.manual_seed(1)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    loss = F.cross_entropy(net.eval()(x), y)
    loss.backward()
    assert abs(loss.item() - np.log(10)) < 0.7
    for parameter in net.parameters():
        assert parameter.grad.abs().max() > 1e-8


@pytest.mark.points(4, seconds=120)
def test_overfits_a_few_images(net):
    """Adam brings the loss on 20 images of noise close to 0."""
    torch.manual_seed(2)
    x, y = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    net.eval()  # without dropout
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    assert (net(x).argmax(1) == y).all()


@pytest.mark.points(4, seconds=120)
def test_training(train, tiny_images, keeps_a_record, is_chosen_on_validation):
    """train.py learns coloured bands, keeps the promised files, and trusts validation."""
    run = train("part2_cnn", "--data_dir", tiny_images, "--max_epochs", 8, "--batch_size", 20)
    keeps_a_record(run)
    is_chosen_on_validation(run)
    assert run.result["test_accuracy"] > 0.5


@pytest.mark.points(2, seconds=120)
def test_evaluation_is_undisturbed(train, tiny_images):
    """Neither dropout nor augmentation touches evaluation: weights that stand still score alike."""
    run = train("part2_cnn", "--data_dir", tiny_images, "--max_epochs", 2, "--batch_size", 60,
                "--learning_rate", 1e-12)  # fmt: skip
    for split in ("train", "val", "test"):
        losses = run.history[f"{split}_loss"]
        assert len(losses) >= 2
        np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
