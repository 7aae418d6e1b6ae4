"""Claim C4: what each layer costs, and what a fully connected one of its shapes would cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from figures.results import table
from part2_cnn.model import CNN, layer_table

IMAGE = (3, 32, 32)  # of CIFAR-10: channels, height, width
N_CLASSES = 10


@dataclass(frozen=True)
class LayerCost:
    """A layer with weights; multiply-adds are those of one image, biases not counted.

    Attributes:
        dense_parameters, dense_multiply_adds: of a fully connected layer from the same inputs to
            the same outputs.
    """

    name: str
    output: str
    parameters: int
    multiply_adds: int
    dense_parameters: int
    dense_multiply_adds: int

    @property
    def is_convolution(self) -> bool:
        """Whether its weights are shared between places."""
        return self.name.startswith("conv")


def cnn_costs() -> list[LayerCost]:
    """The CNN's layers, from the image to the logits."""
    rows = layer_table(CNN(IMAGE[0], N_CLASSES), IMAGE)
    sizes = [math.prod(IMAGE), *(math.prod(map(int, row[1].split(" x "))) for row in rows)]
    return [
        LayerCost(*row, dense_parameters=(n_in + 1) * n_out, dense_multiply_adds=n_in * n_out)
        for row, (n_in, n_out) in zip(rows, pairwise(sizes), strict=True)
        if row[2]
    ]


def mlp_costs(hidden_units: Sequence[int]) -> list[LayerCost]:
    """The layers of an MLP on CIFAR-10."""
    sizes = [math.prod(IMAGE), *hidden_units, N_CLASSES]
    return [
        LayerCost(f"linear {n_in} -> {n_out}", f"{n_out}", *((n_in + 1) * n_out, n_in * n_out) * 2)
        for n_in, n_out in pairwise(sizes)
    ]


def total(name: str, costs: Sequence[LayerCost]) -> LayerCost:
    """The sums of all columns."""
    fields = ("parameters", "multiply_adds", "dense_parameters", "dense_multiply_adds")
    return LayerCost(name, "", *(sum(getattr(cost, field) for cost in costs) for field in fields))


def layers_table(hidden_units: Sequence[int]) -> str:
    """A Markdown table of the CNN's layers, the MLP's, and the sums."""
    rows = []
    for net, costs in (("CNN", cnn_costs()), ("MLP", mlp_costs(hidden_units))):
        rows += [
            (
                cost.name,
                cost.output,
                f"{cost.parameters:,}",
                f"{cost.dense_parameters:,}",
                f"{cost.dense_parameters / cost.parameters:,.0f}",
                f"{cost.multiply_adds:,}",
                f"{cost.dense_multiply_adds:,}",
                f"{cost.dense_multiply_adds / cost.multiply_adds:,.0f}",
            )
            for cost in (*costs, total(f"**{net}, whole**", costs))
        ]
    against = ("fully connected", "times as many")
    return table(
        ("layer", "output", "parameters", *against, "multiply-adds an image", *against), rows
    )
