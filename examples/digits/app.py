"""Handwritten digits from one client's own npz file, with scikit-learn."""

import numpy as np
from sklearn.linear_model import SGDClassifier


class Digits:
    helper = "sklearn"
    hyperparameters = {"epochs": 3, "learning_rate": 0.01}

    def __init__(self, data: str):
        with np.load(data) as file:
            self.train_set = file["train_images"], file["train_labels"]
            self.test_set = file["test_images"], file["test_labels"]

    def build(self):
        return SGDClassifier(loss="log_loss", learning_rate="constant")

    def train(self, model, config):
        model.set_params(eta0=config["learning_rate"], random_state=config["seed"] % 2**32)
        for _ in range(config["epochs"]):
            model.partial_fit(*self.train_set)
        return model, len(self.train_set[1])

    def validate(self, model):
        return len(self.test_set[1]), {"accuracy": model.score(*self.test_set)}
