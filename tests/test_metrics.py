"Metrics: what must hold for any predictions, and agreement with scikit-learn."
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.evaluation.calibration import Calibration, calibrate, calibration_from_dict, calibration_to_dict, choose_threshold
from mlproject.evaluation.evaluate import SCORES, evaluate, evaluation_to_dict
from mlproject.metrics import (bootstrap, brier, class_f1, ece, effective_n, group_weights, hits, macro_f1, nll, per_class, softmax,
                               top_k, weighted_mean, wilson)


@st.composite
def predictions(draw):
    "Any (logits, y), ties and extreme values included."
    n, c, seed = draw(st.integers(1, 40)), draw(st.integers(2, 7)), draw(st.integers(0, 10 ** 6))
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(n, c)) * draw(st.sampled_from([.1, 3, 300])), draw(st.integers(0, 3)))
    return logits, rng.integers(0, c, n)


@given(predictions())
@settings(max_examples=60, deadline=None)
def test_probabilities_sum_to_one_and_keep_the_order(case):
    logits, y = case
    for t in (.05, 1, 20):
        p = softmax(logits, t)
        assert np.allclose(p.sum(1), 1) and (p >= 0).all()
        assert (p[np.arange(len(y)), logits.argmax(1)] >= p.max(1) - 1e-12).all()


@given(predictions())
@settings(max_examples=60, deadline=None)
def test_scores_stay_within_their_ranges_and_top_k_grows(case):
    logits, y = case
    p = softmax(logits)
    shares = [top_k(p, y, k) for k in range(1, p.shape[1] + 1)]
    assert shares == sorted(shares) and shares[-1] == 1
    assert 0 <= ece(p, y) <= 1 and 0 <= brier(p, y) <= 2 and nll(p, y) >= 0 and 0 <= macro_f1(p, y) <= 1


@given(predictions(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_weight_means_that_many_copies(case, seed):
    logits, y = case
    p, w = softmax(logits), np.random.default_rng(seed).integers(0, 4, len(y))
    if not w.sum(): return
    copies = np.repeat(np.arange(len(y)), w)
    for stat in (top_k, macro_f1, nll, brier, ece):
        assert np.isclose(stat(p, y, weights=w.astype(float)), stat(p[copies], y[copies]))
        assert np.allclose(stat(p, y, weights=np.stack([w, w]).astype(float)), stat(p[copies], y[copies]))


@given(predictions())
@settings(max_examples=40, deadline=None)
def test_metrics_agree_with_scikit_learn(case):
    sk = pytest.importorskip('sklearn.metrics')
    logits, y = case
    p, every = softmax(logits), np.arange(logits.shape[1])
    pred = p.argmax(1)
    assert np.isclose(top_k(p, y), sk.accuracy_score(y, pred))
    assert np.isclose(macro_f1(p, y), sk.f1_score(y, pred, average='macro', zero_division=0))
    assert np.isclose(nll(p.clip(1e-12), y), sk.log_loss(y, p.clip(1e-12), labels=every), rtol=1e-4, atol=1e-6)
    table = [r for r in per_class(p, y, [str(i) for i in every]) if r['n']]
    recall = sk.recall_score(y, pred, labels=[int(r['scientificName']) for r in table], average=None, zero_division=0)
    assert np.allclose([r['recall'] for r in table], recall)


@given(st.integers(0, 300), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_wilson_holds_the_share_and_agrees_with_its_inverse(k, n):
    k = min(k, n)
    e, z = wilson(k, n), 1.959964
    assert 0 <= e.low <= e.value <= e.high <= 1
    for end in (e.low, e.high):   # the ends are where the score test is just at its limit
        if 1e-9 < end < 1 - 1e-9: assert np.isclose(abs(e.value - end) / np.sqrt(end * (1 - end) / n), z, rtol=1e-3)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_groups_are_drawn_whole(groups, seed):
    w = group_weights(groups, len(groups), 5, np.random.default_rng(seed))
    assert all(len(set(row[np.array(groups) == g])) == 1 for row in w for g in set(groups))
    assert 1 <= effective_n(groups) <= len(groups)


def test_a_thousand_resamples_of_a_thousand_photos_and_a_hundred_species_take_seconds():
    import time
    rng = np.random.default_rng(0)
    logits, y, groups = rng.normal(size=(1000, 100)), rng.integers(0, 100, 1000), np.arange(1000) // 3
    start = time.process_time()
    evaluate(logits, y, [str(i) for i in range(100)], groups=groups)
    assert time.process_time() - start < 60    # about 2: resamples are counted together; one by one they take minutes


def test_an_interval_does_not_depend_on_how_many_resamples_fit_into_memory():
    rng = np.random.default_rng(0)
    y = (rng.random(6000) < .8).astype(float)     # 6,000 photos: more than one chunk
    many = bootstrap(weighted_mean, y, n=1000)
    assert abs(many.low - (.8 - 1.96 * np.sqrt(.16 / 6000))) < .01 and many == bootstrap(weighted_mean, y, n=1000)


def test_a_species_that_is_missing_from_a_resample_does_not_break_its_interval():
    y = np.array([0] * 30 + [1])
    e = bootstrap(lambda y, weights: class_f1(y, y, 3, weights), y, n=200)
    assert e[1].value == 1 and np.isnan(e[2].value)


@given(predictions())
@settings(max_examples=40, deadline=None)
def test_any_validation_split_gives_a_usable_calibration(case):
    c = calibrate(*case)
    assert .05 <= c.temperature <= 20 and 0 <= c.threshold <= 1 and c.coverage >= .1
    assert calibration_from_dict(calibration_to_dict(c)) == c


@given(predictions(), st.floats(.05, 1))
@settings(max_examples=40, deadline=None)
def test_a_stricter_rule_never_answers_more(case, target):
    logits, y = case
    p = softmax(logits)
    loose, strict = (choose_threshold(p, y, a, least=1e-9) for a in (target / 2, target))
    right = hits(p, y)
    reached = [right[p.max(1) >= t].mean() >= a for t, a in ((loose, target / 2), (strict, target))]
    if all(reached): assert loose <= strict
    assert (p.max(1) >= choose_threshold(p, y, None, coverage=target)).mean() >= target


def test_one_photo_and_one_group_are_evaluated_without_pretending_to_know():
    e = evaluate(np.array([[2., 1., 0.]]), np.array([0]), list('abc'))
    assert set(e.scores) == set(SCORES) and e.scores['top1'].low < .3 and np.isnan(e.scores['nll'].low)
    assert json.loads(json.dumps(evaluation_to_dict(e), allow_nan=False))['nll']['low'] is None
    with pytest.raises(Problem): evaluate(np.array([[np.nan, 1.]]), np.array([0]), list('ab'), Calibration())
