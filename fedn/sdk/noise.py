"""Noise on what leaves a client. Alone it promises nothing about privacy.

A promise would need updates of bounded size, noise chosen for that bound, and somebody who adds up what all
rounds have told (Dwork and Roth, "The Algorithmic Foundations of Differential Privacy", 2014, 3.5 and A).
"""

from __future__ import annotations

import numpy as np

from fedn.domain.model import FLOAT_DTYPES, layout_of
from fedn.helpers.files import read_file, write_update


def noisy(file: bytes, sigma: float) -> bytes:
    """A model file with independent draws of N(0, sigma²) added to every float element.

    ``sigma`` is in the units of the weights. The draws are made in float64 and seeded by the operating
    system, so nobody can take them off again; they are no secrets in a cryptographer's sense. Raises
    InvalidModel where a sum is beyond the range of its dtype.
    """
    layout = layout_of(memoryview(file))
    tensors = read_file(memoryview(file))
    random = np.random.default_rng()
    for spec in layout.tensors:
        if spec.dtype in FLOAT_DTYPES:
            tensors[spec.name] = tensors[spec.name] + random.normal(0.0, sigma, spec.shape)
    return write_update(memoryview(file), layout, tensors)
