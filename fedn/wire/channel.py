"""Every gRPC channel and server is made here: options, certificates, proxies, and who may call.

`security.py` has the certificates, `proxies.py` the way out of a company's network, `guard.py` the door.
"""

from __future__ import annotations

from ipaddress import ip_address

import grpc

from fedn.identity.credentials import Credentials
from fedn.wire.chunks import CHUNK_BYTES
from fedn.wire.guard import RoleInterceptor
from fedn.wire.proxies import proxy_for
from fedn.wire.security import channel_credentials

PING_SECONDS, ANSWER_SECONDS = 2, 3
"""A connection that is quiet for so long is pinged, and given up without an answer in so long.

gRPC's own threads ask and answer, also where Python is busy; a stopped process does not.
"""

HANDSHAKE_SECONDS = 20

_MAX_MESSAGE = 16 * 1024 * 1024
"""Chunks are far smaller; a RoundSpec that lists 100,000 clients fits."""

UNARY_CALLS = 256
STREAMS = 64 * (1 + 2 + 8) + 1 + UNARY_CALLS
"""Calls of one connection at once. gRPC keeps more than that waiting, without a word, until they time out.

A reducer asks so much of a combiner over one connection: for each of 64 sessions a part to follow, 2 to
fetch and 8 validations, then Watch, and calls with one answer. A client asks for two or three; however many
it opens, what they want waits in the combiner's own bounded queues.
"""

Options = tuple[tuple[str, int | str], ...]

_COMMON: Options = (
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", ANSWER_SECONDS * 1000),
    # Without this a keepalive ping is given the minute that any ping is given.
    ("grpc.http2.ping_timeout_ms", ANSWER_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Probing grows the windows without a bound; a fixed one is as fast and halves the peak memory.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", CHUNK_BYTES),
)

_CHANNEL: Options = (
    *_COMMON,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Despite its name the least time that one connection attempt is given, not a pause between two.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # Retrying belongs to the links, which know what a broken call means.
    ("grpc.enable_retries", 0),
    # One connection for each channel, also for many clients in one process.
    ("grpc.use_local_subchannel_pool", 1),
)

_SERVER: Options = (
    *_COMMON,
    ("grpc.http2.min_ping_interval_without_data_ms", PING_SECONDS * 500),
    ("grpc.max_concurrent_streams", STREAMS),
    # Whoever connects and then says nothing is given so long; for plain connections it is the preface.
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
    # Without this two servers share a port silently instead of the second being refused.
    ("grpc.so_reuseport", 0),
)


def open_channel(
    address: str, credentials: Credentials | None = None, server_name: str = ""
) -> grpc.aio.Channel:
    """A channel to ``host:port``; connects at the first call, and again whenever it is needed.

    With ``credentials`` it is TLS, shows them, and speaks only with whom a certificate of the same network
    names ``server_name``; a renewed certificate needs a new channel. Call it inside the event loop that
    will use it. Raises InvalidConfig for a proxy in the environment that can't be used.
    """
    options = (*_CHANNEL, *_proxy(address))
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    if not server_name:
        raise ValueError("a secure channel needs the name of the server")
    named = ("grpc.ssl_target_name_override", server_name)
    return grpc.aio.secure_channel(address, channel_credentials(credentials), options=(*options, named))


def new_server() -> grpc.aio.Server:
    """A server without services or ports yet. Call it inside the event loop that will run it."""
    return grpc.aio.server(interceptors=[RoleInterceptor()], options=_SERVER)


def _proxy(address: str) -> Options:
    """The proxy to go through; one from the environment can't reach this machine's own loopback."""
    proxy = "" if is_loopback(address) else proxy_for(address)
    return (("grpc.http_proxy", proxy),) if proxy else (("grpc.enable_http_proxy", 0),)


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` names this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
