"""How fast a change of weights is true everywhere, and what ten swaps of versions cost those who ask meanwhile: a real `mlproject serve` with two
workers under load. `python benchmarks/release.py`; a quick look: `--changes 4 --swaps 2 --requests 500`.

A client is a camera with a key of its own, so after every change it is known which version has to answer whom. An answer is old when it comes from
another version and arrives after the change was begun; requests that were in flight then count too.
"""
import argparse, asyncio, os, shutil, subprocess, sys, time
from pathlib import Path
from statistics import median

from crowd import Crowd, Served, failures, loop_run, models, percentile, ready, row, served
from common import ROOT, publish

from mlproject.serving.rollout import place
from mlproject.serving.worker import Rollout

SHARES = [dict(a=0, b=1), dict(a=1, b=0), dict(a=.5, b=.5), dict(a=.05, b=.95)]   # a, b: the two versions

def belongs(bands, key: str) -> str: return next(v for low, high, v in bands if low <= place(key) < high)

def old_for(crowd: Crowd, bands, since: float, until: float) -> dict[int, float]:   # client -> s from the change to its last old answer
    "Only clients that had anything to change have an old answer."
    last = {}
    for r in crowd.seen:
        if since < r.done <= until and r.status == 200 and r.version != belongs(bands, crowd.key(r.client)): last[r.client] = max(last.get(r.client, 0), r.done - since)
    return last

async def holding(s: Served, version: str, there: bool = True, limit: float = 60) -> None:
    "Until every worker has, or no worker has, a version."
    end = time.monotonic() + limit
    while True:
        found = [any(k == ['weight', version] for k, _ in w['gauges']) for w in await asyncio.to_thread(ready, s)]
        if len(found) >= 2 and all(f == there for f in found): return
        if time.monotonic() > end: sys.exit(f'version {version} is {"not everywhere" if there else "still somewhere"} after {limit:.0f} s')
        await asyncio.sleep(.1)

async def changes(s: Served, crowd: Crowd, n: int, out: list) -> None:
    "Weights are changed n times; each time: s until the last old answer of each worker."
    rollout = Rollout(s.state)
    await asyncio.sleep(2)
    for i in range(n):
        weights = {dict(a='1', b='2')[k]: w for k, w in SHARES[i % len(SHARES)].items()}
        start = time.monotonic()
        bands = (await asyncio.to_thread(rollout.write, weights=weights))['bands']
        await asyncio.sleep(1.7)
        out.append(per_worker(s, crowd, old_for(crowd, bands, start, time.monotonic())))

def per_worker(s: Served, crowd: Crowd, last: dict[int, float]) -> dict[int, float]:   # pid -> s
    holds = crowd.by_worker(s)
    return {p: max((t for k, t in last.items() if holds.get(k) == p), default=0.) for p in {w.pid for w in s.workers()}}

async def commands(s: Served, crowd: Crowd, out: list) -> None:
    "`mlproject release promote` and `rollback` as typed: s from the start of the command to the last old answer, and to its end."
    from mlproject.operations.feedback import FEEDBACK
    from mlproject.operations.release import RELEASE, Release
    from mlproject.serving.capture import CAPTURE
    from mlproject.serving.state import open_engine, prepare
    from mlproject.settings import load_settings
    engine, rollout = open_engine(s.database), Rollout(s.state)
    prepare(engine, CAPTURE, FEEDBACK, RELEASE)
    await asyncio.to_thread(rollout.write, weights={'1': 1, '2': 0})
    Release(engine, load_settings().registry_name, rollout, card=lambda folder: None).start('2', rollout.read()['models']['2'], dict(passed=True), 'benchmark')
    folder = rollout.read()['models']
    for word, more in (('promote', ()), ('rollback', ('-m', folder['1']))):
        start = time.monotonic()
        command = [sys.executable, '-m', 'mlproject.cli', 'release', word, '-r', 'benchmark', '--database', s.database, '--state', str(s.state), *more]
        child = await asyncio.create_subprocess_exec(*command, cwd=s.folder, env=os.environ | dict(PYTHONPATH=str(ROOT), MLPROJECT_TRACKING_URI=f'sqlite:///{s.folder}/none.db'), stdout=subprocess.DEVNULL)
        if await child.wait(): sys.exit(f'release {word} failed')
        ended, before = time.monotonic() - start, time.monotonic()
        bands = rollout.read()['bands']
        written = s.state.joinpath('rollout.json').stat().st_mtime - time.time() + time.monotonic()   # on our clock
        await asyncio.sleep(6 if more else 2)   # a version that has to be loaded first answers later
        last = max(old_for(crowd, bands, start, time.monotonic()).values(), default=0.)
        out.append((word, last, ended, last - (written - start)))
    engine.dispose()

