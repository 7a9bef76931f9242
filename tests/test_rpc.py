"The protocol over gRPC, asked by tritonclient and by grpc itself over loopback sockets."
import asyncio, subprocess, sys
from pathlib import Path

import numpy as np
import pytest

from colours import SPECIES, Process, model, photo, server  # noqa: F401 (model and server are fixtures)
from mlproject.core import Problem
from mlproject.export.extended import ExtendedModel
from mlproject.serving import rpc
from mlproject.serving.engine import EngineConfig
from mlproject.serving.limits import MIB, Held, Limits, Room
from mlproject.serving.protocol import OUTPUTS
from mlproject.serving.rollout import Fleet
from mlproject.serving.rpc import SERVICE, message, start_rpc
from mlproject.serving.schemas import ServingError
from mlproject.serving.service import Service

grpc = pytest.importorskip('grpc')
triton = pytest.importorskip('tritonclient.grpc')
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402


@pytest.fixture()
def client(server):
    with triton.InferenceServerClient(f'127.0.0.1:{server.grpc}') as client: yield client


def tensor(photos):
    x = triton.InferInput('photo', [len(photos)], 'BYTES')
    x.set_data_from_numpy(np.array(photos, object))
    return [x]


def test_the_compiled_messages_are_those_of_the_proto_file(tmp_path):
    protoc, here = pytest.importorskip('grpc_tools.protoc'), Path(rpc.__file__).parent
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    assert protoc.main(['protoc', f'-I{here}', f'--descriptor_set_out={tmp_path}/set', str(here/'inference.proto')]) == 0
    assert FileDescriptorSet.FromString((tmp_path/'set').read_bytes()) == FileDescriptorSet.FromString((here/'inference.binpb').read_bytes())


def test_the_messages_are_those_of_the_published_protocol():
    from tritonclient.grpc import service_pb2
    for name in [f'{call}{kind}' for call in rpc.CALLS for kind in ('Request', 'Response')] + ['InferParameter', 'InferTensorContents']:
        ours, theirs = message(name).DESCRIPTOR, service_pb2.DESCRIPTOR.message_types_by_name[name]
        pending = [(ours, theirs)]
        while pending:
            a, b = pending.pop()
            assert {(f.number, f.name, f.type, f.is_repeated) for f in a.fields} == {(f.number, f.name, f.type, f.is_repeated) for f in b.fields}, a.full_name
            pending += [(n, b.nested_types_by_name[n.name]) for n in a.nested_types]


def test_health_and_metadata(client, server):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready('colours') and client.is_model_ready('colours', '1')
    assert client.get_server_metadata().extensions == ['binary_tensor_data']
    found = client.get_model_metadata('colours')
    assert (found.platform, list(found.versions), found.inputs[0].datatype, [o.name for o in found.outputs]) == ('mlproject.extended', ['1'], 'BYTES', list(OUTPUTS))
    with pytest.raises(InferenceServerException, match='no such model') as e: client.get_model_metadata('animals')
    assert e.value.status() == 'StatusCode.NOT_FOUND'
    with grpc.insecure_channel(f'127.0.0.1:{server.grpc}') as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ('', SERVICE): assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as e: health.Check(health_pb2.HealthCheckRequest(service='other'))
        assert e.value.code() == grpc.StatusCode.NOT_FOUND
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()


def test_answers_are_those_of_the_model(client, model):
    photos = [photo(i, 40 + 9*i, 130 - 7*i, '.png' if i % 3 == 0 else '.jpg') for i in range(10)]
    extended = ExtendedModel.load(model, threads=1)
    want, logits, embedding = extended.predict(photos), *extended.numbers(photos)
    got = client.infer('colours', tensor(photos), request_id='7')
    assert [x.decode() for x in got.as_numpy('label')] == [p.label for p in want] and got.get_response().id == '7'
    np.testing.assert_allclose(got.as_numpy('confidence'), [p.confidence for p in want], atol=1e-5)
    np.testing.assert_allclose(got.as_numpy('probabilities'), extended.probabilities(photos), atol=1e-5)
    np.testing.assert_allclose(got.as_numpy('logits'), logits, atol=1e-4)
    np.testing.assert_allclose(got.as_numpy('embedding'), embedding, atol=1e-5)
    some = client.infer('colours', tensor(photos[:1]), '1', outputs=[triton.InferRequestedOutput('label')])
    assert [o.name for o in some.get_response().outputs] == ['label'] and some.as_numpy('label')[0].decode() in SPECIES


