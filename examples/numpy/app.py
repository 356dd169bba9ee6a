"""Linear regression by gradient descent in plain numpy: the model is a dict of arrays."""

from pathlib import Path

import numpy as np

from fedn.helpers.files import seed_file

TRUE_WEIGHTS = np.array([3.0, -2.0, 0.5])


class Regression:
    hyperparameters = {"steps": 20, "learning_rate": 0.1}

    def __init__(self, index: int = 0):
        random = np.random.default_rng(int(index))
        self.x = random.normal(size=(50 + 25 * int(index), 3))
        self.y = self.x @ TRUE_WEIGHTS + 1.0 + 0.1 * random.normal(size=len(self.x))

    def train(self, model, config):
        for _ in range(config["steps"]):
            error = self.x @ model["weights"] + model["bias"] - self.y
            model["weights"] -= config["learning_rate"] * self.x.T @ error / len(error)
            model["bias"] -= config["learning_rate"] * error.mean()
        return model, len(self.x)

    def validate(self, model):
        error = self.x @ model["weights"] + model["bias"] - self.y
        return len(self.x), {"rmse": float(np.sqrt(np.mean(error**2)))}


if __name__ == "__main__":
    seed = seed_file({"weights": np.zeros(3), "bias": np.zeros(())})
    Path("seed.safetensors").write_bytes(seed)
