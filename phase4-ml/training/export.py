"""The same model as ONNX, which scores a payment in a hundredth of scikit-learn's time, and a check that both agree."""

import numpy as np
import onnxruntime
from fraud_common.errors import UserError
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from training.calibration import SMALLEST, CalibratedClassifier, Correction

OPSET = 18
# Of a probability. In 32 bits sums over trees differ by some 1e-6, those over features, which may be millions, by 1e-5,
# and the prior correction multiplies that by up to the weight of frauds.
TOLERANCE = 2e-4
INPUT, OUTPUT = "features", "probabilities"
# The output of the classifier itself.
UNCORRECTED = "uncorrected"


def export_onnx(model: CalibratedClassifier) -> bytes:
    """The model in ONNX: input `features` of shape (n, number of features), output `probabilities` of shape (n, 2)."""
    onnx = to_onnx(
        model.classifier,
        initial_types=[(INPUT, FloatTensorType([None, model.n_features_in_]))],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    append_correction(onnx, model.correction)
    return onnx.SerializeToString()


def append_correction(onnx: ModelProto, correction: Correction) -> None:
    """Append a correction of log-odds to a classifier's graph, which then has the output `probabilities` alone.

    As a softmax: p1^slope * e^offset / (p0^slope + p1^slope * e^offset) has the log-odds slope * log(p1 / p0) + offset.
    """
    graph = onnx.graph
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [UNCORRECTED if name == OUTPUT else name for name in names]
    constants = {
        "smallest": np.float32(SMALLEST),
        "slope": np.float32(correction.slope),
        "offset": np.array([[0.0, correction.offset]], dtype=np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Clip", [UNCORRECTED, "smallest"], ["clipped"]),
            helper.make_node("Log", ["clipped"], ["logarithm"]),
            helper.make_node("Mul", ["logarithm", "slope"], ["sloped"]),
            helper.make_node("Add", ["sloped", "offset"], ["corrected"]),
            helper.make_node("Softmax", ["corrected"], [OUTPUT], axis=1),
        ]
    )
    # The classifier's own label is that of the score before the correction.
    (probabilities,) = (output for output in graph.output if output.name == OUTPUT)
    del graph.output[:]
    graph.output.append(probabilities)


def onnx_scores(onnx: bytes, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability of fraud of each row, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return session.run((OUTPUT,), {INPUT: matrix})[0][:, 1].astype(float)


def check_parity(onnx: bytes, matrix: NDArray[np.float32], scores: NDArray[np.float64]) -> float:
    """Compare ONNX's scores of the holdout with scikit-learn's; returns the largest difference.

    Args:
        onnx: the model.
        matrix: the holdout, with the model's features.
        scores: scikit-learn's.

    Raises:
        UserError: it is above TOLERANCE, so this model can't be served.
    """
    difference = np.abs(onnx_scores(onnx, matrix) - scores)
    if difference.max() > TOLERANCE:
        raise UserError(
            f"ONNX and scikit-learn differ by up to {difference.max():.2g} on the holdout, {TOLERANCE:g} is allowed "
            f"({(difference > TOLERANCE).sum():,} of {len(difference):,} payments): this model is not registered"
        )
    return float(difference.max())