def test_typed_contents_are_answered_in_kind(server):
    request = message('ModelInferRequest')(model_name='colours')
    request.inputs.add(name='photo', datatype='BYTES', shape=[2, 1]).contents.bytes_contents.extend([photo(1), b'no photo'])
    with grpc.insecure_channel(f'127.0.0.1:{server.grpc}') as channel:
        infer = channel.unary_unary(f'/{SERVICE}/ModelInfer', message('ModelInferRequest').SerializeToString, message('ModelInferResponse').FromString)
        got = infer(request, timeout=10)
        assert not got.raw_output_contents and got.outputs[0].contents.bytes_contents[1] == b'error' and got.parameters['errors'].int64_param == 1
        assert got.outputs[2].shape == [2, len(SPECIES)] and abs(sum(got.outputs[2].contents.fp32_contents) - 1) < 1e-5
        request.raw_input_contents.append(b'\1\0\0\0x')
        with pytest.raises(grpc.RpcError, match='not both') as e: infer(request, timeout=10)
        assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT and dict(e.value.trailing_metadata())['problem-code'] == 'malformed'


@pytest.mark.parametrize(('photos', 'name', 'version', 'status', 'text'), [
    ([b'no photo'], 'colours', '', 'INVALID_ARGUMENT', r'photo\[0\]: text'), ([photo(1)], 'animals', '', 'NOT_FOUND', 'no such model'),
    ([photo(1)], 'colours', '9', 'NOT_FOUND', 'is not loaded'), ([photo(1)]*13, 'colours', '', 'INVALID_ARGUMENT', 'at most 12'),
    ([bytes(1_000_000)]*3, 'colours', '', 'RESOURCE_EXHAUSTED', 'larger than max')])
def test_errors_have_a_status(client, photos, name, version, status, text):
    with pytest.raises(InferenceServerException, match=text) as e: client.infer(name, tensor(photos), version)
    assert e.value.status() == f'StatusCode.{status}'


def test_time_comes_with_the_call_or_as_a_parameter(client):
    big = tensor([photo(1, 1000, 1500)])
    with pytest.raises(InferenceServerException, match='No answer within the time') as e: client.infer('colours', big, timeout=1)
    assert e.value.status() == 'StatusCode.DEADLINE_EXCEEDED'
    with pytest.raises(InferenceServerException) as e: client.infer('colours', big, client_timeout=.002)
    assert e.value.status() == 'StatusCode.DEADLINE_EXCEEDED'
    assert client.infer('colours', tensor([photo(1)]), client_timeout=20).as_numpy('label').shape == (1,)


def test_garbage_in_place_of_a_message_is_an_error_of_the_call_and_the_server_lives(server, client):
    with grpc.insecure_channel(f'127.0.0.1:{server.grpc}') as channel:
        for junk in (b'\xff'*40, b'\x0a', bytes(1000)):
            with pytest.raises(grpc.RpcError) as e: channel.unary_unary(f'/{SERVICE}/ModelInfer')(junk, timeout=10)
            assert e.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert client.is_server_ready()


def test_a_key_is_needed_where_there_are_keys(model, tmp_path):
    from mlproject.serving.guarding import create_key
    made = create_key(tmp_path/'keys.json', 'tests')
    token = next(x for x in (made if isinstance(made, tuple) else (made,)) if isinstance(x, str))
    process = Process(model, keys=str(tmp_path/'keys.json'))
    try:
        with triton.InferenceServerClient(f'127.0.0.1:{process.grpc}') as client:
            assert client.is_server_ready()
            with pytest.raises(InferenceServerException, match='no API key') as e: client.infer('colours', tensor([photo(1)]))
            assert e.value.status() == 'StatusCode.UNAUTHENTICATED'
            with pytest.raises(InferenceServerException, match='no valid'): client.infer('colours', tensor([photo(1)]), headers={'authorization': 'Bearer ' + token[:-1]})
            for headers in ({'authorization': f'Bearer {token}'}, {'x-api-key': token}):
                assert client.infer('colours', tensor([photo(1)]), headers=headers).as_numpy('label').shape == (1,)
        import tritonclient.http as rest
        with rest.InferenceServerClient(f'127.0.0.1:{process.rest}') as client:
            x = rest.InferInput('photo', [1], 'BYTES')
            x.set_data_from_numpy(np.array([photo(1)], object))
            with pytest.raises(InferenceServerException) as e: client.infer('colours', [x])
            assert e.value.status() == '401' and client.infer('colours', [x], headers={'Authorization': f'Bearer {token}'}).as_numpy('label').shape == (1,)
    finally: process.stop()


def calling(channel): return channel.unary_unary(f'/{SERVICE}/ModelInfer', message('ModelInferRequest').SerializeToString, message('ModelInferResponse').FromString)

def request_for(photos):
    request = message('ModelInferRequest')(model_name='colours')
    request.inputs.add(name='photo', datatype='BYTES', shape=[len(photos)]).contents.bytes_contents.extend(photos)
    return request


