"""When the certificate of the TLS proxy expires, as its clients see it; nothing where there is no proxy."""

import socket
import ssl
from contextlib import suppress

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

# Of each of two connections: Prometheus waits 10 s for all that is asked during a scrape.
TIMEOUT_SECONDS = 2.0
# Of OpenSSL; Python has no name for it. An expired certificate has a time, too.
X509_V_FLAG_NO_CHECK_TIME = 0x200000


def certificate_metrics(address: tuple[str, int] | None) -> list[Metric]:
    """The Unix time at which the certificate expires; no sample if the proxy does not answer."""
    if not address:
        return []
    expiry = GaugeMetricFamily("tls_certificate_expiry_timestamp_seconds", "When the certificate of the proxy expires")
    # If it does not answer, the health check of its container says why.
    with suppress(OSError):
        expiry.add_metric([], expires_at(address))
    return [expiry]


def expires_at(address: tuple[str, int]) -> float:
    """The Unix time at which the certificate that a server shows expires.

    Raises:
        OSError: the server does not answer.
    """
    pem = ssl.get_server_certificate(address, timeout=TIMEOUT_SECONDS)
    # Python shows the fields of a verified certificate only, so this one is trusted, whichever authority signed it.
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(X509_V_FLAG_NO_CHECK_TIME)
    with (
        socket.create_connection(address, TIMEOUT_SECONDS) as connection,
        context.wrap_socket(connection) as tls,
    ):
        certificate = tls.getpeercert()
    assert certificate  # it was verified
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))
