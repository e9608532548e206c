"""What a model's ONNX graph computes: trees or a linear function, and how their sum becomes a probability.

Upstream is training/export.py. The graph that scores is the one that is explained, so every kind of model works the
same, and thresholds are those in 32 bits that the score was made with.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# The correction of probabilities, as training/export.py writes it.
CORRECTION = ("smallest", "slope", "offset")


class UnknownGraphError(Exception):
    """Why a graph can't be explained."""


@dataclass(frozen=True, slots=True)
class Trees:
    """An ensemble whose output is `base` and the sum of a leaf of each tree, in the form that shap takes."""

    trees: list[dict[str, NDArray[Any]]]
    base: float


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear function of the features."""

    coefficients: NDArray[np.float64]
    intercept: float


@dataclass(frozen=True, slots=True)
class Graph:
    """A classifier's raw output, and how it becomes `fraud_probability`."""

    classifier: Trees | Linear
    # Whether the raw output is the log-odds of a probability, or is a probability itself.
    is_log_odds: bool
    # `smallest`, `slope` and `offset`; None if the classifier's probability is the answer.
    correction: tuple[float, float, float] | None

    def probability(self, raw: float) -> float:
        """The probability of fraud of a raw output (docs/decisions/0016-calibrated-probabilities.md)."""
        fraud = _logistic(raw) if self.is_log_odds else raw
        if self.correction is None:
            return fraud
        smallest, slope, offset = self.correction
        odds = float(np.log(max(fraud, smallest)) - np.log(max(1 - fraud, smallest)))
        return _logistic(slope * odds + offset)


def read_graph(content: bytes) -> Graph:
    """Read a model.

    Args:
        content: model.onnx of a run.

    Raises:
        UnknownGraphError: it is something else than one ensemble of trees or one linear classifier.
    """
    graph = onnx.load_model_from_string(content).graph
    nodes = {node.op_type: _attributes(node) for node in graph.node}
    classifiers = [node.op_type for node in graph.node if node.op_type.endswith(("Classifier", "Regressor"))]
    classifier: Trees | Linear
    if classifiers == ["TreeEnsembleClassifier"]:
        classifier = _trees(nodes["TreeEnsembleClassifier"])
    elif classifiers == ["LinearClassifier"]:
        classifier = _linear(nodes["LinearClassifier"], nodes.get("Scaler"))
    else:
        raise UnknownGraphError(f"its graph has {', '.join(classifiers) or 'no classifier'}")
    link = nodes[classifiers[0]].get("post_transform", b"NONE")
    if link not in (b"NONE", b"LOGISTIC"):
        raise UnknownGraphError(f"its output is transformed by {link.decode()}")
    return Graph(classifier, link == b"LOGISTIC", _correction(graph))


def _trees(attributes: dict[str, Any]) -> Trees:
    """The trees in shap's form: a node is a position, and a leaf has -1 as its children."""
    modes = set(attributes["nodes_modes"])
    if not modes <= {b"BRANCH_LEQ", b"LEAF"}:
        raise UnknownGraphError(f"its trees compare by {sorted(mode.decode() for mode in modes)}")
    tree_of = np.array(attributes["nodes_treeids"])
    node = np.array(attributes["nodes_nodeids"])
    position = {each: at for at, each in enumerate(zip(tree_of.tolist(), node.tolist(), strict=True))}
    weight = np.zeros(len(node))
    # A leaf has one weight, that of fraud, or one for each class.
    fraud = max(attributes["class_ids"])
    for tree, leaf, of_class, value in zip(
        *(attributes[f"class_{name}"] for name in ("treeids", "nodeids", "ids", "weights")), strict=True
    ):
        if of_class == fraud:
            weight[position[tree, leaf]] += value
    columns = {
        "is_leaf": np.array([mode == b"LEAF" for mode in attributes["nodes_modes"]]),
        "true": np.array(attributes["nodes_truenodeids"]),
        "false": np.array(attributes["nodes_falsenodeids"]),
        "missing_is_true": np.array(attributes.get("nodes_missing_value_tracks_true") or [0] * len(node), dtype=bool),
        "feature": np.array(attributes["nodes_featureids"]),
        "threshold": np.array(attributes["nodes_values"], dtype=np.float64),
        "weight": weight,
    }
    base = float((attributes.get("base_values") or [0.0])[-1])
    trees = []
    for tree in np.unique(tree_of):
        own = tree_of == tree
        if own.sum() == 1:
            # A tree that is a leaf only: the same for every payment.
            base += float(weight[own][0])
        else:
            trees.append(_tree(node[own], {name: column[own] for name, column in columns.items()}))
    return Trees(trees, base)


def _tree(node: NDArray[np.int_], column: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    at = np.empty(node.max() + 1, dtype=np.int32)
    at[node] = np.arange(len(node))
    leaf = column["is_leaf"]
    left = np.where(leaf, -1, at[column["true"]])
    right = np.where(leaf, -1, at[column["false"]])
    return {
        "children_left": left,
        "children_right": right,
        "children_default": np.where(column["missing_is_true"], left, right),
        "features": np.where(leaf, -2, column["feature"]),
        "thresholds": column["threshold"],
        "values": column["weight"].reshape(-1, 1),
        # shap's other method needs them; ONNX has none.
        "node_sample_weight": np.ones(len(node)),
    }


def _linear(attributes: dict[str, Any], scaler: dict[str, Any] | None) -> Linear:
    """The function of the features themselves: scaling is linear, too."""
    coefficients = np.array(attributes["coefficients"]).reshape(len(attributes["intercepts"]), -1)[-1]
    intercept = float(attributes["intercepts"][-1])
    if scaler:
        coefficients = coefficients * np.array(scaler["scale"])
        intercept -= float(coefficients @ np.array(scaler["offset"]))
    return Linear(coefficients, intercept)


def _correction(graph: onnx.GraphProto) -> tuple[float, float, float] | None:
    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer if each.name in CORRECTION}
    if len(found) < len(CORRECTION):
        return None
    return float(found["smallest"]), float(found["slope"]), float(found["offset"].ravel()[-1])


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _logistic(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))
