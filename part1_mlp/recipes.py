"""The default of every flag that depends on the data set, the model and `--recipe`."""

TOY_REPORT = {
    "dnn_hidden_units": (20,),
    "dropout": 0.0,
    "batch_norm": False,
    "skip": False,
    "activation": "relu",
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "average_decay": 0.0,
    "batch_size": (32,),
    "max_epochs": 40,
    "eval_freq": 20,
    "patience": 0,
    "augment": False,
    "whiten": False,
    "views": 1,
}
TOY_BEST = TOY_REPORT | {
    "dnn_hidden_units": (50, 50),
    "momentum": 0.9,
    "learning_rate": 0.05,
    "schedule": "cosine",
}
CIFAR10_REPORT = TOY_REPORT | {
    "dnn_hidden_units": (512, 256, 128),
    "dropout": 0.1,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    # The report leaves the batch size open. Growing it calms the last steps, which a learning rate
    # that must stay 1e-3 cannot; each size gets 40 epochs.
    "batch_size": (512, 1024, 2048, 4096, 8192),
    "max_epochs": 200,
    "eval_freq": 88,  # steps: an epoch of the smallest batch
    "patience": 10,
    "augment": True,
}
CIFAR10_BEST = CIFAR10_REPORT | {
    "dropout": 0.0,
    "batch_norm": True,
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "schedule": "one_cycle",
    "activation": "gelu",
    "label_smoothing": 0.1,
    "batch_size": (512,),
    "max_epochs": 250,
    "eval_freq": None,
    "patience": 0,
    "whiten": True,
    "views": 18,
}
# The NumPy MLP has no AdamW, dropout or batch normalisation: the nearest it can do.
_NUMPY = {
    "dropout": 0.0,
    "batch_norm": False,
    "optimizer": "sgd",
    "learning_rate": 0.02,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "average_decay": 0.0,
    "mixup": 0.0,
    "label_smoothing": 0.0,
    "activation": "relu",
    "batch_size": (128,),
    "max_epochs": 100,
    "eval_freq": None,
}
RECIPES = {
    "toy report": TOY_REPORT,
    "toy best": TOY_BEST,
    "cifar10 report": CIFAR10_REPORT,
    "cifar10 best": CIFAR10_BEST,
    "numpy cifar10 report": CIFAR10_REPORT | _NUMPY,
    "numpy cifar10 best": CIFAR10_BEST | _NUMPY,
}


def defaults(model: str, dataset: str, recipe: str) -> dict:
    """The recipe's value for each flag that was not given."""
    family = dataset if dataset == "cifar10" else "toy"
    label = f"{family} {recipe}"
    return RECIPES[f"numpy {label}" if f"numpy {label}" in RECIPES and model == "numpy" else label]
