"What all doors call: answers per photo, errors that can be shown, listeners, readiness, stopping."
import asyncio, json, socket, threading, time

import pytest
from small_model import photo, small_extended, white

from mlproject.serving.inputs import Incoming, Limits
from mlproject.serving.jobs import Answer, EngineConfig
from mlproject.serving.rollout import Fleet
from mlproject.serving.schemas import ServingError
from mlproject.serving.service import Service

FAR = dict(threads=1, queue_ms=600_000., deadline_ms=60_000.)
PHOTOS = [photo(i) for i in range(6)]

@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('service')
    return [small_extended(root / f'v{i}', i) for i in range(2)]

@pytest.fixture
def serve(folders):
    "Make services with version '1' loaded."
    fleets = []
    def make(listeners=(), fetch=None, limits=Limits(), **config):
        fleet = Fleet(EngineConfig(**FAR | config), limits)
        fleets.append(fleet)
        fleet.load(folders[0], '1')
        return Service(fleet, limits, listeners=listeners, fetch=fetch)
    yield make
    for f in fleets: f.close()

def block(service):
    "The workers of version 1 wait at a gate from now on."
    engine, gate = service.fleet.get('1').engine, threading.Event()
    decode = engine._decode
    engine._decode = lambda p: (gate.wait(30), decode(p))[1]
    return engine, gate

async def refused(service, *args, **kwargs):
    with pytest.raises(ServingError) as e: await service.predict(*args, **kwargs)
    await asyncio.sleep(0)
    return e.value

def test_photos_are_answered_in_their_order(serve):
    async def ask(): return await serve().predict(PHOTOS, top_k=2, request_id='mine', door='grpc', key_id='k1', read_ms=5.)
    s = asyncio.run(ask())
    assert (s.request_id, s.version, s.name, s.outcome, s.door, s.key_id) == ('mine', '1', 'animals', 'ok', 'grpc', 'k1')
    assert len(s.answers) == 6 and all(len(a.prediction.species) == 2 for a in s.answers) and s.sizes == [len(p) for p in PHOTOS]
    assert set(s.timings) == {'read', 'queue', 'decode', 'network', 'total'} and s.timings['total'] >= s.timings['read'] == 5

def test_a_bad_photo_among_good_ones_is_an_error_of_its_own(serve):
    early = Incoming('photos[2]', error=ServingError('too_large', field='photos[2]'))
    async def ask(): return await serve().predict([PHOTOS[0], b'text', early, white(), Incoming('photos[4]'), PHOTOS[1]])
    s = asyncio.run(ask())
    assert s.outcome == 'partial'
    assert [a.code if isinstance(a, ServingError) else 'ok' for a in s.answers] == ['ok', 'not_an_image', 'too_large', 'network', 'missing', 'ok']
    assert s.answers[1].status == 415 and s.answers[1].field == 'photos[1]'

@pytest.mark.parametrize('data, code, status', [(b'', 'empty', 422), (b'text', 'not_an_image', 415), (PHOTOS[0][:700], 'truncated', 422)])
def test_a_request_whose_only_photo_is_bad_fails_with_it(serve, data, code, status):
    e = asyncio.run(refused(serve(), [data]))
    assert (e.code, e.status) == (code, status)

def test_limits_hold_for_pixels_too(serve):
    service = serve(limits=Limits(pixels=120 * 90))
    assert asyncio.run(refused(service, [photo(1, 121, 90)])).code == 'too_large'

def test_late_is_504_and_heard_of(serve):
    heard = []
    service = serve([heard.append])
    engine, gate = block(service)
    e = asyncio.run(refused(service, [PHOTOS[0]], timeout_ms=40))
    gate.set()
    assert (e.code, e.status) == ('deadline', 504) and [s.outcome for s in heard] == ['deadline'] and heard[0].version == '1'

def test_too_much_is_503_with_a_time_to_come_back(serve):
    heard = []
    service = serve([heard.append], queue=2)
    engine, gate = block(service)
    async def crowd():
        first = [asyncio.ensure_future(service.predict([p])) for p in PHOTOS[:1]]
        await asyncio.sleep(0)
        while engine.stats()['depth']: await asyncio.sleep(.002)
        waiting = [asyncio.ensure_future(service.predict([p])) for p in PHOTOS[1:3]]
        await asyncio.sleep(0)
        e = await refused(service, [PHOTOS[3]])
        gate.set()
        return e, await asyncio.gather(*first, *waiting)
    e, kept = asyncio.run(crowd())
    assert (e.code, e.status) == ('overloaded', 503) and int(e.headers['Retry-After']) >= 1
    assert all(s.outcome == 'ok' for s in kept) and sorted(s.outcome for s in heard) == ['ok', 'ok', 'ok', 'overloaded']

