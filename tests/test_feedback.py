"Reviews are counted once, whoever gives them and however often; the audit stream stays a random sample."
import json, threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.export.extended import Prediction
from mlproject.operations.exchange import _choice, from_tasks, to_tasks
from mlproject.operations.feedback import FEEDBACK, ITEMS, REVIEWS, VERDICTS, agreement, decide, enqueue, next_items, queue_state, report, review, undo, verdicts
from mlproject.operations.selection import draw_active, draw_audit, spread_out
from mlproject.serving.capture import ANSWERS, CAPTURE, REQUESTS, answer_row, request_row
from mlproject.serving.state import open_engine, prepare, reading

SPECIES = ('Vulpes vulpes', 'Canis lupus', 'Lynx lynx')

def fill(engine, n, key_id='k1', start=0):
    "n captured requests of a photo each."
    rng = np.random.default_rng(0)
    def asked(i):
        p = Prediction(((SPECIES[0], .6), (SPECIES[1], .4)), SPECIES[0], .6)
        served = SimpleNamespace(request_id=f'r{i:04}', door='rest', name='m', version='3', route_key=None, key_id=key_id, trace=None, outcome='ok', timings={}, context={})
        return request_row(served, 1000. + i), answer_row(f'r{i:04}', 0, SimpleNamespace(prediction=p, logits=None, embedding=rng.normal(size=8)), '3', f'photo{i}')
    prepare(engine, CAPTURE, FEEDBACK)
    with engine.begin() as c:
        for table, rows in zip((REQUESTS, ANSWERS), zip(*map(asked, range(start, start + n)))): c.execute(sa.insert(table), list(rows))
    return engine

def item(i, stream='audit'): return dict(stream=stream, request_id=f'r{i:04}', item=0, photo=f'photo{i}', reason='random', priority=1., probability=.1)

@pytest.fixture
def engine(state_url):
    made = fill(open_engine(state_url), 40)
    yield made
    made.dispose()

def test_two_reviewers_at_once_share_the_work_and_settle_everything(engine):
    enqueue(engine, [item(i) for i in range(20)], needed=2)
    def work(who):
        while todo := next_items(engine, who, 'audit'): review(engine, SPECIES, todo[0].id, who, SPECIES[todo[0].id % 2])
    threads = [threading.Thread(target=work, args=(who,)) for who in ('anna', 'ben')]
    for t in threads: t.start()
    for t in threads: t.join()
    assert queue_state(engine)['audit'] == dict(open=0, dispute=0, settled=20) and len(verdicts(engine, 'audit')) == 20
    assert {v['how'] for v in verdicts(engine, 'audit')} == {'agreed'} and agreement(engine) == 1

def test_many_opinions_on_one_photo_at_once_end_in_one_verdict(engine):
    enqueue(engine, [item(0)], needed=3)
    with reading(engine) as c: i = c.execute(sa.select(ITEMS.c.id)).scalar()
    threads = [threading.Thread(target=review, args=(engine, SPECIES, i, f'p{k}', SPECIES[0])) for k in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    with reading(engine) as c: assert c.execute(sa.select(VERDICTS.c.label, VERDICTS.c.how)).all() == [(SPECIES[0], 'agreed')]

def test_changing_ones_mind_counts_once(engine):
    enqueue(engine, [item(0)], needed=2)
    i = next_items(engine, 'anna')[0].id
    for label in (*SPECIES, None, SPECIES[0]): review(engine, SPECIES, i, 'anna', label)
    assert queue_state(engine)['audit'] == dict(open=1, dispute=0, settled=0)
    with reading(engine) as c: assert c.execute(sa.select(sa.func.count()).where(~REVIEWS.c.undone)).scalar() == 1

@pytest.mark.parametrize('number', [0, -1, 2**31, 2**64, 10**30])
def test_a_number_that_no_item_has_is_said(engine, number):
    with pytest.raises(Problem, match='no item'): review(engine, SPECIES, number, 'anna', SPECIES[0])

def test_undo_goes_back_step_by_step_and_reopens(engine):
    enqueue(engine, [item(i) for i in range(3)])
    done = []
    while todo := next_items(engine, 'anna'):
        review(engine, SPECIES, todo[0].id, 'anna', SPECIES[1]); done.append(todo[0].id)
    assert [undo(engine, 'anna') for _ in range(4)] == [*reversed(done), None]
    assert queue_state(engine)['audit']['open'] == 3 and verdicts(engine, 'audit') == []

def test_a_dispute_needs_a_clear_winner(engine):
    enqueue(engine, [item(0)], needed=2)
    i = next_items(engine, 'anna')[0].id
    states = [review(engine, SPECIES, i, who, SPECIES[k]) for who, k in (('anna', 0), ('ben', 1), ('cem', 0), ('dora', 0))]
    assert states == ['open', 'dispute', 'dispute', 'settled'] and verdicts(engine, 'audit')[0]['how'] == 'adjudicated'

@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from('abc'), max_size=12), st.integers(1, 4))
def test_a_verdict_is_the_most_frequent_label_or_none(said, needed):
    state, verdict = decide(said, needed)
    assert (verdict is not None) == (state == 'settled')
    if verdict: assert Counter(said)[verdict[0]] == max(Counter(said).values()) and len(said) >= needed
    assert decide(said[::-1], needed)[0] == state

