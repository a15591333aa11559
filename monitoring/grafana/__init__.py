"""Grafana's dashboards as code: `python -m monitoring.grafana` writes what is in `dashboards/`."""
