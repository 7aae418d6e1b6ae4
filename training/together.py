"""Several runs of one small net, with different seeds, a step of all at a time.

A small net keeps a processor busy with overhead, not arithmetic: the nets of five runs, stacked
along a first dimension, cost little more than one. Each remains a run of its own, with its own
seed, folder, history and result.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from training.errors import DivergedError, Interrupted
from training.flat import gather, share
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

    Learners without flat parameters are trained one after another.

    Returns:
        why runs ended before the others, if any did.

    Raises:
        Interrupted: on Ctrl-C or a request to terminate, after all have saved.
    """
    if not runs:
        return []
    for run in runs:
        run.load()
    stackable = all(run.learner.flat is not None for run in runs)
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
        except Interrupted as interrupt:
            interrupted = interrupt
    if interrupted:
        raise interrupted
    return batches


class Stack:
    """The nets of several learners as one, whose parameters have one dimension more.

    The learners' own parameters and optimiser states become rows of it, so that each learner
    evaluates, saves and loads as if it were alone.

    Args:
        learners: of flat parameters, with an optimiser that treats each element apart.
    """

    def __init__(self, learners: Sequence[TorchLearner]):
        self._learners = learners
        self._flat = nn.Parameter(torch.stack([learner.flat.detach() for learner in learners]))
        self._net = copy.deepcopy(learners[0].net)
        share(self._net, self._flat)
        for learner, row in zip(learners, self._flat.detach().unbind(), strict=True):
            learner.flat.data = row
            share(learner.net, row)
        first = learners[0].optimizer
        self._optimizer = type(first)([self._flat], **first.defaults)
        self._parameters = list(self._net.parameters())
        self._stack_states()
        self._share_states()

    def _stack_states(self) -> None:
        """Take over what the learners' optimisers remember, if they have been resumed."""
        states = [learner.optimizer.state[learner.flat] for learner in self._learners]
        self._optimizer.state[self._flat] = {
            key: torch.stack([state[key] for state in states]) if value.dim() else value.clone()
            for key, value in states[0].items()
        }

    def _share_states(self) -> None:
        """Let the learners' optimisers remember through rows of the common memory."""
        for s, learner in enumerate(self._learners):
            learner.optimizer.state[learner.flat].update(
                {
                    key: value[s] if value.dim() else value
                    for key, value in self._optimizer.state[self._flat].items()
                }
            )

    def train_step(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """One step of every net on its own batch."""
        x, y = (torch.stack(each) for each in zip(*batches, strict=True))  # (S, N, T), (S, N)
        self._optimizer.param_groups[0]["lr"] = self._learners[0].learning_rate
        logits = self._net(x).flatten(0, 1)
        # The sum over nets of their mean losses: no net's gradient depends on another net.
        loss = F.cross_entropy(logits, y.flatten()) * len(y)
        gradient = gather(torch.autograd.grad(loss, self._parameters), 1)
        if max_norm := self._learners[0].max_norm:
            norms = gradient.norm(dim=1, keepdim=True)  # what `clip_grad_norm_` does, for each net
            gradient *= (max_norm / (norms + 1e-6)).clamp(max=1.0)
        self._flat.grad = gradient
        first_step = not self._optimizer.state[self._flat]
        self._optimizer.step()
        if first_step:
            self._share_states()
