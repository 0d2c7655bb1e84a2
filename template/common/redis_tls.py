"""TLS to Redis as the log's URL gives it: whether it can be used, and why it does not come about.

    rediss://host:port/0?ssl_ca_certs=ca.crt&ssl_certfile=own.crt&ssl_keyfile=own.key

One file of the standard library alone: the command line and the chassis carry the same bytes.
Texts are one clause, and say nothing of passwords.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, urlsplit

CA, CERT, KEY, PASSWORD = "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password"
# What redis-py takes.
_OPTIONS = {
    CA, CERT, KEY, PASSWORD, "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_check_hostname",
    "ssl_ciphers", "ssl_exclude_verify_flags", "ssl_include_verify_flags", "ssl_min_version",
}  # fmt: skip
# By their texts: not each client hands the error itself on.
_VERIFY = re.compile(r"certificate verify failed: (.+?)\.? \(_ssl")
_UNTRUSTED = ("self-signed", "self signed", "local issuer", "first certificate", "issuer cert")
# What a server does that wants a certificate, or another one, as the client happens to see it.
_TURNED_AWAY = ("ALERT", "EOF", "CERTIFICATE_REQUIRED", "reset", "Connection lost", "UNEXPECTED")


def problem(url: str) -> str:
    """Why a connection cannot even be tried; empty if it can."""
    its = _options(url)
    if not _is_tls(url):
        wrong = next((name for name in its if name.startswith("ssl_")), "")
        return f"{wrong} is for rediss://, which is TLS" if wrong else ""
    for name in sorted(its):
        if name.startswith("ssl_") and name not in _OPTIONS:
            return f"{name} is no option; those for files are {CA}, {CERT} and {KEY}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if CA in its:
        try:
            context.load_verify_locations(its[CA])
        except ssl.SSLError:
            return f"{CA}={its[CA]} must hold certificates in PEM"
        except OSError as error:
            return f"{CA}={its[CA]} cannot be read: {error.strerror}"
    if KEY in its and CERT not in its:
        return f"{KEY} needs {CERT} beside it"
    return _unusable(context, its) if CERT in its else ""


def _unusable(context: ssl.SSLContext, its: Mapping[str, str]) -> str:
    """Why the client's certificate cannot be shown."""
    for name in (each for each in (CERT, KEY) if each in its):
        try:
            open(its[name], "rb").close()
        except OSError as error:
            return f"{name}={its[name]} cannot be read: {error.strerror}"
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(its[CERT], its.get(KEY), lambda: its.get(PASSWORD, ""))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{KEY}={its[KEY]} must hold the key of the certificate in {CERT}"
        key = f" and {KEY}={its[KEY]}" if KEY in its else ""
        return f"{CERT}={its[CERT]}{key} must hold a certificate and its key in PEM"
    return ""


def reason(error: BaseException, url: str, setting: str) -> str:
    """Why connecting to `url` has failed, if it has to do with TLS; else empty.

    `setting` is what the URL is called where it can be changed.
    """
    chain = list(_chain(error))
    its = _options(url)
    if not _is_tls(url):
        if any(isinstance(each, ConnectionResetError) for each in chain):
            return (
                "the server ended the connection at once; if that port is one for TLS, write "
                f"rediss:// in {setting}"
            )
        return ""
    said = " ".join(str(each) for each in chain)
    if found := _VERIFY.search(said):
        return _unverified(found[1], its, setting)
    if any(isinstance(each, TimeoutError) for each in chain):
        return f"nothing there answers TLS; if that port is one without it, redis:// in {setting}"
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said:
        return f"that port speaks no TLS; write redis:// in {setting}"
    if any(word in said for word in _TURNED_AWAY):
        if CERT not in its:
            return (
                "the server ended the TLS connection; if it asks clients for certificates, add "
                f"{CERT} and {KEY} to {setting}"
            )
        return (
            f"the server refused the certificate of {CERT} in {setting}, or ended the connection; "
            "must not an authority that it trusts have signed it?"
        )
    # They may be gone since the URL was looked at.
    why = problem(url)
    return f"{why}, in {setting}" if why else ""


def _unverified(why: str, its: Mapping[str, str], setting: str) -> str:
    """`why` in OpenSSL's words."""
    for state in ("has expired", "is not yet valid"):
        if state in why:
            return f"the server's certificate {state}; renew it, or set this machine's clock right"
    if "mismatch" in why:
        return f"{why}; use a name that it is for in {setting}, or give the server another one"
    if any(words in why for words in _UNTRUSTED):
        if CA in its:
            return (
                f"no authority in {its[CA]} has signed the server's certificate; name the file of "
                f"the one that has with {CA} in {setting}"
            )
        return (
            "no authority that this machine trusts has signed the server's certificate; name the "
            f"file of the one that has: ?{CA}=FILE in {setting}"
        )
    return f"the server's certificate is refused ({why}); mend it"


def _is_tls(url: str) -> bool:
    return urlsplit(url).scheme.partition("+")[0] == "rediss"


def _options(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
