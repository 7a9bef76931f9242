"The application in this process: every route, every kind of error, and the promise of its OpenAPI document."
import asyncio, base64, json, os

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from mlproject.core import Problem
from mlproject.serving.app import create_app
from mlproject.serving.engine import EngineConfig
from mlproject.serving.guarding import Guard, create_key, needs, public
from mlproject.serving.inputs import Limits
from mlproject.serving.limits import Held, Room
from mlproject.serving.requests import NdLines
from mlproject.serving.rollout import Fleet
from mlproject.serving.schemas import PredictOut, ProblemOut
from mlproject.serving.service import Service
from small_model import photo, small_extended

PHOTO = photo(1)

class Note(BaseModel): text: str


@pytest.fixture(scope='module')
def fleet(tmp_path_factory):
    fleet = Fleet(EngineConfig(threads=1), Limits(body_bytes=2**20, photo_bytes=2**19, photos=4))
    fleet.load(small_extended(tmp_path_factory.mktemp('app')/'model'), '7')
    yield fleet
    fleet.close()


def made(fleet, **words): return create_app(Service(fleet, fleet.limits), **words)


def asked(app, method, path, **words):
    async def go():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url='http://here') as c: return await c.request(method, path, **words)
    return asyncio.run(go())


def test_every_form_of_a_request_gives_the_same_answer(fleet):
    app = made(fleet)
    text = base64.b64encode(PHOTO).decode()
    answers = [asked(app, 'POST', '/v1/predict', files={'photos': ('a.jpg', PHOTO)}), asked(app, 'POST', '/v1/predict', content=PHOTO),
               asked(app, 'POST', '/v1/predict', json=dict(photos=[dict(data=text)])),
               asked(app, 'POST', '/v1/predict', content=PHOTO, headers={'content-type': 'image/png'})]
    found = [PredictOut.model_validate(a.json()).predictions[0].species for a in answers]
    assert [a.status_code for a in answers] == [200] * 4 and all(f == found[0] for f in found)


@pytest.mark.parametrize('chosen, told', [({}, ('model.onnx', 'onnxruntime', 'float32')), (dict(file='model.int8.onnx', runtime='openvino', precision='float32'), ('model.int8.onnx', 'openvino', 'int8')),
                                          (dict(file='model.onnx', runtime='openvino', precision='bfloat16'), ('model.onnx', 'openvino', 'bfloat16'))])
def test_a_version_says_which_variant_of_its_network_answers(fleet, monkeypatch, chosen, told):
    monkeypatch.setitem(fleet.get('7').about, 'network', {'platform': 'onnx'} | chosen)
    for found in (asked(made(fleet), 'GET', '/v1/models').json()['models'][0], asked(made(fleet), 'GET', '/v1/models/7').json()):
        assert found['network'] == dict(zip(('file', 'runtime', 'precision'), told))


@pytest.mark.parametrize('words, status, code', [
    (dict(content=b''), 422, 'missing'), (dict(content=b'hello'), 415, 'not_an_image'), (dict(content=PHOTO[:300]), 422, None),
    (dict(content=PHOTO, headers={'content-type': 'text/plain'}), 415, 'unsupported_media_type'),
    (dict(content=b'{', headers={'content-type': 'application/json'}), 400, 'malformed'),
    (dict(content=b'x' * (2**20 + 1)), 413, 'too_large'), (dict(content=b'x' * (2**19 + 1)), 413, 'too_large'),
    (dict(content=PHOTO, headers={'content-encoding': 'gzip'}), 415, 'unsupported_media_type'),
    (dict(content=PHOTO, params={'top_k': '0'}), 422, 'invalid'), (dict(content=PHOTO, params={'version': '9'}), 404, 'unknown_model'),
    (dict(content=PHOTO, headers={'x-request-timeout-ms': 'nan'}), 422, 'invalid'), (dict(content=PHOTO, headers={'x-request-timeout-ms': '0.0001'}), 504, 'deadline'),
    (dict(json=dict(photos=[dict(url='http://169.254.169.254/')])), 422, 'url_refused')])
