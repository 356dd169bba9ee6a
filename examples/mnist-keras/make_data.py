"""Deal MNIST to simulated clients, unevenly: make_data.py [CLIENTS] [FOLDER].

The first client gets the fewest training images, the last the most, each with a mix of digits of its own.
Test images are dealt evenly: the clients' mean accuracy, weighted by examples, is that on all 10,000.
"""

import sys
from pathlib import Path

import numpy as np

import fedn


def main(clients, folder):
    try:
        (x, y), (x_test, y_test) = fedn.data.mnist()
    except fedn.FednError as error:
        sys.exit(str(error))
    parts = fedn.data.partition(y, clients, "dirichlet", alpha=1.0, sizes=range(1, clients + 1), seed=7)
    tests = fedn.data.partition(len(y_test), clients, seed=7)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (part, test) in enumerate(zip(parts, tests, strict=True), 1):
        np.savez(
            folder / f"client-{number}.npz",
            x_train=x[part], y_train=y[part], x_test=x_test[test], y_test=y_test[test],
        )  # fmt: skip
    print(f"MNIST among {clients} clients: {', '.join(str(len(part)) for part in parts)} training images")


if __name__ == "__main__":
    main(int((sys.argv[1:] or [5])[0]), Path((sys.argv[2:] or ["data"])[0]))
