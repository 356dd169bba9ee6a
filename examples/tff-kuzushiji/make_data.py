"""Deal 60,000 training images to simulated clients, in their order: make_data.py [CLIENTS] [FOLDER].

From the folder that FEDN_DATA_DIR names: Kuzushiji-MNIST if kmnist-train-imgs.npz and
kmnist-train-labels.npz are there or in its folder kmnist, else MNIST. Without FEDN_DATA_DIR these two files
(18 MB) are downloaded from their makers, once, into data/ here.
"""

import os
import sys
from pathlib import Path

import httpx
import numpy as np

import fedn

SOURCE = "https://codh.rois.ac.jp/kmnist/dataset/kmnist"
FILES = ("kmnist-train-imgs.npz", "kmnist-train-labels.npz")
MAX_BYTES = 64 * 2**20


def images_and_labels():
    """(name of the set, images, labels)."""
    named = os.environ.get("FEDN_DATA_DIR")
    folder = Path(named) if named else downloaded(Path(__file__).parent / "data")
    for place in (folder, folder / "kmnist"):
        if all((place / file).is_file() for file in FILES):
            x, y = (np.load(place / file)["arr_0"] for file in FILES)
            return "Kuzushiji-MNIST", x, y
    return "MNIST", *fedn.data.mnist(folder)[0]


def downloaded(folder):
    for name in FILES:
        if not (folder / name).exists():
            try:
                content = fetched(f"{SOURCE}/{name}")
            except (httpx.HTTPError, ValueError) as error:
                sys.exit(f"{name} could not be downloaded ({error}); put it, or MNIST, into a folder"
                         " and name that in FEDN_DATA_DIR")  # fmt: skip
            folder.mkdir(exist_ok=True)
            (folder / f".{name}.part").write_bytes(content)
            (folder / f".{name}.part").replace(folder / name)
    return folder


def fetched(address):
    content = bytearray()
    with httpx.stream("GET", address, timeout=30, follow_redirects=True) as answer:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > MAX_BYTES:
                raise ValueError(f"over {MAX_BYTES} bytes")
    return bytes(content)


def main(clients, folder):
    name, x, y = images_and_labels()
    if (x.shape, y.shape) != ((60_000, 28, 28), (60_000,)):
        sys.exit(f"{name}: not 60,000 images of 28 × 28 pixels with a label each")
    parts = fedn.data.partition(len(y), clients, "contiguous")
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts, 1):
        np.savez(folder / f"client-{number}.npz", x=x[part], y=y[part])
    print(f"{name} in order among {clients} clients: {len(parts[0])} training images each")


if __name__ == "__main__":
    main(int((sys.argv[1:] or [10])[0]), Path((sys.argv[2:] or ["data"])[0]))