@pytest.mark.parametrize('how', ['cancelled', 'out of time'])
def test_work_that_nobody_waits_for_is_dropped(model, how):
    big = photo(1, 3000, 4000, quality=20)  # long to decode, quick to send
    async def story():
        fleet = Fleet(EngineConfig(threads=1, batch=1, queue_ms=60_000, deadline_ms=60_000))
        loaded = fleet.load(model, version='1')
        heard = []
        server = await start_rpc(Service(fleet, listeners=[heard.append]))
        async with grpc.aio.insecure_channel(f'127.0.0.1:{server.port}') as channel:
            # the first time that is long enough to arrive: some photos of the call are then answered or none, never all
            for timeout in [None] if how == 'cancelled' else [.02, .05, .1, .2, .3, .5, .8, 1.2, 2]:
                call = calling(channel)(request_for([big]*32), timeout=timeout)
                while not timeout and not loaded.engine.stats()['busy_workers']: await asyncio.sleep(.005)
                if not timeout: call.cancel()
                else:
                    try: await call
                    except grpc.RpcError as e: assert e.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                    await asyncio.sleep(.1)
                    if heard: break
            while not heard and not timeout: await asyncio.sleep(.005)
            stats = loaded.engine.stats()
            again = await calling(channel)(request_for([photo(2)]), timeout=30)
        await server.stop(5)
        fleet.close()
        return heard and heard[0].outcome, stats, again
    outcome, stats, again = asyncio.run(asyncio.wait_for(story(), 60))
    if not outcome: pytest.skip('this machine is so busy that no call arrived within its time')
    assert outcome in (['cancelled'] if how == 'cancelled' else ['cancelled', 'deadline', 'partial'])
    assert stats['cancelled'] + stats['expired'] >= 1 and stats['depth'] == 0 and again.outputs[0].contents.bytes_contents[0].decode() in SPECIES


def test_overload_is_unavailable_with_a_time_to_try_again(model):
    async def story():
        fleet = Fleet(EngineConfig(threads=1, batch=1, queue=2))
        fleet.load(model, version='1')
        server = await start_rpc(Service(fleet))
        async with grpc.aio.insecure_channel(f'127.0.0.1:{server.port}') as channel:
            found = await asyncio.gather(*(calling(channel)(request_for([photo(1, 1500, 2000)]), timeout=30) for _ in range(30)), return_exceptions=True)
        await server.stop(5)
        fleet.close()
        return found
    found = asyncio.run(asyncio.wait_for(story(), 60))
    shed = [e for e in found if isinstance(e, grpc.RpcError) and e.code() == grpc.StatusCode.UNAVAILABLE]
    assert shed and len(shed) < 30 and all(dict(e.trailing_metadata())['problem-code'] == 'overloaded' and int(dict(e.trailing_metadata())['retry-after']) >= 1 for e in shed)
    assert all(isinstance(f, grpc.RpcError) or f.outputs for f in found)


def test_stopping_finishes_what_is_in_flight_and_readiness_ends(model):
    async def story():
        fleet = Fleet(EngineConfig(threads=1, deadline_ms=60_000))
        fleet.load(model, version='1')
        service = Service(fleet)
        server = await start_rpc(service)
        async with grpc.aio.insecure_channel(f'127.0.0.1:{server.port}') as channel:
            call = calling(channel)(request_for([photo(1, 3000, 4000)]*4), timeout=50)
            while not service.in_flight: await asyncio.sleep(.005)
            stopping = asyncio.create_task(server.stop(30))
            answer = await call
            await stopping
        service.draining = True
        ready = await service.ready()
        fleet.close()
        return answer, ready
    answer, ready = asyncio.run(asyncio.wait_for(story(), 90))
    assert len(answer.outputs[0].contents.bytes_contents) == 4 and not ready


def test_who_asks_is_known_to_the_service_and_refusals_are_told(model):
    def admit(metadata):
        if metadata.get('x-api-key') != 'fox': raise ServingError('unauthorized', 'no')
        return dict(key_id='ann')
    async def story():
        heard, told = [], []
        fleet = Fleet()
        fleet.load(model, version='1')
        server = await start_rpc(Service(fleet, listeners=[heard.append]), admit=admit, refused=lambda e, **who: told.append((e.code, who)))
        trace = '00-' + 'a'*32 + '-' + 'b'*16 + '-01'
        async with grpc.aio.insecure_channel(f'127.0.0.1:{server.port}', options=[('grpc.max_send_message_length', -1)]) as channel:
            ask = lambda request, *more: calling(channel)(request, timeout=20, metadata=(('x-request-id', 'r1'), ('traceparent', trace), *more))
            for request, more in [(request_for([photo(1)]), ()), (request_for([bytes(40_000_000)]), ()), (request_for([]), (('x-api-key', 'fox'),))]:
                with pytest.raises(grpc.RpcError): await ask(request, *more)
            call = ask(request_for([photo(1)]), ('x-api-key', 'fox'))
            await call
            id = dict(await call.initial_metadata())['x-request-id']
        await server.stop(1)
        fleet.close()
        return heard, told, id
    heard, told, id = asyncio.run(asyncio.wait_for(story(), 60))
    assert [(s.request_id, s.key_id, s.door, s.trace.trace_id) for s in heard] == [('r1', 'ann', 'grpc', 'a'*32)] and id == 'r1'
    assert [(code, who['request_id'], who.get('key_id')) for code, who in told] == [('unauthorized', 'r1', None)]*2 + [('missing', 'r1', 'ann')]


