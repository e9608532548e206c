"""Why a payment got its score: the one function behind what is stored and what `?explain=true` answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.reasons import Reason, explain_rules
from serving.rules_1 import VERSION as RULES

from explainer import metrics
from explainer.registry import Models


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is explained."""

    model_version: str
    fraud_probability: float
    # By name; None is what JSON can't express.
    features: Mapping[str, float | None]


def explain(models: Models, prediction: Prediction) -> list[Reason]:
    """The features that moved the score the most.

    Raises:
        Unavailable: the registry does not answer.
        UnexplainedError: there are no reasons, and never will be.
    """
    with metrics.SECONDS.time():
        if prediction.model_version == RULES:
            return explain_rules(prediction.features)
        attribution = models.get(prediction.model_version)
        return attribution.explain(prediction.features, prediction.fraud_probability).reasons
