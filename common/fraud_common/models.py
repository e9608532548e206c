"""The registered model: its name in MLflow, which is also that of the experiment, and the aliases of versions."""

MODEL_NAME = "fraud_classifier"
# What the API serves, and the newest version that training registered.
PRODUCTION_ALIAS = "production"
STAGING_ALIAS = "staging"