def test_what_is_wrong_is_said_in_a_problem_document(fleet, words, status, code):
    r = asked(made(fleet), 'POST', '/v1/predict', **words)
    said = ProblemOut.model_validate(r.json())
    assert r.status_code == said.status == status and r.headers['content-type'] == 'application/problem+json'
    assert said.request_id == r.headers['x-request-id'] and said.error == said.detail and (code is None or said.code == code)


@pytest.mark.parametrize('method, path, status', [('GET', '/nothing', 404), ('GET', '/v1/predict', 405), ('DELETE', '/v1/models', 405), ('GET', '/v1/models/8', 404),
                                                  ('POST', '/v1/predict/', 404), ('GET', '/v1/predict/batch', 405), ('PUT', '/health/live', 405), ('GET', '/%00', 404)])
def test_other_addresses_too(fleet, method, path, status):
    r = asked(made(fleet), method, path)
    assert r.status_code == ProblemOut.model_validate(r.json()).status == status and r.headers['x-content-type-options'] == 'nosniff'
    assert status != 405 or r.headers['allow']


def test_ids_and_traces_come_back(fleet):
    app, trace = made(fleet), f'00-{"a" * 32}-{"b" * 16}-01'
    for path in ('/v1/models', '/v1/predict'):
        r = asked(app, 'POST' if 'predict' in path else 'GET', path, content=PHOTO if 'predict' in path else None, headers={'x-request-id': 'mine', 'traceparent': trace})
        assert r.headers['x-request-id'] == 'mine' and r.headers['traceparent'].split('-')[1] == 'a' * 32 and r.headers['traceparent'] != trace
    for bad in ('a b', 'x' * 129, 'é'.encode('latin-1')):
        assert len(asked(app, 'GET', '/v1/models', headers=[('x-request-id', bad)]).headers['x-request-id']) == 32


def test_keys_guard_what_they_should(fleet, tmp_path):
    token, _ = create_key(tmp_path/'k.json', 'one')
    viewer, _ = create_key(tmp_path/'k.json', 'two', ('viewer', 'metrics'))
    app = made(fleet, guard=Guard(tmp_path/'k.json'))
    code = lambda method, path, key, **w: asked(app, method, path, headers={'x-api-key': key} if key else {}, **w).status_code
    assert [code('POST', '/v1/predict', k, content=PHOTO) for k in (None, 'nonsense', viewer, token)] == [401, 401, 403, 200]
    assert [code('GET', '/metrics', k) for k in (None, token, viewer)] == [401, 403, 200]
    assert [code('GET', '/v1/models', k) for k in (None, token, viewer)] == [401, 200, 200]
    assert [code('GET', p, None) for p in ('/health/live', '/health/ready', '/docs', '/openapi.json')] == [200] * 4
    assert code('POST', '/v1/predict/batch', None, content=b'') == 401


def test_batches_answer_each_line_in_order(fleet):
    good = dict(data=base64.b64encode(PHOTO).decode())
    lines = [json.dumps(good | dict(id=str(i))) if i % 3 else '{"nonsense": 1}' for i in range(40)] + ['x' * 2**20, json.dumps(good | dict(id='last'))]
    async def pieces():
        data = '\n'.join(lines).encode()
        for i in range(0, len(data), 1009): yield data[i:i + 1009]
    r = asked(made(fleet), 'POST', '/v1/predict/batch', content=pieces(), headers={'content-type': 'application/x-ndjson'})
    answers = [json.loads(l) for l in r.text.splitlines()]
    assert r.status_code == 200 and len(answers) == 42
    assert [a['predictions'][0]['id'] if 'predictions' in a else a['code'] for a in answers] == [str(i) if i % 3 else 'unknown_field' for i in range(40)] + ['too_large', 'last']


@pytest.mark.parametrize('data', [b'', b'\n\n', b'abc', b'a\nb\n', b'a' * 50 + b'\nb', b'\n' + b'a' * 50])
def test_lines_do_not_depend_on_how_they_arrive(data):
    def cut(n):
        lines = NdLines(10)
        return [l for i in range(0, len(data), n) for l in lines.feed(data[i:i + n])] + lines.end()
    assert cut(1) == cut(3) == cut(1000)


