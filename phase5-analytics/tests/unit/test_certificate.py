"""The expiry of a certificate, read from a server that shows one made by openssl, as people make theirs."""

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from monitoring.certificate import certificate_metrics, expires_at


@contextmanager
def tls_server(folder: Path, dates: list[str]) -> Iterator[tuple[str, int]]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    content = ["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *dates, *content, "-keyout", str(key), "-out", str(certificate)],
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


def test_a_certificate_expires_when_openssl_says(tmp_path: Path) -> None:
    with tls_server(tmp_path, ["-days", "20"]) as address:
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
