"""The settings of training, read from the environment and checked at the start. Names and defaults: `.env.example`."""

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from fraud_common.errors import UserError

MODEL_NAME = "fraud-model"
EXPERIMENT = "fraud-model"
STAGING, PRODUCTION = "staging", "production"


class Settings(BaseSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    trino_host: str = "localhost"
    trino_port: int = Field(default=8085, ge=1, le=65535)
    mlflow_tracking_uri: str = "http://localhost:5000"

    training_model: Literal[
        "random_forest", "extra_trees", "hist_gradient_boosting", "logistic_regression", "decision_tree"
    ] = "random_forest"
    training_days: int = Field(default=45, ge=4)
    # Honest payments that a model learns from, for each fraud; the others add time and little else.
    training_honest_per_fraud: int = Field(default=30, ge=1)
    # How much more a fraud counts than its share of the payments gives it.
    training_fraud_weight: float = Field(default=10.0, gt=0)
    training_minimum_frauds: int = Field(default=50, ge=1)
    training_minimum_auc: float = Field(default=0.90, ge=0.5, le=1)
    # What it costs to look at a payment, in the currency of the amounts; a missed fraud costs its amount.
    training_review_cost: float = Field(default=10.0, gt=0)
    training_challenge_cost: float = Field(default=1.0, gt=0)
    training_seed: int = Field(default=42, ge=0)
    training_jobs: int = Field(default=2, ge=1)


def load_settings() -> Settings:
    """Read and check the environment.

    Raises:
        UserError: one line for each wrong setting: its name, its value, what it must be.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}; correct it in .env" for e in error.errors()]
        raise UserError("\n".join(lines)) from None
