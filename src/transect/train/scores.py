"""Scores of answers as their benchmarks define them, and whether an arm learned anything."""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.intervals import student


def classification(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """accuracy, f1 (of class 1 where there are two, else macro) and mcc, as GLUE reports them."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    two = int(max(predicted.max(), truth.max())) <= 1
    kind: Any = "binary" if two else "macro"
    f1 = f1_score(truth, predicted, average=kind, zero_division=0.0)  # type: ignore[arg-type]
    return {
        "accuracy": float((predicted == truth).mean()),
        "f1": float(f1),
        "mcc": float(matthews_corrcoef(truth, predicted)),
    }


def plain(answer: str) -> str:
    """SQuAD's normal form: lower case, without punctuation and articles, single spaces."""
    answer = "".join(c for c in answer.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


def exact(predicted: str, golds: Sequence[str]) -> float:
    """1 when the answer equals one of the golds ("" where there is no answer) in normal form."""
    return float(max(plain(predicted) == plain(gold) for gold in golds or [""]))


def overlap(predicted: str, golds: Sequence[str]) -> float:
    """SQuAD's F1 over words, the best of the golds; no answer matches only no answer."""

    def one(gold: str) -> float:
        got, want = plain(predicted).split(), plain(gold).split()
        if not got or not want:
            return float(got == want)
        same = sum((Counter(got) & Counter(want)).values())
        return 2 * same / (len(got) + len(want))

    return max(one(gold) for gold in golds or [""])


def learned(scores: np.ndarray, baseline: np.ndarray) -> tuple[bool, float, float]:
    """(whether the mean score lies above the baseline's with 95 % confidence, the difference, its standard
    error). Paired over examples, by the t of their count."""
    gap = np.asarray(scores, float) - np.asarray(baseline, float)
    if len(gap) < 2:
        return False, float(gap.mean()), math.inf
    error = float(gap.std(ddof=1) / np.sqrt(len(gap)))
    return bool(gap.mean() > student(len(gap)) * error and gap.mean() > 0), float(gap.mean()), error
