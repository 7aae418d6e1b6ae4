"""A PyTorch net with its optimiser and its loss, as something that the trainer can train."""

import argparse
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.distributed import SINGLE_PROCESS, ProcessGroup
from training.optim import SGD, make_optimizer

Split = tuple[torch.Tensor, torch.Tensor]


class TorchModel:
    """A net, its optimiser, and the data splits it is evaluated on.

    Args:
        net: maps prepared inputs to logits (N, n_classes).
        splits: x and y tensors of `train`, `val` and `test`, on the net's device.
        prepare: turns stored samples into inputs of the net (for images: normalises them).
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al., 2016).
        mixup: parameter of the Beta distribution that mixes pairs of samples and their labels
            (Zhang et al., 2018); 0 mixes none.
        max_norm: gradient clipping by global norm (Pascanu et al., 2013); 0 does not clip.
        average_decay: evaluate an exponential moving average of the weights with this decay a
            step; 0 evaluates the weights themselves.
        views: test-time augmentation: the versions of stored samples over which a final evaluation
            averages the probabilities; None: the samples alone.
        resize: scales images to so many pixels a side. Where given, evaluations use the size of the
            last training batch; the final one that of the stored images.
        precision: bfloat16 computes the net's products in it, and keeps weights and sums in
            float32 (automatic mixed precision).
        evaluation_chunk: samples evaluated at once; bounds the memory, not the result.
        group: the processes that share each batch and each evaluation.
    """

    checkpoint_name = "checkpoint.pt"

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer | SGD,
        splits: dict[str, Split],
        *,
        prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        max_norm: float = 0.0,
        average_decay: float = 0.0,
        views: Callable[[torch.Tensor], Iterable[torch.Tensor]] | None = None,
        resize: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
        precision: torch.dtype = torch.float32,
        evaluation_chunk: int = 2000,
        group: ProcessGroup = SINGLE_PROCESS,
    ):
        self.net, self.optimizer, self.splits, self.prepare = net, optimizer, splits, prepare
        self.label_smoothing, self.mixup, self.max_norm = label_smoothing, mixup, max_norm
        self.views, self.resize, self.precision, self.group = views, resize, precision, group
        self.evaluation_chunk = evaluation_chunk
        self.image_size: int | None = None  # of the last training batch
        self.parameters = list(net.parameters())
        self.n_parameters = sum(p.numel() for p in self.parameters)
        self.device = self.parameters[0].device
        self.average = (
            AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(average_decay), use_buffers=True)
            if average_decay
            else None
        )
        self._parallel = net if group.size == 1 else DistributedDataParallel(net)
        net.train()

    @property
    def evaluated_net(self) -> nn.Module:
        """The net with the average of the weights where there is one."""
        return self.average.module if self.average else self.net

    @property
    def learning_rate(self) -> float:
        """The optimiser's learning rate."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group.get("lr_share", 1.0)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value * group.get("lr_share", 1.0)  # Muon's groups have shares

    def train_step(self, x: torch.Tensor, y: torch.Tensor, weight: float = 1.0) -> None:
        """One step on prepared inputs (N, ...) and labels (N,), the loss multiplied by `weight`."""
        self.image_size = x.shape[-1]
        loss = self.loss(x, y)
        if weight != 1.0:
            loss = loss * weight
        self.optimizer.zero_grad()
        loss.backward()
        if self.max_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.net)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The mean training loss of a batch, with mixup and label smoothing."""
        if not self.mixup:
            return self._cross_entropy(self._logits(self._parallel, x), y)
        share = torch.distributions.Beta(self.mixup, self.mixup).sample().item()
        partner = torch.randperm(len(x), device=x.device)
        logits = self._logits(self._parallel, torch.lerp(x[partner], x, share))
        of_x, of_partner = (self._cross_entropy(logits, labels) for labels in (y, y[partner]))
        return share * of_x + (1 - share) * of_partner

    def _cross_entropy(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)

    def _logits(self, net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Logits, in float32 or float64 whatever the precision of the products."""
        if self.precision != torch.bfloat16:
            return net(x)
        with torch.autocast(self.device.type, torch.bfloat16):
            return net(x).float()

    @torch.no_grad()
    def evaluate(self, split: str, *, final: bool = False) -> tuple[float, float]:
        """Mean loss and accuracy on a split; a final evaluation averages over all views."""
        x, y = (tensor[self.group.rank :: self.group.size] for tensor in self.splits[split])
        net = self.evaluated_net.eval()
        loss, correct = 0.0, 0
        chunks = (tensor.split(self.evaluation_chunk) for tensor in (x, y))
        for x_chunk, y_chunk in zip(*chunks, strict=True):
            log_p = self._log_probabilities(net, x_chunk, final)
            loss += F.nll_loss(log_p, y_chunk, reduction="sum").item()
            correct += int((log_p.argmax(1) == y_chunk).sum())
        self.net.train()
        loss, correct, n = self.group.total(loss, correct, len(x))
        return loss / n, correct / n

    def _log_probabilities(self, net: nn.Module, x: torch.Tensor, final: bool) -> torch.Tensor:
        """Log-probabilities (N, n_classes) of stored samples."""
        log_p = []
        for view in self.views(x) if final and self.views else (x,):
            inputs = self.prepare(view)
            if self.resize and self.image_size and not final:
                inputs = self.resize(inputs, self.image_size)
            log_p.append(F.log_softmax(self._logits(net, inputs), 1))
        if len(log_p) == 1:
            return log_p[0]
        return torch.logsumexp(torch.stack(log_p), 0) - math.log(len(log_p))

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(p.isfinite().all()) for p in self.parameters)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the evaluated net's parameters and buffers."""
        return {name: value.clone() for name, value in self.evaluated_net.state_dict().items()}

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Give the evaluated net these."""
        self.evaluated_net.load_state_dict(weights)

    def state_dict(self) -> dict:
        """Net, average, optimiser, and the random generators of every process."""
        generators = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":  # of this very GPU, from whose generator dropout draws
            generators["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            generators["mps"] = torch.mps.get_rng_state()
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": self.group.gather(generators),
            "image_size": self.image_size,
        }
        if self.average:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Return to such a state; processes that it does not know keep their generators."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.image_size = state["image_size"]
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.group.rank >= len(state["generators"]):
            return
        generators = state["generators"][self.group.rank]
        torch.set_rng_state(generators["cpu"])
        if self.device.type == "cuda" and "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"], self.device)
        elif self.device.type == "mps" and "mps" in generators:
            torch.mps.set_rng_state(generators["mps"])


def model_of(
    args: argparse.Namespace, net: nn.Module, splits: dict[str, Split], *,
    hidden_weights: Iterable[nn.Parameter] = (), **settings: Any,
) -> TorchModel:  # fmt: skip
    """The net with the optimiser, the regularisation and the precision that flags name.

    Args:
        args: a train script's flags; of those that it does not have the default counts.
        net, splits, settings: as `TorchModel` takes them.
        hidden_weights: as `make_optimizer` takes them.
    """
    precision = getattr(torch, vars(args).get("precision", "float32"))
    optimizer = make_optimizer(
        args.optimizer, net.parameters(), learning_rate=args.learning_rate,
        momentum=args.momentum, weight_decay=args.weight_decay,
        hidden_weights=hidden_weights, precision=precision,
    )  # fmt: skip
    for name in ("label_smoothing", "mixup", "average_decay"):
        settings[name] = vars(args).get(name, 0.0)
    return TorchModel(net, optimizer, splits, precision=precision, **settings)
