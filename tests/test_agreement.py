"""Alpha, kappa and audits against definitions written out, and against a library."""
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproject.core import Problem
from mlproject.data.agreement import alpha, audit, kappa, self_agreement, tally

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
answers = st.lists(st.lists(st.sampled_from(['a', 'b', 'c', None]), max_size=4), min_size=1, max_size=8)


def alpha_by_pairs(rows):
    "Krippendorff's definition: disagreeing pairs within items against disagreeing pairs of all pairable values."
    rows = [[a for a in r if a is not None] for r in rows]
    rows = [r for r in rows if len(r) > 1]
    values = [a for r in rows for a in r]
    if len(set(values)) < 2: return math.nan
    observed = sum(sum(a != b for a, b in itertools.permutations(r, 2)) / (len(r) - 1) for r in rows) / len(values)
    expected = sum(a != b for a, b in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - observed / expected


@given(answers)
def test_alpha_is_what_the_definition_says(rows):
    assert alpha(tally(rows)[0]) == pytest.approx(alpha_by_pairs(rows), nan_ok=True)


@given(answers)
def test_alpha_with_weights_is_alpha_of_repeated_items(rows):
    counts = tally(rows)[0]
    weights = np.arange(len(rows)) % 3
    assert alpha(counts, weights[None].astype(float))[0] == pytest.approx(alpha(np.repeat(counts, weights, axis=0)), nan_ok=True)


def test_kappa_is_that_of_a_library():
    metrics = pytest.importorskip('sklearn.metrics')
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 200)
    b = np.where(rng.random(200) < .7, a, rng.integers(0, 4, 200))
    assert kappa(a, b) == pytest.approx(metrics.cohen_kappa_score(a, b))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 100)
        rows = [[t if rng.random() < .9 else 1 - t for _ in range(3)] for t in truth]
        found = self_agreement(rows, n=200)
        inside += found.low <= .64 <= found.high  # (2 x .9 - 1)^2
    assert inside >= 52


def test_an_audit_counts_abstentions_as_coverage_only():
    truth = {f'r{i}': 'ab'[i % 2] for i in range(20)}
    found = audit({f'r{i}': 'ab'[i % 2] for i in range(10)} | dict(other='a', r11=None), truth)
    assert (found.items, found.coverage.value, found.accuracy.value, found.kappa.value) == (20, .5, 1, 1)
    nothing = audit({}, truth)
    assert nothing.coverage.value == 0 and math.isnan(nothing.accuracy.value) and math.isnan(nothing.kappa.value)
    with pytest.raises(Problem): audit({}, {})
