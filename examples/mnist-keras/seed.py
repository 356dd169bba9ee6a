"""Write the model that a session starts from, as Keras initializes it: seed.py [FILE]."""

import sys
from pathlib import Path

import keras
from app import build

from fedn.helpers.files import seed_file
from fedn.helpers.keras import KerasHelper

if __name__ == "__main__":
    keras.utils.set_random_seed(1)
    tensors = KerasHelper().dump(build())
    Path((sys.argv[1:] or ["seed.safetensors"])[0]).write_bytes(seed_file(tensors))
