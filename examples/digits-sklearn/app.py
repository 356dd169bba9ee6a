"""Handwritten digits from one client's own npz file, with scikit-learn."""

import numpy as np
from sklearn.linear_model import SGDClassifier


def startup(data):
    with np.load(data) as file:
        return dict(file)


def build():
    return SGDClassifier(loss="log_loss", learning_rate="constant")


def train(model, data, config):
    model.set_params(eta0=config["learning_rate"], random_state=config["seed"] % 2**32)
    for _ in range(config["epochs"]):
        model.partial_fit(data["x_train"], data["y_train"])
    return model, len(data["y_train"])


def validate(model, data):
    return len(data["y_test"]), {"accuracy": model.score(data["x_test"], data["y_test"])}
