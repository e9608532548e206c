"""The Grafana dashboards as code; `python3 -m dashboards` writes the JSON files that Grafana reads."""
