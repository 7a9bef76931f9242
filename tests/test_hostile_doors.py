"Every hostile request through the doors of a real server: a right status, nothing that crashes, nothing that leaves the machine, a good photo answered beside."
import base64, contextlib, http.client, json, os, re, subprocess, sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from colours import Process, model, photo  # noqa: F401 (model is a fixture)
from hostile import FORM, JSON, RAW, form, hostile, part
from live_server import alive, until
from mlproject.serving.protocol import join_bytes
from mlproject.serving.rpc import SERVICE, STATUS, message
from mlproject.serving.schemas import CODES, ProblemOut

pytestmark = pytest.mark.slow
COUNTED = sys.platform == 'linux'
MEMORY, GROWTH = 300, 400   # MB beyond the idle worker: for one request (its own bytes not counted), and after all of them, which send over 1 GB (the allocator keeps some)
GOOD = photo(1)

# what a worker must not do, seen by the interpreter itself: every process that finds this file first tells of it
GUARD = '''
import os, sys
FORBIDDEN = ('socket.connect', 'socket.getaddrinfo', 'socket.gethostby', 'socket.sendto', 'socket.sendmsg', 'subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork',
             'ftplib.connect', 'urllib.Request', 'ctypes.dlopen')
def told(event, args):
    if event.startswith(FORBIDDEN):
        with open(os.environ['GUARD_TELLS'], 'a') as f: f.write(f'{event} {args!r}'[:300] + '\\n')
        raise RuntimeError(f'{event}: not here')
def begin():
    sys.addaudithook(told)
if 'mlproject.serving.worker' in sys.orig_argv: WATCH = begin
'''


