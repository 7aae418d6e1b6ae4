"""Right solutions that are written in another way than this project's: each gets all its points."""

from dataclasses import dataclass
from pathlib import Path

from tests.planted import replace_once

MODULES, NUMPY, TORCH = (f"part1_mlp/{name}.py" for name in ("modules", "mlp_numpy", "mlp_pytorch"))
TRAIN1, CNN, RNN = "part1_mlp/train.py", "part2_cnn/model.py", "part3_rnn/model.py"
LAYERS = ("test_linear_forward", "test_linear_backward", "test_relu", "test_softmax_forward",
          "test_softmax_and_cross_entropy")  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A right solution.

    Attributes:
        name: of the test.
        part: whose tests are run.
        tests: that it has to pass.
        append: text for the end of files; a file that is not there is made.
        whole: files that are replaced.
        replace: old and new text of files.
        loses: tests that it fails, and may fail.
        slow: they take several seconds.
    """

    name: str
    part: str
    tests: tuple[str, ...]
    append: dict[str, str] | None = None
    replace: dict[str, tuple[str, str]] | None = None
    loses: tuple[str, ...] = ()
    slow: bool = False
    whole: dict[str, str] | None = None

    def write(self, submission: Path) -> None:
        """Change a copy of the project into it."""
        for name, text in (self.whole or {}).items():
            (submission / name).write_text(text)
        for name, text in (self.append or {}).items():
            path = submission / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if path.is_file() else "") + text)
        for name, (old, new) in (self.replace or {}).items():
            replace_once(submission / name, old, new)


NUMPY_NET = """

class MLP:
    def __init__(self, n_inputs, n_hidden, n_classes, **_):
        widths = [n_inputs, *n_hidden, n_classes]
        linears = [Linear(a, b) for a, b in zip(widths, widths[1:])]
        relus = [ReLU() for _ in n_hidden]
{keep}
    def order(self):
{order}
    def forward(self, x):
        for layer in self.order():
            x = layer.forward(x)
        return x
    def backward(self, dout):
        for layer in self.order()[::-1]:
            dout = layer.backward(dout)
        return dout
"""


def numpy_net(keep: str, order: str) -> dict[str, str]:
    """A NumPy MLP that keeps its linears and relus in some way, and finds them again."""
    keep, order = (
        "\n".join(8 * " " + line for line in text.splitlines()) for text in (keep, order)
    )
    return {NUMPY: NUMPY_NET.format(keep=keep, order=order)}


MIX = "[layer for pair in zip(linears, relus) for layer in pair] + linears[-1:]"
IN_A_LIST = numpy_net(f"self.parts = {MIX}", "return self.parts")
IN_TWO_LISTS = numpy_net(
    "self.linears, self.relus = linears, relus",
    f"linears, relus = self.linears, self.relus\nreturn {MIX}",
)
IN_A_DICT = numpy_net(
    "self.parts = {f'layer{i}': layer for i, layer in enumerate(" + MIX + ")}",
    "return list(self.parts.values())",
)
IN_ATTRIBUTES = numpy_net(
    f"for i, layer in enumerate({MIX}): setattr(self, f'layer{{i}}', layer)",
    "return [getattr(self, name) for name in vars(self)]",
)
IN_AN_OBJECT = numpy_net(
    f"class Chain: pass\nself.chain = Chain()\nself.chain.layers = tuple({MIX})",
    "return list(self.chain.layers)",
)
OUTPUT_FIRST = numpy_net(
    "self.out, self.hidden, self.relus = linears[-1], linears[:-1], relus",
    "return [layer for pair in zip(self.hidden, self.relus) for layer in pair] + [self.out]",
)
NESTED = numpy_net(
    f"self.blocks = [{{'of': [layer]}} for layer in {MIX}]",
    "return [block['of'][0] for block in self.blocks]",
)

TORCH_NET = """

class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes, **_):
        super().__init__()
        widths = [n_inputs, *n_hidden]
        self.out = nn.Linear(widths[-1], n_classes)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
    def forward(self, x):
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.out(x)
"""

FUNCTIONAL_CNN = """

