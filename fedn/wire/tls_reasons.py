"""What TLS says when a connection fails, in a sentence about the other end, for people."""

from __future__ import annotations

import re

_OTHER_NAME = "its certificate is for another name; somebody else answers at this address"
_UNKNOWN_TO_IT = "it does not know the authority of our certificate; it belongs to another network"
_REASONS = tuple(
    (re.compile(sign, re.DOTALL), reason)
    for sign, reason in (
        (r"VERIFY_FAILED.*has expired", "its certificate has expired; are the clocks right?"),
        (r"VERIFY_FAILED.*not yet valid", "its certificate is not valid yet; are the clocks right?"),
        (r"(Hostname|IP address) mismatch|Hostname Verification Check failed"
         r"|is not in peer certificate", _OTHER_NAME),
        (r"VERIFY_FAILED.*certificate purpose", "its certificate is not that of a server"),
        (r"CERTIFICATE_VERIFY_FAILED", "its certificate is not by the authority of this network; "
                                       "is it another network, or a proxy that opens TLS?"),
        (r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE", "it asks for a certificate of its network"),
        (r"ALERT_CERTIFICATE_EXPIRED", "our certificate has expired"),
        (r"ALERT_(UNKNOWN_CA|DECRYPT_ERROR)", _UNKNOWN_TO_IT),
        (r"ALERT_BAD_CERTIFICATE", "it does not take our certificate"),
        (r"WRONG_VERSION_NUMBER|HTTP_REQUEST|RECORD_LAYER_FAILURE", "it does not speak TLS; "
                                                              "a network without identity is at http://"),
        (r"UNEXPECTED_EOF", "it ended the handshake; does it speak TLS? a network without identity is at http://"),
        (r"UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION", "it speaks another version of TLS"),
        (r"failed to connect.*Socket closed", "it hung up at once; is it of another network, has our "
                                              "certificate expired, or does only one of us use TLS?"),
    )
)  # fmt: skip


def tls_reason(error: BaseException | str) -> str:
    """Why a connection failed; '' if nothing points to TLS. Causes of exceptions are looked at, too."""
    text = error if isinstance(error, str) else "\n".join(_told(error))
    return next((reason for sign, reason in _REASONS if sign.search(text)), "")


def _told(error: BaseException | None) -> list[str]:
    told: list[str] = []
    while error is not None and len(told) < 10:
        told.append(str(error))
        error = error.__cause__ or error.__context__
    return told
