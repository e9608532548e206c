"""What the DAGs do on Trino, in plain functions that can be run by hand too."""
