"""The Grafana dashboards as code; `python3 -m source` writes the JSON files that Grafana reads."""
