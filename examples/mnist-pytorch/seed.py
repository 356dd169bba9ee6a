"""Write the model that a session starts from, as PyTorch initializes it: seed.py [FILE]."""

import sys
from pathlib import Path

import torch
from app import build

from fedn.helpers.files import seed_file
from fedn.helpers.torch import TorchHelper

if __name__ == "__main__":
    torch.manual_seed(1)
    tensors = TorchHelper().dump(build())
    Path((sys.argv[1:] or ["seed.safetensors"])[0]).write_bytes(seed_file(tensors))
