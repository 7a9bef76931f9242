"""What keeping requests costs the answers, and what a killed server loses: a real `mlproject serve` with capture off, at 5 % and at 100 %, in rounds that
take turns; then SIGKILL under load at 100 %. `python benchmarks/capture.py`; a quick look: `--seconds 3 --rounds 1 --kills 1`.

Every request is another photo file, so each one that is kept is decoded, looked at, emptied of its owner and stored: the dearest traffic there is. The clients
share the cores with the server, so the ratio of requests/s is milder than that of CPU-ms a request, which stands beside it. CPU counts until the last
request is written.
"""
import argparse, asyncio, os, shutil, sys, time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from crowd import Crowd, Served, failures, loop_run, models, percentile, row, served
from common import publish
from serving import cpu, tree

LEVELS = {'off': None, '5 %': .05, '100 %': 1.}

def settings(folder: Path, share: float | None) -> dict:   # nobody is refused: that is another question
    return dict(queue_ms=10_000) if share is None else dict(queue_ms=10_000, database=f'sqlite:///{folder}/state.db', photo_store=folder / 'photos', capture=share)

async def written(s: Served, limit: float = 60) -> None:
    "Until nothing waits to be kept."
    end, calm = time.monotonic() + limit, 0
    while calm < 3 and time.monotonic() < end:      # workers publish once a second
        calm = calm + 1 if not (await asyncio.to_thread(s.metrics))['capture_waiting'] else 0
        await asyncio.sleep(.6)

def measure(s: Served, photos: list[bytes], seconds: float, clients: int, name: str) -> dict:
    "A run of so many seconds."
    crowd, before, used = Crowd(s.port, photos, clients, name=name), s.metrics(), cpu(s.pid)
    loop_run(crowd.during(asyncio.sleep(seconds)))
    good = [r for r in crowd.seen if r.status == 200]
    loop_run(written(s))
    after, took = s.metrics(), max(r.done for r in good) - min(r.sent for r in good)
    return dict(rate=len(good) / took, cpu=(cpu(s.pid) - used) / len(good) * 1e3, p99=percentile(good, 99), failed=sum(failures(crowd.seen).values()), answered=len(good),
                kept=after['captured_total'] - before['captured_total'], lost=after['capture_lost_total'] - before['capture_lost_total'])

def rounds(home: Path, model: Path, photos: list[bytes], n: int, seconds: float, clients: int) -> list[dict]:
    "Three servers; only one of them is asked at a time, each first in turn."
    found = []
    with ExitStack() as stack:
        servers = {}
        for level, share in LEVELS.items():
            shutil.rmtree(folder := home / f'capture {level}', ignore_errors=True)
            servers[level] = stack.enter_context(served(model, folder, **settings(folder, share)))
            measure(servers[level], photos, min(3, seconds), clients, 'warm')
        for i in range(n):
            order = [*LEVELS][i % 3:] + [*LEVELS][:i % 3]
            found.append({level: measure(servers[level], photos, seconds, clients, f'{i}') for level in order})
            print(*(f'{level}: {r["rate"]:.0f}/s, {r["cpu"]:.2f} CPU-ms, p99 {r["p99"]:.0f} ms, {r["kept"]:.0f} kept, {r["lost"]:.0f} not' for level, r in found[-1].items()), sep='; ', flush=True)
    return found

def costs(found: list[dict]) -> list[dict]:
    "Rows: medians; ratios are to `off` within a round."
    spread = lambda v: f'{median(v):.3f} ({min(v):.3f} to {max(v):.3f})'
    mid, ratio = lambda level, k: median(r[level][k] for r in found), lambda level, k: [r[level][k] / r['off'][k] for r in found]
    out = []
    for level, bar in (('off', ''), ('5 %', '>= 0.95'), ('100 %', '')):
        share, each = LEVELS[level] or 0, [r[level] for r in found]
        wanted = sum(e['kept'] + e['lost'] for e in each)
        told = f'{mid(level, "rate"):,.0f} requests/s, {mid(level, "cpu"):.2f} CPU-ms each, p99 {mid(level, "p99"):.0f} ms'
        out.append(row(f'capture {level}', told + (f'; {sum(e["kept"] for e in each) / max(1, wanted):.1%} of the sample kept' if share else ''), '', None))
        if share: out.append(row(f'requests/s at {level}, of those without', spread(ratio(level, 'rate')), bar, median(ratio(level, 'rate')) >= .95 if bar else None))
        if share: out.append(row(f'CPU of a request at {level}, of one without', spread(ratio(level, 'cpu')), '', None))
    failed = sum(r[level]['failed'] for r in found for level in LEVELS)
    return out + [row('requests that failed', f'{failed} of {sum(r[level]["answered"] for r in found for level in LEVELS) + failed:,}', '0', not failed)]

