"A real server with a database: asked, captured, reported, reviewed; a shadow beside it; and a database that goes away."
import json

import httpx
import pytest
import sqlalchemy as sa
from colours import SPECIES, Process, pack_colours, photo
from live_server import until

from mlproject.core import digest
from mlproject.operations.feedback import verdicts
from mlproject.operations.selection import draw_audit
from mlproject.serving.capture import REQUESTS, captured
from mlproject.serving.guarding import create_key
from mlproject.serving.state import open_engine, reading
from mlproject.serving.worker import Rollout

@pytest.fixture
def served(state_url, tmp_path):
    "A server that keeps everything, with a key for a client and one for a reviewer."
    keys = tmp_path/'keys.json'
    tokens = {name: create_key(keys, name, (scope,))[0] for name, scope in (('client', 'predict'), ('other', 'predict'), ('anna', 'reviewer'))}
    server = Process(pack_colours(tmp_path/'model'), database=state_url, photo_store=str(tmp_path/'photos'), capture=1., keys=str(keys), state=str(tmp_path/'state'))
    clients = {name: httpx.Client(base_url=f'http://127.0.0.1:{server.rest}', headers={'x-api-key': token}, timeout=20) for name, token in tokens.items()}
    yield server, clients, open_engine(state_url), tmp_path
    for c in clients.values(): c.close()
    if server.process.poll() is None: server.stop()

def test_from_a_photo_to_a_verdict(served):
    server, ask, engine, folder = served
    said = ask['client'].post('/v1/predict', files=[('photos', ('a.jpg', photo(1))), ('photos', ('b.jpg', photo(2)))], data=dict(locationID='cam-7', decimalLatitude='46.512347', decimalLongitude='7.1')).json()
    right = next(s for s in SPECIES if s != said['predictions'][1]['label'])
    until(lambda: len(captured(engine)) == 2)
    with reading(engine) as c: told = c.execute(sa.select(REQUESTS)).mappings().one()
    assert (told['id'], told['locationID'], told['decimalLatitude']) == (said['request_id'], 'cam-7', 46.5)

    report = dict(request_id=said['request_id'], item=1, label=right)
    assert ask['other'].post('/v1/feedback', json=report).status_code == 404 and ask['anna'].post('/v1/feedback', json=report).status_code == 403
    assert ask['client'].post('/v1/feedback', json=report).status_code == 204
    draw_audit(engine, 1.)
    assert ask['client'].get('/v1/review/next').status_code == 403
    items = ask['anna'].get('/v1/review/next', params=dict(n=10)).json()['items']
    assert [i['reason'] for i in items] == ['complaint', 'random', 'random']
    seen = ask['anna'].get(f'/v1/review/photo/{items[0]["photo"]}')
    assert seen.status_code == 200 and seen.headers['content-type'] == 'image/jpeg' and digest(photo(2)) == items[0]['photo']
    for i in items: assert ask['anna'].post(f'/v1/review/{i["id"]}', json=dict(label=right)).json() == dict(state='settled')
    audit = verdicts(engine, 'audit')
    assert len(audit) == 2 and {v['truth'] for v in audit} == {right} and len(verdicts(engine, 'active')) == 1
    assert ask['anna'].post('/v1/review/undo').json()['item'] == items[-1]['id'] and len(verdicts(engine, 'audit')) == 1

@pytest.mark.parametrize('path, body, status', [('/v1/feedback', dict(request_id='x', label='Canis'), 422), ('/v1/feedback', dict(request_id='x'), 422), ('/v1/feedback', dict(right=True), 422), ('/v1/feedback', '[', 422)])
def test_feedback_that_makes_no_sense_is_a_problem_document(served, path, body, status):
    r = served[1]['client'].post(path, content=body if isinstance(body, str) else json.dumps(body), headers={'content-type': 'application/json'})
    assert r.status_code in (400, status) and r.headers['content-type'] == 'application/problem+json' and r.json()['error']

def test_a_shadow_is_asked_and_answers_nobody(served):
    server, ask, engine, folder = served
    other = pack_colours(folder/'other', size=16)
    rollout = Rollout(folder/'state')
    rollout.write(models=rollout.read()['models'] | {'2': str(other)}, shadows=['2'])
    until(lambda: len(ask['client'].get('/v1/models').json()['models']) == 2)
    answers = [ask['client'].post('/v1/predict', content=photo(i), headers={'content-type': 'image/jpeg'}).json() for i in range(20)]
    assert {a['model']['version'] for a in answers} == {'1'}
    shadows = until(lambda: len(s := captured(engine, role='shadow')) == 20 and s)
    assert {s['version'] for s in shadows} == {'2'} and {s['request_id'] for s in shadows} == {a['request_id'] for a in answers}

def test_a_lost_table_is_not_felt(served):
    server, ask, engine, folder = served
    with engine.begin() as c: c.execute(sa.text('ALTER TABLE requests RENAME TO away'))
    send = lambda i: ask['client'].post('/v1/predict', content=photo(i), headers={'content-type': 'image/jpeg'}).status_code
    assert {send(i) for i in range(30)} == {200}
    with engine.begin() as c: c.execute(sa.text('ALTER TABLE away RENAME TO requests'))
    until(lambda: len(captured(engine)) == 30)

def test_what_was_answered_before_sigterm_is_kept(served):
    server, ask, engine, folder = served
    ids = {ask['client'].post('/v1/predict', content=photo(i), headers={'content-type': 'image/jpeg'}).json()['request_id'] for i in range(10)}
    server.stop()
    assert {r['request_id'] for r in captured(engine)} == ids