def test_the_streams_do_not_mix(engine):
    report(engine, SPECIES, 'r0001', label='Lynx lynx', key_id='k1')
    draw_audit(engine, .5); draw_active(engine, 5)
    for stream in ('audit', 'active'):
        for w in next_items(engine, 'anna', stream, 50): review(engine, SPECIES, w.id, 'anna', SPECIES[2])
    with reading(engine) as c: streams = dict(map(tuple, c.execute(sa.select(ITEMS.c.stream, sa.func.count()).group_by(ITEMS.c.stream))))
    assert len(verdicts(engine, 'audit')) == streams['audit'] and len(verdicts(engine, 'active')) == streams['active'] == 6
    assert all(v['probability'] == .5 for v in verdicts(engine, 'audit')) and all(v['probability'] is None for v in verdicts(engine, 'active'))

def test_the_audit_is_a_random_sample_that_only_grows(engine):
    fill(engine, 2000, start=100)
    small = draw_audit(engine, .1)
    with reading(engine) as c: first = set(c.execute(sa.select(ITEMS.c.request_id)).scalars())
    draw_audit(engine, .2)
    with reading(engine) as c: second = set(c.execute(sa.select(ITEMS.c.request_id)).scalars())
    assert first < second and abs(small - 204) < 45 and abs(len(second) - 408) < 60

def test_active_photos_differ(engine):
    x = np.concatenate([np.tile([1., 0], (50, 1)), np.tile([0., 1], (2, 1))])
    assert set(spread_out(np.r_[np.full(50, .99), .5, .5], x, 2) >= 50) == {True, False}
    assert len(spread_out(np.ones(3), np.ones((3, 2)), 10)) == 3 and len(spread_out(np.ones(0), np.ones((0, 2)), 3)) == 0

@pytest.mark.parametrize('bad, words', [(dict(label='Lynx'), 'none of the 3 species'), (dict(), 'needs a label'), (dict(label='x' * 5000), 'none of the'), (dict(right=True, item=7), 'no captured answer 7'),
                                        (dict(right=True, request_id="r' or 1=1 --"), 'no captured answer'), (dict(right=True, key_id='k2'), 'no captured answer')])
def test_feedback_that_cannot_be_kept_says_why(engine, bad, words):
    with pytest.raises(Problem, match=words) as e: report(engine, SPECIES, **dict(request_id='r0001', key_id='k1') | bad)
    assert len(str(e.value)) < 400

def test_label_studio_there_and_back(engine):
    draw_audit(engine, 1.)
    tasks = to_tasks(engine, 'http://photos/{photo}')
    assert len(tasks) == 40 and not any('predictions' in t for t in tasks)
    back = json.dumps([t | dict(annotations=[dict(completed_by=1, result=[_choice('unknown')])]) for t in tasks])
    assert from_tasks(engine, SPECIES, back) == (40, []) and from_tasks(engine, SPECIES, back) == (40, [])
    assert len(verdicts(engine, 'audit')) == 40
    for bad in ('', '{}', '[1, null, {"data": 3}]', '[{"annotations": [{"result": 5}], "data": {"item_id": "x"}}]'):
        try: assert from_tasks(engine, SPECIES, bad)[0] == 0
        except Problem: pass
