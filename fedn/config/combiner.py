"""The settings of a combiner: ``settings-combiner.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import ByteSize, model_validator

from fedn.config.base import Joiner, Listener, setting
from fedn.config.checks import beginning, check_listen, checked_id


class CombinerSettings(Listener, Joiner):
    """A combiner: takes its clients' updates and folds them."""

    tier: ClassVar[str] = "combiner"

    name: str = setting("combiner", "Its name in the network; each combiner needs its own.")
    port: int = setting(12080, "Port for clients and the reducer; 0 for any.", ge=0, le=65535)
    advertise: str = setting("", "host:port that others are told to use; empty means host and port.")
    data_dir: Path = setting(Path("fedn-data/combiner"), "Folder for models and uploads; made if missing.")
    uploads_in_flight: int = setting(4, "Uploads taken at once; the others wait.", ge=1, le=256)
    fetches_in_flight: int = setting(16, "Models sent at once; the others wait.", ge=1, le=10_000)
    max_update_bytes: ByteSize = setting(
        4 * 2**30, "Largest update that is taken, in bytes or as '4GiB'.", gt=0
    )
    client_grace: float = setting(
        3.0,
        "Seconds that a client which left, or fell silent, is given in an open round before it is lost.",
        gt=0,
        le=3600,
    )
    beat: float = setting(
        2.0,
        "Seconds between the beats of a client at work; without any for two it counts as gone.",
        gt=0,
        le=3600,
    )
    max_clients: int = setting(10_000, "Clients attached at once.", ge=1, le=1_000_000)
    share_log: bool = setting(True, "Show the network's people the last lines of this combiner's log.")

    store_ca_bundle: str = setting(
        "",
        "PEM file of authorities for the https certificate of a model store that models are fetched from "
        "directly; empty for those of this machine.",
    )
    insecure_store_http: bool = setting(
        False,
        "INSECURE: fetch models from a store by plain http:// beyond loopback, though the reducer is https://.",
    )

    metrics_port: int = setting(0, "Port for Prometheus to scrape; 0 for none.", ge=0, le=65535)
    metrics_host: str = setting(
        "127.0.0.1",
        "Address to be scraped at; beyond loopback it speaks TLS, and asks for a certificate of the network.",
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        checked_id("name", self.name)
        if self.store_ca_bundle:
            beginning("store_ca_bundle", self.store_ca_bundle, 1)
        remedy = "join a network: give the reducer's https:// address and a token as --join-file"
        check_listen(self, self.secured, remedy)
        check_listen(self, self.secured, remedy, "metrics_host")
        return self
