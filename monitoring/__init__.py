"""What Prometheus and Grafana are given, and what holds it to what the nodes tell: `python -m monitoring.check`."""
