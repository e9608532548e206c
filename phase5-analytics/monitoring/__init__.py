"""What no exporter says to Prometheus: drift of live payments, Airflow's runs, services without metrics, the disk.

python3 -m monitoring
"""
