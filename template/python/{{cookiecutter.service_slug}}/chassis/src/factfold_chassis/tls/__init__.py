"""Mutual TLS between services: who calls and who answers both show a certificate.

One certificate and one bundle of authorities serve both directions: the service shows the
certificate to its callers and to the services that it calls, and trusts the bundle in either.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

import grpc

from factfold_chassis.errors import SettingsError
from factfold_chassis.settings import Settings
from factfold_chassis.tls.pems import CA, CERT, KEY, Pems, read

__all__ = ["Files"]

log = logging.getLogger("factfold.tls")


class Files:
    """The files of the certificate, its key and the authorities, read anew when they change.

    Args:
        alarm: told in one line what an operator must know.

    Raises:
        SettingsError: one of them cannot be used.
    """

    def __init__(self, paths: Mapping[str, Path], alarm: Callable[[str], None] = log.error) -> None:
        self._paths = paths
        self._alarm = alarm
        self._stamp = self._look()
        self._pems = read(paths)
        self._told = False
        log.info("mutual TLS", extra=self._fields())

    @classmethod
    def of(cls, settings: Settings, alarm: Callable[[str], None] = log.error) -> "Files | None":
        """Those that the settings name; None if they name none."""
        names = {
            CERT: settings.tls_cert_file, KEY: settings.tls_key_file, CA: settings.tls_ca_file,
        }  # fmt: skip
        missing = [variable for variable, name in names.items() if not name]
        if len(missing) == len(names):
            return None
        if missing:
            raise SettingsError(
                f"{' and '.join(missing)} must be set too: TLS needs {CERT}, {KEY} and {CA}"
            )
        return cls({variable: Path(name) for variable, name in names.items()}, alarm)

    @property
    def newest(self) -> Pems:
        """What the files hold, or held while they could last be used."""
        stamp = self._look()
        if stamp != self._stamp:
            # One look at each change: files replaced one after the other fit with the last one.
            self._stamp = stamp
            try:
                self._pems = read(self._paths)
                self._told = False
                log.info("new TLS files", extra=self._fields())
            except SettingsError as error:
                self._alarm(f"the former TLS files stay in use: {error}")
        if not self._told and time.time() > self._pems.until:
            self._told = True
            self._alarm(
                f"the certificate in FACTFOLD_TLS_CERT_FILE has expired: renew {self._paths[CERT]}"
            )
        return self._pems

    def server_credentials(self) -> grpc.ServerCredentials:
        """Callers must show a certificate; each new connection is made with the newest files."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._configuration, require_client_authentication=True
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pems = self.newest
        return grpc.ssl_server_certificate_configuration(
            [(pems.key, pems.certificate)], pems.authorities
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """A channel keeps those that it was made with."""
        pems = self.newest
        return grpc.ssl_channel_credentials(pems.authorities, pems.key, pems.certificate)

    @staticmethod
    def active() -> "Files | None":
        """Those of the service whose code runs now; None outside of any, or if it has none."""
        return _active.get()

    @staticmethod
    def activate(files: "Files | None") -> None:
        """Make them the `active` ones of the present task and of those it starts."""
        _active.set(files)

    def _look(self) -> list[tuple[int, int, int]]:
        """Changes with the files, also if a folder is swapped behind a link, as Kubernetes does."""
        found = []
        for path in self._paths.values():
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return found

    def _fields(self) -> dict[str, str]:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._pems.until))
        return {"certificate": str(self._paths[CERT]), "valid_until": until}


_active: ContextVar[Files | None] = ContextVar("factfold_tls", default=None)
