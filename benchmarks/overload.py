"""Our server past its limits: three times more load than it can answer, workers killed, SIGTERM, slow and huge requests.
`python benchmarks/overload.py`; a quick look: `--seconds 6`. Networks and photos are those of `serving.py`.

Load comes from `wrk` on the same cores, so the overload test serves a network that is heavy enough (resnet18, float32) for the load
generator and the refusals to be the smaller part. What an answered request waits for is measured by a thin client of its own, which
asks ten times a second throughout: `wrk` cannot tell refused requests from answered ones.
"""
import argparse, http.client, os, signal, socket, sys, threading, time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from common import SHARED, publish
from serving import HERE, Server, cpu, load, memory, ours, prepare, serving, tree

BOUNDARY = b'overload0boundary'

def upload(photo: bytes) -> bytes:
    "A multipart body."
    return (b'--' + BOUNDARY + b'\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
            + photo + b'\r\n--' + BOUNDARY + b'--\r\n')

class Client:
    "Asks in turn over one connection and keeps what came back."
    def __init__(self, port: int, key: str, photo: bytes, pause: float = 0.):
        self.port, self.body, self.pause, self.seen, self.stop = port, upload(photo), pause, [], threading.Event()
        self.headers = {'Content-Type': f'multipart/form-data; boundary={BOUNDARY.decode()}', 'Authorization': f'Bearer {key}'}
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def live(self) -> None:
        link = None
        while not self.stop.is_set():
            start = time.monotonic()
            try:
                link = link or http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
                link.request('POST', '/v1/predict', self.body, self.headers)
                reply = link.getresponse()
                reply.read()
                self.seen.append((reply.status, time.monotonic() - start, start))
                if reply.will_close: link = None
            except ConnectionRefusedError:
                self.seen.append(('refused', 0., start))   # nothing listens: not begun, so not lost
                link = None
                self.stop.wait(.05)
            except (OSError, http.client.HTTPException) as e:
                self.seen.append((type(e).__name__, time.monotonic() - start, start))
                link = None
            if self.pause: self.stop.wait(self.pause)

    def end(self) -> list:
        self.stop.set()
        self.thread.join(30)
        return self.seen

def workers(pid: int) -> list[psutil.Process]:
    "The processes that answer, below the supervisor."
    return psutil.Process(pid).children()

def overload(server: Server, folder: Path, home: Path, seconds: float, factor: float = 3., deadline_ms: float = 2000.) -> list[dict]:
    "Peak, then `factor` times as much for `seconds`, then quiet."
    key, photo = (home / 'key').read_text(), (home / 'jpegs/000.jpg').read_bytes()
    with serving(server, folder, home) as (port, pid, ready):
        load(server, port, home, 16, 3)
        peak = max(goodput(load(server, port, home, n, min(10., seconds))) for n in (16, 32))
        before, probes, sizes, box = memory(pid), [Client(port, key, photo, .4) for _ in range(4)], [], {}
        connections = 256
        pounding = threading.Thread(target=lambda: box.update(load(server, port, home, connections, seconds, rate=1.2 * factor * peak)))
        pounding.start()
        while pounding.is_alive():
            sizes.append(memory(pid))
            pounding.join(1)
        seen = [s for p in probes for s in p.end()]
        time.sleep(2)
        used, start = cpu(pid), time.monotonic()
        time.sleep(5)
        idle = (cpu(pid) - used) / (time.monotonic() - start)
        each = max(p.memory_full_info().uss for p in workers(pid) or tree(pid)) / 2**20
    waits = np.array([s for status, s, _ in seen if status == 200] or [np.nan]) * 1e3
    offered = box['requests'] / box['us'] * 1e6
    half = len(sizes) // 2
    grown = (max(sizes[half:]) - max(sizes[:half] or sizes)) if sizes else 0
    return [row('offered, times the peak', f'{offered / peak:.1f}', f'{factor:.0f}', offered >= .9 * factor * peak),
            row('goodput, of the peak', f'{goodput(box) / peak:.0%} of {peak:,.0f}/s', '>= 90 %', goodput(box) >= .9 * peak),
            row('p99 of answered requests', f'{np.percentile(waits, 99):,.0f} ms of {len(waits)}', f'<= {deadline_ms:,.0f} ms', np.percentile(waits, 99) <= deadline_ms),
            row('other statuses than 200 and 503', str({k: v for k, v in Counter(s[0] for s in seen).items() if k not in (200, 503)} or 'none'), 'none', {s[0] for s in seen} <= {200, 503}),
            row('memory, second half against first', f'{grown:+.0f} MiB', '<= 10 MiB', grown <= 10),
            row('memory at the end of a worker', f'{each:.0f} MiB', '<= 200 MiB', each <= 200),
            row('processor afterwards', f'{idle:.2%} of a core', '< 1 %', idle < .01),
            row('start to ready', f'{ready:.1f} s', '<= 3 s', ready <= 3)]

def row(what: str, found: str, bar: str, fine: bool) -> dict: return {'measure': what, 'found': found, 'bar': bar, '': 'met' if fine else '**missed**'}
def goodput(r: dict) -> float: return (r['requests'] - r['status']) / r['us'] * 1e6

