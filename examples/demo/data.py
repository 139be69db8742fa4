"""Images of digits with noise, three models of different size, and the calls that will be made.

`digits` ships with scikit-learn (1,797 images of 8x8, UCI's test set of handwritten digits). Half of the images train,
the other half is what callers send, each time with fresh noise: so several thousand calls differ from one another, and
no model has seen any of them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from examples.oip_server import ServedModel
from examples.oip_server.models import Classifier

__all__ = ["CLASSES", "FEATURES", "Call", "Images", "Sample", "draw_calls", "train"]

CLASSES = ("other", "eight")
FEATURES = 64
SHARE_OF_EIGHTS = 0.25
USERS = 400
DEVICES = ("phone", "scanner")
KNOWN_SENDERS = ("archive@example.org", "bank@example.org")
SHARE_OF_KNOWN_SENDERS = 0.04
BATCH_EVERY = 40
BATCH_ROWS = 4
TOO_MANY_EVERY = 1000
TOO_MANY_ROWS = 100


@dataclass(frozen=True)
class Sample:
    """One image as a caller sends it, and what it really shows."""

    features: NDArray[np.float32]
    is_eight: bool


@dataclass(frozen=True)
class Call:
    """One RPC: its images, and who sends them."""

    samples: tuple[Sample, ...]
    user: str
    device: str
    sender: str

    @property
    def features(self) -> NDArray[np.float32]:
        """[rows, 64], FP32."""
        return np.stack([sample.features for sample in self.samples])

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-user-id", self.user), ("x-device", self.device), ("x-sender", self.sender))


class Images:
    """The two halves of the data set."""

    def __init__(self, seed: int) -> None:
        pixels, digit = load_digits(return_X_y=True)
        self._pixels = (pixels / 16).astype(np.float32)
        self._is_eight = digit == 8
        self.training, self.calling = train_test_split(
            np.arange(len(pixels)), test_size=0.5, random_state=seed, stratify=self._is_eight
        )

    def draw(
        self,
        half: NDArray[np.int64],
        count: int,
        noise: float | NDArray[np.float64],
        generator: np.random.Generator,
        share_of_eights: float = SHARE_OF_EIGHTS,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """`count` images of one half, with Gaussian noise of that standard deviation (one, or one per image)."""
        eights, others = half[self._is_eight[half]], half[~self._is_eight[half]]
        chosen = np.where(
            generator.random(count) < share_of_eights,
            generator.choice(eights, count),
            generator.choice(others, count),
        )
        scale = np.broadcast_to(np.asarray(noise), (count,))[:, None]
        pixels = self._pixels[chosen] + generator.normal(size=(count, FEATURES)) * scale
        return pixels.astype(np.float32), self._is_eight[chosen]


def train(images: Images, directory: Path, generator: np.random.Generator) -> None:
    """Train the primary, the smaller fallback and the next version (the shadow), each into a file of its name.

    The next version has seen noisier images, so it should be the better one on what callers send.
    """
    plans: dict[str, tuple[Classifier, int, float, str]] = {
        "eight": (MLPClassifier((64,), max_iter=40, random_state=0), 6000, 0.25, "1"),
        "eight_small": (LogisticRegression(max_iter=300), 6000, 0.30, "1"),
        "eight_next": (MLPClassifier((64,), max_iter=25, random_state=1), 9000, 0.30, "2"),
    }
    for name, (estimator, count, noise, version) in plans.items():
        pixels, is_eight = images.draw(images.training, count, noise, generator)
        with warnings.catch_warnings():
            # So many passes and no more: a demo's model need not be the best that could be had.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = estimator.fit(pixels, is_eight)  # type: ignore[attr-defined]
        ServedModel(fitted, CLASSES, FEATURES, version).save(directory / f"{name}.joblib")


def draw_calls(images: Images, count: int, generator: np.random.Generator) -> list[Call]:
    """Calls as users make them: mostly one image, now and then a batch; most images a little noisy, some very."""
    calls = []
    for number in range(count):
        rows = BATCH_ROWS if number % BATCH_EVERY == BATCH_EVERY - 1 else 1
        if number % TOO_MANY_EVERY == TOO_MANY_EVERY // 2:
            rows = TOO_MANY_ROWS  # a caller who has not read the rules
        known = generator.random() < SHARE_OF_KNOWN_SENDERS
        noise = np.where(generator.random(rows) < 0.85, 0.20, 0.45)
        # Known senders never write eights: that is what the operator's rule knows and the model does not.
        pixels, is_eight = images.draw(
            images.calling, rows, noise, generator, share_of_eights=0.0 if known else SHARE_OF_EIGHTS
        )
        user = int(generator.integers(USERS))
        calls.append(
            Call(
                samples=tuple(Sample(row, bool(truth)) for row, truth in zip(pixels, is_eight, strict=True)),
                user=f"user-{user}",
                device=DEVICES[user % len(DEVICES)],
                sender=str(generator.choice(KNOWN_SENDERS)) if known else f"user-{user}@example.com",
            )
        )
    return calls
