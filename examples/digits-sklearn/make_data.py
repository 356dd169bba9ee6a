"""Deal scikit-learn's digits to simulated clients, unevenly: make_data.py [CLIENTS] [FOLDER]."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import fedn


def main(clients, folder):
    x, y = load_digits(return_X_y=True)
    parts = fedn.data.partition(
        y, clients, "dirichlet", alpha=1.0, sizes=range(1, clients + 1), min_examples=5, seed=5
    )
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    for number, part in enumerate(parts, 1):
        test, train = np.split(random.permutation(part), [max(1, len(part) // 5)])
        np.savez(
            folder / f"client-{number}.npz",
            x_train=x[train] / 16, y_train=y[train], x_test=x[test] / 16, y_test=y[test],
        )  # fmt: skip
    print(f"{len(y)} digits of 8 × 8 pixels among {clients} clients: {', '.join(str(len(p)) for p in parts)}")


if __name__ == "__main__":
    main(int((sys.argv[1:] or [5])[0]), Path((sys.argv[2:] or ["data"])[0]))
