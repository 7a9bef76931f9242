"A release goes forward on evidence, back on illness, and the workers follow the log whatever happens in between."
import threading, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa

from mlproject.core import Problem
from mlproject.export.extended import Prediction
from mlproject.operations.feedback import FEEDBACK, enqueue, next_items, review
from mlproject.operations.release import RELEASE, Health, Release, audited_pairs, current, history, ill
from mlproject.serving.capture import ANSWERS, CAPTURE, REQUESTS, answer_row, request_row
from mlproject.serving.state import open_engine, prepare
from mlproject.serving.worker import Rollout

SPECIES = ('Vulpes vulpes', 'Canis lupus')

@pytest.fixture
def release(state_url, tmp_path):
    "A champion in memory; the rollout is the file that workers follow."
    engine, rollout = open_engine(state_url), Rollout(tmp_path)
    prepare(engine, CAPTURE, FEEDBACK, RELEASE)
    rollout.write({'3': tmp_path/'three'}, {'3': 1.})
    yield Release(engine, 'mlproject', rollout, card=lambda folder: None)   # folders that are but names
    engine.dispose()

def traffic(engine, tag, old, new, place=None, at=None, role=('answer', 'shadow')):
    "Audited requests that version 3 and its shadow 4 answered; old and new: whether each was right."
    say = lambda right: SimpleNamespace(prediction=Prediction(((SPECIES[not right], .9),), SPECIES[not right], .9), logits=None, embedding=None)
    requests, answers = [], []
    for i, (a, b) in enumerate(zip(old, new)):
        served = SimpleNamespace(request_id=f'{tag}-{i}', door='rest', name='m', version='3', route_key=None, key_id=None, trace=None, outcome='ok', timings={}, context=dict(locationID=place or f'cam-{tag}-{i}'))
        requests.append(request_row(served, (time.time() if at is None else at + i)))
        answers += [answer_row(served.request_id, 0, say(a), '3', None, role[0]), answer_row(served.request_id, 0, say(b), '4', None, role[1])]
    with engine.begin() as c:
        for table, r in ((REQUESTS, requests), (ANSWERS, answers)): c.execute(sa.insert(table), r)
    enqueue(engine, [dict(stream='audit', request_id=r['id'], item=0, photo=None, reason='random', priority=1., probability=1.) for r in requests])
    for w in next_items(engine, 'anna', 'audit', len(requests)): review(engine, SPECIES, w.id, 'anna', SPECIES[0])

PASSED = dict(passed=True)

def test_a_better_one_is_promoted_and_the_old_one_leaves_memory(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED)
    assert release.rollout.read() | dict(models=0, bands=0) == dict(models=0, bands=0, weights={'3': 1.}, shadows=['4', '3'])
    assert release.advance().weight == .01
    rng = np.random.default_rng(0)
    traffic(release.engine, 't', rng.random(300) < .8, rng.random(300) < .95)
    assert release.advance().stage == 'promoted'
    now = release.rollout.read()
    assert (list(now['models']), now['weights'], now['shadows']) == (['4'], {'4': 1.}, [])

def test_pairs_count_whichever_version_answered(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED)
    traffic(release.engine, 'a', [True, False], [True, True])
    traffic(release.engine, 'b', [False], [True], role=('shadow', 'answer'))
    old, new, bursts = audited_pairs(release.engine, '3', '4')
    assert sorted(zip(old, new)) == [(False, True), (False, True), (True, True)] and len(set(bursts)) == 3