class CNN(nn.Module):
    def __init__(self, n_channels, n_classes, dropout=0.5, **_):
        super().__init__()
        w, self.p = [n_channels, 64, 64, 128, 128, 256, 256], dropout
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(w, w[1:]))
        self.fc = nn.ModuleList(
            [nn.Linear(4096, 1024), nn.Linear(1024, 1024), nn.Linear(1024, n_classes)]
        )
    def forward(self, x):
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            x = F.max_pool2d(x, 2) if i % 2 else x
        x = x.flatten(1)
        for layer in self.fc[:2]:
            x = F.dropout(F.relu(layer(x)), self.p, self.training)
        return self.fc[2](x)
"""

LINEAR_RNN = """

class VanillaRNN(nn.Module):
    def __init__(self, input_length, input_dim, hidden_dim, output_dim, **_):
        super().__init__()
        self.input_dim, self.hidden_dim = input_dim, hidden_dim
{layers}
        self.output = nn.Linear(hidden_dim, output_dim)
        for p in self.parameters():
            nn.init.normal_(p, std=hidden_dim**-0.5) if p.ndim > 1 else nn.init.zeros_(p)
    def forward(self, x):
        if not x.is_floating_point():
            x = F.one_hot(x, self.input_dim).float()
        h = x.new_zeros(len(x), self.hidden_dim)
        for t in range(x.shape[1]):
            h = {step}
        return self.output(h)
"""


def linear_rnn(step: str, **layers: str) -> dict[str, str]:
    """An RNN built of layers of PyTorch, and its step."""
    lines = "\n".join(f"        self.{name} = {layer}" for name, layer in layers.items())
    return {RNN: LINEAR_RNN.format(layers=lines, step=step)}


TWO_LINEARS = linear_rnn(
    "torch.tanh(self.x2h(x[:, t]) + self.h2h(h))",
    x2h="nn.Linear(input_dim, hidden_dim)",
    h2h="nn.Linear(hidden_dim, hidden_dim, bias=False)",
)
TWO_BIASES = linear_rnn(
    "torch.tanh(self.x2h(x[:, t]) + self.h2h(h))",
    x2h="nn.Linear(input_dim, hidden_dim)",
    h2h="nn.Linear(hidden_dim, hidden_dim)",
)
INPUT_FIRST = linear_rnn(
    "torch.tanh(self.both(torch.cat([x[:, t], h], 1)))",
    both="nn.Linear(input_dim + hidden_dim, hidden_dim)",
)
STATE_FIRST = linear_rnn(
    "torch.tanh(self.both(torch.cat([h, x[:, t]], 1)))",
    both="nn.Linear(input_dim + hidden_dim, hidden_dim)",
)
ROW_BIASES = """

class VanillaRNN(nn.Module):
    def __init__(self, input_length, input_dim, hidden_dim, output_dim, **_):
        super().__init__()
        self.W_xh = nn.Parameter(torch.randn(input_dim, hidden_dim))
        self.W_hh = nn.Parameter(torch.randn(hidden_dim, hidden_dim))
        self.W_hy = nn.Parameter(torch.randn(hidden_dim, output_dim))
        self.b_h = nn.Parameter(torch.zeros(1, hidden_dim))
        self.b_y = nn.Parameter(torch.zeros(1, output_dim))
    def forward(self, x):
        h = x.new_zeros(len(x), len(self.W_hh))
        for t in range(x.shape[1]):
            h = torch.tanh(x[:, t] @ self.W_xh + h @ self.W_hh + self.b_h)
        return h @ self.W_hy + self.b_y
"""
CELL = linear_rnn("self.cell(x[:, t], h)", cell="nn.RNNCell(input_dim, hidden_dim)")
RNN_TESTS = "test_forward", "test_gradients", "test_initialisation", "test_digits_as_numbers"

TEMPLATE = """

class SoftMax(SoftMax):
    def backward(self, dout):
        return dout
class CrossEntropy(CrossEntropy):
    def backward(self, p, y):
        return (p - y) / len(y)
"""

FLOAT32 = """

