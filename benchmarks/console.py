"""The console with a million requests kept and ten thousand photos to review, in a real browser. `make bench-console`"""
import argparse, os, statistics, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from common import ROOT, publish
sys.path.insert(0, str(ROOT/'tests'))
from colours import SPECIES, Process, pack_colours, photo
from test_console_browser import CHROMIUM

from mlproject.core import digest
from mlproject.monitoring.watching import LOOKS, MONITORING
from mlproject.operations.feedback import FEEDBACK, ITEMS, REVIEWS, VERDICTS
from mlproject.serving.capture import ANSWERS, CAPTURE, REQUESTS
from mlproject.serving.guarding import create_key
from mlproject.serving.photostore import PhotoStore
from mlproject.serving.state import open_engine, prepare

DAYS, AUDITED, CAMERAS = 30, 20_000, 60

def fill(url: str, requests: int, queued: int, photos: list[str]) -> None:
    "Captured requests of thirty days with an answer each, audited ones, and a queue."
    engine, rng, now = open_engine(url), np.random.default_rng(0), time.time()
    prepare(engine, CAPTURE, FEEDBACK, MONITORING)
    received = np.sort(now - DAYS * 86_400 * rng.random(requests))
    ids = [f'{a:016x}{b:016x}' for a, b in rng.integers(0, 2**63, (requests, 2))]      # random, as request ids are
    blob, columns = rng.integers(0, 256, 1 << 20, dtype=np.uint8).tobytes(), ('id', 'received', 'kept_for', 'door', 'model', 'version', 'outcome', 'total_ms', 'locationID')
    mine = ('request_id', 'item', 'role', 'version', 'photo', 'label', 'confidence', 'abstained', 'species', 'logits', 'embedding')
    insert = lambda c, table, names, rows: c.connection.driver_connection.executemany(f'INSERT INTO {table} ({", ".join(chr(34) + n + chr(34) for n in names)}) VALUES ({", ".join("?" * len(names))})', rows)
    with engine.begin() as c:
        for k in range(0, requests, 50_000):
            part = range(k, min(k + 50_000, requests))
            version, site, label = rng.choice(3, len(part), p=(.9, .09, .01)) + 1, rng.integers(0, CAMERAS, len(part)), rng.zipf(1.5, len(part)) % len(SPECIES)
            sure, ms, bad, at = rng.beta(8, 2, len(part)), rng.gamma(4, 2, len(part)), rng.random(len(part)) < .01, rng.integers(0, len(blob) - 2000, len(part))
            insert(c, 'requests', columns, [(ids[i], received[i], 'sample', 'rest', 'animals', str(v), 'overloaded' if b else 'ok', m, f'CAM{s:02}') for i, v, s, m, b in zip(part, version, site, ms, bad)])
            insert(c, 'answers', mine, [(ids[i], 0, 'answer', str(v), photos[i % len(photos)], SPECIES[l], float(p), 0, f'[["{SPECIES[l]}", {p:.4f}], ["{SPECIES[(l + 1) % len(SPECIES)]}", 0.1]]', blob[a:a + 200], blob[a:a + 1152])
                                        for i, v, l, p, a in zip(part, version, label, sure, at)])
        chosen = rng.permutation(requests)[:AUDITED + queued]
        c.execute(sa.insert(ITEMS), [dict(id=n + 1, stream='audit', request_id=ids[i], item=0, photo=photos[n % len(photos)], reason='random', priority=1., probability=.02, needed=1, added=now, state='settled' if n < AUDITED else 'open') for n, i in enumerate(chosen)])
        c.execute(sa.insert(REVIEWS), [dict(item_id=n + 1, reviewer=f'r{n % 5}', label=SPECIES[n % len(SPECIES)], made=now, undone=False) for n in range(AUDITED)])
        c.execute(sa.insert(VERDICTS), [dict(item_id=n + 1, label=SPECIES[n % len(SPECIES)], how='single', made=now) for n in range(AUDITED)])
        c.execute(sa.insert(LOOKS), [dict(at=now - 3600 * k, since=0., until=now - 3600 * k, model='mlproject', version='1', reference='x', level='calm', alarm=dict(level='calm', audit_rate=.02, alerts=[], windows=k), told=[], retrain=False,
                                         photos=1000, errors=1, drifted=[], promised=.8, accuracy=.8, low=.7, high=.9, unlabelled=.8, audited=AUDITED) for k in range(24 * DAYS, 0, -1)])
    engine.dispose()

@contextmanager
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        made = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        yield made
        made.close()

def enter(chromium, url: str, token: str):
    "A page of somebody who is signed in, with nothing in the browser's memory."
    page = chromium.new_context(viewport=dict(width=1280, height=800)).new_page()
    page.set_default_timeout(60_000)
    page.goto(url + '/console')
    page.get_by_label('API key').fill(token)
    page.get_by_role('button', name='Sign in').click()
    page.wait_for_selector('nav')
    return page

