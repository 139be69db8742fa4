"""A classifier and what a caller must know about it, in one file.

joblib alone keeps the estimator; a server also needs the input's width and the names of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import joblib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

__all__ = ["Classifier", "ServedModel"]


class Classifier(Protocol):
    """What scikit-learn's classifiers have in common, as far as serving needs it."""

    def predict_proba(self, X: NDArray[Any], /) -> NDArray[Any]: ...  # noqa: N803 (scikit-learn's name)


@dataclass(frozen=True)
class ServedModel:
    """One model as the server offers it."""

    estimator: Classifier
    classes: tuple[str, ...]
    features: int
    version: str = "1"
    input_name: str = "features"

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, [rows, classes], for [rows, features]."""
        return np.asarray(self.estimator.predict_proba(rows), dtype=np.float32)

    def labels(self, probabilities: NDArray[np.float32]) -> list[str]:
        """The likeliest class of each row."""
        return [self.classes[best] for best in np.argmax(probabilities, axis=1)]

    def save(self, path: Path) -> Path:
        joblib.dump(self, path)
        return path

    @classmethod
    def load(cls, path: Path) -> ServedModel:
        """Read a file that `save` wrote. joblib unpickles: load only files you made.

        Raises: TypeError, if the file holds something else.
        """
        model = joblib.load(path)
        if not isinstance(model, cls):
            raise TypeError(
                f"{path}: holds a {type(model).__name__}, wanted a ServedModel (write it with save())"
            )
        return model
