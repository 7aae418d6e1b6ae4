"""Several runs of one small net, with different seeds, a step of all at a time.

A small net keeps a processor busy with overhead, not arithmetic: the nets of five runs, stacked
along a first dimension, cost little more than one. Each remains a run of its own, with its own
seed, folder, history and result.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from training.errors import DivergedError
from training.run import Interrupts, Run
from training.team import Team
from training.torch_learner import TorchLearner


class _Member(Team):
    """One of several runs in lockstep: what the first to be asked decides holds for all.

    Args:
        decisions: of the present step, shared by all members.
    """

    def __init__(self, decisions: list[bool]):
        self._decisions = decisions
        self._asked = 0

    def any(self, wish: bool) -> bool:
        """The decision, which is this member's wish if it is the first to be asked."""
        if self._asked == len(self._decisions):
            self._decisions.append(wish)
        self._asked += 1
        return self._decisions[self._asked - 1]

    def next_step(self) -> None:
        """Forget the present step."""
        self._decisions.clear()
        self._asked = 0


def train_together(runs: Sequence[Run]) -> list[DivergedError]:
    """Train runs of equal length, whose learners are TorchLearners of equal nets, to their results.

    Nets that cannot be stacked (without an attribute `stackable`) are trained one after another.

    Returns:
        why runs ended before the others, if any did.

    Raises:
        KeyboardInterrupt: on Ctrl-C or a request to terminate, after all have saved.
    """
    for run in runs:
        run.load()
    stackable = all(getattr(run.learner.net, "stackable", False) for run in runs)
    if not stackable or len({run.step for run in runs}) > 1:  # killed while saving: some are behind
        return [error for run in runs for error in _alone(run)]
    decisions: list[bool] = []
    for run in runs:
        run.team = _Member(decisions)
    stack = Stack([run.learner for run in runs])
    errors: list[DivergedError] = []
    with Interrupts() as interrupts:
        lives = dict(enumerate(run.life(interrupts) for run in runs))
        batches: dict[int, tuple] = {}
        while True:
            batches |= _next(lives, errors)  # a run that has ended keeps its last batch
            if not lives:
                return errors
            stack.train_step([batches[i] for i in range(len(runs))])
            for run in runs:
                run.team.next_step()


def _alone(run: Run) -> list[DivergedError]:
    try:
        run.train()
    except DivergedError as error:
        return [error]
    return []


def _next(lives: dict[int, Iterator[tuple]], errors: list[DivergedError]) -> dict[int, tuple]:
    """The next batch of each run; those that have ended leave `lives`.

    When one is interrupted, so are all: each saves before that is passed on.
    """
    batches, interrupted = {}, None
    for i, life in list(lives.items()):
        try:
            batches[i] = next(life)
        except StopIteration:
            del lives[i]
        except DivergedError as error:
            errors.append(error)
            del lives[i]
        except KeyboardInterrupt as interrupt:
            interrupted = interrupt
    if interrupted:
        raise interrupted
    return batches


class Stack:
    """The nets of several learners as one, whose parameters have one dimension more.

    The learners' own parameters and optimiser states become views of it, so that each learner
    evaluates, saves and loads as if it were alone.

    Args:
        learners: with an optimiser that treats each parameter's elements apart.
    """

    def __init__(self, learners: Sequence[TorchLearner]):
        self._learners = learners
        self._net = copy.deepcopy(learners[0].net)
        with torch.no_grad():
            for name, parameter in self._net.named_parameters():
                own = [learner.net.get_parameter(name) for learner in learners]
                parameter.data = torch.stack([p.data for p in own])
                for p, view in zip(own, parameter.data.unbind(), strict=True):
                    p.data = view
        first = learners[0].optimizer
        self._optimizer = type(first)(self._net.parameters(), **first.defaults)
        self._parameters = list(self._net.parameters())
        self._stack_states()
        self._share_states()

    def _stack_states(self) -> None:
        """Take over what the learners' optimisers remember, if they have been resumed."""
        for i, parameter in enumerate(self._parameters):
            states = [self._state(learner, i) for learner in self._learners]
            if states[0]:
                self._optimizer.state[parameter] = {
                    key: torch.stack([state[key] for state in states])
                    if value.dim()
                    else value.clone()
                    for key, value in states[0].items()
                }

    @staticmethod
    def _state(learner: TorchLearner, i: int) -> dict:
        group = learner.optimizer.param_groups[0]
        return learner.optimizer.state[group["params"][i]]

    def train_step(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """One step of every net on its own batch."""
        x, y = (torch.stack(each) for each in zip(*batches, strict=True))  # (S, N, T), (S, N)
        self._optimizer.param_groups[0]["lr"] = self._learners[0].learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        logits = self._net(x).flatten(0, 1)
        # The sum over nets of their mean losses: no net's gradient depends on another net.
        (F.cross_entropy(logits, y.flatten()) * len(y)).backward()
        if max_norm := self._learners[0].max_norm:
            self._clip(max_norm)
        first_step = not self._optimizer.state
        self._optimizer.step()
        if first_step:
            self._share_states()

    def _share_states(self) -> None:
        """Let the learners' optimisers remember through views of the common memory."""
        for i, parameter in enumerate(self._parameters):
            state = self._optimizer.state.get(parameter, {})
            for s, learner in enumerate(self._learners):
                self._state(learner, i).update(
                    {key: value[s] if value.dim() else value for key, value in state.items()}
                )

    def _clip(self, max_norm: float) -> None:
        """What `clip_grad_norm_` does, for each net apart."""
        gradients = [parameter.grad for parameter in self._parameters]
        norms = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()
        shrink = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(shrink.view(-1, *[1] * (g.dim() - 1)))