async def swaps(s: Served, crowd: Crowd, n: int, requests: int, folders: list[Path], out: dict) -> None:
    "Versions 1001, 1002, …: loaded, half, all, the one before unloaded; n times, and until enough was asked."
    rollout = Rollout(s.state)
    await asyncio.sleep(3)
    out['quiet'] = list(crowd.seen)
    before = max(rollout.read()['weights'], key=rollout.read()['weights'].get)
    await asyncio.to_thread(rollout.write, {before: rollout.read()['models'][before]}, {before: 1}, [])
    for i in range(n):
        new, folder = str(1001 + i), folders[(i + 1) % 2]
        there = rollout.read()['models']
        await asyncio.to_thread(rollout.write, there | {new: str(folder)})
        await holding(s, new)
        await asyncio.to_thread(rollout.write, weights={before: .5, new: .5})
        await asyncio.sleep(.5)
        await asyncio.to_thread(rollout.write, {new: str(folder)}, {new: 1})   # unloads the other in the same breath
        await holding(s, before, there=False)
        before, out['swaps'] = new, i + 1
    while len(crowd.seen) - len(out['quiet']) < requests: await asyncio.sleep(.1)

def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--changes', type=int, default=20)
    p.add_argument('--swaps', type=int, default=10)
    p.add_argument('--requests', type=int, default=10_000)
    p.add_argument('--clients', type=int, default=8)
    p.add_argument('--home', default='/tmp/peers/work')
    p.add_argument('--publish', action='store_true', help='keep the table in benchmarks/results')
    o = p.parse_args()
    folders, photos = models(Path(o.home))
    work, told, typed, swapped = Path(o.home) / 'release', [], [], {}
    shutil.rmtree(work, ignore_errors=True)
    with served(folders[0], work, database=f'sqlite:///{work}/state.db', photo_store=work / 'photos') as s:
        rollout = Rollout(s.state)
        first = next(iter(rollout.read()['models'].values()))
        rollout.write({'1': first, '2': str(folders[1])}, {'1': 1, '2': 0})
        loop_run(holding(s, '2'))
        crowds = [Crowd(s.port, photos, o.clients, name=name) for name in ('w', 'c', 's')]
        loop_run(crowds[0].during(changes(s, crowds[0], o.changes, told)))
        loop_run(crowds[1].during(commands(s, crowds[1], typed)))
        loop_run(crowds[2].during(swaps(s, crowds[2], o.swaps, o.requests, folders, swapped)))
    slowest = [max(t.values()) for t in told]
    asked, quiet = crowds[2].seen[len(swapped['quiet']):], swapped['quiet']
    bad, others = failures(asked), [r for c in crowds[:2] for r in c.seen]
    rate = lambda rs: len(rs) / (max(r.done for r in rs) - min(r.sent for r in rs))
    rows = [row(f'{len(told)} changes of weights: last old answer of the slower of {len(told[0])} workers', f'median {median(slowest):.2f} s, longest {max(slowest):.2f} s', '<= 1 s', max(slowest) <= 1),
            row('of the faster worker', f'median {median(min(t.values()) for t in told):.2f} s', '', None),
            row('requests meanwhile that failed', f'{sum(failures(others).values())} of {len(others):,} {failures(others) or ""}'.strip(), '0', not failures(others)),
            *(row(f'`mlproject release {w}`: last old answer after the command was started', f'{last:.2f} s ({after:.2f} s after the last change was written; the command took {took:.1f} s)', '', None) for w, last, took, after in typed),
            row(f'{swapped["swaps"]} swaps (load, half, all, unload): requests that failed', f'{sum(bad.values())} of {len(asked):,} {bad or ""}'.strip(), '0', not bad and len(asked) >= o.requests),
            row('p50 and p99 during the swaps', f'{percentile(asked, 50):.0f} and {percentile(asked, 99):.0f} ms, longest {percentile(asked, 100):,.0f} ms', '', None),
            row('p50 and p99 before them', f'{percentile(quiet, 50):.0f} and {percentile(quiet, 99):.0f} ms', '', None),
            row('requests/s during the swaps, and before them', f'{rate(asked):,.0f}, {rate(quiet):,.0f}', '', None)]
    title = f'Changes of weights and swaps of versions under load: two workers, {o.clients} clients that ask without a pause, mobilenet_v3_small at 160 px'
    note = ('Workers look at the shared file four times a second, so a change is seen after .13 s on average and .25 s at most; the rest is what was in flight and, while the clients take the cores, a late turn. '
            'Weights: all, nothing, half and 5 %, by `Rollout.write`, which is what `mlproject release` and the console call. The commands themselves spend their time starting Python; a rollback of a version that was unloaded has to load it first. '
            'Limits of the server are its defaults: `overloaded` among the failures is a request that would have waited more than 250 ms, which a machine that does other things as well brings about without any swap. '
            'Loading and warming a version takes a core from those who ask: hence p99 during swaps.')
    if o.publish: publish('5_release', title + ' (`make bench-release`)', rows, note)
    else: print(title, *(' | '.join(r.values()) for r in rows), sep='\n')
    sys.exit(any(r[''] == '**missed**' for r in rows))

if __name__ == '__main__': main()
