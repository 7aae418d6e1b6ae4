"""The defaults that `--recipe` sets, by flag, as one would type them."""

ORIGINAL = {
    "init": "normal",
    "init_scale": 1.0,
    "input_scale": 1.0,
    "optimizer": "rmsprop",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "max_norm": 10.0,
    "batch_size": 128,
    "train_steps": 2000,
    "eval_freq": 100,
    "patience": 0,
}
# What the original states; all else was chosen here.
GIVEN = {"batch_size", "cell", "init", "input_length", "max_norm", "optimizer"}
BEST = ORIGINAL | {
    # The bistable initialisation: the first digit sets each unit, and later ones are too weak to
    # change it.
    "init": "identity",
    "init_scale": 3.0,
    "input_scale": 0.1,
    "schedule": "cosine",
}
RECIPES = {"original": ORIGINAL, "best": BEST}
