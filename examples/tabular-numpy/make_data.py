"""Deal scikit-learn's breast cancer table to simulated clinics: make_data.py [CLIENTS] [FOLDER].

Columns are in units of their deviation from the mean of the whole table. Nobody knows that in a real
federation; its clinics agree on numbers to scale by, once.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

import fedn


def main(clients, folder):
    table = load_breast_cancer()
    x = (table.data - table.data.mean(axis=0)) / table.data.std(axis=0)
    malignant = 1 - table.target
    parts = fedn.data.partition(malignant, clients, "dirichlet", alpha=2.0, min_examples=5, seed=3)
    header = ",".join([*(name.replace(" ", "_") for name in table.feature_names), "malignant"])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    for number, part in enumerate(parts, 1):
        rows = np.column_stack([x, malignant])[random.permutation(part)]
        np.savetxt(folder / f"client-{number}.csv", rows, "%.6g", ",", header=header, comments="")
    print(f"{len(x)} patients at {clients} clinics: {', '.join(str(len(part)) for part in parts)}")


if __name__ == "__main__":
    main(int((sys.argv[1:] or [5])[0]), Path((sys.argv[2:] or ["data"])[0]))