def killed(server: Server, folder: Path, home: Path, seconds: float = 6.) -> list[dict]:
    "SIGKILL of a worker while eight clients ask."
    key, photo = (home / 'key').read_text(), (home / 'jpegs/000.jpg').read_bytes()
    with serving(server, folder, home) as (port, pid, _):
        clients = [Client(port, key, photo) for _ in range(8)]
        time.sleep(seconds / 3)
        victim, when = workers(pid)[0], time.monotonic()
        victim.kill()
        time.sleep(seconds)
        seen = [s for c in clients for s in c.end()]
        there = psutil.Process(pid).is_running()
    failed = [s for s in seen if s[0] != 200]
    later = [s for s in seen if s[0] == 200 and s[2] > when]
    again = min((s[2] + s[1] - when for s in later), default=float('inf'))
    return [row('worker killed: requests that failed, of 8 in flight', f'{len([s for s in failed if s[0] != "refused"])} {dict(Counter(s[0] for s in failed))}', '<= 8', len([s for s in failed if s[0] != 'refused']) <= 8),
            row('worker killed: next answer after', f'{again:.1f} s', '<= 5 s', there and again <= 5)]

def terminated(server: Server, folder: Path, home: Path, seconds: float = 2.) -> list[dict]:
    "SIGTERM while eight clients ask: whatever was begun is answered."
    key, photo = (home / 'key').read_text(), (home / 'jpegs/000.jpg').read_bytes()
    with serving(server, folder, home) as (port, pid, _):
        clients = [Client(port, key, photo) for _ in range(8)]
        time.sleep(seconds)
        start = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        with suppress(psutil.Error): psutil.Process(pid).wait(60)
        took = time.monotonic() - start
        for c in clients: c.stop.set()
        seen = [s for c in clients for s in c.end()]
    lost = [s for s in seen if s[0] not in (200, 'refused')]
    return [row('SIGTERM: requests lost', f'{len(lost)} of {len(seen)} {dict(Counter(s[0] for s in lost)) or ""}'.strip(), '0', not lost),
            row('SIGTERM: gone after', f'{took:.1f} s', '<= 30 s', took <= 30)]

def cut_off(port: int, send, limit: float) -> tuple[float, int]:
    "Seconds until the server ends a connection, and bytes that it took; `limit` when it does not."
    start, taken = time.monotonic(), 0
    with socket.create_connection(('127.0.0.1', port), timeout=1) as s:
        try:
            for piece in send:
                if time.monotonic() - start > limit: return limit, taken
                s.settimeout(.01)
                with suppress(TimeoutError):
                    while data := s.recv(65536): pass
                    else: return time.monotonic() - start, taken
                s.settimeout(5)
                s.sendall(piece)
                taken += len(piece)
            s.settimeout(max(.1, limit - (time.monotonic() - start)))
            while s.recv(65536): pass
        except TimeoutError: return limit, taken
        except OSError: pass
    return time.monotonic() - start, taken

def slowly(pieces, pause: float):
    for p in pieces:
        yield p
        time.sleep(pause)

def slow(server: Server, folder: Path, home: Path) -> list[dict]:
    "Headers a byte at a time, a body that stops, and 500 MB, with the server's limits set low."
    key, photo = (home / 'key').read_text(), (home / 'jpegs/000.jpg').read_bytes()
    head = (f'POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n'
            f'Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n')
    quick = replace(server, command=(*server.command, 'header_s=2', 'body_s=2'))
    with serving(quick, folder, home) as (port, pid, _):
        before, client = memory(pid), Client(port, key, photo, .1)
        headers, _ = cut_off(port, slowly([c.encode() for c in head + 'x' * 200], .1), 12)
        body, _ = cut_off(port, [(head + 'Content-Length: 50000\r\n\r\n').encode() + b'x' * 1000], 12)
        declared, sent = cut_off(port, [(head + f'Content-Length: {500 * 2**20}\r\n\r\n').encode(), *[bytes(2**20)] * 500], 20)
        chunk = b'100000\r\n' + bytes(2**20) + b'\r\n'
        _, chunked = cut_off(port, [(head + 'Transfer-Encoding: chunked\r\n\r\n').encode(), *[chunk] * 500], 20)
        grown, seen = memory(pid) - before, client.end()
    others = [s for s in seen if s[0] != 200]
    return [row('slow headers cut off after (limit 2 s)', f'{headers:.1f} s', '<= 6 s', headers <= 6), row('stopped body cut off after (limit 2 s)', f'{body:.1f} s', '<= 6 s', body <= 6),
            row('500 MB upload: MB sent before the connection ended', f'{sent / 2**20:.0f} declared, {chunked / 2**20:.0f} chunked', '<= 64', max(sent, chunked) <= 64 * 2**20),
            row('memory after all that', f'{grown:+.0f} MiB', '<= 64 MiB', grown <= 64),
            row('others meanwhile', f'{len(seen) - len(others)} answered, {len(others)} not', 'none lost', not others and len(seen) > 5)]

def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--seconds', type=float, default=60)
    p.add_argument('--home', default='/tmp/peers/work')
    p.add_argument('--only', default='overload,killed,terminated,slow')
    p.add_argument('--publish', action='store_true', help='keep the table in benchmarks/results')
    o = p.parse_args()
    home = Path(o.home)
    home.mkdir(parents=True, exist_ok=True)
    prepare(home, SHARED / 'photos/caltech101_animals')
    sys.path.insert(0, str(HERE))
    from whole_app import key_of
    key_of(home)
    server, rows = ours('ours', 'plain'), []
    tests = dict(overload=lambda: overload(server, home / 'resnet18', home, o.seconds), killed=lambda: killed(server, home / 'mobilenet_v3_small', home),
                 terminated=lambda: terminated(server, home / 'mobilenet_v3_small', home), slow=lambda: slow(server, home / 'mobilenet_v3_small', home))
    for name in o.only.split(','):
        rows += (made := tests[name]())
        for r in made: print(*r.values(), sep=' | ', flush=True)
    title = f'Past the limits: three times the load for {o.seconds:g} s, a killed worker, SIGTERM, slow and huge requests'
    if o.publish: publish('6_overload', title, rows)
    sys.exit(any(r[''] != 'met' for r in rows))

if __name__ == '__main__': main()
