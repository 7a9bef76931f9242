"""Requests that nobody would make by hand, against the doors of a real server, for as long as you like: python tests/fuzz_doors.py --seconds 180

Three ways, in turns: what the OpenAPI document allows and a little more (schemathesis), requests of the Open Inference Protocol put
together from odd pieces, over REST and over gRPC. A status that is not documented, a 5xx that is not 503 or 504, an error that is no problem
document, a worker that dies or grows: each ends the run, with the smallest request that shows it."""
import itertools, json, re, sys, tempfile, time
from pathlib import Path

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from colours import Process, pack_colours, photo
from fuzz_inputs import MUTATION, VALUE, command, mutated
from live_server import alive, until
from mlproject.serving.protocol import OUTPUTS, join_bytes
from mlproject.serving.rpc import CALLS, SERVICE, STATUS, message
from mlproject.serving.schemas import ProblemOut

QUIET = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
GROWTH = 200   # MB
PHOTOS = [photo(1), photo(2, 80, 40), b'no photo', b'']
# what a tensor, an output, a parameter may be called, right and wrong
NAME = st.sampled_from(['photo', 'BYTES', 'FP32', 'label', 'colours', '1', '', 'shared_memory_region', 'binary_data_size', 'binary_data', 'timeout', 'route_key', 'é\0', '../x']) | st.text(max_size=8)
ODD = st.sampled_from([0, -1, 1, 2, 2**31, 2**63 - 1, -2**63])

def problem(r) -> str:
    "Its code, when the document is fit."
    one = lambda name: v[0] if isinstance(v := r.headers[name], list) else v   # schemathesis keeps lists
    assert one('content-type') == 'application/problem+json', (r.status_code, r.text[:300])
    said = ProblemOut.model_validate(r.json())
    assert said.status == r.status_code and said.error == said.detail and said.request_id == one('x-request-id'), r.text
    return said.code

def openapi(server, count) -> list:
    "A property for each operation of the document."
    import schemathesis
    @schemathesis.serializer('application/x-ndjson', 'image/*')
    def as_text(context, value): return value if isinstance(value, bytes) else str(value).encode('utf-8', 'surrogatepass')
    found = httpx.get(f'http://127.0.0.1:{server.rest}/openapi.json', timeout=30).json()
    def run_of(operation):
        @given(case=operation.as_strategy())
        def run(case):
            r = case.call(base_url=f'http://127.0.0.1:{server.rest}', timeout=60)
            assert str(r.status_code) in operation.definition.raw['responses'], (operation.label, r.status_code, r.text[:300])
            assert r.status_code not in (500, 501, 502), r.text
            if r.status_code >= 400 and operation.path != '/health/ready': problem(r)
            count(f'{operation.label} {r.status_code}')
        return run
    return [run_of(o.ok()) for o in schemathesis.openapi.from_dict(found).get_all_operations()]

PARAMETERS = st.dictionaries(NAME, VALUE | ODD, max_size=3)
TENSOR = st.fixed_dictionaries(dict(name=st.just('photo') | NAME, datatype=st.just('BYTES') | NAME, shape=st.just([1]) | st.lists(ODD, max_size=3) | VALUE),
                               optional=dict(parameters=PARAMETERS | VALUE, data=st.just(['/9j/4AAQ']) | VALUE))
ASKED = st.fixed_dictionaries(dict(inputs=st.lists(TENSOR, min_size=1, max_size=1) | st.lists(TENSOR, max_size=3) | VALUE),
                              optional=dict(id=st.text(max_size=5) | VALUE, parameters=PARAMETERS | VALUE, outputs=st.lists(st.fixed_dictionaries(dict(name=st.sampled_from(OUTPUTS) | NAME), optional=dict(parameters=PARAMETERS)), max_size=3) | VALUE))
TAIL = st.lists(st.sampled_from(PHOTOS) | st.binary(max_size=20), max_size=4).map(join_bytes) | st.binary(max_size=40)

def oip_rest(server, count):
    client = httpx.Client(base_url=f'http://127.0.0.1:{server.rest}', timeout=60)
    @given(ASKED | VALUE, TAIL | st.none(), st.none() | ODD | st.text('0123456789-+.x', max_size=5), st.booleans(), st.lists(MUTATION, max_size=1))
    def run(asked, tail, length, honest, mutations):
        head, headers = json.dumps(asked).encode(), {}
        if tail is not None:
            if honest and isinstance(asked, dict) and asked.get('inputs') and isinstance(asked['inputs'], list) and isinstance(asked['inputs'][0], dict):
                asked['inputs'][0] |= dict(name='photo', datatype='BYTES', parameters=dict(binary_data_size=len(tail)))
                asked['inputs'][0].pop('data', None)
                head = json.dumps(asked).encode()
            headers = {'inference-header-content-length': str(len(head) if honest else length)}
        r = client.post('/v2/models/colours/infer', content=mutated(head, mutations) + (tail or b''), headers=headers)
        assert r.status_code in (200, 400, 413, 415, 422), (r.status_code, r.text[:300], asked, tail, headers)
        count(f'oip {r.status_code}' + (f' {problem(r)}' if r.status_code != 200 else ''))
    return run

