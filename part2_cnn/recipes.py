"""The recipes: defaults of flags, as one would type them, by `--recipe`."""

ORIGINAL = {
    "dropout": 0.5,
    "optimizer": "adam",
    # The original leaves the learning rate, the batch size, the patience and the length open; the
    # first two were chosen by validation loss, see figures/tuning/cnn_original.md.
    "learning_rate": 1e-3,
    "schedule": "constant",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "average_decay": 0.0,
    "batch_size": "256",
    "image_sizes": "32",
    "max_epochs": 100,
    "eval_freq": "epoch",
    "patience": 10,
    "augment": "on",
    "cutout": 0,
    "views": 1,
}
# What the original states; all else was chosen here.
GIVEN = {"augment", "channels", "dropout", "optimizer"}
BEST = ORIGINAL | {
    "optimizer": "muon",
    "learning_rate": 0.02,
    "schedule": "one_cycle",
    "momentum": 0.9,
    "weight_decay": 0.1,
    "label_smoothing": 0.1,
    "average_decay": 0.995,
    "batch_size": "128",
    "image_sizes": "24,24,32",
    "max_epochs": 39,
    "eval_freq": 1760,  # steps: five epochs
    "patience": 0,
    "views": 18,
    "cutout": 8,
}
RECIPES = {"original": ORIGINAL, "best": BEST}
