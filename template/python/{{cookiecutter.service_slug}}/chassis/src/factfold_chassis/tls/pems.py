"""What the files of mutual TLS hold, and why they cannot be used."""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from factfold_chassis.errors import SettingsError

CERT, KEY, CA = (f"FACTFOLD_TLS_{name}_FILE" for name in ("CERT", "KEY", "CA"))


@dataclass(frozen=True)
class Pems:
    """
    Attributes:
        certificate: and those between it and the authority, in this order.
        until: when the certificate expires, in seconds since 1970.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    until: float


def read(paths: Mapping[str, Path]) -> Pems:
    """`paths`: of the files, by the setting that names them.

    Raises:
        SettingsError: one cannot be read, or holds something else, or they do not fit together,
            or callers would refuse the certificate.
    """
    found = _bytes(paths)
    try:
        until = _shake_hands(_server(paths), _client(paths))
    except ssl.SSLCertVerificationError as error:
        raise SettingsError(
            f"{CERT}: {paths[CERT]} is a certificate that callers would refuse, as they trust "
            f"{CA}: {error.verify_message}; renew it"
        ) from None
    except OSError as error:
        raise SettingsError(f"{CERT}: {paths[CERT]} cannot be used: {error}") from None
    # The checks read the files once more.
    if _bytes(paths) != found:
        raise SettingsError(f"{CERT}: {paths[CERT]} was replaced while it was read; try again")
    return Pems(*found, until)


def _bytes(paths: Mapping[str, Path]) -> tuple[bytes, bytes, bytes]:
    found = {}
    for variable, path in paths.items():
        try:
            found[variable] = path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{variable}: {path} cannot be read: {error.strerror}") from None
    return found[CERT], found[KEY], found[CA]


def _server(paths: Mapping[str, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authorities(context, CERT, paths)  # says whether it is the certificate that cannot be read
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(paths[CERT], paths[KEY], password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            rule = f"must hold the key of the certificate in {CERT}"
        elif not error.reason:
            rule = "must hold a private key in PEM, without a password"
        else:
            raise SettingsError(f"{CERT}: {paths[CERT]} cannot be used: {error.reason}") from None
        raise SettingsError(f"{KEY}: {paths[KEY]} {rule}") from None
    return context


def _client(paths: Mapping[str, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    _authorities(context, CA, paths)
    return context


def _authorities(context: ssl.SSLContext, variable: str, paths: Mapping[str, Path]) -> None:
    try:
        context.load_verify_locations(paths[variable])
    except ssl.SSLError:
        raise SettingsError(
            f"{variable}: {paths[variable]} must hold a certificate in PEM"
        ) from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> float:
    """When the certificate expires that the client was shown."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(back, there)
    callee = server.wrap_bio(there, back, server_side=True)
    for side in (caller, callee, caller):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    shown = caller.getpeercert()
    assert shown
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))
