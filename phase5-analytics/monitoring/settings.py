"""The settings of the drift watcher and of what else it watches."""

from fraud_common.service import ServiceSettings
from fraud_common.settings import MlflowSettings, PostgresSettings, SchemaRegistrySettings
from pydantic import Field


class Settings(ServiceSettings, PostgresSettings, MlflowSettings, SchemaRegistrySettings):
    """Each field is the environment variable of the same name in capitals."""

    metrics_port: int = Field(default=9405, ge=0, le=65535)
    # How often a sample of the newest predictions is taken, how many rows it has, and how long they are kept.
    drift_sample_seconds: float = Field(default=10.0, gt=0)
    drift_sample_rows: int = Field(default=20, ge=1, le=1000)
    drift_window_minutes: float = Field(default=60.0, gt=0)
    # With fewer rows the index is mostly chance.
    drift_minimum_rows: int = Field(default=500, ge=1)
    # Of the role that may read statistics and the state of Airflow's runs.
    metrics_db_password: str = ""
    superset_url: str = "http://superset:8088"
    airflow_url: str = "http://airflow-api-server:8080"
    training_url: str = "http://training:8070"
    # host:port of the proxy with TLS; empty: there is none.
    tls_proxy_address: str = ""

    @property
    def tls_proxy(self) -> tuple[str, int] | None:
        """The proxy's name and port."""
        host, _, port = self.tls_proxy_address.rpartition(":")
        return (host, int(port)) if host else None
