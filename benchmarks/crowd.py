"""A real `mlproject serve` in processes of its own and a crowd of clients, for `release.py` and `capture.py`: every request is another photo, every
answer is kept with its version and its time."""
import asyncio, itertools, os, re, signal, subprocess, sys, time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent / 'peers'))
import numpy as np
import psutil
from common import ROOT, SHARED
from network import jpegs, random_extended
from serving import answers, cpu, tree

from mlproject.serving.driving import Wire

def models(home: Path, backbone: str = 'mobilenet_v3_small', size: int = 160) -> tuple[list[Path], list[bytes]]:
    "Two extended models of one speed and other species, and the photos; made once."
    home.mkdir(parents=True, exist_ok=True)
    if not (home / 'jpegs/031.jpg').exists(): jpegs(home / 'jpegs', SHARED / 'photos/caltech101_animals')
    photos, folders = [p.read_bytes() for p in sorted((home / 'jpegs').glob('*.jpg'))], [home / backbone / n for n in ('one', 'two')]
    for folder, classes in zip(folders, (100, 99)):
        if not (folder / 'manifest.json').exists(): random_extended(folder, backbone, size, photos[0], classes)
    return folders, photos

@dataclass
class Served:
    "A running server."
    port: int
    pid: int
    folder: Path     # state, database, photos, log

    @property
    def url(self) -> str: return f'http://127.0.0.1:{self.port}'
    @property
    def database(self) -> str: return f'sqlite:///{self.folder}/state.db'
    @property
    def state(self) -> Path: return self.folder / 'state'

    def workers(self) -> list[psutil.Process]: return psutil.Process(self.pid).children()

    def metrics(self) -> Counter:
        "Sums over labels."
        import urllib.request
        found = Counter()
        with urllib.request.urlopen(f'{self.url}/metrics', timeout=30) as r:
            for line in r.read().decode().splitlines():
                if line[:1] != '#': found[re.split(r'[ {]', line)[0].removeprefix('mlproject_')] += float(line.split()[-1])
        return found

@contextmanager
def served(model: Path, folder: Path, *words: str, workers: int = 2, **settings):
    "`mlproject serve` as typed, ready; settings as after `--set`."
    folder.mkdir(parents=True, exist_ok=True)
    given = dict(state=folder / 'state', log=folder / 'requests.log') | settings
    command = [sys.executable, '-m', 'mlproject.cli', 'serve', '-m', model, '-p', '0', '-w', workers, '--keys', folder / 'no-keys.json', *words, *itertools.chain(*(('--set', f'{k}={v}') for k, v in given.items()))]
    with open(folder / 'server.log', 'ab') as log:   # elsewhere than the checkout: its settings are not ours
        child = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=os.environ | dict(PYTHONPATH=str(ROOT)))
    try:
        line = child.stdout.readline()
        if not (port := re.search(r' on http://127\.0\.0\.1:(\d+) ', line)): sys.exit(f'the server did not start; see {folder}/server.log')
        found = Served(int(port[1]), child.pid, folder)
        while len(ready(found)) < workers: time.sleep(.1)
        yield found
    finally:
        family = tree(child.pid) if child.poll() is None else []
        if child.poll() is None: child.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=20)
        for p in left: p.kill()
        child.wait()

def ready(s: Served) -> list[dict]:
    "Snapshots of the workers that live and answer."
    from mlproject.serving.telemetry import Board
    return [w for w in Board(s.state, 'nobody').all() if w['alive'] and any(k == ['ready'] and v for k, v in w.get('gauges', ()))]

class Reply(NamedTuple):
    client: int
    id: str
    sent: float      # s, of `time.monotonic`
    done: float
    status: int      # 0: the connection broke
    version: str
    code: str = ''   # of the error: 'overloaded' is refused for load, the rest is not

_VERSION, _CODE = (re.compile(rb'"%s": ?"([^"]*)"' % name) for name in (b'version', b'code'))

@dataclass
class Crowd:
    "Clients that each wait for an answer before they ask again, on a connection of their own; a client is a camera, its requests go to one version."
    port: int
    photos: list[bytes]
    clients: int = 16
    rate: float = 0                     # requests/s of all together; 0: as many as are answered
    name: str = 'r'
    seen: list[Reply] = field(default_factory=list)
    over: bool = False

    def key(self, k: int) -> str: return f'camera {k}'

    def request(self, k: int, id: str) -> bytes:
        "Another file each time, as in life: a comment in the JPEG."
        photo = self.photos[hash(id) % len(self.photos)]
        body = photo[:2] + b'\xff\xfe' + (2 + len(id)).to_bytes(2, 'big') + id.encode() + photo[2:]
        return (f'POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\nX-Request-ID: {id}\r\n'
                f'X-Route-Key: {self.key(k)}\r\n\r\n').encode() + body

    async def live(self, k: int) -> None:
        loop, wire, due = asyncio.get_running_loop(), None, time.monotonic() + (k / self.rate if self.rate else 0)
        for i in itertools.count():
            if self.rate: await asyncio.sleep(max(0, due - time.monotonic()))
            if self.over: break
            due += self.clients / self.rate if self.rate else 0
            id = f'{self.name}-{k}-{i}'
            request, sent, status, body = self.request(k, id), time.monotonic(), 0, b''
            try:
                if wire is None or wire.transport.is_closing(): wire = (await loop.create_connection(Wire, '127.0.0.1', self.port))[1]
                self.ports[k] = wire.transport.get_extra_info('sockname')[1]
                status, body = await wire.ask(request)
            except OSError: await asyncio.sleep(.05)
            said = (_VERSION if status == 200 else _CODE).search(body)
            word = said[1].decode() if said else ''
            self.seen.append(Reply(k, id, sent, time.monotonic(), status, *((word,) if status == 200 else ('', word))))
        if wire: wire.transport.close()

    async def during(self, script) -> None:   # script: a coroutine
        "Ask for as long as the script takes."
        self.ports: dict[int, int] = {}
        tasks = [asyncio.create_task(self.live(k)) for k in range(self.clients)]
        try: await script
        finally:
            self.over = True
            await asyncio.wait(tasks, timeout=15)

    def by_worker(self, s: Served) -> dict[int, int]:   # client -> pid
        "Which process holds the connection of each client."
        mine = {port: k for k, port in self.ports.items()}
        return {mine[c.raddr.port]: p.pid for p in s.workers() for c in p.net_connections('tcp') if c.raddr and c.raddr.port in mine}

def percentile(replies: list[Reply], q: float) -> float:   # ms
    took = [r.done - r.sent for r in replies if r.status == 200]
    return float(np.percentile(took, q)) * 1e3 if took else float('nan')

def failures(replies: list[Reply]) -> dict: return dict(Counter(r.code or r.status for r in replies if r.status != 200))

def loop_run(coroutine):
    "With uvloop where it is: the clients share the cores with the server."
    try: import uvloop
    except ImportError: return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner: return runner.run(coroutine)

def row(what: str, found: str, bar: str, fine: bool | None) -> dict: return {'measure': what, 'found': found, 'bar': bar, '': '' if fine is None else 'met' if fine else '**missed**'}