def test_a_burst_is_one_observation(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED)
    traffic(release.engine, 'burst', [False] * 50, [True] * 50, place='cam-1', at=60. * int(time.time() // 60 + 5))
    assert release.verdict().pairs.n == 1 and release.advance().stage == 'canary'

def test_without_evidence_the_canary_stays_narrow(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED)
    weights = [e.weight for _ in range(5) if (e := release.advance())]
    assert weights == [.01, .05]

def test_the_schedule_waits_between_steps(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED)
    assert release.advance(step_s=600) is None and release.advance(step_s=600, now=time.time() + 601).weight == .01

def test_illness_ends_it_even_while_paused(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED); release.move(.05, 'anna', 'a try'); release.pause('anna', 'lunch')
    assert release.advance() is None
    ended = release.advance(Health(100, 30), Health(900, 1))
    assert (ended.stage, ended.by, release.rollout.read()['weights']) == ('rolled_back', 'health', {'3': 1.})
    assert ended.evidence['candidate']['errors'] == 30 and '4' not in release.rollout.read()['models']

@pytest.mark.parametrize('mine, theirs, sick', [(Health(20, 1), Health(200, 0), False), (Health(20, 6), Health(200, 0), True), (Health(9, 9), Health(200, 0), False), (Health(1000, 25), Health(1000, 10), False),
                                                (Health(500, 0, 200), Health(500, 0, 20), True), (Health(500, 0, 100), Health(500, 0, 80), False), (Health(100, 50), Health(100, 50), False),
                                                (Health(shadowed=30, shadow_errors=12), Health(30), True), (Health(shadowed=30, shadow_errors=12), Health(30, 12), False), (Health(20, 20), Health(), False)])
def test_ill_means_surely_worse_than_the_version_beside_it(mine, theirs, sick): assert bool(ill(mine, theirs)) == sick

def test_a_decision_on_an_older_log_is_dropped(release, tmp_path):
    "Operator and health decide at the same time: the first one counts, the other one is told."
    seen = release.start('4', tmp_path/'four', PASSED).id
    moved = release.move(.05, 'anna', 'a try', after=seen)
    for late in (lambda: release.move(.25, 'ben', 'more', after=seen), lambda: release.promote('ben', 'good', after=seen), lambda: release.pause('ben', 'wait', after=seen),
                 lambda: release.rollback('health', 'errors', after=seen), lambda: release.advance(Health(100, 90), Health(100), after=seen), lambda: release.log('4', '3', 'promoted', 1., 'ben', 'by hand', after=seen)):
        with pytest.raises(Problem, match='moved on: 4 canary by anna'): late()
    assert [e.id for e in history(release.engine)] == [seen, moved.id] and release.rollout.read()['weights'] == {'4': .05, '3': .95}

def test_of_many_who_decide_at_once_one_is_heard(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED)
    seen, ready = release.move(.05, 'anna', 'a try').id, threading.Barrier(8)
    def decide(i):
        ready.wait(10)
        try: return (release.promote if i % 2 else release.rollback)(f'p{i}', 'at once', after=seen)
        except Problem as e: return str(e)
    with ThreadPoolExecutor(8) as pool: found = list(pool.map(decide, range(8)))
    heard = [e for e in found if not isinstance(e, str)]
    last = current(release.engine, 'mlproject')
    assert len(heard) == 1 and heard[0].id == last.id and all('moved on' in e for e in found if isinstance(e, str))
    assert release.rollout.read()['weights'] == ({'4': 1.} if last.stage == 'promoted' else {'3': 1.})

@pytest.mark.parametrize('other, weights', [(lambda r: r.rollback('health', 'errors'), {'3': 1.}), (lambda r: r.move(.05, 'ben', 'less'), {'4': .05, '3': .95})])
def test_who_is_overtaken_between_log_and_workers_does_not_undo_the_newer_event(release, tmp_path, other, weights):
    release.start('4', tmp_path/'four', PASSED)
    settle, turns = release._settle, []
    def slow(e):
        if not turns:
            turns.append(e)
            other(replace(release))   # somebody else, with a process of their own
        settle(e)
    release._settle = slow
    release.move(.25, 'anna', 'a try')
    assert release.rollout.read()['weights'] == weights and ('4' in release.rollout.read()['models']) == ('4' in weights)

def test_what_cannot_be_is_refused_and_leaves_everything(release, tmp_path):
    for call, words in ((lambda: release.advance(), 'no release'), (lambda: release.promote('a', 'b'), 'no release'), (lambda: release.rollback('a', 'b'), 'nothing to roll back'),
                        (lambda: release.start('4', 'f', dict(passed=False, reason='worse on Lynx lynx')), 'worse on Lynx lynx'), (lambda: release.start('4', 'f', {}), 'no evidence'),
                        (lambda: release.start('3', 'f', PASSED), 'the champion already')):
        with pytest.raises(Problem, match=words): call()
    release.start('4', tmp_path/'four', PASSED)
    for call, words in ((lambda: release.start('5', 'f', PASSED), 'a release of 4 is running'), (lambda: release.move(0, 'a', 'b'), 'weight 0'), (lambda: release.move(1, 'a', 'b'), 'weight 1')):
        with pytest.raises(Problem, match=words): call()
    assert [e.stage for e in history(release.engine)] == ['shadow'] and release.rollout.read()['weights'] == {'3': 1.}

def test_a_crash_between_log_and_workers_is_settled(release, tmp_path):
    "The event is written, the workers were not told: the next look brings them in line."
    release.start('4', tmp_path/'four', PASSED)
    write, release.rollout.write = release.rollout.write, lambda **k: (_ for _ in ()).throw(OSError('killed here'))
    with pytest.raises(OSError): release.move(.25, 'anna', 'a try')
    release.rollout.write = write
    assert release.rollout.read()['weights'] == {'3': 1.} and current(release.engine, 'mlproject').weight == .25
    release.settle()
    assert release.rollout.read()['weights'] == {'4': .25, '3': .75}

def test_the_log_only_grows_and_keeps_its_evidence(release, tmp_path):
    release.start('4', tmp_path/'four', PASSED | dict(macro_f1=np.float64(.9)))
    release.move(.05, 'anna\nben', 'x' * 9000); release.rollback('anna', 'no')
    events = history(release.engine)
    assert [e.stage for e in events] == ['shadow', 'canary', 'rolled_back'] and [e.id for e in events] == sorted(e.id for e in events)
    assert events[0].evidence['passed'] is True and len(events[1].reason) <= 400 and '\n' not in events[1].by