def killed(folder: Path, model: Path, photos: list[bytes], rate: float, seconds: float, clients: int) -> dict:
    "SIGKILL to all processes at 100 %: seconds of answered requests that are not in the database."
    import sqlalchemy as sa
    from mlproject.serving.capture import PHOTOS, REQUESTS
    from mlproject.serving.photostore import PhotoStore
    from mlproject.serving.state import open_engine, reading
    shutil.rmtree(folder, ignore_errors=True)
    crowd = when = lost = None
    with served(model, folder, **settings(folder, 1.)) as s:
        crowd = Crowd(s.port, photos, clients, rate, 'k')
        async def script():
            nonlocal when, lost
            await asyncio.sleep(seconds)
            lost = (await asyncio.to_thread(s.metrics))['capture_lost_total']
            family, when = tree(s.pid), time.monotonic()
            for p in family: p.kill()
            crowd.over = True
        loop_run(crowd.during(script()))
    good = [r for r in crowd.seen if r.status == 200]
    engine = open_engine(f'sqlite:///{folder}/state.db')
    with reading(engine) as c:
        there = set(c.execute(sa.select(REQUESTS.c.id)).scalars())
        store, files = PhotoStore(folder / 'photos'), c.execute(sa.select(PHOTOS.c.digest)).scalars().all()
        torn = sum(not store.get(d) for d in files)   # `get` raises for one that is not there
        sound = c.exec_driver_sql('PRAGMA integrity_check').scalar()
    engine.dispose()
    missing = [r for r in good if r.id not in there]
    return dict(answered=len(good), missing=len(missing), seconds=when - min((r.done for r in missing), default=when), lost=lost, sound=sound == 'ok' and not torn, rate=len(good) / (when - min(r.sent for r in good)))

def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--seconds', type=float, default=10)
    p.add_argument('--rounds', type=int, default=6)
    p.add_argument('--kills', type=int, default=5)
    p.add_argument('--clients', type=int, default=16)
    p.add_argument('--rate', type=float, default=0, help='requests/s when the server is killed; default: half of what it answers at 100 %%')
    p.add_argument('--home', default='/tmp/peers/work')
    p.add_argument('--publish', action='store_true', help='keep the table in benchmarks/results')
    o = p.parse_args()
    (model, _), photos = models(Path(o.home))
    found = rounds(Path(o.home), model, photos, o.rounds, o.seconds, o.clients)
    rate, rows = o.rate or median(r['100 %']['rate'] for r in found) / 2, costs(found)
    kills = [killed(Path(o.home) / 'capture killed', model, photos, rate, max(3., o.seconds / 2), o.clients) for _ in range(o.kills)]
    if kills:
        worst, told = max(k['seconds'] for k in kills), [f'{k["seconds"]:.2f}' for k in kills]
        rows += [row(f'SIGKILL at 100 % and {median(k["rate"] for k in kills):.0f} requests/s: s of answered requests that are lost', f'{", ".join(told)} ({sum(k["missing"] for k in kills)} of {sum(k["answered"] for k in kills):,} requests)', '<= 1 s', worst <= 1),
                 row('database sound and every photo there afterwards', f'{sum(k["sound"] for k in kills)} of {len(kills)}', 'all', all(k['sound'] for k in kills))]
        if early := sum(k['lost'] for k in kills): rows.append(row('of the missing: let go before for want of room', f'{early:.0f}', '0', False))
    title = f'What keeping requests costs: two workers, {o.clients} clients that ask without a pause, {o.rounds} rounds of {o.seconds:g} s that take turns, mobilenet_v3_small at 160 px'
    note = ('SQLite and photos on the same disk; every request another file. Median over the rounds and, in brackets, the range. CPU of the whole server until the last request is written; the clients share the cores. '
            'At 100 % and a full load the writer gets what the answers leave: what finds no room to wait is let go and counted (`mlproject_capture_lost_total`).')
    if o.publish: publish('5_capture', title + ' (`make bench-capture`)', rows, note)
    else: print(title, *(' | '.join(r.values()) for r in rows), sep='\n')
    sys.exit(any(r[''] == '**missed**' for r in rows))

if __name__ == '__main__': main()
