"""Write the model that a session starts from, all zeros: seed.py [FILE]."""

import sys
from pathlib import Path

import numpy as np

from fedn.helpers.files import seed_file

# scikit-learn's own names; an estimator that was never fitted has none of these yet.
TENSORS = {"coef_": np.zeros((10, 64)), "intercept_": np.zeros(10), "classes_": np.arange(10)}

if __name__ == "__main__":
    Path((sys.argv[1:] or ["seed.safetensors"])[0]).write_bytes(seed_file(TENSORS))
