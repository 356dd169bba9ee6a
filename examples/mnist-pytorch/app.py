"""MNIST with PyTorch: a small convolutional network, trained on one client's own images."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy


def startup(data):
    """The client's npz file as tensors, images as float32 in 0…1 of shape (examples, 1, 28, 28)."""
    with np.load(data) as file:
        tensors = {name: torch.from_numpy(array) for name, array in file.items()}
    for name in ("x_train", "x_test"):
        tensors[name] = tensors[name].unsqueeze(1).float() / 255
    return tensors | {name: tensors[name].long() for name in ("y_train", "y_test")}


def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


def train(model, data, config):
    torch.manual_seed(config["seed"])
    optimizer = torch.optim.SGD(model.parameters(), config["learning_rate"], momentum=0.9)
    examples, losses = len(data["y_train"]), []
    model.train()
    for _ in range(config["epochs"]):
        for batch in torch.randperm(examples).split(config["batch_size"]):
            loss = cross_entropy(model(data["x_train"][batch]), data["y_train"][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return model, examples, {"loss": float(np.mean(losses))}


@torch.no_grad()
def validate(model, data):
    model.eval()
    scores = model(data["x_test"])
    accuracy = (scores.argmax(dim=1) == data["y_test"]).float().mean()
    loss = cross_entropy(scores, data["y_test"])
    return len(data["y_test"]), {"accuracy": accuracy.item(), "loss": loss.item()}


@torch.no_grad()
def predict(model, data, output):
    """The digits that the model sees in the client's test images, into a file that stays with the client."""
    model.eval()
    digits = model(data["x_test"]).argmax(dim=1)
    np.savetxt(output / "digits.csv", digits.numpy(), fmt="%d")
    return len(digits)
