"""Monitoring as pure functions: false alarms at their level, changes found, intervals that hold, one retraining for one harm."""
import json, subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.metrics import Estimate, softmax
from mlproject.monitoring.alarms import AlarmPolicy, AlarmState, FileSink, Webhook, deliver, findings, released, step
from mlproject.monitoring.drift import Ready, detect, holm, ks, species_tests
from mlproject.monitoring.performance import FALSE_HARM, Harm, atc, band_level, estimate, estimate_unlabelled, harm, remember
from mlproject.monitoring.reference import make_reference, random_coordinates, read_reference, see, write_reference
from mlproject.monitoring.rehearsal import SPOILINGS, spoil

LABELS = [f's{i}' for i in range(12)]
CENTRES = np.random.default_rng(9).normal(size=(12, 10))*1.4

def photos(n, rng, share=None, moved=0.):
    y = rng.choice(12, n, p=share)
    e = CENTRES[y] + rng.normal(size=(n, 10)) + moved
    return dict(logits=e@CENTRES.T - (CENTRES**2).sum(1)/2, embedding=e, quality=dict(brightness=rng.normal(.5, .1, n))), y

def reference(n=500, seed=0, **further):
    seen, y = photos(n, np.random.default_rng(seed))
    return make_reference(**seen, y=y, labels=LABELS, dims=6, **further)

def test_false_alarms_stay_at_their_level_over_references_and_windows():
    rng = np.random.default_rng(1)
    for n in (12, 200):
        fired = []
        for i in range(100):
            r = Ready(reference(300, 100 + i))
            fired.append(detect(r, see(r.reference, **photos(n, rng)[0])).drifted)
        assert np.mean(fired) <= .12, n   # 5 % and the noise of 100 runs

def test_a_species_that_becomes_commoner_is_found_by_its_name_where_ks_sees_little():
    rng, share, r = np.random.default_rng(2), np.full(12, 1/12), Ready(reference(800))
    share[7] *= 3
    report = detect(r, see(r.reference, **photos(600, rng, share/share.sum())[0]))
    species = next(f for f in report.families if f.name == 'species')
    assert species.drifted and species.strongest[0].name in ('s7', 'chi²')

def test_only_the_family_that_changed_is_named_and_a_report_is_json():
    rng, r = np.random.default_rng(3), Ready(reference(800))
    window, _ = photos(500, rng)
    window['quality']['brightness'] = window['quality']['brightness'] + .1
    report = detect(r, see(r.reference, **window))
    assert [f.name for f in report.families if f.drifted] == ['inputs']
    assert json.loads(json.dumps(report.as_dict()))['drifted'] is True

@pytest.mark.parametrize('n', [0, 1, 4])
def test_next_to_no_photos_is_no_drift(n):
    r = Ready(reference())
    assert not detect(r, see(r.reference, **photos(n, np.random.default_rng(0))[0])).drifted

def test_what_was_not_measured_and_what_is_constant_does_no_harm():
    r, seen = reference(), photos(50, np.random.default_rng(4))[0]
    seen['quality'] = dict(brightness=np.full(50, np.nan), other=np.ones(50))
    assert detect(r, see(r, **seen)).families[0].p == 1
    flat, y = photos(50, np.random.default_rng(5))
    flat['embedding'] = np.ones((50, 10))
    still = make_reference(**flat, y=y, labels=LABELS)
    assert not detect(still, still.window).drifted

@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_p_and_keeps_their_order(p):
    a = holm(p)
    assert (a >= np.array(p) - 1e-12).all() and (a <= 1).all() and (np.diff(a[np.argsort(p, kind='stable')]) >= 0).all()

@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_ks_is_the_largest_difference_whatever_the_ties(a, b):
    grid = np.arange(-1, 7)
    want = max(abs(np.mean(np.array(a) <= g) - np.mean(np.array(b) <= g)) for g in grid)
    assert ks(np.sort(np.array(a, float)), np.array(b, float))[0] == pytest.approx(want)

@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=20))
def test_species_tests_take_any_counts(counts):
    old, new = np.array(counts).T
    if not old.sum() or not new.sum(): return
    p, residual, chi2, overall = species_tests(old, new)
    assert ((p >= 0) & (p <= 1)).all() and np.isfinite(residual).all() and 0 <= overall <= 1 and chi2 >= 0

