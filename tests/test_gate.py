"""Gate, slices and sequential tests: what passes, what must not, and how often the tests err."""
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.evaluation.gate import GatePolicy, gate
from mlproject.evaluation.sequential import (CanaryPolicy, Pairs, confidence_sequence, count_pairs, judge, log_e_above, log_e_better, log_e_change,
                                             log_e_not_worse)
from mlproject.evaluation.slices import accuracy, slices

LABELS = ['a', 'b', 'c', 'd']

def world(seed, bursts=150):
    rng = np.random.default_rng(seed)
    y, group = np.repeat(rng.integers(0, 4, bursts), 4), np.repeat(np.arange(bursts), 4)
    return rng, y, group, np.repeat(rng.random(bursts), 4)

def model(rng, y, hard, skill, blind=None):
    wrong = hard + rng.normal(0, .02, len(y)) > skill
    if blind is not None: wrong |= (y == blind) & (rng.random(len(y)) < .6)
    return np.eye(4)[np.where(wrong, (y + 1) % 4, y)]

def test_a_worse_candidate_hardly_ever_passes_although_photos_come_in_bursts():
    passed = 0
    for seed in range(100):
        rng, y, group, _ = world(seed)
        off = np.repeat(rng.choice([0, 1, 2], 150, p=[.9, .045, .055]), 4)   # champion alone wrong, candidate alone wrong
        old, new = np.eye(4)[np.where(off == 1, (y + 1) % 4, y)], np.eye(4)[np.where(off == 2, (y + 1) % 4, y)]
        passed += gate(new, old, y, LABELS, group, policy=GatePolicy(margin=.01), n=200).passed   # one point worse: at the edge
    assert passed <= 13   # 5 %, and the noise of 100 runs

def test_a_forgotten_protected_species_fails_although_the_average_is_better():
    rng, y, group, hard = world(0, 400)
    champion = model(rng, y, hard, .8)
    result = gate(model(rng, y, hard, .99, blind=2), champion, y, LABELS, group, protected=['c'], policy=GatePolicy(margin=.3))
    assert not result.passed and result.reason.startswith('c:') and result.checks[0].passed
    assert result.as_dict()['reason'] and result.as_dict()['policy']['margin'] == .3

def test_the_same_model_passes_and_better_must_be_shown():
    rng, y, group, hard = world(1)
    m = model(rng, y, hard, .8)
    assert gate(m, m, y, LABELS, group, protected=LABELS, slices=dict(half=group % 2)).passed
    assert not gate(m, m, y, LABELS, group, policy=GatePolicy(better=('overall',))).passed
    assert gate(model(rng, y, hard, .95), m, y, LABELS, group, policy=GatePolicy(better=('overall',))).passed

def test_one_group_only_proves_nothing():
    rng, y, group, hard = world(2)
    result = gate(model(rng, y, hard, .99), model(rng, y, hard, .5), y, LABELS, np.zeros(len(y)), policy=GatePolicy(better=('overall',)))
    assert not result.passed

@pytest.mark.parametrize('bad', [dict(few='x'), dict(margin=2), dict(level=.4)])
def test_a_policy_that_makes_no_sense_is_refused(bad):
    with pytest.raises(Problem): GatePolicy(**bad)

def test_small_slices_are_shown_but_do_not_compete():
    right = np.r_[np.ones(300), np.zeros(30), np.zeros(3)].astype(bool)
    found = slices(accuracy, right, columns=dict(site=['x']*300 + ['y']*30 + ['z']*3))
    assert [(r.value, r.small) for r in found.rows] == [('x', False), ('y', False), ('z', True)] and found.worst().value == 'y'
    assert found.gaps['site'].value == 1 and found.as_dict()['worst']['value'] == 'y'

def test_peeking_after_every_pair_promotes_an_equal_model_at_most_in_one_run_of_twenty():
    rng = np.random.default_rng(0)
    s = rng.choice([-1, 1], (1000, 800))
    w = (s > 0).cumsum(1)
    table = log_e_better(np.arange(801)[:, None], np.arange(801)[None])
    ever = (table[w, np.arange(1, 801) - w] >= math.log(20)).any(1)
    assert ever.mean() <= .05 + 2*math.sqrt(.05*.95/1000)

@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.floats(.02, .98))
def test_the_bet_is_fair(k, more, p0):
    n = k + more
    up, down, now = (log_e_above(*v, p0) for v in ((k + 1, n + 1), (k, n + 1), (k, n)))
    if now <= -690: return   # far below, where the evidence is cut off
    assert p0*math.exp(up - now) + (1 - p0)*math.exp(down - now) <= 1 + 1e-6

@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 2000), st.floats(0, .2), st.floats(0, .4))
def test_the_bet_on_not_worse_is_fair_at_its_edge(w, l, t, margin, loss):
    win = max(0., loss - margin)
    if win + loss > 1: return
    loss = win + margin
    if win + loss > 1: return
    now, after = log_e_not_worse(w, l, t, margin), [log_e_not_worse(*v, margin) for v in ((w + 1, l, t), (w, l + 1, t), (w, l, t + 1))]
    assert sum(p*math.exp(a - now) for p, a in zip((win, loss, 1 - win - loss), after)) <= 1 + 1e-6

def test_a_change_is_found_and_a_calm_life_is_not_alarmed():
    rng, looks = np.random.default_rng(1), np.arange(25, 1001, 25)
    calm = log_e_change(rng.random((300, 1000)) < .1, .1, at=looks)
    assert (calm >= math.log(20)).any(1).mean() <= .08
    late = np.concatenate([rng.random((40, 700)) < .08, rng.random((40, 300)) < .3], 1)
    assert ((log_e_change(late, .1, at=looks) >= math.log(20)).any(1)).mean() >= .95

@given(st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None, max_examples=40)
def test_the_sequence_holds_its_share_and_narrows(k, more):
    n = k + more
    if not n: return
    e, later = confidence_sequence(k, n), confidence_sequence(10*k, 10*n)
    assert 0 <= e.low <= k/n <= e.high <= 1 and later.high - later.low <= e.high - e.low + 1e-9

def test_a_canary_stays_narrow_until_evidence_and_ends_without_it():
    assert judge(Pairs()).weight == .05 and judge(Pairs(100, 90, 3000)).weight == .25
    end = judge(Pairs(250, 245, 4505))
    assert (end.action, end.weight) == ('roll_back', 0.) and 'no verdict' in end.reason
    assert judge(Pairs(100, 90, 3000), CanaryPolicy(goal='not_worse', margin=.02)).action == 'promote'
    assert count_pairs([1, 0, 0], [0, 1, 1], ['x', 'y', 'y']) == Pairs(1, 1, 0)
    assert Pairs(1, 2, 3) + Pairs(1, 0, 0) == Pairs(2, 2, 3)
