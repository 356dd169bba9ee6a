"""What the composition root of a client adds: how far it goes without encryption."""

from __future__ import annotations

import identities
import pytest

from fedn.client.app import Dial
from fedn.domain.errors import InvalidConfig
from fedn.domain.identity import Role
from fedn.domain.ids import CombinerName
from fedn.identity.authority import Authority
from fedn.identity.credentials import Wallet

NAME = CombinerName("combiner-1")


@pytest.mark.parametrize("address", ["10.0.0.5:12080", "combiner.example.org:12080", "[2001:db8::5]:12080"])
async def test_a_combiner_on_another_machine_is_not_called_in_plain(address: str) -> None:
    with pytest.raises(InvalidConfig, match="another machine") as caught:
        Dial(None, insecure=False)(address, NAME)
    assert "--insecure-no-tls-no-auth" in str(caught.value)
    wallet = Wallet(identities.member(Authority.create("test", 0.0), Role.CLIENT, "ann"))
    for dial in (Dial(None, insecure=True), Dial(wallet, insecure=False)):
        await dial(address, NAME).close()


@pytest.mark.parametrize("address", ["127.0.0.1:12080", "[::1]:12080", "localhost:12080"])
async def test_on_this_machine_plain_is_good(address: str) -> None:
    await Dial(None, insecure=False)(address, NAME).close()