def test_a_reference_survives_its_file_and_a_damaged_one_is_told(tmp_path):
    made = reference(bursts=np.arange(500)//2, keep=100)
    seen, y = photos(300, np.random.default_rng(6))
    made = remember(made, {('clean', 0.): seen['logits']}, y)
    path = write_reference(tmp_path, made)
    again = read_reference(path)
    assert len(again.window) == 100 and again.rehearsals == made.rehearsals and again.accuracy == made.accuracy
    assert np.array_equal(again.window.embedding, made.window.embedding)
    first = path.read_bytes()
    assert write_reference(tmp_path, made).read_bytes() == first
    path.write_bytes(first[:200])
    with pytest.raises(Problem, match='damaged'): read_reference(path)
    path.write_bytes(b'\xff'*64)
    with pytest.raises(Problem, match='damaged'): read_reference(path)
    with pytest.raises(Problem, match='does not exist'): read_reference(tmp_path/'none.safetensors')

def test_random_coordinates_keep_lengths():
    x = np.random.default_rng(0).normal(size=(20, 64))
    seen = random_coordinates(np.zeros(64), 16)(x)
    assert np.allclose((seen**2).sum(1), (x**2).sum(1), rtol=1e-4)

@pytest.mark.parametrize('kind', SPOILINGS)
def test_spoiling_is_repeatable_and_leaves_its_input_alone(kind):
    x = np.random.default_rng(0).integers(0, 255, (3, 48, 48, 3), np.uint8)
    before = x.copy()
    assert np.array_equal(spoil(x, kind, .7, 3), spoil(x, kind, .7, 3)) and np.array_equal(x, before)
    assert spoil(x[:0], kind).shape == (0, 48, 48, 3)

def test_the_interval_holds_although_the_confidence_is_worthless_or_wrong():
    rng = np.random.default_rng(0)
    right = rng.random(5000) < .9
    for g in (np.full(5000, .5), rng.random(5000), np.where(right, .1, .9)):
        inside = 0
        for _ in range(200):
            i = rng.choice(5000, 150, replace=False)
            e = estimate(g, i, right[i])
            inside += e.low <= right.mean() <= e.high
        assert .9 <= inside/200 <= .995

def test_few_and_clustered_audits_give_wide_intervals():
    g = np.full(100, .9)
    none, one = estimate(g, [], []), estimate(g, [3], [True])
    assert (none.low, none.high) == (0, 1) and one.high - one.low > .5
    alone, together = estimate(g, np.arange(60), np.ones(60)), estimate(g, np.arange(60), np.ones(60), bursts=np.arange(100)//20)
    assert together.high - together.low > alone.high - alone.low

def test_rehearsals_beat_confidence_where_the_network_fails_surely():
    rng = np.random.default_rng(1)
    seen, y = photos(600, rng)
    ways = {k: rng.normal(size=10)*1.5 for k in 'abcde'}
    said = {('clean', 0.): seen['logits']} | {(k, s): (e := seen['embedding'] + s*v)@CENTRES.T - (CENTRES**2).sum(1)/2 for k, v in ways.items() for s in (.5, 1., 1.5)}
    off = []
    for k in ways:
        r = remember(reference(), {n: l for n, l in said.items() if n[0] != k}, y)
        for s in (.5, 1., 1.5):
            true = (said[k, s].argmax(1) == y).mean()
            off.append((abs(estimate_unlabelled(r, said[k, s]).value - true), abs(softmax(said[k, s]).max(1).mean() - true)))
    ours, confidence = np.mean(off, 0)
    assert ours < confidence/2
    assert estimate_unlabelled(reference(), seen['logits']).method == 'atc' and 0 <= atc(reference(), seen['logits']) <= 1

def test_harm_is_found_late_in_a_long_life_and_hardly_ever_where_there_is_none():
    rng = np.random.default_rng(2)
    calm = [harm(rng.random(1000) < .9, .9, .02).alarm for _ in range(50)]
    found = [harm(np.append(rng.random(1500) < .9, rng.random(500) < .75), .9, .02) for _ in range(10)]
    assert sum(calm) <= 6 and all(f.alarm for f in found) and all(1400 < f.at <= 2000 for f in found)

def test_the_corrected_estimate_may_be_looked_at_for_ever():
    assert sum(1 - band_level(k) for k in range(100_000)) / 2 <= FALSE_HARM
    rng, below = np.random.default_rng(8), 0
    for _ in range(300):                    # twenty looks at a growing window, at 85 % right
        right = rng.random(1000) < .85
        sure = np.clip(right*.2 + rng.random(1000)*.8, 0, 1)
        below += any(estimate(sure[:n*50], np.arange(0, n*50, 4), right[:n*50:4], level=band_level(n - 4)).high < .85 for n in range(4, 21))
    assert below <= 300 * .06, below        # 2.5 % and the noise of 300 runs

def test_drift_alone_never_retrains_and_harm_does_once():
    bad = Harm(True, 5., 300, 200, Estimate(.7, .6, .8), .88)
    state, retrained = AlarmState(), 0
    for w in range(6):
        s = step(state, dict(drift=('warning', 'm')), w)
        state, retrained = AlarmState.from_dict(json.loads(json.dumps(s.state.as_dict()))), retrained + s.retrain
    assert retrained == 0 and state.level == 'watch' and state.audit_rate == AlarmPolicy().watch_rate
    for w in range(6, 12):
        s = step(state, findings(harm=bad, promised=.9), w)
        state, retrained = s.state, retrained + s.retrain
    assert retrained == 1 and released(state).state.level == 'calm'

def test_a_dead_sink_stops_nothing_and_a_webhook_keeps_its_secret(tmp_path):
    alert = step(AlarmState(), dict(x=('warning', 'm')), 0).tell[0]
    dead, pauses = Webhook('http://127.0.0.1:9/token-123', tries=3, sleep=lambda s: pauses.append(s)), []
    failed = deliver([alert], [dead, lambda a: 1/0, FileSink(tmp_path/'a'/'b.jsonl')])
    assert len(failed) == 2 and 'token-123' not in ' '.join(failed) and pauses == [.5, 1.]
    assert json.loads((tmp_path/'a'/'b.jsonl').read_text())['key'] == 'x'

def test_monitoring_needs_neither_torch_nor_pandas():
    code = "import sys, mlproject.monitoring.alarms, mlproject.evaluation.gate, mlproject.evaluation.slices; print([m for m in ('torch', 'pandas', 'pyarrow', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
