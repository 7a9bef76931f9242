"A retraining answers its five questions, never runs twice at once, and goes on after a kill."
import sys

import pytest
from conftest import ROOT, TINY, copy_repository, environment
from test_capture import ALL, Capture, photo, served

from mlproject.core import Problem, digest, locked
from mlproject.data.records import load_step
from mlproject.operations.feedback import FEEDBACK, enqueue, next_items, review
from mlproject.operations.retraining import Policy, Trigger, begin, due, held, policy_of, retrain, runs, snapshot
from mlproject.serving.state import prepare

DAY, PROGRAM = 86_400., (sys.executable, '-m', 'mlproject.cli', 'run')

@pytest.mark.parametrize('given, words', [(dict(new_label=3), "no setting 'new_label'"), (dict(cooldown_days=-1), 'cooldown_days=-1'), (dict(start='cold'), 'allowed: warm, scratch')])
def test_a_policy_that_makes_no_sense_is_refused(given, words):
    with pytest.raises(Problem, match=words): policy_of(given)

def test_nothing_starts_in_the_cooldown_or_over_the_limit_whatever_calls_for_it():
    policy = Policy(cooldown_days=2, runs_in_30_days=3, new_labels=1, every_days=1)
    assert due(policy, harm='fell', labels=99, starts=[0.], now=1.9 * DAY) is None and 'the last run started' in held(policy, [0.], 1.9 * DAY)
    assert due(policy, harm='fell', starts=[0., 3 * DAY, 6 * DAY], now=20 * DAY) is None
    assert due(policy, harm='fell', starts=[0., 3 * DAY, 6 * DAY], now=31 * DAY).kind == 'harm'
    assert due(Policy(on_harm=False, new_labels=0), harm='fell', labels=10**6, starts=[0.], now=900 * DAY) is None

@pytest.fixture
def spoken(tmp_path):
    "Captured photos that reviewers of the active and the audit stream have named."
    capture = Capture(f'sqlite:///{tmp_path}/state.db', tmp_path/'photos', ALL)
    prepare(capture.engine, FEEDBACK)
    for i in range(12): capture(served(f'r{i:02}', [photo(i)]))
    capture.close()
    item = lambda i: dict(stream='audit' if i >= 10 else 'active', request_id=f'r{i:02}', item=0, photo=digest(photo(i)), reason='margin', priority=1., probability=None)
    enqueue(capture.engine, [item(i) for i in range(12)])
    species = ('Vulpes vulpes', 'Canis lupus')
    for w in next_items(capture.engine, 'anna', n=20):
        i = int(w.request_id[1:])
        review(capture.engine, species, w.id, 'anna', 'not an animal' if i == 0 else species[i % 2])
    return capture

def test_a_snapshot_holds_the_active_stream_and_nothing_of_the_audit(spoken, tmp_path):
    made = snapshot(spoken.engine, spoken.store, tmp_path/'a')
    assert (made['photos'], made['species'], made['left_out']) == (9, 2, {'not an animal': 1})
    assert made['digest'] == snapshot(spoken.engine, spoken.store, tmp_path/'b')['digest']
    table = (tmp_path/'a'/'feedback.csv').read_text()
    assert not any(digest(photo(i)) in table for i in (0, 10, 11)) and len(list((tmp_path/'a'/'photos').iterdir())) == 9
    spoken.store.drop([digest(photo(3))])
    assert snapshot(spoken.engine, spoken.store, tmp_path/'c')['left_out'] == {'not an animal': 1, 'photo not kept': 1}

def test_two_never_run_at_once(spoken, tmp_path):
    with locked(tmp_path/'runs'), pytest.raises(Problem, match='another process'):
        retrain(tmp_path/'runs', Trigger('hand', 'a try'), spoken.engine, spoken.store, {})
    assert runs(tmp_path/'runs') == []

def test_a_pipeline_that_fails_is_on_record_and_the_next_run_is_a_new_one(spoken, tmp_path):
    with pytest.raises(Problem, match='failed'): retrain(tmp_path/'runs', Trigger('hand', 'a try'), spoken.engine, spoken.store, dict(data='no/such/folder'), cwd=ROOT, program=PROGRAM)
    first, = runs(tmp_path/'runs')
    assert first.record['state'] == 'failed' and 'no/such/folder' in (first.folder/'log.txt').read_text()
    assert begin(tmp_path/'runs', Trigger('hand', 'again'), {}).record['id'] != first.record['id']

@pytest.mark.slow
def test_a_real_run_uses_the_feedback_keeps_the_held_out_photos_and_survives_a_kill(built, spoken, tmp_path, monkeypatch):
    "The pipeline of the champion, then one more with reviewed photos; interrupted by its budget once."
    copy = copy_repository(tmp_path/'copy')
    built, _ = built
    for k, v in environment(copy).items(): monkeypatch.setenv(k, v)
    base = TINY | dict(data='survey')
    go = lambda minutes: retrain(tmp_path/'runs', Trigger('harm', 'top-1 fell'), spoken.engine, spoken.store, base, previous=built, cwd=copy, program=PROGRAM, policy=Policy(budget_minutes=minutes))
    assert go(.05).record['state'] == 'interrupted'
    run = go(20)
    assert run.record['state'] == 'done' and len(runs(tmp_path/'runs')) == 1
    told = run.record
    assert told['trigger']['kind'] == 'harm' and told['data'] and told['split'] and told['evaluation']['top1'] and told['version']['uri'].startswith('models:/')
    before = {r['occurrenceID']: r['split'] for r in load_step(built/'splits').records.to_pylist()}
    after = {r['occurrenceID']: r['split'] for r in load_step(run.folder/'products'/'splits').records.to_pylist()}
    held_out = [i for i, s in before.items() if s == 'test']
    assert held_out and all(after[i] == 'test' for i in held_out if i in after) and sum(i in after for i in held_out) >= .9 * len(held_out)
    assert len(after) > len(before)