def _in_float32(cls):
    class Narrow(cls):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            for each in (getattr(self, "params", {}), getattr(self, "grads", {})):
                each.update({name: value.astype(np.float32) for name, value in each.items()})
        def forward(self, *args):
            return super().forward(*(each.astype(np.float32) for each in args))
        def backward(self, *args):
            return super().backward(*(each.astype(np.float32) for each in args))
        def accumulate(self, dout):
            return super().accumulate(dout.astype(np.float32))
    return Narrow
Linear, ReLU, SoftMax, CrossEntropy = map(_in_float32, (Linear, ReLU, SoftMax, CrossEntropy))
"""

# Train scripts of another author, and what they share: no step 0, debug output, bars, pyplot,
# unknown flags ignored.
MY_TRAINING = """import argparse, csv, json, os, sys, time
import matplotlib.pyplot as plt
import torch
from torch import nn
from tqdm import tqdm

plt.figure()
print("loaded", file=sys.stderr)

def flags(**defaults):
    p = argparse.ArgumentParser()
    p.add_argument("--data_dir")
    for name, value in dict(run_dir="run", seed=0, **defaults).items():
        p.add_argument("--" + name, default=value, type=int if value is None else type(value))
    return p.parse_known_args()[0]

def images(x):
    return torch.as_tensor(x).float() / 255 - 0.5

def flipped(x):
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)

def batches(x, y, size, epochs, augment):
    for epoch in range(epochs):
        for i in torch.randperm(len(x)).split(size):
            yield augment(x[i]), y[i]

def measure(net, x, y):
    net.eval()
    with torch.no_grad():
        out = torch.cat([net(part) for part in x.split(50)])
        return (nn.functional.cross_entropy(out, y).item(),
                (out.argmax(1) == y).float().mean().item())

def train(args, net, opt, splits, batches, n_steps, steps_per_epoch, max_norm=None):
    rows, step, start = [], 0, time.time()
    for x, y in tqdm(batches, total=n_steps):
        net.train()
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if max_norm:
            nn.utils.clip_grad_norm_(net.parameters(), max_norm)
        opt.step()
        step += 1
        if step % (args.eval_freq or steps_per_epoch) == 0 or step == n_steps:
            row = dict(step=step, epoch=step / steps_per_epoch)
            for name in ("train", "val", "test"):
                row[name + "_loss"], row[name + "_accuracy"] = measure(net, *splits[name])
            row.update(learning_rate=args.learning_rate, seconds=time.time() - start)
            print("step", step, row)
            rows.append(row)
        if step == n_steps:
            break
    best = min(rows, key=lambda r: r["val_loss"])
    os.makedirs(args.run_dir, exist_ok=True)
    with open(args.run_dir + "/history.csv", "w") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    json.dump(dict(vars(args), recipe="original"), open(args.run_dir + "/config.json", "w"))
    json.dump(dict(test_accuracy=best["test_accuracy"], test_loss=best["test_loss"],
        best_epoch=best["epoch"], epochs=step / steps_per_epoch, steps=step,
        seconds=time.time() - start, seed=args.seed,
        parameters=sum(p.numel() for p in net.parameters()), stopped_by="max_epochs"),
        open(args.run_dir + "/result.json", "w"))
    plt.plot([r["train_loss"] for r in rows])
    plt.savefig("loss.png")
    plt.show()
"""
MY_START = """import os, sys
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from my_training import *
"""
MY_MLP_SCRIPT = f"""{MY_START}from data import load_dataset
from part1_mlp.mlp_pytorch import MLP

args = flags(dataset="moons", dnn_hidden_units="100", learning_rate=0.01, batch_size=50,
             max_epochs=10, n_samples=None, eval_freq=0)
torch.manual_seed(args.seed)
ds = load_dataset(args.dataset, seed=args.seed, n_samples=args.n_samples, data_dir=args.data_dir)
of_images = args.dataset == "cifar10"
splits = {{name: (images(x) if of_images else torch.as_tensor(x).float(), torch.as_tensor(y))
          for name, (x, y) in ds.evaluated().items()}}
