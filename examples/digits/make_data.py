"""Write one npz file and one settings file for each client, and the seed model: make_data.py [CLIENTS]."""

import sys
from pathlib import Path

import numpy as np

from fedn.helpers.files import seed_file
from fedn.sandbox.digits import load, split

# A name of its own: without one, whoever is started first takes the first identity that is free.
SETTINGS = """reducer: http://127.0.0.1:8090
name: client-{number}
app: app:Digits
app_options:
  data: data/client-{number}.npz
"""


def main(clients: int) -> None:
    folder = Path("data")
    folder.mkdir(exist_ok=True)
    images, labels = load()
    for number, mine in enumerate(split(labels, clients)):
        test, train = np.split(mine, [len(mine) // 5])
        np.savez(
            folder / f"client-{number}.npz",
            train_images=images[train], train_labels=labels[train],
            test_images=images[test], test_labels=labels[test],
        )  # fmt: skip
        (folder / f"settings-client-{number}.yaml").write_text(SETTINGS.format(number=number))
    seed = {"coef_": np.zeros((10, 64)), "intercept_": np.zeros(10), "classes_": np.arange(10)}
    (folder / "seed.safetensors").write_bytes(seed_file(seed))
    print(f"{clients} clients, {len(labels)} images: see {folder}/")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
