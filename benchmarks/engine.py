"""The bare engine against its physical ceiling: what batching, deadlines and the queue cost, and what they do when too much comes.

    python benchmarks/engine.py [--model FOLDER] [--seconds 2] [--rounds 5] [--overload 20] [--publish]

The ceiling is decoding and network alone: one thread a core, batches of four, no queue, nobody to answer. The engine answers
callers of an event loop, one photo a request. CPU-ms count the whole process (callers too). Rounds are interleaved; the table
has medians. Without --model, mobilenet_v3_small at 160 px with random weights (100 classes) is exported first.
"""
import argparse, asyncio, copy, multiprocessing, statistics, sys, tempfile, threading, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent/'peers'))
import numpy as np
import psutil
from common import SHARED, publish
from network import jpegs, random_extended

from mlproject.core import cpus, say
from mlproject.serving.engine import Engine
from mlproject.serving.jobs import DeadlineExceeded, EngineConfig, Overloaded
from mlproject.serving.sessions import load_model

def ceiling(model, data: list[bytes], seconds: float) -> dict:
    "Decoding and network alone."
    end, counts = time.monotonic() + seconds, []
    def work():
        n = 0
        while time.monotonic() < end:
            model.run(np.stack([model.preprocess.pixels(data[(n + i) % len(data)]) for i in range(4)]))
            n += 4
        counts.append(n)
    threads = [threading.Thread(target=work) for _ in range(cpus())]
    return timed(lambda: ([t.start() for t in threads], [t.join() for t in threads]), lambda: sum(counts))

def timed(run, count) -> dict:
    "Photos a second and CPU-ms a photo of what `run` does."
    wall, cpu = time.monotonic(), time.process_time()
    run()
    wall, cpu, n = time.monotonic() - wall, time.process_time() - cpu, count()
    return dict(rate=n/wall, cpu=1000*cpu/max(n, 1), photos=n)

def closed(model, data: list[bytes], seconds: float, callers: int) -> dict:
    "So many callers, each with one photo at a time."
    took, engine = [], Engine(model, EngineConfig(queue_ms=600_000., queue=10_000))
    async def caller(i):
        end = time.monotonic() + seconds
        while (before := time.monotonic()) < end:
            await engine.answer(data[i % len(data)], before + 60)
            took.append(time.monotonic() - before)
            i += 1
    async def all_callers(): await asyncio.gather(*(caller(i) for i in range(callers)))
    found = timed(lambda: asyncio.run(all_callers()), lambda: len(took))
    s = engine.stats()
    engine.close()
    p50, p99 = np.percentile(took, [50, 99])*1000
    return found | dict(p50=p50, p99=p99, batch=s['photos']/s['batches'])

def own_work(model, callers: int = 16, each: int = 200) -> float:
    "CPU-ms a photo of queue, batches and answers, with decoding and network taken out."
    still, logits, embedding = copy.copy(model), np.zeros((4, len(model.labels)), np.float32), np.zeros((4, 8), np.float32)
    still.run = lambda pixels, batch: (logits[:batch], embedding[:batch])
    pixels = np.zeros((model.preprocess.size,)*2 + (3,), np.uint8)
    engine = Engine(still, EngineConfig(queue_ms=600_000., queue=10_000), lambda data: pixels)
    async def caller():
        for _ in range(each): await engine.answer(b'', time.monotonic() + 60)
    async def all_callers(): await asyncio.gather(*(caller() for _ in range(callers)))
    found = timed(lambda: asyncio.run(all_callers()), lambda: callers*each)
    engine.close()
    return found['cpu']