def test_room_for_bodies_is_bounded_and_given_back(fleet):
    app = made(fleet)
    app.room = Room(30_000)
    assert asked(app, 'POST', '/v1/predict', content=b'x' * 40_000).status_code == 503
    assert [asked(app, 'POST', '/v1/predict', content=PHOTO).status_code for _ in range(20)] == [200] * 20 and app.room.used == 0


async def in_pieces(data: bytes, size: int = 10_000):   # httpx announces no length for it
    for i in range(0, len(data), size): yield data[i:i + size]


@pytest.mark.parametrize('kind', ['json', 'bytes', 'model'])
def test_a_body_without_a_length_has_a_limit_on_the_routes_of_others_too(fleet, kind):
    router = APIRouter()
    @router.post('/json', dependencies=[Depends(public)])
    async def by_fastapi(note: dict): return {}
    @router.post('/bytes', dependencies=[Depends(public)])
    async def by_hand(request: Request): return dict(read=len(await request.body()))
    @router.post('/model', dependencies=[Depends(public)])
    async def as_model(note: Note): return {}
    app = made(fleet, routers=[router])
    app.room = Room(2**21)
    ask = lambda data: asked(app, 'POST', f'/{kind}', content=in_pieces(data), headers={'content-type': 'application/json'})
    assert ask(b'{"text": "a"}').status_code == 200
    large = ask(b'{"text": "' + b'a' * (2**20 + 1) + b'"}')
    assert large.status_code == ProblemOut.model_validate(large.json()).status == 413 and large.json()['code'] == 'too_large' and large.headers['connection'] == 'close'
    app.room = Room(2**19)
    full = ask(b'{"text": "' + b'a' * 2**19 + b'"}')
    assert (full.status_code, full.json()['code'], full.headers['retry-after']) == (503, 'overloaded', '1') and app.room.used == 0


def test_the_open_inference_protocol_takes_from_the_same_room(fleet):
    from mlproject.serving.protocol import protocol_routes
    app = made(fleet, routes=[protocol_routes])
    app.room = Room(100_000)
    body = json.dumps(dict(inputs=[dict(name='photo', datatype='BYTES', shape=[1], data=[base64.b64encode(PHOTO).decode()])])).encode()
    ask = lambda: asked(app, 'POST', '/v2/models/animals/infer', content=in_pieces(body)).status_code
    assert [ask() for _ in range(40)] == [200] * 40, 'what was taken is given back'
    app.room.take(other := Held(), 99_000)
    assert ask() == 503
    app.room.keep(other)
    assert ask() == 200 and app.room.used == 0


def test_a_batch_waits_for_room_and_gives_back_line_by_line(fleet, monkeypatch):
    line = json.dumps(dict(data=base64.b64encode(PHOTO).decode())).encode() + b'\n'
    app = made(fleet)
    app.room = Room(8 * len(line))
    ask = lambda: [json.loads(l) for l in asked(app, 'POST', '/v1/predict/batch', content=in_pieces(line * 50, len(line)), headers={'content-type': 'application/x-ndjson'}).text.splitlines()]
    assert ['predictions' in a for a in ask()] == [True] * 50 and app.room.used == 0
    monkeypatch.setattr('mlproject.serving.app.PATIENCE', 0.)
    app.room.take(Held(), 8 * len(line) - 10)
    assert [a['code'] for a in ask()] == ['overloaded']


def test_a_fault_is_a_500_that_tells_nothing(fleet, caplog):
    router = APIRouter()
    @router.get('/broken', dependencies=[Depends(public)])
    async def broken(): raise RuntimeError('the secret of the house')
    r = asked(made(fleet, routers=[router]), 'GET', '/broken')
    assert r.status_code == 500 and r.json()['code'] == 'internal' and 'secret' not in r.text
    assert 'the secret of the house' in caplog.text


