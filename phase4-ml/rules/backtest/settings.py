"""What a backtest counts with."""

from pydantic import Field
from pydantic_settings import BaseSettings

from rules.backtest.report import Costs


class BacktestSettings(BaseSettings):
    """The costs that the model's thresholds are chosen by, and what else decides."""

    gold_schema: str = Field(default="gold", pattern=r"^[a-z0-9_]+$")
    silver_schema: str = Field(default="silver", pattern=r"^[a-z0-9_]+$")
    training_review_cost: float = Field(default=25.0, gt=0)
    training_challenge_cost: float = Field(default=1.0, gt=0)
    # How long an analyst needs for a payment.
    rules_review_minutes: float = Field(default=10.0, gt=0)
    # The model declines what is in tier high.
    decision_decline_high: bool = False

    @property
    def costs(self) -> Costs:
        """What acting on a payment costs."""
        return Costs(self.training_review_cost, self.training_challenge_cost, self.rules_review_minutes)
