"""Write the model that a session starts from, all zeros: seed.py [FILE]."""

import sys
from pathlib import Path

import numpy as np

from fedn.helpers.files import seed_file

if __name__ == "__main__":
    tensors = {"weights": np.zeros((784, 10), np.float32), "bias": np.zeros(10, np.float32)}
    Path((sys.argv[1:] or ["seed.safetensors"])[0]).write_bytes(seed_file(tensors))
