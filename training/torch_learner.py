"""A PyTorch net as something that `training.run` can train."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.captured_step import Gradient, capture_gradient, is_replayable
from training.flat import gather
from training.muon import Muon
from training.team import ALONE, Team


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """The optimiser of that name: PyTorch's sgd, adam, adamw or rmsprop, or our muon.

    `fused` updates all parameters in one pass over memory; RMSprop has no such version.
    """
    common = {"lr": learning_rate, "weight_decay": weight_decay}
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, fused=True, **common)
    if name == "adam":
        return torch.optim.Adam(parameters, fused=True, **common)
    if name == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **common)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, momentum=momentum, **common)
    if name == "muon":
        return Muon(parameters, momentum=momentum, fused=True, **common)
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
        max_norm: the longest gradient, over all parameters together; a longer one is scaled down
            to it (Pascanu et al., 2013); 0 leaves every gradient as it is.
        average_decay: evaluate an exponential moving average of the weights with this decay a
            step; 0 evaluates the weights themselves.
        views: the versions of stored samples over which a final evaluation averages the
            probabilities; None: the samples alone.
        resize: scales images to so many pixels a side. Where given, evaluations are made at the
            size that the net was last trained at; the final one at the stored images' own.
        precision: bfloat16 computes the net's products in it, and keeps weights and sums in
            float32 (automatic mixed precision).
        evaluation_chunk: samples evaluated at once; bounds the memory, not the result.
        flat: the net's parameters as one vector, if the optimiser is of that; see `training.flat`.
        team: the processes that share each batch and each evaluation.
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
        max_norm: float = 0.0,
        average_decay: float = 0.0,
        views: Callable[[torch.Tensor], Iterable[torch.Tensor]] | None = None,
        resize: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
        precision: torch.dtype | None = None,
        evaluation_chunk: int = 2000,
        flat: nn.Parameter | None = None,
        team: Team = ALONE,
    ):
        self.net, self.optimizer, self.splits, self.prepare = net, optimizer, splits, prepare
        self.label_smoothing, self.mixup, self.views = label_smoothing, mixup, views
        self.resize, self.precision, self.team = resize, precision, team
        self.max_norm, self.flat = max_norm, flat
        self.evaluation_chunk = evaluation_chunk
        self.image_size: int | None = None  # that the net was last trained at
        self._trained = net if team.size == 1 else DistributedDataParallel(net)
        self.n_parameters = sum(p.numel() for p in net.parameters())
        self.average = (
            AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(average_decay), use_buffers=True)
            if average_decay
            else None
        )
        self._parameters = list(net.parameters())
        self._replayable = is_replayable(net) and not (
            mixup or average_decay or max_norm or flat is not None
        )
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
            group["lr"] = value * group.get("lr_share", 1.0)

    def train_step(self, x: torch.Tensor, y: torch.Tensor, weight: float = 1.0) -> None:
        """One step on prepared inputs (N, ...) and labels (N,), the loss multiplied by `weight`."""
        self.image_size = x.shape[-1]
        if self._replayable:
            if len(x) not in self._replays:
                self._replays[len(x)] = capture_gradient(self.net, self._smoothed, x, y)
            if replay := self._replays[len(x)]:
                self._replay_step(replay, x, y)
                return
        loss = self._loss(x, y)
        loss = loss if weight == 1.0 else loss * weight
        if self.flat is None:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        else:
            self.flat.grad = gather(torch.autograd.grad(loss, self._parameters))
        if self.max_norm:
            optimised = self._parameters if self.flat is None else self.flat
            nn.utils.clip_grad_norm_(optimised, self.max_norm)
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

    def _autocast(self) -> torch.autocast:
        device = self._parameters[0].device.type
        return torch.autocast(device, torch.bfloat16, self.precision == torch.bfloat16)

    def _smoothed(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if logits.dtype == torch.bfloat16:
            logits = logits.float()
        return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not self.mixup:
            with self._autocast():
                logits = self._trained(x)
            return self._smoothed(logits, y)
        share = torch.distributions.Beta(self.mixup, self.mixup).sample().item()
        partner = torch.randperm(len(x), device=x.device)
        with self._autocast():
            logits = self._trained(torch.lerp(x[partner], x, share))
        return share * self._smoothed(logits, y) + (1 - share) * self._smoothed(logits, y[partner])

    @torch.no_grad()
    def evaluate(self, split: str, *, final: bool = False) -> tuple[float, float]:
        """Mean loss and accuracy on a split; a final evaluation averages over all views."""
        x, y = (tensor[self.team.rank :: self.team.size] for tensor in self.splits[split])
        net = self.evaluated.eval()
        loss, correct = 0.0, 0
        for x_chunk, y_chunk in zip(
            x.split(self.evaluation_chunk), y.split(self.evaluation_chunk), strict=True
        ):
            log_p = self._log_probabilities(net, x_chunk, final)
            loss += F.nll_loss(log_p, y_chunk, reduction="sum").item()
            correct += int((log_p.argmax(1) == y_chunk).sum())
        self.net.train()
        loss, correct, n = self.team.total(loss, correct, len(x))
        return loss / n, correct / n

    def _log_probabilities(self, net: nn.Module, x: torch.Tensor, final: bool) -> torch.Tensor:
        if not (final and self.views):
            return self._log_softmax(net, x, final)
        views = [self._log_softmax(net, view, final) for view in self.views(x)]
        return torch.logsumexp(torch.stack(views), 0) - torch.tensor(float(len(views))).log()

    def _log_softmax(self, net: nn.Module, x: torch.Tensor, final: bool) -> torch.Tensor:
        inputs = self.prepare(x)
        if self.resize and self.image_size and not final:
            inputs = self.resize(inputs, self.image_size)
        with self._autocast():
            logits = net(inputs)
        return F.log_softmax(logits.float() if logits.dtype == torch.bfloat16 else logits, 1)

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(p.isfinite().all()) for p in self._parameters)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the judged net's parameters and buffers."""
        return {name: value.clone() for name, value in self.evaluated.state_dict().items()}

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Give the judged net these."""
        self.evaluated.load_state_dict(weights)

    def state_dict(self) -> dict:
        """Net, average, optimiser, and the generators (dropout, mixup) of every process."""
        generators = {"cpu": torch.get_rng_state()}
        if self._on_cuda:
            generators["cuda"] = torch.cuda.get_rng_state()
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": self.team.gather(generators),
            "image_size": self.image_size,
        }
        if self.average:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Go back to such a state; of a larger team than before, some share a generator's state."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.image_size = state["image_size"]
        if self.average:
            self.average.load_state_dict(state["average"])
        generators = state["generators"][self.team.rank % len(state["generators"])]
        torch.set_rng_state(generators["cpu"])
        if self._on_cuda and "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"])

    @property
    def _on_cuda(self) -> bool:
        return self._parameters[0].device.type == "cuda"