SENT = "performance.getEntries().filter(e => !e.name.includes('/photo/')).reduce((n, e) => n + (e.transferSize || 0), 0)"
LOADED = 'performance.getEntriesByType("navigation")[0].loadEventEnd'

def first(chromium, url: str, token: str) -> tuple[float, float]:   # ms, kB: the slowest and the heaviest page
    "Each page in a browser that has never seen it: until it is loaded with script and style."
    times, sizes = [], []
    for path in ('try', 'review', 'release', 'data'):
        page = enter(chromium, url, token)
        fresh = chromium.new_context(storage_state=page.context.storage_state())
        page.context.close()
        page = fresh.new_page()
        page.goto(f'{url}/console/{path}', wait_until='load')
        page.wait_for_timeout(300)
        times.append(page.evaluate(LOADED)); sizes.append(page.evaluate(SENT) / 1000)
        fresh.close()
    return max(times), max(sizes)

def pressed(page, n: int, key: str, pause_ms: int) -> list[float]:   # ms
    "From a key to the next photo, decoded and painted."
    return page.evaluate('''async ([n, key, pause]) => {
        const took = [], photo = document.querySelector('#photo'), root = document.querySelector('#review')
        for (let i = 0; i < n; i++) {
            const before = root.dataset.item, start = performance.now()
            document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))
            while (root.dataset.item === before || !photo.src) await new Promise(f => setTimeout(f, 1))
            await photo.decode()
            await new Promise(requestAnimationFrame)
            took.push(performance.now() - start)
            await new Promise(f => setTimeout(f, pause))
        }
        return took }''', [n, key, pause_ms])

def answered(page, address: str, times: int = 7) -> list[float]:   # ms
    return page.evaluate('''async ([address, times]) => {
        const took = []
        for (let i = 0; i < times; i++) { const start = performance.now(); const r = await fetch(address, {cache: 'no-store'}); await r.text(); if (!r.ok) throw Error(r.status); took.push(performance.now() - start) }
        return took }''', [address, times])

def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__)
    wanted.add_argument('--requests', type=int, default=1_000_000)
    wanted.add_argument('--queued', type=int, default=10_000)
    wanted.add_argument('--folder', type=Path, help='keep the database here, and use the one that is there')
    asked = wanted.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        os.environ['MLPROJECT_TRACKING_URI'] = f'sqlite:///{folder}/mlflow.db'
        store, files = PhotoStore(folder/'photos'), [photo(i, 900, 1200) for i in range(300)]
        for f in files: store.put(digest(f), f)
        url = f'sqlite:///{folder}/state.db'
        if not (folder/'state.db').exists(): fill(url, asked.requests, asked.queued, [digest(f) for f in files])
        token = create_key(folder/'keys.json', 'anna', ('reviewer', 'viewer', 'operator'))[0]
        server = Process(pack_colours(folder/'model'), database=url, photo_store=str(folder/'photos'), capture=.05, keys=str(folder/'keys.json'), state=str(folder/'state'), compose='mlproject.console.console:compose', runs=str(folder/'runs'))
        rows, here = [], f'http://127.0.0.1:{server.rest}'
        tell = lambda what, figure, bar: rows.append({'measure': what, 'figure': figure, 'bar': bar}) or print(what, figure, flush=True)
        try:
            with browser() as chromium:
                first(chromium, here, token)      # the server's own first time
                ms, kb = first(chromium, here, token)
                tell('a page in a new browser, the slowest', f'{ms:.0f} ms', '1000 ms')
                tell('sent for it without photos, the heaviest', f'{kb:.0f} kB', '150 kB')
                page = enter(chromium, here, token)
                page.goto(here + '/console/review')
                while not page.evaluate("document.querySelector('#photo').naturalWidth"): page.wait_for_timeout(50)
                page.wait_for_timeout(1500)
                for pause, what in ((400, 'a key every 0.4 s'), (120, 'a key every 0.12 s')):
                    took = pressed(page, 50, '?', pause)
                    tell(f'key to next photo, {asked.queued:,} queued, {what}: median; 95 of 100', f'{statistics.median(took):.0f} ms; {np.quantile(took, .95):.0f} ms', '100 ms')
                for name, query in (('hour', 'range=hour'), ('day', 'range=day'), ('month', 'range=month'), ('month, one version of 1 %', 'range=month&version=3'), ('month, one camera', 'range=month&site=CAM07')):
                    took = answered(page, f'/console/watch?{query}')
                    tell(f'Watch, {asked.requests:,} requests kept, {name}: median; first', f'{statistics.median(took):.0f} ms; {took[0]:.0f} ms', '1000 ms')
        finally: server.stop()
        size = sum(f.stat().st_size for f in folder.glob('state.db*')) / 1e9
    publish('6_console', 'The console in Chromium on loopback (`make bench-console`)', rows, f'One worker; SQLite of {size:.1f} GB: an answer with logits and embedding for each request, {AUDITED:,} audited, {24 * DAYS} looks of the monitor.')

if __name__ == '__main__': main()
