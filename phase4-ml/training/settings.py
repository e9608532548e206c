"""The settings of training."""

from typing import Literal

from fraud_common.settings import MlflowSettings, TrinoSettings
from pydantic import Field

AUTO = "auto"


class Settings(TrinoSettings, MlflowSettings):
    """Which model learns from how many examples, when it may serve, and what mistakes cost."""

    training_model: Literal[
        "auto", "random_forest", "extra_trees", "hist_gradient_boosting", "logistic_regression", "decision_tree"
    ] = "auto"
    training_days: int = Field(default=45, ge=4)
    # Legitimate payments that a model learns from, for each fraud; more of them take time and improve little.
    training_legitimate_per_fraud: int = Field(default=30, ge=1)
    # How much more a fraud weighs in training than its share of the payments.
    training_fraud_weight: float = Field(default=10.0, gt=0)
    training_minimum_frauds: int = Field(default=50, ge=1)
    training_minimum_auc: float = Field(default=0.90, ge=0.5, le=1)
    # What it costs to act on a payment, in the currency of the amounts; a missed fraud costs its amount.
    training_review_cost: float = Field(default=25.0, gt=0)
    training_challenge_cost: float = Field(default=1.0, gt=0)
    # How long versions that nothing needs are kept; 0: for ever.
    model_retention_days: int = Field(default=180, ge=0)
    training_seed: int = Field(default=42, ge=0)
    training_jobs: int = Field(default=2, ge=1)