@pytest.mark.parametrize('kwargs, code', [(dict(version='9'), 'unknown_model'), (dict(timeout_ms=0), 'invalid'), (dict(timeout_ms=float('nan')), 'invalid')])
def test_what_makes_no_sense_is_said_so(serve, kwargs, code):
    assert asyncio.run(refused(serve(), [PHOTOS[0]], **kwargs)).code == code

def test_no_photo_and_no_model(serve):
    assert asyncio.run(refused(serve(), [])).code == 'missing'
    empty = Service(Fleet(EngineConfig(**FAR)))
    e = asyncio.run(refused(empty, [PHOTOS[0]]))
    assert (e.code, e.status) == ('not_ready', 503) and not asyncio.run(empty.ready())

def test_the_client_may_shorten_the_time_and_not_lengthen_it(serve):
    service = serve(deadline_ms=60.)
    engine, gate = block(service)
    before = time.monotonic()
    assert asyncio.run(refused(service, [PHOTOS[0]], timeout_ms=1e9)).code == 'deadline' and time.monotonic() - before < 10
    gate.set()

def test_a_version_is_asked_by_name_or_found_by_key(serve, folders):
    service = serve()
    two = service.fleet.load(folders[1], '2')
    async def ask(**kwargs): return (await service.predict([PHOTOS[0]], **kwargs)).version
    assert asyncio.run(ask()) == '1' and asyncio.run(ask(version='2')) == '2'
    service.fleet.set_weights({'1': 1, '2': 1})
    keys = [str(i) for i in range(20)]
    found = {k: asyncio.run(ask(route_key=k)) for k in keys}
    assert set(found.values()) == {'1', '2'} and found == {k: asyncio.run(ask(route_key=k)) for k in keys}

def test_listeners_hear_after_the_answer_and_cannot_hurt(serve, caplog):
    order = []
    def broken(s): raise RuntimeError('a listener with a fault')
    service = serve([broken, lambda s: order.append(('heard', s.outcome))])
    async def ask():
        await service.predict([PHOTOS[0]])
        order.append('answered')
        await asyncio.sleep(0)
    asyncio.run(ask())
    assert order == ['answered', ('heard', 'ok')] and service.stats()['listener_failures'] == 1

def test_a_client_who_goes_leaves_no_work_behind(serve):
    heard = []
    service = serve([heard.append])
    engine, gate = block(service)
    async def leave():
        task = asyncio.ensure_future(service.predict(PHOTOS))
        await asyncio.sleep(.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError): await task
        await asyncio.sleep(0)
    asyncio.run(leave())
    assert engine.stats()['depth'] == 0 and [s.outcome for s in heard] == ['cancelled'] and service.in_flight == 0
    gate.set()

def test_a_fault_of_ours_is_told_without_its_inside(serve, caplog):
    service = serve()
    service.fleet.route = lambda key: 1 / 0
    e = asyncio.run(refused(service, [PHOTOS[0]]))
    assert (e.code, e.status) == ('internal', 500) and 'ZeroDivision' not in str(e.document()) and 'ZeroDivision' in caplog.text

def test_addresses_are_refused_unless_somebody_fetches(serve):
    at = [Incoming('photos[0]', url='https://images.org/a.jpg'), Incoming('photos[1]', PHOTOS[1])]
    async def ask(service): return await service.predict(at)
    s = asyncio.run(ask(serve()))
    assert s.answers[0].code == 'url_refused' and isinstance(s.answers[1], Answer)
    async def fetch(p): return Incoming(p.field, PHOTOS[0], id=p.id)
    s = asyncio.run(ask(serve(fetch=fetch)))
    assert s.outcome == 'ok' and s.sizes == [len(PHOTOS[0]), len(PHOTOS[1])]
    async def slow(p): await asyncio.sleep(60)
    assert asyncio.run(refused(serve(fetch=slow, deadline_ms=50.), at[:1])).code == 'deadline'

