"""Settings of the three tiers: one frozen model per ``settings-*.yaml``, and how it is filled.

A value comes from the file, over it from the environment ``FEDN_<TIER>_<KEY>``, over that from a
flag. An unknown name or a wrong type is refused by name, with where it stands and what to do. The
command line makes its flags from these fields, and `fedn config show` its listing.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedn.config.base import HIDDEN, Settings
from fedn.config.checks import INSECURE_FLAG, SECRET_FILE_BYTES, is_loopback
from fedn.config.client import ClientSettings
from fedn.config.combiner import CombinerSettings
from fedn.config.filling import Given, exposed, gather, is_secret, load, nearest, read_yaml
from fedn.config.reducer import ReducerSettings

TIERS: Mapping[str, type[Settings]] = {
    kind.tier: kind for kind in (ReducerSettings, CombinerSettings, ClientSettings)
}

__all__ = [
    "HIDDEN", "INSECURE_FLAG", "SECRET_FILE_BYTES", "TIERS", "ClientSettings", "CombinerSettings", "Given",
    "ReducerSettings", "Settings", "exposed", "gather", "is_loopback", "is_secret", "load", "nearest",
    "read_yaml",
]  # fmt: skip