def rpc_message(name: str, photos: list[bytes], odd: dict) -> bytes:
    "A message of a call, right but for what `odd` changes."
    m = message(f'{name}Request')()
    for field in m.DESCRIPTOR.fields:
        if field.name in ('name', 'model_name'): setattr(m, field.name, odd.get('model', 'colours'))
        if field.name in ('version', 'model_version'): setattr(m, field.name, odd.get('version', ''))
    if name != 'ModelInfer': return m.SerializeToString()
    t = m.inputs.add(name=odd.get('tensor', 'photo'), datatype=odd.get('datatype', 'BYTES'), shape=odd.get('shape', [len(photos)]))
    if odd.get('typed'): t.contents.bytes_contents.extend(photos)
    else: m.raw_input_contents.append(join_bytes(photos) + odd.get('more', b''))
    for o in odd.get('outputs', ()): m.outputs.add(name=o)
    for k, v in odd.get('parameters', {}).items(): m.parameters[k].int64_param = v
    return m.SerializeToString()

TEXT = st.text(st.characters(codec='utf-8'), max_size=8)
CHANGES = st.fixed_dictionaries({}, optional=dict(model=TEXT, version=TEXT | st.just('1'), tensor=TEXT, datatype=st.sampled_from(['FP32', 'bytes', '']), shape=st.lists(ODD, max_size=3), typed=st.booleans(), more=st.binary(max_size=9),
    outputs=st.lists(st.sampled_from(OUTPUTS) | TEXT, max_size=3), parameters=st.dictionaries(st.sampled_from(['timeout', 'route_key', 'shared_memory_region']) | TEXT, ODD, max_size=2)))

def oip_grpc(server, count):
    import grpc
    channel = grpc.insecure_channel(f'127.0.0.1:{server.grpc}')
    allowed = {'OK', 'DEADLINE_EXCEEDED'} | {STATUS[s] for s in (400, 404, 413, 422)}
    @given(st.sampled_from(CALLS) | st.just('ModelInfer'), st.lists(st.sampled_from(PHOTOS) | st.binary(max_size=30), max_size=4), CHANGES, st.lists(MUTATION, max_size=2))
    def run(name, photos, odd, mutations):
        code = 'OK'
        try: channel.unary_unary(f'/{SERVICE}/{name}')(mutated(rpc_message(name, photos, odd), mutations), timeout=60)
        except grpc.RpcError as e:
            code = e.code().name
            assert code in allowed and 'problem-code' in dict(e.trailing_metadata()), (name, code, e.details(), photos, odd, mutations)
        count(f'grpc {name} {code}')
    return run

def megabytes(pid: int) -> int:
    found = re.search(r'^VmRSS:\s+(\d+)', Path(f'/proc/{pid}/status').read_text(), re.M) if Path('/proc/self/status').exists() else None
    return int(found[1]) // 1024 if found else 0

def fuzz(seconds: float, start: int = 0, examples: int = 25) -> dict[str, int]:
    "Rounds with new seeds until the time is over; how often each outcome was seen."
    found: dict[str, int] = {}
    def count(told): found[told] = found.get(told, 0) + 1
    with tempfile.TemporaryDirectory() as folder:
        server = Process(pack_colours(Path(folder)/'model'), workers=1, threads=1, state=f'{folder}/state', database=f'sqlite:///{folder}/state.db', photo_store=f'{folder}/photos', capture='0.2')
        try:
            pid = json.loads(until(lambda: [*Path(folder, 'state').glob('worker-*.json')])[0].read_text())['pid']
            once = settings(max_examples=examples, **QUIET)
            properties = [once(p) for p in openapi(server, count)] + [once(oip_rest(server, count)), once(oip_grpc(server, count))] * 4
            end, before = time.monotonic() + seconds, megabytes(pid)
            for i in itertools.count(start):
                for j, p in enumerate(properties): seed(100 * i + j)(p)()
                assert alive(pid), 'the worker died'
                assert megabytes(pid) - before < GROWTH, f'{before} MB before, {megabytes(pid)} MB now'
                if time.monotonic() > end: break
            print(f'the worker lives; {before} MB before, {megabytes(pid)} MB now')
        finally: assert server.stop() == 0, 'the server did not end in order'
    return found

if __name__ == '__main__': command(fuzz, __doc__, 'requests')