def test_ready_is_the_golden_photo_on_the_real_path(serve):
    service = serve()
    assert asyncio.run(service.ready()) and service.stats()['versions']['1']['photos'] >= 2
    service._ready = (-1e9, True)
    service.fleet.get('1').about['golden']['logits'][0] += 5   # as if the answer were another one here
    assert not asyncio.run(service.ready())

def test_an_overloaded_service_is_still_ready(serve):
    service = serve(queue=1, batch=1)
    engine, gate = block(service)
    async def ask():
        busy = [asyncio.ensure_future(service.predict([p])) for p in PHOTOS[:1]]
        await asyncio.sleep(.05)
        busy += [asyncio.ensure_future(service.predict([p])) for p in PHOTOS[1:2]]
        await asyncio.sleep(0)
        assert (await refused(service, [PHOTOS[2]])).code == 'overloaded'
        asks = [asyncio.ensure_future(service.ready()) for _ in range(20)]
        await asyncio.sleep(0)
        gate.set()
        assert all(await asyncio.gather(*asks))
        await asyncio.gather(*busy)
    before = engine.stats()['photos']
    asyncio.run(ask())
    assert engine.stats()['photos'] - before == 3   # one check for all who asked

def test_not_ready_without_workers(serve):
    service = serve(deadline_ms=100.)
    engine = service.fleet.get('1').engine
    def die(p): raise SystemExit
    engine._decode = die
    async def kill():
        while engine.alive(): await engine.answers([PHOTOS[0]])
        return await service.ready()
    assert not asyncio.run(kill())

def test_drain_answers_what_is_in_flight_and_refuses_the_rest(serve):
    service = serve()
    engine, gate = block(service)
    async def stop():
        inside = asyncio.ensure_future(service.predict(PHOTOS))
        await asyncio.sleep(.01)
        draining = asyncio.get_running_loop().run_in_executor(None, service.drain)
        while not service.draining: await asyncio.sleep(.001)
        e = await refused(service, [PHOTOS[0]])
        ready = await service.ready()
        gate.set()
        return e, ready, await draining, await inside
    e, ready, drained, inside = asyncio.run(stop())
    assert (e.code, e.status) == ('draining', 503) and not ready and drained and inside.outcome == 'ok'

def test_a_version_that_left_a_moment_ago_costs_nobody_an_answer(serve, folders):
    service = serve()
    two = service.fleet.load(folders[1], '2')
    two.engine.drain(0)   # chosen, and gone before it is asked: the next choice must be another one
    route, chosen = service.fleet.route, []
    def choose(key):
        chosen.append(key)
        return two if len(chosen) == 1 else route(key)
    service.fleet.route, service.fleet._versions = choose, {'1': service.fleet.get('1')}
    async def ask(): return await service.predict([PHOTOS[0]])
    assert asyncio.run(ask()).version == '1' and len(chosen) == 2
    two.engine.close()

def test_a_full_server_refuses_before_it_reads_and_the_connection_goes_on(serve):
    from mlproject.serving.app import create_app
    from mlproject.serving.connections import IDLE, Connections, Rules
    service = serve(queue=1, batch=1)
    engine, gate = block(service)
    body = PHOTOS[2]
    head = b'POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n' % len(body)
    async def answer(reader):
        told = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), 20)
        length = next(int(l.split(b':')[1]) for l in told.lower().split(b'\r\n') if l.startswith(b'content-length'))
        return int(told.split()[1]), told.lower(), json.loads(await reader.readexactly(length))
    async def ask():
        doors = Connections(create_app(service), Rules())
        ours, theirs = socket.socketpair()
        await doors.adopt(theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        busy = []
        for p in PHOTOS[:2]:
            busy.append(asyncio.ensure_future(service.predict([p])))
            await asyncio.sleep(.05)
        writer.write(head + body[:100])              # most of it is still to come
        status, told, found = await answer(reader)
        assert (status, found['code']) == (503, 'overloaded') and b'retry-after: ' in told and b'connection: close' not in told
        writer.write(body[100:])
        gate.set()
        await asyncio.gather(*busy)
        connection, = doors.state.connections
        for _ in range(100):
            if connection.phase == IDLE: break
            await asyncio.sleep(.05)
        assert connection.phase == IDLE              # it will be closed when it stays silent
        writer.write(head + body)
        assert (await answer(reader))[0] == 200
        writer.close()
    asyncio.run(ask())
    assert engine.stats()['shed'] == 1