net = nn.Sequential(nn.Flatten(), MLP(ds.n_inputs, [*map(int, args.dnn_hidden_units.split(","))],
                                      ds.n_classes))
opt = torch.optim.SGD(net.parameters(), lr=args.learning_rate, momentum=0.9)
x, y = splits["train"]
n = -(-len(x) // args.batch_size)
train(args, net, opt, splits,
      batches(x, y, args.batch_size, args.max_epochs, flipped if of_images else lambda x: x),
      n * args.max_epochs, n)
"""
MY_CNN_SCRIPT = f"""{MY_START}from data import load_dataset
from part2_cnn.model import CNN

args = flags(learning_rate=1e-3, batch_size=50, max_epochs=10, eval_freq=0)
torch.manual_seed(args.seed)
ds = load_dataset("cifar10", seed=args.seed, data_dir=args.data_dir)
splits = {{name: (images(x), torch.as_tensor(y)) for name, (x, y) in ds.evaluated().items()}}
net = CNN(3, 10)
opt = torch.optim.Adam(net.parameters(), lr=args.learning_rate)
x, y = splits["train"]
n = -(-len(x) // args.batch_size)
train(args, net, opt, splits, batches(x, y, args.batch_size, args.max_epochs, flipped),
      n * args.max_epochs, n)
"""
MY_RNN_SCRIPT = f"""{MY_START}from data.palindromes import draw_palindromes
from part3_rnn.model import VanillaRNN

args = flags(input_length=5, learning_rate=1e-3, optimizer="rmsprop", max_norm=10.0,
             train_steps=1000, eval_freq=100)
torch.manual_seed(args.seed)

def draw(n, seed):
    x, y = map(torch.as_tensor, draw_palindromes(n, args.input_length, seed))
    return nn.functional.one_hot(x, 10).float(), y

splits = {{name: draw(500, seed) for seed, name in enumerate(("train", "val", "test"))}}
net = VanillaRNN(args.input_length, 10, 128, 10)
kinds = dict(rmsprop=torch.optim.RMSprop, sgd=torch.optim.SGD, adam=torch.optim.Adam)
opt = kinds[args.optimizer](net.parameters(), lr=args.learning_rate)
train(args, net, opt, splits, (draw(128, 10**6 * (args.seed + 1) + i) for i in range(10**6)),
      args.train_steps, 1000, args.max_norm)
"""

VARIANTS = [
    Variant("sibling imports", "test_part1", ("test_numpy_mlp",),
            replace={NUMPY: ("from part1_mlp.modules import (\n    ELU,\n    NEG_SLOPE,\n    "
                             "LeakyReLU,\n    Linear,\n    ReLU,\n    log_softmax,\n    "
                             "softmax_cross_entropy_gradient,\n)\n", "from modules import *\n")}),
    Variant("a helper beside the folders", "test_part1", LAYERS,
            {"helpers.py": "LIMIT = 0\n", MODULES: "\nfrom helpers import LIMIT\n"}),
    Variant("packages named cache and runs", "test_part1", LAYERS,
            {"part1_mlp/cache/__init__.py": "A = 1\n", "runs/__init__.py": "B = 2\n",
             MODULES: "\nfrom part1_mlp.cache import A\nfrom runs import B\n"}),
    Variant("paths relative to the root", "test_part1", LAYERS,
            {"part1_mlp/settings.yaml": "a: 1\n",
             MODULES: "\nSETTINGS = open('part1_mlp/settings.yaml').read()\n"}),
    Variant("writes beside its code", "test_part1", LAYERS,
            {"part1_mlp/log.txt": "x", MODULES: "\nimport os\nos.makedirs('out', exist_ok=True)\n"
             "open('out/a', 'w').write('x')\nopen('part1_mlp/log.txt', 'a').write('y')\n"}),
    Variant("temporary files and pyplot at import", "test_part1", LAYERS,
            {MODULES: "\nimport tempfile, matplotlib.pyplot as plt\nplt.figure(); plt.show()\n"
             "tempfile.mkdtemp(); plt.savefig(tempfile.mkstemp(suffix='.png')[1])\n"}),
    Variant("debug output", "test_part1", LAYERS,
            replace={MODULES: ("        self._x = x\n", "        print(x)\n        self._x = x\n")},
            ),
    *(Variant(f"layers in {name}", "test_part1", ("test_numpy_mlp",), append)
      for name, append in (("a list", IN_A_LIST), ("two lists", IN_TWO_LISTS),
                           ("a dict", IN_A_DICT), ("attributes", IN_ATTRIBUTES),
                           ("an object", IN_AN_OBJECT), ("dicts of lists", NESTED),
                           ("attributes, the last one first", OUTPUT_FIRST))),
    Variant("PyTorch's output layer first", "test_part1", ("test_pytorch_mlp",),
            {TORCH: TORCH_NET}),
    Variant("numbers of result.json as floats", "test_part1", ("test_training_numpy",), slow=True,
            replace={"training/trainer.py": ('"parameters": self.model.n_parameters',
                                             '"parameters": float(self.model.n_parameters)')}),
    Variant("He's initialisation of all layers", "test_part2",
            ("test_forward", "test_initialisation"), slow=True,
            replace={CNN: ("        nn.init.normal_(self.classifier[-1].weight, std=0.01)  "
                           "# all classes about equally likely\n", "")}),
    Variant("the course's template", "test_part1", LAYERS, {MODULES: TEMPLATE},
            loses=("test_softmax_backward", "test_cross_entropy_backward")),
    Variant("float32", "test_part1",
            (*LAYERS, "test_softmax_backward", "test_cross_entropy_forward",
             "test_cross_entropy_backward", "test_numpy_mlp"), {MODULES: FLOAT32}),
    *(Variant(f"another train.py of {part}", part, tests, slow=True,
              whole={script: text, "my_training.py": MY_TRAINING})
      for part, script, text, tests in (
          ("test_part1", TRAIN1, MY_MLP_SCRIPT,
           ("test_training_pytorch", "test_augmentation", "test_evaluation_is_undisturbed",
            "test_same_seed_same_run")),
          ("test_part2", "part2_cnn/train.py", MY_CNN_SCRIPT,
           ("test_training", "test_evaluation_is_undisturbed")),
          ("test_part3", "part3_rnn/train.py", MY_RNN_SCRIPT,
           ("test_training", "test_clipping", "test_same_seed_same_run")))),
    Variant("convolutions of PyTorch", "test_part2", ("test_overfits_a_few_images",), slow=True,
            replace={CNN: ("        winograd: bool = True,", "        winograd: bool = False,")}),
    Variant("dropout as a function", "test_part2",
            ("test_parameters", "test_forward", "test_dropout", "test_other_channels_and_classes"),
            {CNN: FUNCTIONAL_CNN}),
    *(Variant(f"RNN of {name}", "test_part3", RNN_TESTS, append)
      for name, append in (("two Linears", TWO_LINEARS), ("Linears with two biases", TWO_BIASES),
                           ("one Linear, input first", INPUT_FIRST),
                           ("one Linear, state first", STATE_FIRST), ("an RNNCell", CELL))),
    Variant("RNN with biases of one row, and standard normal weights", "test_part3",
            (*RNN_TESTS, "test_learns"), {RNN: ROW_BIASES}, slow=True),
    Variant("RNN script whose seed is drawn", "test_part3", ("test_clipping",), slow=True,
            replace={"part3_rnn/train.py": (
                "    return run_training(parse(), SCRIPT, run_name, build)\n",
                "    args = parse()\n    if '--seed' not in sys.argv:\n"
                "        args.seed = torch.seed() % 10**9\n"
                "    return run_training(args, SCRIPT, run_name, build)\n")}),
    Variant("RNN with small weights", "test_part3",
            (*RNN_TESTS, "test_clipping"), slow=True,
            replace={RNN: ("        nn.init.normal_(self.W_hy, std=hidden_dim**-0.5)\n",
                           "        for p in (self.W_xh, self.W_hh, self.W_hy):\n"
                           "            nn.init.normal_(p, std=1e-4)\n")}),
]  # fmt: skip
