"""The NumPy MLP on moons as a plain course script: one class, one loop, curves in a CSV file.

    python tests/benchmarks/course_mlp.py CURVES.csv [--plot]

The net, the samples, the batches and the evaluations are as many as those of part1_mlp/train.py.
tests/benchmarks/part1.py compares the two. It draws the curves with --plot alone, for train.py
draws none, but imports matplotlib in any case, as such a script does.
"""

import csv
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

SAMPLES, EPOCHS, BATCH, HIDDEN, RATE, EVAL_FREQ = 5000, 40, 32, 20, 0.1, 20


class MLP:
    """2-20-2 with ReLU; x is (N, 2), probabilities are (N, 2), targets one-hot."""

    def __init__(self, rng):
        self.w1, self.b1 = rng.normal(0, 1, (2, HIDDEN)), np.zeros(HIDDEN)
        self.w2, self.b2 = rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 2)), np.zeros(2)

    def forward(self, x):
        """Class probabilities."""
        self.x = x
        self.h = np.maximum(0, x @ self.w1 + self.b1)
        logits = self.h @ self.w2 + self.b2
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def train_step(self, x, targets):
        """One step of gradient descent on the mean cross-entropy."""
        d2 = (self.forward(x) - targets) / len(x)
        d1 = (d2 @ self.w2.T) * (self.h > 0)
        self.w2 -= RATE * self.h.T @ d2
        self.b2 -= RATE * d2.sum(axis=0)
        self.w1 -= RATE * self.x.T @ d1
        self.b1 -= RATE * d1.sum(axis=0)


def evaluate(net, x, targets):
    """Mean loss and accuracy."""
    p = net.forward(x)
    loss = -np.mean(np.sum(targets * np.log(p + 1e-12), axis=1))
    return loss, np.mean(p.argmax(axis=1) == targets.argmax(axis=1))


def main():
    """Train, and write the curves."""
    rng = np.random.default_rng(0)
    x, y = make_moons(SAMPLES, noise=0.2, random_state=0)
    targets = np.eye(2)[y]
    splits = [slice(0, 3000), slice(3000, 4000), slice(4000, 5000)]  # train, validation, test
    x_train, targets_train = x[splits[0]], targets[splits[0]]
    net, step, curves = MLP(rng), 0, []
    n_steps = EPOCHS * -(-len(x_train) // BATCH)

    def record():
        curves.append([step, *(v for s in splits for v in evaluate(net, x[s], targets[s]))])

    record()
    for _ in range(EPOCHS):
        order = rng.permutation(len(x_train))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            net.train_step(x_train[chosen], targets_train[chosen])
            step += 1
            if step % EVAL_FREQ == 0 or step == n_steps:
                record()
    with open(sys.argv[1], "w", newline="") as file:
        csv.writer(file).writerows(curves)
    print(f"test accuracy {curves[-1][-1]:.4f} after {step} steps")
    if "--plot" in sys.argv:
        plt.plot(*np.array(curves)[:, [0, 3]].T)
        plt.show()


if __name__ == "__main__":
    main()
