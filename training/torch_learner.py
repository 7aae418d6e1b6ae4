"""A PyTorch net as something that `training.run` can train."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.captured_step import Gradient, capture_gradient, is_replayable

EVALUATION_CHUNK = 2000  # samples at once: bounds the memory, not the result


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """PyTorch's optimiser of that name: sgd, adam, adamw or rmsprop.

    `fused` updates all parameters in one pass over memory; RMSprop has no such version, and
    `foreach` is its nearest.
    """
    common = {"lr": learning_rate, "weight_decay": weight_decay}
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, fused=True, **common)
    if name == "adam":
        return torch.optim.Adam(parameters, fused=True, **common)
    if name == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **common)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, momentum=momentum, foreach=True, **common)
    raise ValueError(f"unknown optimiser {name!r}")


class TorchLearner:
    """A net, its optimiser, and the splits it is evaluated on.

    Args:
        net: maps prepared inputs to logits (N, n_classes).
        splits: x and y tensors of `train`, `val` and `test`, on the net's device.
        prepare: turns stored samples into inputs of the net (for images: normalises them).
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al., 2016).
        mixup: parameter of the Beta distribution that mixes pairs of samples and their labels
            (Zhang et al., 2018); 0 mixes none.
        average_decay: evaluate an exponential moving average of the weights with this decay a
            step; 0 evaluates the weights themselves.
        views: the versions of stored samples over which a final evaluation averages the
            probabilities; None: the samples alone.
    """

    checkpoint_name = "checkpoint.pt"

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        splits: dict[str, tuple[torch.Tensor, torch.Tensor]],
        *,
        prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        average_decay: float = 0.0,
        views: Callable[[torch.Tensor], Iterable[torch.Tensor]] | None = None,
    ):
        self.net, self.optimizer, self.splits, self.prepare = net, optimizer, splits, prepare
        self.label_smoothing, self.mixup, self.views = label_smoothing, mixup, views
        self.n_parameters = sum(p.numel() for p in net.parameters())
        self.average = (
            AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(average_decay), use_buffers=True)
            if average_decay
            else None
        )
        self._parameters = list(net.parameters())
        self._replayable = is_replayable(net) and not mixup and not average_decay
        self._replays: dict[int, Gradient | None] = {}  # by batch size
        net.train()

    @property
    def evaluated(self) -> nn.Module:
        """The net that is judged: the average of the weights where there is one."""
        return self.average.module if self.average else self.net

    @property
    def learning_rate(self) -> float:
        """The optimiser's."""
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def train_step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One step on prepared inputs (N, ...) and labels (N,)."""
        if self._replayable:
            if len(x) not in self._replays:
                self._replays[len(x)] = capture_gradient(self.net, self._smoothed, x, y)
            if replay := self._replays[len(x)]:
                self._replay_step(replay, x, y)
                return
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(x, y).backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.net)

    def _replay_step(self, replay: Gradient, x: torch.Tensor, y: torch.Tensor) -> None:
        """The same step with a captured gradient."""
        settings = self.optimizer.param_groups[0]
        plain = isinstance(self.optimizer, torch.optim.SGD) and not (
            settings["momentum"] or settings["weight_decay"]
        )
        if plain:
            with torch.inference_mode():
                gradients = replay(x, y, *self._parameters)
                torch._foreach_add_(self._parameters, gradients, alpha=-settings["lr"])
            return
        with torch.no_grad():
            gradients = replay(x, y, *self._parameters)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def _smoothed(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not self.mixup:
            return self._smoothed(self.net(x), y)
        share = torch.distributions.Beta(self.mixup, self.mixup).sample().item()
        partner = torch.randperm(len(x), device=x.device)
        logits = self.net(torch.lerp(x[partner], x, share))
        return share * self._smoothed(logits, y) + (1 - share) * self._smoothed(logits, y[partner])

    @torch.no_grad()
    def evaluate(self, split: str, *, final: bool = False) -> tuple[float, float]:
        """Mean loss and accuracy on a split; a final evaluation averages over all views."""
        x, y = self.splits[split]
        net = self.evaluated.eval()
        loss, correct = 0.0, 0
        for start in range(0, len(x), EVALUATION_CHUNK):
            labels = y[start : start + EVALUATION_CHUNK]
            log_p = self._log_probabilities(net, x[start : start + EVALUATION_CHUNK], final)
            loss += F.nll_loss(log_p, labels, reduction="sum").item()
            correct += int((log_p.argmax(1) == labels).sum())
        self.net.train()
        return loss / len(x), correct / len(x)

    def _log_probabilities(self, net: nn.Module, x: torch.Tensor, final: bool) -> torch.Tensor:
        if not (final and self.views):
            return F.log_softmax(net(self.prepare(x)), 1)
        views = [F.log_softmax(net(self.prepare(view)), 1) for view in self.views(x)]
        return torch.logsumexp(torch.stack(views), 0) - torch.tensor(float(len(views))).log()

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the judged net's parameters and buffers."""
        return {name: value.clone() for name, value in self.evaluated.state_dict().items()}

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Give the judged net these."""
        self.evaluated.load_state_dict(weights)

    def state_dict(self) -> dict:
        """Net, average, optimiser, and the states of PyTorch's generators (dropout, mixup)."""
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if self.average:
            state["average"] = self.average.state_dict()
        if torch.cuda.is_available():
            state["cuda_rng"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Go back to such a state."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if self.average:
            self.average.load_state_dict(state["average"])
        if torch.cuda.is_available() and "cuda_rng" in state:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