class Guarded:
    "A server whose worker is watched from the moment that it is ready."
    def __init__(self, model, folder: Path):
        (folder/'guard').mkdir()
        (folder/'guard'/'sitecustomize.py').write_text(GUARD)
        (folder/'guard'/'guarded.py').write_text(COMPOSED)
        self.told, before = folder/'told', dict(os.environ)
        os.environ |= dict(GUARD_TELLS=str(self.told), PYTHONPATH=os.pathsep.join([str(folder/'guard'), *filter(None, [str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH')])]))
        try: self.process = Process(model, workers=1, threads=1, queue_ms=60_000, deadline_ms=60_000, state=str(folder/'state'), compose='guarded:compose')
        finally:
            os.environ.clear()
            os.environ.update(before)
        try:
            self.pid = json.loads(until(lambda: [*(folder/'state').glob('worker-*.json')], 60)[0].read_text())['pid']
            self.ask(GOOD)
            self.idle = self.memory()[0]
        except BaseException:
            self.process.stop()
            raise

    def memory(self, reset: bool = False) -> tuple[int, int]:
        "MB of the worker now, and at most since the last reset."
        if not COUNTED: return 0, 0
        if reset: Path(f'/proc/{self.pid}/clear_refs').write_text('5')
        found = dict(re.findall(r'^(VmRSS|VmHWM):\s+(\d+)', Path(f'/proc/{self.pid}/status').read_text(), re.M))
        return tuple(int(found[k]) // 1024 for k in ('VmRSS', 'VmHWM'))

    def ask(self, body: bytes, kind: str | None = 'image/jpeg', path: str = '/v1/predict', query: str = '', **headers) -> 'Said':
        "A request whose headers no library mends, on a connection of its own."
        c = http.client.HTTPConnection('127.0.0.1', self.process.rest, timeout=60)
        try:
            c.putrequest('POST', path + (f'?{query}' if query else ''))
            for k, v in (headers | {'content-length': str(len(body))} | ({'content-type': kind} if kind is not None else {})).items(): c.putheader(k, v)
            with contextlib.suppress(ConnectionError): c.endheaders(bytes(body))   # refused before it was sent: the answer is there
            r = c.getresponse()
            return Said(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
        finally: c.close()

    def fine(self) -> None:
        "Still the same worker, in good health, and nobody was called."
        assert alive(self.pid) and self.ask(GOOD).status_code == 200
        assert not self.told.exists(), self.told.read_text()
        assert self.memory()[0] - self.idle < GROWTH or not COUNTED, f'{self.idle} MB before, {self.memory()[0]} MB after'

@dataclass
class Said:
    status_code: int
    headers: dict
    body: bytes
    @property
    def text(self) -> str: return self.body.decode()
    def json(self): return json.loads(self.body)

COMPOSED = '''
import sitecustomize
from mlproject.operations.deployment import compose as ours
def compose(inside):
    extras = ours(inside)
    async def begin(): sitecustomize.WATCH()
    extras.start.append(begin)
    return extras
'''


@pytest.fixture(scope='module')
def server(model, tmp_path_factory):
    made = Guarded(model, tmp_path_factory.mktemp('guarded'))
    yield made
    assert made.process.stop() == 0, 'it did not end in order'


def watched(server, name: str, body: bytes, send) -> tuple:
    "(what came back, what is wrong about the memory it took)."
    before = server.memory(reset=True)[0]
    answer = send(body)
    peak = server.memory()[1] - before - 2 * len(body) // 2**20
    return answer, [f'{name}: {peak} MB'] if peak > MEMORY else []

def unfit(r) -> str | None:
    "What is wrong with a problem document."
    if r.headers['content-type'] != 'application/problem+json': return r.headers['content-type']
    said = ProblemOut.model_validate(r.json())
    if said.status != r.status_code or CODES[said.code][0] != said.status: return f'{said.code} {said.status} {r.status_code}'
    if said.error != said.detail or said.request_id != r.headers['x-request-id']: return 'detail or id'
    if not said.field: return f'{said.code}: names no field'
    if 'Traceback' in r.text or not all(str(v).isprintable() and len(str(v)) < 700 for v in r.json().values()): return 'not fit to be read'

def pictures(): return [h for h in hostile() if h.content_type == RAW and not h.heavy and not h.query and not h.name.startswith('raw')]


def test_as_it_is(server):
    wrong = []
    for h in hostile():
        r, more = watched(server, h.name, h.body, partial(server.ask, kind=h.content_type, query=h.query))
        del h.__dict__['body']
        wrong += more
        if r.status_code not in h.expected: wrong.append(f'{h.name}: {r.status_code} {r.text[:150]}')
        elif r.status_code >= 400 and (why := unfit(r)): wrong.append(f'{h.name}: {why} {r.text[:200]}')
    assert not wrong, '\n'.join(wrong)
    server.fine()


@pytest.mark.parametrize('door', ['multipart', 'base64'])
def test_beside_a_good_photo(server, door):
    "A good one before and behind: they are answered, whatever stands between."
    text = lambda data: dict(data=base64.b64encode(data).decode())
    wrong, same = [], None
    for h in pictures():
        body = form(*(part('photos', d) for d in (GOOD, h.body, GOOD))) if door == 'multipart' else json.dumps(dict(photos=[text(d) for d in (GOOD, h.body, GOOD)])).encode()
        r, more = watched(server, h.name, body, partial(server.ask, kind=FORM if door == 'multipart' else JSON))
        wrong += more
        if r.status_code != 200: wrong.append(f'{h.name}: {r.status_code} {r.text[:150]}'); continue
        one, odd, other = r.json()['predictions']
        same = same or one['species']
        if not one['species'] == other['species'] == same: wrong.append(f'{h.name}: the good photos are answered differently')
        if (odd['problem']['status'] if 'problem' in odd else 200) not in h.expected: wrong.append(f'{h.name}: {odd}')
        if 'problem' in odd and odd['problem'].get('field') != 'photos[1]': wrong.append(f'{h.name}: {odd["problem"]}')
    assert not wrong, '\n'.join(wrong)
    server.fine()


def test_open_inference_protocol(server):
    "As binary tensors, alone and with a good one behind."
    wrong = []
    for h in pictures():
        for photos in ([h.body], [h.body, GOOD]):
            tail = join_bytes(photos)
            head = json.dumps(dict(inputs=[dict(name='photo', datatype='BYTES', shape=[len(photos)], parameters=dict(binary_data_size=len(tail)))])).encode()
            r, more = watched(server, h.name, head + tail, partial(server.ask, kind=RAW, path='/v2/models/colours/infer', **{'inference-header-content-length': str(len(head))}))
            wrong += more
            if len(photos) == 1 and r.status_code not in h.expected: wrong.append(f'{h.name}: {r.status_code} {r.text[:150]}')
            elif r.status_code >= 400 and (why := unfit(r)): wrong.append(f'{h.name}: {why} {r.text[:200]}')
            elif r.status_code == 200:
                outputs = {o['name']: o['data'] for o in r.json()['outputs']}
                if len(photos) == 2 and (outputs['error'][1] or outputs['label'][1] == 'error'): wrong.append(f'{h.name}: the good photo failed')
                if len(photos) == 2 and (200 not in h.expected and not outputs['error'][0] or h.expected == {200} and outputs['error'][0]): wrong.append(f'{h.name}: {outputs["error"][0]!r}')
            elif len(photos) == 2: wrong.append(f'{h.name}: beside a good photo {r.status_code}')
    assert not wrong, '\n'.join(wrong)
    server.fine()


def test_grpc(server):
    grpc = pytest.importorskip('grpc')
    allowed = {200: 'OK'} | STATUS
    wrong = []
    with grpc.insecure_channel(f'127.0.0.1:{server.process.grpc}', options=[('grpc.max_send_message_length', -1)]) as channel:
        infer = channel.unary_unary(f'/{SERVICE}/ModelInfer', message('ModelInferRequest').SerializeToString, message('ModelInferResponse').FromString)
        for h in pictures():
            for photos in ([h.body], [h.body, GOOD]):
                request = message('ModelInferRequest')(model_name='colours')
                request.inputs.add(name='photo', datatype='BYTES', shape=[len(photos)])
                request.raw_input_contents.append(join_bytes(photos))
                before, code, label = server.memory(reset=True)[0], 'OK', None
                try: label = infer(request, timeout=60).raw_output_contents[0]
                except grpc.RpcError as e: code = e.code().name
                peak = server.memory()[1] - before - 2 * len(h.body) // 2**20
                if peak > MEMORY: wrong.append(f'{h.name}: {peak} MB')
                if len(photos) == 1 and code not in {allowed[s] for s in h.expected}: wrong.append(f'{h.name}: {code}')
                if len(photos) == 2 and (code != 'OK' or label.endswith(b'error')): wrong.append(f'{h.name}: the good photo failed, {code}')
    assert not wrong, '\n'.join(wrong)
    server.fine()


def test_the_guard_sees_what_it_should(tmp_path):
    "Otherwise its silence would mean nothing."
    (tmp_path/'sitecustomize.py').write_text(GUARD)
    code = 'import sys, sitecustomize, socket, subprocess\nsitecustomize.begin()\nfor f in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: subprocess.run(["true"]), lambda: socket.getaddrinfo("a.org", 1)):\n    try: f()\n    except RuntimeError as e: print(e)'
    done = subprocess.run([sys.executable, '-c', code], env=os.environ | dict(PYTHONPATH=str(tmp_path), GUARD_TELLS=str(tmp_path/'told')), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['socket.getaddrinfo: not here', 'subprocess.Popen: not here', 'socket.getaddrinfo: not here'] and len((tmp_path/'told').read_text().splitlines()) == 3


def test_one_round_of_fuzzing():
    "`make fuzz` for a moment, always the same requests: documented answers only, through REST, the Open Inference Protocol and gRPC."
    pytest.importorskip('schemathesis')
    from fuzz_doors import fuzz
    found = fuzz(0, start=1, examples=10)
    assert any(k.startswith('grpc') for k in found) and any(k.startswith('oip') for k in found) and sum(found.values()) > 150
