"""The learning rate as a function of the step, which is all that a resumed run must know of it."""

import math

SCHEDULES = ("constant", "cosine", "one_cycle")
ONE_CYCLE_WARM_UP = 0.1  # share of the steps in which the rate rises


def learning_rate_at(step: int, total: int, base: float, schedule: str) -> float:
    """Learning rate of step `step` (from 0) of `total`.

    `constant` is `base`; `cosine` falls from `base` to 0 along half a cosine (Loshchilov and
    Hutter, 2017); `one_cycle` first rises linearly from 0 over a tenth of the steps (after
    Smith, 2018).
    """
    if schedule == "constant":
        return base
    done = step / total
    if schedule == "one_cycle":
        if done < ONE_CYCLE_WARM_UP:
            return base * (step + 1) / math.ceil(ONE_CYCLE_WARM_UP * total)
        done = (done - ONE_CYCLE_WARM_UP) / (1 - ONE_CYCLE_WARM_UP)
    return base * 0.5 * (1 + math.cos(math.pi * done))
