"""The recipes: defaults of flags, as one would type them, by data set, model and `--recipe`."""

TOY_ORIGINAL = {
    "dnn_hidden_units": "20",
    "dropout": 0.0,
    "batch_norm": "off",
    "skip": "off",
    "activation": "relu",
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "average_decay": 0.0,
    "batch_size": "32",
    "precision": "float32",
    "max_epochs": 40,
    "eval_freq": 20,
    "patience": 0,
    "augment": "off",
    "cutout": 0,
    "whiten": "off",
    "views": 1,
}
TOY_BEST = TOY_ORIGINAL | {
    "dnn_hidden_units": "50,50",
    "momentum": 0.9,
    "learning_rate": 0.05,
    "schedule": "cosine",
}
CIFAR10_ORIGINAL = TOY_ORIGINAL | {
    "dnn_hidden_units": "512,256,128",
    "dropout": 0.1,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "batch_size": "4096",
    "max_epochs": 200,
    "eval_freq": "epoch",
    "patience": 10,
    "augment": "on",
}
# What the original states; all else was chosen here.
GIVEN = {
    "activation", "augment", "dnn_hidden_units", "dropout", "learning_rate", "optimizer",
    "patience", "weight_decay",
}  # fmt: skip
CIFAR10_BEST = CIFAR10_ORIGINAL | {
    "dropout": 0.05,
    "batch_norm": "on",
    "learning_rate": 0.01,
    "weight_decay": 0.05,
    "schedule": "one_cycle",
    "activation": "gelu",
    "label_smoothing": 0.1,
    "batch_size": "1024",
    "precision": "auto",
    "max_epochs": 400,
    "eval_freq": 220,  # steps: five epochs
    "patience": 0,
    "whiten": "on",
    "views": 18,
    "optimizer": "muon",
    "momentum": 0.9,
}
# The NumPy MLP has no AdamW, dropout or batch normalisation: the nearest settings that it has.
NUMPY_CIFAR10 = {
    "dropout": 0.0,
    "batch_norm": "off",
    "optimizer": "sgd",
    "learning_rate": 0.02,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "label_smoothing": 0.0,
    "activation": "relu",
    "batch_size": "128",
    "max_epochs": 100,
    "eval_freq": "epoch",
}
TOY = {"original": TOY_ORIGINAL, "best": TOY_BEST}
CIFAR10 = {"original": CIFAR10_ORIGINAL, "best": CIFAR10_BEST}


def recipe(model: str, dataset: str, name: str) -> dict:
    """The flags and values of recipe `original` or `best` for a model and a data set."""
    if dataset != "cifar10":
        defaults = TOY[name]
    else:
        defaults = CIFAR10[name] | (NUMPY_CIFAR10 if model == "numpy" else {})
    return defaults | {"init": "he" if model == "numpy" else "pytorch"}