def with_room(model, room, story, patience=15.):
    "Run `story(channel)` against a server whose doors share `room`; messages of at most 1 MiB."
    async def run():
        fleet = Fleet(EngineConfig(threads=1))
        fleet.load(model, version='1')
        server = await start_rpc(Service(fleet, Limits(body_bytes=MIB), room=room), patience=patience)
        try:
            async with grpc.aio.insecure_channel(f'127.0.0.1:{server.port}') as channel: return await story(channel)
        finally:
            await server.stop(1)
            fleet.close()
    return asyncio.run(asyncio.wait_for(run(), 60))


def test_messages_take_from_the_room_of_all_doors(model):
    room, other = Room(4 * MIB), Held()
    async def story(channel):
        many = await asyncio.gather(*(calling(channel)(request_for([photo(1), bytes(500_000)]), timeout=30) for _ in range(20)), return_exceptions=True)
        left = room.used
        room.take(other, 4 * MIB)
        with pytest.raises(grpc.RpcError) as e: await calling(channel)(request_for([photo(1)]), timeout=30)
        room.keep(other)
        return many, left, e.value, await calling(channel)(request_for([photo(1)]), timeout=30)
    many, left, refused, answer = with_room(model, room, story)
    assert all(not isinstance(m, Exception) and m.outputs or m.code() == grpc.StatusCode.UNAVAILABLE for m in many) and any(not isinstance(m, Exception) for m in many)
    assert left == room.used == 0 and answer.outputs
    assert refused.code() == grpc.StatusCode.UNAVAILABLE and dict(refused.trailing_metadata())['problem-code'] == 'overloaded' and 'retry-after' in dict(refused.trailing_metadata())


def test_who_sends_nothing_is_cut_off_and_frees_its_place(model):
    "As many silent calls as messages are read at a time, and one that is honest."
    room = Room(8 * MIB)
    async def story(channel):
        async def silence():
            await asyncio.sleep(60)
            yield b''
        silent = [channel.stream_unary(f'/{SERVICE}/ModelInfer')(silence(), timeout=40) for _ in range(3)]
        codes = []
        for call in silent:
            with pytest.raises(grpc.RpcError) as e: await call
            codes.append((e.value.code(), dict(e.value.trailing_metadata())['problem-code']))
        return codes, await calling(channel)(request_for([photo(1)]), timeout=40)
    codes, answer = with_room(model, room, story, patience=3.)
    assert codes == [(grpc.StatusCode.DEADLINE_EXCEEDED, 'timeout')] * 3 and answer.outputs and room.used == 0


def test_serving_needs_neither_torch_nor_the_data_layer():
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'pandas', 'pyarrow', 'daft', 'duckdb', 'mlflow', 'scipy', 'fastcore', 'onnx'): raise ImportError(name + ' is not here')
sys.meta_path.insert(0, Blocked())
import mlproject.serving.rpc, mlproject.serving.protocol
"""
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_taken_port_is_one_line():
    async def story():
        server = await start_rpc(Service(Fleet()))
        try:
            with pytest.raises(Problem, match='cannot listen on 127.0.0.1'): await start_rpc(Service(Fleet()), f'127.0.0.1:{server.port}')
        finally: await server.stop(0)
    asyncio.run(story())


@pytest.mark.slow
def test_several_processes_share_the_port(model):
    process = Process(model, workers=2, deadline_ms=30_000, queue_ms=30_000)
    async def story():
        found = []
        async def client(i):  # a channel of its own: the kernel deals connections out
            async with grpc.aio.insecure_channel(f'127.0.0.1:{process.grpc}', options=[('grpc.use_local_subchannel_pool', 1)]) as channel:
                found.append(await calling(channel)(request_for([photo(i), photo(1, 1000, 1500)]), timeout=60))
        await asyncio.gather(*map(client, range(12)))
        return found
    try: found = asyncio.run(asyncio.wait_for(story(), 120))
    finally: status = process.stop()
    assert len(found) == 12 and all(len(f.outputs[0].contents.bytes_contents) == 2 for f in found) and status == 0
