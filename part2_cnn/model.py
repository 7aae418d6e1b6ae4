"""The convolutional network of the original, in the manner of VGG (Simonyan and Zisserman, 2015).

Run this file to see its layers: python part2_cnn/model.py
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from part2_cnn.winograd import Conv3x3

CHANNELS = (64, 128, 256)  # of the three blocks
UNITS = 1024  # of each hidden linear layer
GRID = 4  # rows and columns of the last block's output for images of 32x32 pixels


def block(in_channels: int, out_channels: int, winograd: bool) -> list[nn.Module]:
    """Two convolutions with ReLU, then max-pooling halves the rows and columns."""
    return [
        Conv3x3(in_channels, out_channels, winograd=winograd),
        nn.ReLU(inplace=True),
        Conv3x3(out_channels, out_channels, winograd=winograd),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, stride=2),
    ]


class CNN(nn.Module):
    """Six convolutions in three blocks, then three linear layers, and no normalisation.

    A block: convolution 3x3 with padding 1, ReLU, the same again, max-pooling 2x2. Then linear to
    1,024, ReLU, dropout, linear to 1,024, ReLU, dropout, linear to the classes. For CIFAR-10 it has
    6,400,586 parameters. He's initial weights train; PyTorch's default may not.

    Args:
        n_channels: of an image, 3 for colour.
        n_classes: number of logits.
        channels: of the three blocks.
        global_pooling: the mean of each channel and one linear layer in place of the three linear
            layers (Lin, Chen and Yan, 2014).
        dropout: probability of zeroing an input of the last two linear layers in training.
        winograd: convolve by Winograd's method where it pays, see `part2_cnn.winograd`.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        channels: Sequence[int] = CHANNELS,
        global_pooling: bool = False,
        dropout: float = 0.5,
        winograd: bool = True,
    ):
        super().__init__()
        widths = (n_channels, *channels)
        layers = [layer for i, o in pairwise(widths) for layer in block(i, o, winograd)]
        if global_pooling:
            layers.append(nn.AdaptiveAvgPool2d(1))
            self.grid, hidden, n_last = 1, [], channels[-1]
        else:
            self.grid, n_last = GRID, UNITS
            hidden = [
                nn.Linear(channels[-1] * GRID * GRID, UNITS), nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(UNITS, UNITS), nn.ReLU(inplace=True),
            ]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(), *hidden, nn.Dropout(dropout), nn.Linear(n_last, n_classes)
        )
        self.apply(_initialise)
        nn.init.normal_(self.classifier[-1].weight, std=0.01)  # all classes about equally likely

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], n_channels: int = 3, n_classes: int = 10
    ) -> "CNN":
        """The net that a run's flags describe, with its weights channels last."""
        # The compiler would unroll the loops of Winograd's method.
        winograd = config["winograd"] and not config["compile"]
        net = cls(
            n_channels, n_classes, dropout=config["dropout"], winograd=winograd,
            channels=config["channels"], global_pooling=config["global_pooling"],
        )  # fmt: skip
        return net.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, n_channels, H, W), H and W at least 8 -> logits (N, n_classes).

        The layers fit 32x32 pixels. For images of another size, adaptive average pooling brings
        the last block's output to the 4x4 places that the linear layers expect.
        """
        features = self.features(images)
        if features.shape[2:] != (self.grid, self.grid):
            # Apple's GPUs pool between divisible sizes alone (pytorch issue 143864).
            at = features.cpu() if features.device.type == "mps" else features
            features = F.adaptive_avg_pool2d(at, self.grid).to(features.device)
        return self.classifier(features)


def _initialise(module: nn.Module) -> None:
    """He's initialisation (He et al., 2015): a ReLU layer keeps the scale of its activations."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def layer_table(net: CNN) -> list[tuple[str, str, int, int]]:
    """One row a layer: name, shape of its output, parameters, multiply-adds per image of 32x32.

    A multiply-add is counted for each weight that an output depends on; additions of biases,
    comparisons and dropout are not counted.
    """
    rows = []
    x = torch.zeros(1, net.features[0].in_channels, 32, 32)
    for layer in (*net.features, *net.classifier):
        with torch.no_grad():
            x = layer(x)
        parameters = sum(p.numel() for p in layer.parameters())
        places = x.numel() // x.shape[1]  # that share the same weights
        multiply_adds = layer.weight.numel() * places if parameters else 0
        shape = " x ".join(map(str, x.shape[1:]))
        rows.append((_layer_name(layer), shape, parameters, multiply_adds))
    return rows


def _layer_name(layer: nn.Module) -> str:
    match layer:
        case nn.Conv2d():
            return f"conv 3x3, {layer.in_channels} -> {layer.out_channels}, padding 1"
        case nn.MaxPool2d():
            return "max-pool 2x2, stride 2"
        case nn.AdaptiveAvgPool2d():
            return "mean of each channel"
        case nn.Linear():
            return f"linear {layer.in_features} -> {layer.out_features}"
        case nn.Dropout():
            return f"dropout {layer.p}"
        case _:
            return type(layer).__name__


def main() -> None:
    """Print the layer table for CIFAR-10."""
    rows = layer_table(CNN(3, 10))
    totals = [sum(row[column] for row in rows) for column in (2, 3)]
    print(f"{'layer':32}{'output':>16}{'parameters':>14}{'multiply-adds':>16}")
    print(f"{'image':32}{'3 x 32 x 32':>16}")
    for name, shape, parameters, multiply_adds in rows:
        counts = f"{parameters:>14,}{multiply_adds:>16,}" if parameters else ""
        print(f"{name:32}{shape:>16}{counts}")
    print(f"{'total':32}{'':16}{totals[0]:>14,}{totals[1]:>16,}")


if __name__ == "__main__":
    main()