def overload(model, data: list[bytes], seconds: float, rate: float) -> dict:
    "Photos arrive at `rate`, whatever becomes of them."
    deadline_ms, counts, took, me = 1000., dict(answered=0, refused=0, late=0), [], psutil.Process()
    engine, rss = Engine(model, EngineConfig(deadline_ms=deadline_ms)), []
    async def one(i):
        before = time.monotonic()
        try:
            await engine.answer(data[i % len(data)], before + deadline_ms/1000)
            took.append(time.monotonic() - before); counts['answered'] += 1
        except Overloaded: counts['refused'] += 1
        except DeadlineExceeded: counts['late'] += 1
    async def arrivals():
        start, sent, tasks = time.monotonic(), 0, set()
        while (now := time.monotonic() - start) < seconds:
            while sent < now*rate:
                tasks.add(t := asyncio.ensure_future(one(sent))); t.add_done_callback(tasks.discard)
                sent += 1
            if sent % 50 == 0: rss.append(me.memory_info().rss)
            await asyncio.sleep(.002)
        await asyncio.gather(*tasks)
    found = timed(lambda: asyncio.run(arrivals()), lambda: counts['answered'])
    time.sleep(.5)
    idle = time.process_time()
    time.sleep(3)
    idle = (time.process_time() - idle)/3
    engine.close()
    return found | counts | dict(p50=np.percentile(took, 50)*1000, p99=np.percentile(took, 99)*1000, idle=idle,
                                 memory=(rss[len(rss)//10]/1e6, max(rss)/1e6))

def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('--model', type=Path)
    ask.add_argument('--seconds', type=float, default=2)
    ask.add_argument('--rounds', type=int, default=5)
    ask.add_argument('--overload', type=float, default=20, help='seconds at three times the rate that was found; 0: not')
    ask.add_argument('--publish', action='store_true')
    a = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = [p.read_bytes() for p in sorted(jpegs(Path(folder)/'photos', SHARED/'photos', 16).iterdir())]
        if not a.model:   # torch stays in a process of its own: the memory below shall be the engine's
            say('exporting a model with random weights')
            child = multiprocessing.get_context('spawn').Process(target=random_extended, args=(Path(folder)/'extended', 'mobilenet_v3_small', 160, data[0]))
            child.start(); child.join()
        model = load_model(a.model or Path(folder)/'extended')
    cases = {'ceiling: decode and network alone': lambda: ceiling(model, data, a.seconds)}
    cases |= {f'engine, {n} caller{"s"*(n > 1)}': lambda n=n: closed(model, data, a.seconds, n) for n in (1, 16, 64)}
    found = {name: [] for name in cases}
    for _ in range(a.rounds):
        for name, case in cases.items(): found[name].append(case())
    median = {name: {k: statistics.median(r[k] for r in rounds) for k in rounds[0]} for name, rounds in found.items()}
    top = next(iter(median.values()))
    rows = [{'': name, 'photos/s': f'{m["rate"]:.0f}', 'of the ceiling': f'{m["rate"]/top["rate"]:.0%}', 'CPU-ms a photo': f'{m["cpu"]:.2f}',
             'p50 ms': f'{m["p50"]:.1f}' if 'p50' in m else '', 'p99 ms': f'{m["p99"]:.1f}' if 'p99' in m else '',
             'photos a batch': f'{m["batch"]:.1f}' if 'batch' in m else '4'} for name, m in median.items()]
    note = f'{len(data)} JPEGs of 500 x 375, {sum(map(len, data))/len(data)/1000:.0f} KB on average; medians of {a.rounds} interleaved rounds of {a.seconds:g} s.'
    note += f' Queue, batches and answers alone: {own_work(model):.3f} CPU-ms a photo.'
    if a.overload:
        peak = median['engine, 64 callers']['rate']
        o = overload(model, data, a.overload, 3*peak)
        note += (f' At three times the rate of 64 callers for {a.overload:g} s: {o["rate"]:.0f} photos/s answered ({o["rate"]/peak:.0%} of it), '
                 f'p50 {o["p50"]:.0f} ms, p99 {o["p99"]:.0f} ms with a deadline of 1,000 ms, {o["refused"]:,} refused at once, {o["late"]} late; '
                 f'memory {o["memory"][0]:.0f} MB after a tenth of the time, {o["memory"][1]:.0f} MB at most; CPU afterwards {o["idle"]:.2%} of a core.')
    if a.publish: publish('engine', 'The engine against decode and network alone (mobilenet_v3_small, 160 px)', rows, note)
    else:
        from common import table
        print(table(rows), '\n\n', note)

if __name__ == '__main__': main()
