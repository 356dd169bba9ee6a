"""`fedn.data`: a data set taken apart for simulated clients, and what the parts hold. For simulation only.

A real federation never does this: there, data stays where it is. `partition` says who would have which
examples, `split_arrays` cuts arrays accordingly, `distribution` and `plot` show the outcome, `mnist` and
`read_idx` read the classic. `fedn data split` does all of it with files.
"""

from fedn.sdk.data.counts import Distribution, distribution
from fedn.sdk.data.dealing import SCHEMES, Scheme, partition, split_arrays
from fedn.sdk.data.idx import read_idx
from fedn.sdk.data.mnist_files import mnist
from fedn.sdk.data.picture import plot

__all__ = [
    "SCHEMES", "Distribution", "Scheme", "distribution", "mnist", "partition", "plot", "read_idx",
    "split_arrays",
]  # fmt: skip
