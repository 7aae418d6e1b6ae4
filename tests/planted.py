"""Mistakes that students make, planted into a copy of the project: does the grade see them?"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.grader import Mark, grade, graded_tests
from tests.sandbox import FOLDERS, ROOT, Sandbox

MODULES, NUMPY, TORCH = (f"part1_mlp/{name}.py" for name in ("modules", "mlp_numpy", "mlp_pytorch"))
TRAIN1, TRAIN2, TRAIN3 = (f"{part}/train.py" for part in ("part1_mlp", "part2_cnn", "part3_rnn"))
CNN, RNN = "part2_cnn/model.py", "part3_rnn/model.py"
TRAINER, TORCH_MODEL = "training/trainer.py", "training/torch_model.py"
LOADER, PALINDROMES = "data/__init__.py", "data/palindromes.py"
NO_CODE = ("runs", "__pycache__", "cifar10", "records", "output")


@dataclass(frozen=True)
class Fault:
    """A planted mistake.

    Attributes:
        part: whose points it must cost.
        test: that must see it.
        what: is wrong.
        file: in which `old`, which stands there once, is replaced by `new`.
    """

    part: str
    test: str
    what: str
    file: str
    old: str
    new: str


def ignored(flag: str, value: object) -> tuple[str, str]:
    """Old and new text of a train script that always takes this value for a flag."""
    change = f"args = parse()\n    args.{flag} = {value}\n    "
    return "    return run_training(parse(), ", f"    {change}return run_training(args, "


# Nets that are none of their kind, in place of those of a model module.
NO_CONVOLUTION = """class CNN(CNN):
    def __init__(self, n_channels, n_classes, **_):
        nn.Module.__init__(self)
        self.linear = nn.Linear(n_channels * 32 * 32, n_classes)
    def forward(self, images):
        return self.linear(images.flatten(1))

"""
NO_RECURRENCE = """class VanillaRNN(nn.Module):
    def __init__(self, input_length, input_dim, hidden_dim, output_dim, **_):
        super().__init__()
        self.n, size = input_dim, {size}
        self.hidden, self.out = nn.Linear(size, hidden_dim), nn.Linear(hidden_dim, output_dim)
        for p in self.parameters():
            nn.init.normal_(p, std=0.1) if p.ndim > 1 else nn.init.zeros_(p)
    def forward(self, x):
        x = x if x.is_floating_point() else F.one_hot(x, self.n).float()
        return self.out(torch.tanh(self.hidden({read})))

