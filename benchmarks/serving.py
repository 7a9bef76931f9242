"""Our server against LitServe, BentoML and plain FastAPI + torch: the same network, photos and cores, `wrk` on loopback, rounds that
take turns. `python benchmarks/serving.py --make-peers` first; a quick look: `--seconds 4 --rounds 1 --only 'ours;litserve'`.

The load generator shares the cores, so CPU-ms per request of the whole server (all its processes) stands beside requests/s.
"""
import argparse, json, os, shutil, signal, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent / 'peers'))
import psutil
from common import ROOT, SHARED, publish
from network import build, jpegs

HERE, HOME = Path(__file__).parent / 'peers', Path(os.environ.get('MLPROJECT_PEERS', '/tmp/peers/bench'))
PEERS = dict(litserve='litserve python-multipart torch torchvision numpy pillow simplejpeg onnxruntime opencv-python-headless',
             bentoml='bentoml torch torchvision pillow', fastapi='fastapi uvicorn[standard] python-multipart torch torchvision pillow')
PINS = 'torch==2.14.1 torchvision==0.29.1'.split()
NETWORKS = dict(mobilenet_v3_small=160, resnet18=128)

def make_peers() -> None:
    "An environment of its own for each peer."
    for name, packages in PEERS.items():
        subprocess.run([sys.executable, '-m', 'venv', HOME / name], check=True)
        subprocess.run([HOME / name / 'bin/pip', 'install', '-q', *PINS, *packages.split()], check=True)

@dataclass(frozen=True)
class Server:
    "How one is started and asked."
    name: str
    command: tuple[str, ...]      # {folder} and {port} are filled in
    path: str = '/predict'
    ready: str = '/health'
    model: str = 'plain'          # which extended model of the folder
    key: bool = False             # whether requests carry the key

def peer(name: str, *more: str, venv: str | None = None, **kw) -> Server:
    return Server(f'{name} {" ".join(more)}'.strip(), (str(HOME / (venv or name) / 'bin/python'), str(HERE / f'{name}_app.py'), '{folder}', '{port}', *more), **kw)

def ours(name: str, model: str, *more: str) -> Server:   # more: settings, such as workers=1
    return Server(name, (sys.executable, str(HERE / 'whole_app.py'), '{folder}/extended', '{port}', '{home}', *more), '/v1/predict', '/health/ready', model, True)

def bare(name: str, model: str) -> Server: return Server(name, (sys.executable, str(HERE / 'bare_engine.py'), '{folder}', '{port}', model))
SERVERS = dict(
    mobilenet_v3_small=[ours('ours', 'plain'), ours('ours, as chosen', 'variant'), ours('ours, one process', 'plain', 'workers=1', 'threads=2'), bare('bare engine', 'plain'), bare('bare engine, as chosen', 'variant'), peer('litserve'), peer('litserve', 'ours'), peer('bentoml', ready='/readyz'), peer('fastapi')],
    resnet18=[ours('ours, as chosen', 'variant'), ours('ours, int8 unjudged', 'int8'), ours('ours, float32', 'plain'), peer('litserve')])

def prepare(home: Path, source: Path) -> None:
    "Photos, networks and the key; made once."
    from mlproject.export.extended import read_about
    from mlproject.export.variants import candidates, optimise, variants_table
    if not (home / 'jpegs/031.jpg').exists(): jpegs(home / 'jpegs', source)
    for backbone, size in NETWORKS.items():
        folder = home / backbone
        if (folder / 'variant/manifest.json').exists(): continue
        judged = build(folder, backbone, size, source)
        given = judged['calibration'], judged['photos'], judged['labels']
        optimise(folder / 'plain', folder / 'variant', *given)
        int8 = [v for v in candidates() if 'int8' in v.name]   # what a network would gain whose accuracy stands it
        optimise(folder / 'plain', folder / 'int8', *given, variants=int8, bound=1, doubt=2, margin=0)
        print(backbone + '\n' + variants_table(read_about(folder / 'variant')), flush=True)

def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]

def cpu(pid: int) -> float:
    "CPU-seconds of all processes of a server, dead children included."
    total = 0.
    for p in tree(pid):
        try: t = p.cpu_times()
        except psutil.Error: continue
        total += t.user + t.system + t.children_user + t.children_system
    return total

def memory(pid: int) -> float:   # MiB
    "Memory that would be free again if the server ended."
    return sum(p.memory_full_info().uss for p in tree(pid)) / 2**20

def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as r: return r.status == 200
    except OSError: return False

@contextmanager
def serving(server: Server, folder: Path, home: Path, limit: float = 90.):
    "A running server: (port, pid, seconds until ready)."
    port, link = free_port(), folder / 'extended'
    link.unlink(missing_ok=True)
    link.symlink_to(server.model)
    fill = dict(folder=str(folder), port=str(port), home=str(home))
    env = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), NETWORK=str(folder))
    start, log = time.monotonic(), open(home / 'server.log', 'ab')
    child = subprocess.Popen([c.format(**fill) for c in server.command], env=env, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        while not answers(f'http://127.0.0.1:{port}{server.ready}'):
            if child.poll() is not None or time.monotonic() - start > limit: sys.exit(f'{server.name} did not start; see {home / "server.log"}')
            time.sleep(.05)
        yield port, child.pid, time.monotonic() - start
    finally:
        family = tree(child.pid) if child.poll() is None else []
        child.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=15)
        for p in left:
            try: p.kill()
            except psutil.Error: pass
        child.wait()

