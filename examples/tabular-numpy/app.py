"""Logistic regression on one clinic's own table, in plain numpy: the model is a dict of two arrays."""

import numpy as np


def startup(data):
    """A csv file with a header and a row per patient; the last column is 1 where the tumour is malignant.

    Every fifth row is held out.
    """
    table = np.loadtxt(data, delimiter=",", skiprows=1, ndmin=2)
    held_out = np.arange(len(table)) % 5 == 0
    return {"train": table[~held_out], "test": table[held_out]}


def probability(model, x):
    return 1 / (1 + np.exp(-np.clip(x @ model["weights"] + model["bias"], -30, 30)))


def train(model, data, config):
    x, y = data["train"][:, :-1], data["train"][:, -1]
    for _ in range(config["steps"]):
        error = probability(model, x) - y
        model["weights"] -= config["learning_rate"] * (x.T @ error / len(y) + config["l2"] * model["weights"])
        model["bias"] -= config["learning_rate"] * error.mean()
    return model, len(y)


def validate(model, data):
    x, y = data["test"][:, :-1], data["test"][:, -1]
    p = probability(model, x)
    loss = -np.mean(np.log(np.where(y == 1, p, 1 - p)))
    return len(y), {"accuracy": float(np.mean((p > 0.5) == y)), "loss": float(loss)}