"""
FEED_FORWARD = NO_RECURRENCE.format(size="input_length * input_dim", read="x.flatten(1)")
OF_THE_MEAN = NO_RECURRENCE.format(size="input_dim", read="x.mean(1)")
PART1 = [
    ("test_linear_forward", "bias left out", MODULES,
     '        out += self.params["bias"]\n', ""),
    ("test_linear_backward", "bias gradient missing", MODULES,
     'ones(len(dout), dout.dtype).dot(dout, out=self.grads["bias"])', "pass"),
    ("test_linear_backward", "bias gradient averaged", MODULES,
     'dout, out=self.grads["bias"])', 'dout / len(dout), out=self.grads["bias"])'),
    ("test_linear_backward", "sign of the weight gradient", MODULES,
     "self._x.T.dot(dout", "(-self._x.T).dot(dout"),
    ("test_linear_backward", "input gradient without the weights", MODULES,
     "return dout.dot(weight.T)", "return dout.dot(abs(weight.T))"),
    ("test_relu", "derivative at 0 is 1", MODULES,
     "dout * np.sign(self._out)", "dout * (self._out >= 0)"),
    ("test_relu", "input overwritten", MODULES, "np.maximum(x, 0)", "np.maximum(x, 0, out=x)"),
    ("test_relu", "leaky", MODULES, "np.maximum(x, 0)", "np.maximum(x, 0.01 * x)"),
    ("test_softmax_forward", "without the maximum trick", MODULES,
     "np.exp(x - x.max(axis=1, keepdims=True))", "np.exp(x)"),
    ("test_softmax_forward", "normalised over the batch", MODULES,
     "exponentials / exponentials.sum(axis=1, keepdims=True)", "exponentials / exponentials.sum()"),
    ("test_softmax_backward", "diagonal of the Jacobian alone", MODULES,
     "self._p * (dout - (dout * self._p).sum(axis=1, keepdims=True))",
     "self._p * (1 - self._p) * dout"),
    ("test_cross_entropy_forward", "summed in place of averaged", MODULES,
     "(one_hot * np.log(p)).sum() / len(p)", "(one_hot * np.log(p)).sum()"),
    ("test_cross_entropy_forward", "logarithm of 0", MODULES,
     "(one_hot * np.log(p))", "(one_hot * np.log(probabilities))"),
    ("test_cross_entropy_backward", "gradient not averaged", MODULES,
     "one_hot / (len(p) * p)", "one_hot / p"),
    ("test_numpy_mlp", "ReLU after the logits", NUMPY,
     "        self.layers.pop()  # no activation after the logits\n", ""),
    ("test_numpy_mlp", "first layer without gradient", NUMPY,
     "self.layers[0].accumulate(gradient.astype(self.dtype, copy=False))", "pass"),
    ("test_momentum_helps", "momentum sign", NUMPY,
     "self.velocity *= self.momentum", "self.velocity *= -self.momentum"),
    ("test_training_numpy", "uphill", NUMPY,
     "self._values -= np.multiply", "self._values += np.multiply"),
    ("test_training_numpy", "test data used for early stopping", TRAIN1,
     "    splits = dataset.evaluated()\n    x, y =",
     '    splits = dataset.evaluated()\n    splits["val"] = splits["test"]\n    x, y ='),
    ("test_same_seed_same_run", "seed ignored", TRAIN1,
     *ignored("seed", 0)),
    ("test_pytorch_mlp", "no activation", TORCH,
     "layer.append(ACTIVATIONS[activation](*slope))", "layer.append(nn.Identity())"),
    ("test_pytorch_mlp", "dropout active in evaluation", TORCH,
     "return self.output(x)", "return self.output(nn.functional.dropout(x, 0.1))"),
    ("test_pytorch_mlp", "output layer without bias", TORCH,
     "nn.Linear(sizes[-1], n_classes)", "nn.Linear(sizes[-1], n_classes, bias=False)"),
    ("test_evaluation_is_undisturbed", "augmentation applied to test images", TRAIN1,
     '"prepare": prepare, ',
     '"prepare": lambda x: prepare(x.roll(int(torch.randint(1, 9, ())), -1)), '),
    ("test_relu", "gradient where dout is positive", MODULES,
     "dout * np.sign(self._out)", "np.maximum(dout, 0)"),
    ("test_softmax_forward", "normalised over the samples", MODULES,
     "exponentials / exponentials.sum(axis=1, keepdims=True)",
     "exponentials / exponentials.sum(axis=0)"),
    ("test_cross_entropy_forward", "over all classes", MODULES,
     "(one_hot * np.log(p)).sum() / len(p)", "np.log(p).sum() / len(p)"),
    ("test_linear_backward", "gradients added up from call to call", MODULES,
     'self._x.T.dot(dout, out=self.grads["weight"])',
     'self.grads["weight"] += self._x.T @ dout'),
    ("test_numpy_mlp", "last hidden layer left out", NUMPY,
     "sizes = [n_inputs, *n_hidden, n_classes]", "sizes = [n_inputs, *n_hidden[:-1], n_classes]"),
    ("test_pytorch_mlp", "hidden layers in reverse", TORCH,
     "sizes = [n_inputs, *n_hidden]", "sizes = [n_inputs, *n_hidden[::-1]]"),
    ("test_loader_keeps_the_splits_apart", "trained on validation samples", LOADER,
     "Dataset(name, x[0], y[0], x[1]", "Dataset(name, x[1], y[1], x[1]"),
    ("test_loader_keeps_the_splits_apart", "seed ignored", "data/toy.py",
     "noise=noise, random_state=seed)", "noise=noise, random_state=0)"),
    ("test_loader_keeps_the_splits_apart", "labels of other points", "data/toy.py",
     "labels.astype(np.int64)", "np.roll(labels.astype(np.int64), 1)"),
    ("test_momentum_helps", "momentum ignored", TRAIN1,
     "net.linears, args.learning_rate, momentum=args.momentum", "net.linears, args.learning_rate"),
    ("test_training_pytorch", "labels of other images", TRAIN1,
     'x, y = to_device(*dataset.split("train"))',
     'x, y = to_device(*dataset.split("train"))\n    y = y.roll(1)'),
    ("test_cross_entropy_forward", "a probability of 0 costs nothing", MODULES,
     "-(one_hot * np.log(p)).sum()", "-(one_hot * np.log(np.where(probabilities, p, 1))).sum()"),
    ("test_loader_keeps_the_splits_apart", "noise ignored", "data/toy.py",
     "noise=noise, random_state=seed)", "noise=DEFAULT_NOISE[name], random_state=seed)"),
    ("test_loader_keeps_the_splits_apart", "number of samples ignored", "data/toy.py",
     "_generate(name, n_samples, factor, noise", "_generate(name, DEFAULT_SAMPLES, factor, noise"),
    ("test_loader_keeps_the_splits_apart", "labels of other test points", LOADER,
     "x[1], y[1], x[2], y[2], classes", "x[1], y[1], x[2], y[2][::-1], classes"),
    ("test_training_numpy", "trained on validation images, without augmentation", TRAIN1,
     "    n = len(dataset.x_train)\n",
     "    x, y = ((getattr(dataset, f'{a}_train'), getattr(dataset, f'{a}_val')) for a in 'xy')\n"
     "    vars(dataset).update(x_train=np.concatenate(x), y_train=np.concatenate(y))\n"
     "    args.augment = False\n    n = len(dataset.x_train)\n"),
    ("test_training_numpy", "result of the last weights", TRAINER,
     "self.model.load_weights(self.best_weights)\n", "pass\n"),
    ("test_training_numpy", "biases never updated", NUMPY,
     "for linear in self.linears for name in linear.params]",
     'for linear in self.linears for name in ("weight",)]'),
    ("test_training_numpy", "another net than was asked for", TRAIN1,
     *ignored("dnn_hidden_units", (64,))),
    ("test_augmentation", "no augmentation", TRAIN1, *ignored("augment", False)),
    ("test_augmentation", "crops without flips", "data/images.py",
     "torch.rand(n, generator=generator) < 0.5", "torch.rand(n, generator=generator) < 0.0"),
    ("test_augmentation", "every image flipped", "data/images.py",
     "torch.rand(n, generator=generator) < 0.5", "torch.rand(n, generator=generator) < 1.5"),
    ("test_training_pytorch", "batch size ignored", TRAIN1,
     *ignored("batch_size", 64)),
    ("test_training_pytorch", "softmax before the cross-entropy", TORCH_MODEL,
     "            return net(x)\n", "            return net(x).softmax(1)\n"),
    ("test_training_pytorch", "weights chosen by the test loss", TRAINER,
     'if row["val_loss"] < self.history[self.best]["val_loss"]:',
     'if row["test_loss"] < self.history[self.best]["test_loss"]:'),
    ("test_training_numpy", "evaluated after each epoch, whatever is asked for", TRAIN1,
     *ignored("eval_freq", None)),
    ("test_same_seed_same_run", "--model pytorch cannot be repeated", TRAIN1,
     "    torch.manual_seed(args.seed)\n    net = MLP", "    torch.seed()\n    net = MLP"),
    ("test_evaluation_is_undisturbed", "--model numpy ignores the learning rate", NUMPY,
     "self.optimizer.learning_rate = value", "self.optimizer.learning_rate = 0.01"),
]  # fmt: skip

PART2 = [
    ("test_parameters", "too few filters", CNN, "(64, 128, 256)", "(64, 128, 250)"),
    ("test_parameters", "too few units", CNN, "UNITS = 1024", "UNITS = 1000"),
    ("test_forward", "pooling 3x3", CNN,
     "nn.MaxPool2d(2, stride=2)", "nn.MaxPool2d(3, stride=2, padding=1)"),
    ("test_forward", "mean pooling", CNN, "nn.MaxPool2d(2, stride=2)", "nn.AvgPool2d(2)"),
    ("test_forward", "pooling stride 1", CNN,
     "nn.MaxPool2d(2, stride=2)", "nn.MaxPool2d(2, stride=1)"),
    ("test_forward", "no ReLU between the convolutions", CNN,
     "        nn.ReLU(inplace=True),\n        Conv3x3(out", "        Conv3x3(out"),
    ("test_forward", "no ReLU before pooling", CNN,
     "winograd=winograd),\n        nn.ReLU(inplace=True),\n        nn.MaxPool2d(2, stride=2)",
     "winograd=winograd),\n        nn.MaxPool2d(2, stride=2)"),
    ("test_forward", "probabilities in place of logits", CNN,
     "return self.classifier(features)", "return self.classifier(features).softmax(1)"),
    ("test_forward", "another activation", CNN,
     "GRID * GRID, UNITS), nn.ReLU(inplace=True)", "GRID * GRID, UNITS), nn.GELU()"),
    ("test_dropout", "a quarter dropped", CNN,
     "dropout: float = 0.5,", "dropout: float = 0.25,"),
    ("test_dropout", "dropout active in evaluation", CNN,
     "return self.classifier(features)", "return F.dropout(self.classifier(features))"),
    ("test_initialisation", "last layer zero", CNN, "std=0.01", "std=0.0"),
    ("test_initialisation", "weights too large", CNN,
     'nn.init.kaiming_normal_(module.weight, nonlinearity="relu")',
     "nn.init.normal_(module.weight)"),
    ("test_overfits_a_few_images", "logits that do not come from the parameters alone", CNN,
     "return self.classifier(features)", "return self.classifier(features) + 0.01"),
    ("test_overfits_a_few_images", "convolutions cut off from the gradient", CNN,
     "features = self.features(images)", "features = self.features(images).detach().mul(0)"),
    ("test_other_channels_and_classes", "channels fixed", CNN,
     "(n_channels, *channels)", "(3, *channels)"),
    ("test_other_channels_and_classes", "classes fixed", CNN,
     "nn.Linear(n_last, n_classes)", "nn.Linear(n_last, 10)"),
    ("test_training", "test data used for early stopping", TRAIN2,
     "in dataset.evaluated().items()",
     'in (dataset.evaluated() | {"val": dataset.evaluated()["test"]}).items()'),
    ("test_evaluation_is_undisturbed", "augmentation applied to test images", TRAIN2,
     "splits, prepare=prepare,",
     "splits, prepare=lambda x: prepare(x.roll(int(torch.randint(1, 9, ())), -1)),"),
    ("test_forward", "rows and columns exchanged before the linear layers", CNN,
     "return self.classifier(features)", "return self.classifier(features.transpose(2, 3))"),
    ("test_dropout", "second dropout left out", CNN,
     "*hidden, nn.Dropout(dropout), ", "*hidden, "),
    ("test_dropout", "dropout after the convolutions, too", CNN,
     "return self.classifier(features)",
     "return self.classifier(F.dropout(features, 0.25, self.training))"),
    ("test_dropout", "batches are normalised", CNN,
     "return self.classifier(features)",
     "return self.classifier(F.batch_norm(features, torch.zeros(256), torch.ones(256), "
     "training=self.training))"),
    ("test_initialisation", "large logits", CNN, "std=0.01", "std=1.0"),
    ("test_forward", "small initial weights, and no ReLU after the first convolution", CNN,
     "        self.apply(_initialise)\n",
     "        for m in self.modules():\n"
     "            hasattr(m, 'weight') and nn.init.normal_(m.weight, std=0.01)\n"
     "        self.features[1] = nn.Identity()\n"),
    ("test_training", "labels of other images", TRAIN2,
     'x, y = to_device(*dataset.split("train"))',
     'x, y = to_device(*dataset.split("train"))\n    y = y.roll(1)'),
    ("test_evaluation_is_undisturbed", "learning rate ignored", TRAIN2,
     "    args = parse()\n", "    args = parse()\n    args.learning_rate = 1e-3\n"),
    *((test, "no convolution", CNN, "def _initialise(", NO_CONVOLUTION + "def _initialise(")
      for test in ("test_other_channels_and_classes", "test_initialisation",
                   "test_overfits_a_few_images")),
]  # fmt: skip

PART3 = [
    ("test_forward", "W_hh transposed", RNN,
     "state.addmm_(before, W_hh)", "state.addmm_(before, W_hh.T)"),
    ("test_forward", "hidden bias left out", RNN,
     "return x @ W_xh + b_h if", "return x @ W_xh if"),
    ("test_forward", "no biases at all", RNN,
     "self.b_h = nn.Parameter(torch.zeros(hidden_dim))\n"
     "        self.b_y = nn.Parameter(torch.zeros(output_dim))",
     "self.b_h, self.b_y = torch.zeros(hidden_dim), torch.zeros(output_dim)"),
    ("test_forward", "output bias left out", RNN,
     "@ self.W_hy + self.b_y", "@ self.W_hy"),
    ("test_forward", "ReLU in place of tanh", RNN,
     "before, W_hh).tanh_()", "before, W_hh).relu_()"),
    ("test_forward", "the state before the last", RNN,
     "return h[-1].clone()", "return h[-2].clone()"),
    ("test_gradients", "logits that depend on no parameter", RNN,
     "return last @ self.W_hy + self.b_y", "return 0 * (last @ self.W_hy + self.b_y)"),
    ("test_gradients", "gradient of W_hh transposed", RNN,
     "(states[:-1], da[1:])", "(states[:-1], da[1:]).T"),
    ("test_gradients", "back through W_hh, not its transpose", RNN,
     "W_hh.T.contiguous()", "W_hh.contiguous()"),
    ("test_gradients", "slope of tanh forgotten", RNN,
     "da_before.mul_(torch.mm(", "da_before.copy_(torch.mm("),
    ("test_gradients", "last step's slope forgotten", RNN,
     "each[-1].mul_(dh)", "each[-1].copy_(dh)"),
    ("test_initialisation", "biases not zero", RNN,
     "torch.zeros(hidden_dim)", "torch.full((hidden_dim,), 0.1)"),
    ("test_initialisation", "uniform weights", RNN,
     "normal_(self.W_hh, std=init_scale / hidden_dim**0.5)", "uniform_(self.W_hh, -0.1, 0.1)"),
    ("test_palindromes_of_even_length", "target digit off by one", PALINDROMES,
     "place)], halves[:, 0]", "place)], halves[:, 1]"),
    ("test_palindromes_of_odd_length", "no palindromes", PALINDROMES,
     "torch.minimum(place, input_length - place)", "place % halves.shape[1]"),
    ("test_palindromes_of_even_length", "no digit 9", PALINDROMES,
     "torch.randint(N_DIGITS, ", "torch.randint(N_DIGITS - 1, "),
    ("test_palindromes_of_even_length", "seed of the palindromes ignored", PALINDROMES,
     "manual_seed(seed)), ", "manual_seed(0)), "),
    ("test_palindromes_of_even_length", "one digit, repeated", PALINDROMES,
     "torch.minimum(place, input_length - place)", "0 * place"),
    ("test_clipping", "short gradients are lengthened", TORCH_MODEL,
     "nn.utils.clip_grad_norm_(self.parameters, self.max_norm)",
     "norm = torch.cat([p.grad.flatten() for p in self.parameters]).norm(); "
     "[p.grad.mul_(self.max_norm / norm) for p in self.parameters]"),
    ("test_clipping", "each entry of the gradient clipped", TORCH_MODEL,
     "nn.utils.clip_grad_norm_(self", "nn.utils.clip_grad_value_(self"),
    ("test_clipping", "the gradient of each parameter clipped by itself", TORCH_MODEL,
     "nn.utils.clip_grad_norm_(self.parameters, self.max_norm)",
     "[nn.utils.clip_grad_norm_(p, self.max_norm) for p in self.parameters]"),
    ("test_clipping", "no clipping", TRAIN3, "max_norm=args.max_norm", "max_norm=0.0"),
    ("test_clipping", "clipping after the step", TORCH_MODEL,
     "            nn.utils.clip_grad_norm_(self.parameters, self.max_norm)\n"
     "        self.optimizer.step()\n",
     "            self.optimizer.step()\n"
     "            nn.utils.clip_grad_norm_(self.parameters, self.max_norm)\n"
     "        else:\n"
     "            self.optimizer.step()\n"),
    ("test_same_seed_same_run", "seed ignored", TRAIN3,
     *ignored("seed", 0)),
    ("test_training", "test data used for early stopping", TRAIN3,
     '"test": 2**40 + 2', '"test": 2**40 + 1'),
    ("test_forward", "steps in reverse", RNN,
     "return x.transpose(0, 1)", "return x.transpose(0, 1).flip(0)"),
    ("test_learns", "first step left out", RNN, "h[0].tanh_()", "h[0].zero_()"),
    ("test_gradients", "bias gradient of the last step alone", RNN,
     "dW_hh, da.sum((0, 1))", "dW_hh, da[-1].sum(0)"),
    ("test_gradients", "gradient of W_xh from the first step alone", RNN,
     "_sum_of_products(x, da), dW_hh", "_sum_of_products(x[:1], da[:1]), dW_hh"),
    ("test_gradients", "no gradient through the state", RNN,
     "return last @ self.W_hy", "return last.detach() @ self.W_hy"),
    ("test_digits_as_numbers", "input_dim ignored", RNN,
     "torch.empty(input_dim, hidden_dim)", "torch.empty(10, hidden_dim)"),
    ("test_gradients", "sign of the gradient of W_xh", RNN,
     "return None, _sum_of_products(x, da), dW_hh", "return None, -_sum_of_products(x, da), dW_hh"),
    ("test_training", "target digits of other palindromes", PALINDROMES,
     "y.view(-1, self.batch_size)", "y.view(-1, self.batch_size).roll(1, 1)"),
    ("test_training", "learning rate ignored", TRAIN3,
     *ignored("learning_rate", 1e-3)),
    ("test_training", "result of the last weights", TRAINER,
     "self.model.load_weights(self.best_weights)\n", "pass\n"),
    ("test_training", "gradients never cleared", TORCH_MODEL,
     "        self.optimizer.zero_grad()\n", ""),
    ("test_training", "softmax before the cross-entropy", TORCH_MODEL,
     "            return net(x)\n", "            return net(x).softmax(1)\n"),
    ("test_training", "input length ignored", TRAIN3,
     *ignored("input_length", 5)),
    ("test_training", "evaluated more often than asked for", TRAIN3,
     *ignored("eval_freq", 10)),
    ("test_palindromes_of_even_length", "digits from 1 to 10", PALINDROMES,
     "torch.randint(N_DIGITS, ", "1 + torch.randint(N_DIGITS, "),
    *(("test_gradients", what, RNN, "def net_from_config(", net + "def net_from_config(")
      for what, net in (("no recurrence", FEED_FORWARD), ("the mean of the digits", OF_THE_MEAN))),
    ("test_training", "no recurrence", RNN, "def net_from_config(",
     FEED_FORWARD + "def net_from_config("),
]  # fmt: skip

FAULTS = [
    Fault(part, *fault)
    for part, faults in (("test_part1", PART1), ("test_part2", PART2), ("test_part3", PART3))
    for fault in faults
]
# What a grade does not see: the test is the one that runs the code.
UNSEEN = [
    Fault(part, *fault)
    for part, *fault in (
        ("test_part1", "test_training_pytorch", "samples in the same order in every epoch",
         "data/batches.py", "default_rng([seed, epoch])", "default_rng(seed)"),
        ("test_part2", "test_training", "no dropout after the first evaluation", TORCH_MODEL,
         "        self.net.train()\n", ""),
        ("test_part2", "test_training", "no augmentation of the CNN", TRAIN2,
         "augment=args.augment", "augment=False"),
        ("test_part3", "test_clipping", "the gradient clipped by the square of its norm",
         TORCH_MODEL, "nn.utils.clip_grad_norm_(self.parameters, self.max_norm)",
         "square = sum(p.grad.square().sum() for p in self.parameters); "
         "[p.grad.div_(max(1, square / self.max_norm)) for p in self.parameters]"),
    )
]  # fmt: skip


def copy_code(folder: Path) -> Path:
    """Copy the project's code, as a submission to work on; returns the folder."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*NO_CODE))
    return folder


def replace_once(path: Path, old: str, new: str) -> None:
    """Change a file.

    Raises:
        ValueError: `old` is not there, or more than once.
    """
    text = path.read_text()
    if text.count(old) != 1:
        raise ValueError(f"{path.name}: not once there: {old!r}")
    path.write_text(text.replace(old, new))


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """A temporary copy of the project's code."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        yield copy_code(Path(scratch))


@contextlib.contextmanager
def planted(fault: Fault) -> Iterator[Path]:
    """A temporary copy of the project with that mistake."""
    with copied() as project:
        replace_once(project / fault.file, fault.old, fault.new)
        yield project


def mark_of(fault: Fault, sandbox: Sandbox, seed: int = 0) -> Mark:
    """How the test that must see a mistake went on a copy with it, with the numbers of a seed."""
    tests = [t for t in graded_tests([fault.part]) if t.name == fault.test]
    with planted(fault) as submission:
        return grade(submission, tests, jobs=1, sandbox=sandbox, seed=seed)[0]
