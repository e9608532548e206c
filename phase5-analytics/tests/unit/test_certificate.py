"""The expiry of a certificate, read from a server that shows one made by openssl, as people make theirs."""

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from monitoring.certificate import certificate_metrics, expires_at


@contextmanager
def tls_server(folder: Path, options: list[str]) -> Iterator[tuple[str, int]]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-subj", "/CN=localhost", *options, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()


def signed(folder: Path) -> list[str]:
    """Options by which an authority signs the certificate, which the server shows without the authority's own."""
    authority, its_key = str(folder / "authority.pem"), str(folder / "authority-key.pem")
    kind = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Authority", "-days", "30"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-keyout", its_key, "-out", authority],
        check=True,
        capture_output=True,
    )
    return ["-CA", authority, "-CAkey", its_key]


def itself(_: Path) -> list[str]:
    return []


def without_extensions(_: Path) -> list[str]:
    return ["-x509v1"]


def no_authority(_: Path) -> list[str]:
    return ["-addext", "basicConstraints=critical,CA:FALSE"]


@pytest.mark.parametrize("options", [itself, without_extensions, no_authority, signed])
def test_a_certificate_expires_when_openssl_says(tmp_path: Path, options: Callable[[Path], list[str]]) -> None:
    with tls_server(tmp_path, ["-days", "20", *options(tmp_path)]) as address:
        assert expires_at(address) == pytest.approx(time.time() + 20 * 86400, abs=120)
        (family,) = certificate_metrics(address)
        assert [sample.name for sample in family.samples] == ["tls_certificate_expiry_timestamp_seconds"]


def test_an_expired_certificate_has_a_time_too(tmp_path: Path) -> None:
    with tls_server(tmp_path, ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"]) as address:
        assert expires_at(address) == datetime(2020, 2, 1, tzinfo=UTC).timestamp()


def test_without_a_proxy_there_is_no_metric() -> None:
    assert certificate_metrics(None) == []
    (family,) = certificate_metrics(("127.0.0.1", 1))
    assert family.samples == []
