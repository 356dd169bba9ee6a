"""MNIST with Keras: a small convolutional network, trained on one client's own images."""

import keras
import numpy as np


def startup(data):
    """The client's npz file as arrays, images as float32 in 0…1 of shape (examples, 28, 28, 1)."""
    with np.load(data) as file:
        arrays = dict(file)
    for name in ("x_train", "x_test"):
        arrays[name] = arrays[name][..., np.newaxis].astype("float32") / 255
    return arrays


def build():
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])  # fmt: skip


def train(model, data, config):
    keras.utils.set_random_seed(config["seed"] % 2**32)
    model.compile(
        keras.optimizers.SGD(config["learning_rate"], momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = model.fit(
        data["x_train"], data["y_train"], config["batch_size"], config["epochs"], verbose=0
    ).history
    return model, len(data["y_train"]), {name: values[-1] for name, values in history.items()}


def validate(model, data):
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return len(data["y_test"]), model.evaluate(data["x_test"], data["y_test"], verbose=0, return_dict=True)


def predict(model, data, output):
    """The digits that the model sees in the client's test images, into a file that stays with the client."""
    digits = model.predict(data["x_test"], verbose=0).argmax(axis=1)
    np.savetxt(output / "digits.csv", digits, fmt="%d")
    return len(digits)