def load(server: Server, port: int, home: Path, connections: int, seconds: float,
         rate: float = 0.   # requests/s that are tried, over all connections; 0: as many as are answered
         ) -> dict:
    "One run of wrk."
    key = (home / 'key').read_text().strip() if server.key and (home / 'key').exists() else '-'
    made = subprocess.run(['wrk', '-t1', f'-c{connections}', f'-d{seconds:g}s', '--timeout', '10s', '-s', str(HERE / 'post.lua'),
                           f'http://127.0.0.1:{port}', '--', server.path, str(home / 'jpegs'), '32', key, f'{connections / rate * 1e3 if rate else 0:.0f}'], capture_output=True, text=True)
    if 'JSON ' not in made.stdout: sys.exit(f'wrk failed: {made.stdout} {made.stderr}')
    return json.loads(made.stdout.split('JSON ')[1])

def measure(server: Server, folder: Path, home: Path, connections: list[int], seconds: float) -> list[dict]:
    "A start, a warm-up, and a run for each number of connections."
    rows = []
    with serving(server, folder, home) as (port, pid, ready):
        load(server, port, home, 16, min(3, seconds))
        for n in connections:
            before = cpu(pid)
            r = load(server, port, home, n, seconds)
            bad = r['status'] + r['read'] + r['write'] + r['connect'] + r['timeout']
            good = r['requests'] - r['status']
            rows.append(dict(server=server.name, connections=n, rate=good / r['us'] * 1e6, p50=r['p50'] / 1e3, p99=r['p99'] / 1e3,
                             cpu=(cpu(pid) - before) / max(1, good) * 1e3, memory=memory(pid), errors=bad, ready=ready))
    return rows

def summary(rows: list[dict], base: str) -> list[dict]:
    "Medians over rounds; ratios are to `base` within each round, then their median."
    out = []
    for name, n in dict.fromkeys((r['server'], r['connections']) for r in rows):
        own = [r for r in rows if (r['server'], r['connections']) == (name, n)]
        other = [r for r in rows if (r['server'], r['connections']) == (base, n)]
        mid = lambda k: median(r[k] for r in own)
        ratio = lambda k: median(a[k] / b[k] if b[k] else float('nan') for a, b in zip(own, other)) if other else float('nan')
        out.append({'server': name, 'connections': n, 'requests/s': f'{mid("rate"):,.0f}', f'x {base}': f'{ratio("rate"):.2f}', 'p50 ms': f'{mid("p50"):.0f}',
                    'p99 ms': f'{mid("p99"):.0f}', f'p99 / {base}': f'{ratio("p99"):.2f}', 'CPU-ms': f'{mid("cpu"):.2f}', 'memory MiB': f'{mid("memory"):,.0f}',
                    'ready s': f'{mid("ready"):.1f}', 'errors': sum(r['errors'] for r in own)})
    return out

def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--make-peers', action='store_true', help='make the environments of the peers and end')
    p.add_argument('--seconds', type=float, default=10)
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--connections', default='16,64')
    p.add_argument('--only', default='', help='names of servers, by semicolon')
    p.add_argument('--networks', default=','.join(NETWORKS))
    p.add_argument('--home', default='/tmp/peers/work', help='where networks and photos are made')
    p.add_argument('--publish', action='store_true', help='keep the tables in benchmarks/results')
    o = p.parse_args()
    if o.make_peers: return make_peers()
    if not shutil.which('wrk'): sys.exit('wrk is missing: apt-get install wrk')
    home = Path(o.home)
    home.mkdir(parents=True, exist_ok=True)
    prepare(home, SHARED / 'photos/caltech101_animals')
    for backbone in o.networks.split(','):
        servers, rows = [s for s in SERVERS[backbone] if not o.only or s.name in o.only.split(';')], []
        for i in range(o.rounds):
            for s in servers:
                rows += measure(s, home / backbone, home, [int(c) for c in o.connections.split(',')], o.seconds)
                print(*[f'{r["server"]}: {r["connections"]} connections, {r["rate"]:.0f}/s, p99 {r["p99"]:.0f} ms, {r["cpu"]:.2f} CPU-ms, {r["errors"]} errors' for r in rows[-len(o.connections.split(',')):]], sep='\n', flush=True)
        title = f'{backbone} at {NETWORKS[backbone]} px, JPEGs of 500 x 375 and 51 KB as multipart uploads, {o.rounds} rounds of {o.seconds:g} s that take turns'
        made = summary(rows, 'litserve')
        if o.publish: publish(f'5_serving_{backbone}', title + ' (`make bench-serving`)', made)
        else: print(title, *made, sep='\n')

if __name__ == '__main__': main()
