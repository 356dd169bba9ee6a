"""Make a csv file up for each simulated client: make_data.py [CLIENTS] [FOLDER]."""

import sys
from pathlib import Path

import numpy as np


def main(clients, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, clients + 1):
        random = np.random.default_rng(number)
        x = random.normal(size=(50 * number, 3))
        y = x @ [3.0, -2.0, 0.5] + 1.0 + random.normal(scale=0.1, size=len(x))
        rows = np.column_stack([x, y])
        np.savetxt(folder / f"client-{number}.csv", rows, "%.6f", ",", header="a,b,c,y", comments="")
    print(
        f"y = 3a - 2b + 0.5c + 1, and noise of 0.1, at {clients} clients with 50 to {50 * clients} examples"
    )


if __name__ == "__main__":
    main(int((sys.argv[1:] or [5])[0]), Path((sys.argv[2:] or ["data"])[0]))
