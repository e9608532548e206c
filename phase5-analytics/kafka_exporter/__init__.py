"""kafka-exporter: what the broker knows of topics and consumer groups, for Prometheus.

python3 -m kafka_exporter
"""