def test_routers_are_guarded_counted_and_described(fleet, tmp_path):
    token, _ = create_key(tmp_path/'k.json', 'one', ('reviewer',))
    router = APIRouter()
    @router.post('/v1/notes', dependencies=[Depends(needs('reviewer'))])
    async def note(note: Note): return dict(said=note.text)
    app = made(fleet, guard=Guard(tmp_path/'k.json'), routers=[router])
    assert asked(app, 'POST', '/v1/notes', json=dict(text='a')).status_code == 401
    key = {'authorization': f'Bearer {token}'}
    assert asked(app, 'POST', '/v1/notes', json=dict(text='a'), headers=key).json() == dict(said='a')
    wrong = asked(app, 'POST', '/v1/notes', json=dict(txt='a'), headers=key)
    assert wrong.status_code == 422 and ProblemOut.model_validate(wrong.json()).field == 'text'
    told = asked(app, 'GET', '/openapi.json')
    assert {'200', '401', '404', '413', '422', '503'} <= told.json()['paths']['/v1/notes']['post']['responses'].keys() and 'ValidationError' not in told.text
    bare = APIRouter()
    @bare.get('/open')
    async def everything(): return {}
    with pytest.raises(Problem, match='/open is not guarded'): made(fleet, routers=[bare])


def test_before_a_model_is_loaded_it_says_so():
    app = create_app(Service(Fleet(EngineConfig(threads=1))))
    assert asked(app, 'GET', '/health/ready').status_code == 503 and asked(app, 'GET', '/health/live').status_code == 200
    r = asked(app, 'POST', '/v1/predict', content=PHOTO)
    assert (r.status_code, r.json()['code']) == (503, 'not_ready')
    assert asked(app, 'POST', '/v1/predict/batch', content=b'').status_code == 503


def test_each_request_is_counted_once(fleet):
    app = made(fleet)
    for words in (dict(content=PHOTO), dict(content=b'x'), dict(content=b''), dict(content=PHOTO, params={'version': '9'})): asked(app, 'POST', '/v1/predict', **words)
    asked(app, 'GET', '/nothing')
    counts = {k[2]: v for k, v in app.telemetry.metrics.counters.items() if k[0] == 'requests'}
    assert counts == dict(ok=1, not_an_image=1, missing=1, unknown_model=1, not_found=1)


def test_other_sites_may_not_call_unless_told(fleet):
    headers = {'origin': 'https://a.org', 'access-control-request-method': 'POST'}
    assert 'access-control-allow-origin' not in asked(made(fleet), 'OPTIONS', '/v1/predict', headers=headers).headers
    told = made(fleet, origins=['https://a.org'])
    assert asked(told, 'OPTIONS', '/v1/predict', headers=headers).headers['access-control-allow-origin'] == 'https://a.org'
    assert 'access-control-allow-origin' not in asked(told, 'OPTIONS', '/v1/predict', headers=headers | {'origin': 'https://b.org'}).headers


def test_the_page_needs_nobody_else(fleet):
    r = asked(made(fleet), 'GET', '/docs')
    assert r.status_code == 200 and '://' not in r.text.replace('http://HOST:PORT', '') and "default-src 'none'" in r.headers['content-security-policy']
    assert all(asked(made(fleet), 'GET', p).status_code == 200 for p in ('/docs.css', '/docs.js'))


@pytest.mark.slow
def test_generated_requests_find_no_answer_that_is_not_documented(tmp_path):
    "Requests made from the OpenAPI document, against a real server: documented statuses and problem documents, and no 5xx but 503 and 504."
    schemathesis = pytest.importorskip('schemathesis')
    from hypothesis import HealthCheck, Phase, given, settings
    from live_server import start
    @schemathesis.serializer('application/x-ndjson', 'image/*')
    def as_text(context, value): return value if isinstance(value, bytes) else str(value).encode('utf-8', 'surrogatepass')
    server = start(small_extended(tmp_path/'model'), tmp_path)
    try:
        schema = schemathesis.openapi.from_dict(json.loads(server.ask('GET', '/openapi.json')[2]))
        operations = [o.ok() for o in schema.get_all_operations()]
        assert len(operations) >= 8
        for operation in operations:
            @settings(max_examples=int(os.environ.get('FUZZ_EXAMPLES', 20)), deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
            @given(case=operation.as_strategy())
            def run(case):
                r = case.call(base_url=f'http://127.0.0.1:{server.port}', timeout=20)
                assert str(r.status_code) in operation.definition.raw['responses'], (operation.label, r.status_code, r.text[:300])
                assert r.status_code not in (500, 501, 502), r.text
                if r.status_code >= 400 and operation.path != '/health/ready': assert ProblemOut.model_validate(r.json()).status == r.status_code
            run()
    finally: assert server.stop() == 0
