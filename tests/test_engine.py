"The engine under real threads: batches, deadlines, refusals, cancelling, faults, stopping."
import asyncio, random, threading, time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from small_model import photo, small_extended, until, white

from mlproject.core import Problem
from mlproject.metrics import softmax
from mlproject.serving.engine import KNOWN, MAX_CRASHES, Engine
from mlproject.serving.jobs import DeadlineExceeded, Draining, EngineConfig, Overloaded
from mlproject.serving.sessions import load_model

FAR = dict(queue_ms=600_000., deadline_ms=600_000.)   # a busy machine shall not turn a test into an overload
PHOTOS = [photo(i) for i in range(12)]

@pytest.fixture(scope='module')
def model(tmp_path_factory): return load_model(small_extended(tmp_path_factory.mktemp('engine') / 'extended'))

@pytest.fixture
def start(model):
    "Start engines; they are stopped at the end."
    engines = []
    def make(decode=None, **config):
        engines.append(Engine(model, EngineConfig(**FAR | dict(threads=1) | config), decode))
        return engines[-1]
    yield make
    for e in engines:
        if isinstance(e._decode, Gate): e._decode.open.set()
        e.close()

class Gate:
    "A decoder that waits until the gate is open: the workers' time stands still."
    def __init__(self, model): self.decode, self.open, self.seen = model.preprocess.pixels, threading.Event(), []

    def __call__(self, data):
        self.seen.append(data)
        assert self.open.wait(30)
        return self.decode(data)

def held(start, model, **config):
    "An engine whose only worker has a photo in hand and waits at the gate."
    gate = Gate(model)
    engine = start(gate, **config)
    first = engine.submit(PHOTOS[0])
    until(lambda: gate.seen)
    return engine, gate, first

def probabilities(model, answer): return softmax(answer.logits, model.temperature)

def test_an_answer_is_the_models_own_whatever_batch_it_came_in(model, start):
    want = model.predict(PHOTOS, top_k=3)
    numbers = model.probabilities(PHOTOS)
    for batch in (1, 4, 12):
        engine = start(threads=2, batch=batch)
        for trial in range(4):
            order = random.Random(trial).sample(range(12), 12)
            found = [f.result(30) for f in [engine.submit(PHOTOS[i], top_k=3) for i in order]]
            for i, a in zip(order, found):
                assert a.prediction.label == want[i].label and [n for n, _ in a.prediction.species] == [n for n, _ in want[i].species]
                assert np.abs(probabilities(model, a) - numbers[i]).max() <= 1e-5

def test_arrays_are_photos_too(model, start):
    pixels = np.random.default_rng(0).integers(0, 200, (60, 80, 3), np.uint8)
    a = start().submit(pixels).result(30)
    assert np.abs(probabilities(model, a) - model.probabilities(pixels)[0]).max() <= 1e-5 and a.embedding.shape == (48,)

def test_what_waits_goes_together_and_nothing_is_waited_for(model, start):
    engine, gate, first = held(start, model)
    rest = [engine.submit(p) for p in PHOTOS[:7]]
    gate.open.set()
    assert [f.result(30).batch for f in (first, *rest)] == [1, 4, 4, 4, 4, 3, 3, 3]
    assert engine.submit(PHOTOS[0]).result(30).batch == 1   # alone: not kept waiting for others

def test_idle_workers_share_a_request(model, start):
    engine = start(threads=2, batch=8)
    until(lambda: engine._idle == 2)
    assert max(a.batch for a in asyncio.run(engine.answers(PHOTOS[:8]))) <= 4
    alone = start(threads=1, batch=8)
    assert {a.batch for a in asyncio.run(alone.answers(PHOTOS[:8]))} == {8}

def test_late_is_answered_in_time_and_the_work_is_dropped(model, start):
    engine, gate, first = held(start, model)
    async def ask():
        before = time.monotonic()
        with pytest.raises(DeadlineExceeded): await engine.answer(PHOTOS[1], before + .05)
        return time.monotonic() - before
    assert .05 <= asyncio.run(ask()) < 5   # the worker stands still all the while
    assert engine.stats()['depth'] == 0 and engine.stats()['expired'] == 1
    gate.open.set()
    first.result(30)
    assert engine.drain(30) and PHOTOS[1] not in gate.seen

def test_a_request_gets_what_was_ready_in_time(model, start):
    gate = Gate(model)
    engine = start(lambda data: gate(data) if data is PHOTOS[3] else model.preprocess.pixels(data), batch=1)
    async def ask(): return await engine.answers([PHOTOS[1], PHOTOS[3]], time.monotonic() + 1.5)
    one, two = asyncio.run(ask())
    gate.open.set()
    assert one.prediction.label and isinstance(two, DeadlineExceeded)

def test_a_late_photo_of_a_thread_is_not_decoded(model, start):
    engine, gate, first = held(start, model)
    late = engine.submit(PHOTOS[1], time.monotonic() + .02)
    time.sleep(.03)
    gate.open.set()
    with pytest.raises(DeadlineExceeded): late.result(30)
    assert PHOTOS[1] not in gate.seen and engine.stats()['expired'] == 1

def test_what_becomes_late_while_decoding_never_reaches_the_network(model, start):
    engine, gate, first = held(start, model)
    gate.open.set()
    first.result(30)
    gate.open.clear()
    until(lambda: not engine.stats()['busy_workers'])
    seen = len(gate.seen)
    late = engine.submit(PHOTOS[1], time.monotonic() + .05)
    until(lambda: len(gate.seen) > seen or late.done())
    time.sleep(.06)
    gate.open.set()
    with pytest.raises(DeadlineExceeded): late.result(30)
    assert engine.drain(30) and engine.stats()['batches'] == 1

def test_the_queue_is_bounded_and_a_request_is_taken_whole_or_not(model, start):
    engine, gate, first = held(start, model, queue=3)
    kept = [engine.submit(p) for p in PHOTOS[1:3]]
    with pytest.raises(Overloaded): asyncio.run(engine.answers(PHOTOS[3:5]))
    kept.append(engine.submit(PHOTOS[5]))
    with pytest.raises(Overloaded) as e: engine.submit(PHOTOS[6])
    assert e.value.retry_after >= 0 and engine.stats()['shed'] == 3 and engine.stats()['depth'] == 3
    gate.open.set()
    assert all(f.result(30).prediction.label for f in (first, *kept))

def test_the_queue_is_bounded_in_memory(model, start):
    engine, gate, first = held(start, model, queue_mib=1)
    large = np.zeros((500, 500, 3), np.uint8)
    engine.submit(large)
    with pytest.raises(Overloaded): engine.submit(large)
    small = engine.submit(large[:100, :100])
    gate.open.set()
    assert small.result(30) and engine.drain(30) and engine.stats()['waiting_bytes'] == 0

def taught(start, model, ms, **config):
    "An engine that has learnt that a photo takes at least `ms`, and is held again."
    gate = Gate(model)
    gate.open.set()
    def slow(data):
        time.sleep(ms / 1000)
        return gate(data)
    engine = start(slow, **config)
    for p in (PHOTOS * 2)[:KNOWN]: engine.submit(p).result(30)
    gate.open.clear()
    engine.submit(PHOTOS[0])
    until(lambda: len(gate.seen) == KNOWN + 1)
    return engine, gate

def test_shedding_goes_by_the_wait_that_was_measured(model, start):
    engine, gate = taught(start, model, 20, queue_ms=200., batch=1)
    taken = 0
    with pytest.raises(Overloaded) as e:
        for p in PHOTOS * 20: engine.submit(p); taken += 1
    assert 1 <= taken <= 10 and e.value.retry_after > .2   # 200 ms at 20 ms each, not the 256 of the queue
    gate.open.set()

def test_who_could_only_be_late_is_refused_at_once(model, start):
    engine, gate = taught(start, model, 30, batch=1)
    engine.submit(PHOTOS[1])
    with pytest.raises(Overloaded): engine.submit(PHOTOS[2], time.monotonic() + .04)
    engine.submit(PHOTOS[2])
    gate.open.set()

def test_an_empty_queue_admits_even_when_the_estimate_says_no(model, start):
    engine, gate = taught(start, model, 30, queue_ms=1., batch=1)
    engine.submit(PHOTOS[1])
    with pytest.raises(Overloaded): engine.submit(PHOTOS[2])
    gate.open.set()

def test_a_slow_first_photo_refuses_nobody(model, start):
    "A version that was loaded beside a busy one: its golden photo took long, and ten ask at once."
    slow = iter([.3])
    def decode(data):
        time.sleep(next(slow, 0))
        return model.preprocess.pixels(data)
    engine = start(decode, queue_ms=250., batch=1)
    assert engine.submit(PHOTOS[0]).result(30) and engine.stats()['service_ms'] > 250
    assert all(f.result(30).prediction.label for f in [engine.submit(p) for p in PHOTOS[1:11]]) and not engine.stats()['shed']

def test_urgent_goes_first_and_is_never_refused(model, start):
    engine, gate, first = held(start, model, queue=1, batch=1)
    waiting = engine.submit(PHOTOS[1])
    async def ask():
        task = asyncio.create_task(engine.answers([PHOTOS[2]], urgent=True))
        await asyncio.sleep(0)
        gate.open.set()
        return await task
    asyncio.run(ask())
    waiting.result(30)
    assert gate.seen == [PHOTOS[0], PHOTOS[2], PHOTOS[1]]

def test_cancelling_drops_the_work(model, start):
    engine, gate, first = held(start, model)
    future = engine.submit(PHOTOS[1])
    assert future.cancel()
    async def leave():
        task = asyncio.create_task(engine.answers(PHOTOS[2:5]))
        await asyncio.sleep(0)
        assert engine.stats()['depth'] == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError): await task
    asyncio.run(leave())
    assert engine.stats()['depth'] == 0 and engine.stats()['cancelled'] == 4
    gate.open.set()
    assert engine.drain(30) and gate.seen == [PHOTOS[0]]
    with pytest.raises(CancelledError): future.result(1)

def test_one_cancelled_in_the_workers_hands_disturbs_no_other(model, start):
    engine, gate, first = held(start, model)
    assert first.cancel()
    other = engine.submit(PHOTOS[1])
    gate.open.set()
    assert other.result(30).prediction.label and engine.stats()['deaths'] == 0

def test_a_bad_photo_fails_alone(model, start):
    def decode(data):
        if data == b'bomb': raise ZeroDivisionError('a decoder with a fault')
        return model.preprocess.pixels(data)
    engine = start(decode, batch=8)
    mixed = [PHOTOS[0], b'no photo', PHOTOS[1][:len(PHOTOS[1]) // 2], b'', b'bomb', PHOTOS[2]]
    found = asyncio.run(engine.answers(mixed))
    assert [a.prediction.reason for a in found] == [None, 'not_an_image', 'truncated', 'empty', 'unreadable', None]
    assert np.abs(probabilities(model, found[5]) - model.probabilities(PHOTOS[2])[0]).max() <= 1e-5
    assert engine.stats()['bad_photos'] == 4 and engine.stats()['surprises'] == 1
    assert 'fault' not in found[4].prediction.error   # what happened inside is for the log

def test_a_photo_on_which_the_network_fails_fails_alone(model, start):
    with pytest.raises(Exception, match='out of'): model.run(np.full((1, 32, 32, 3), 255, np.uint8))   # a real failure of the runtime
    engine = start(batch=8)
    found = asyncio.run(engine.answers([*PHOTOS[:3], white(), *PHOTOS[3:6]]))
    assert [a.prediction.reason for a in found] == [None] * 3 + ['network'] + [None] * 3
    assert engine.stats()['network_failures'] == 1 and {a.batch for a in found if a.logits is not None} == {1}
    assert engine.submit(PHOTOS[0]).result(30).prediction.label

def test_a_worker_that_dies_is_noticed_and_replaced(model, start, caplog):
    def decode(data):
        if data == b'deadly': raise SystemExit('a thread ends')
        return model.preprocess.pixels(data)
    engine = start(decode, threads=2)
    assert engine.submit(b'deadly').result(30).prediction.reason == 'network'
    assert all(engine.submit(p).result(30).prediction.label for p in PHOTOS)
    stats = engine.stats()
    assert (stats['deaths'], stats['workers']) == (1, 2) and engine.alive() and 'worker thread died (SystemExit)' in caplog.text

def test_workers_that_all_die_are_given_up_and_nobody_waits_for_them(model, start):
    def decode(data): raise SystemExit
    engine = start(decode, batch=1)
    futures = [engine.submit(b'') for _ in range(MAX_CRASHES + 5)]
    assert [f.result(30).prediction.reason for f in futures[:MAX_CRASHES + 1]] == ['network'] * (MAX_CRASHES + 1)
    for f in futures[MAX_CRASHES + 1:]:
        with pytest.raises(Draining): f.result(30)
    until(lambda: not engine.alive())
    with pytest.raises(Draining): engine.submit(PHOTOS[0])
    assert engine.drain(10)

def test_what_strangers_cause_does_not_fill_the_log(model, start, caplog):
    def decode(data): raise ZeroDivisionError
    engine = start(decode)
    for _ in range(50): engine.submit(b'').result(30)
    assert engine.stats()['surprises'] == 50 and len(caplog.records) < 50

def test_drain_loses_nothing(model, start):
    engine, answered, refused, go = start(threads=2), [], [], threading.Event()
    def client(seed):
        for p in random.Random(seed).choices(PHOTOS, k=10**6):
            try: answered.append(engine.submit(p).result(30).prediction.label)
            except Draining:
                refused.append(seed)
                return
            if len(answered) > 60: go.set()
    with ThreadPoolExecutor(8) as pool:
        for i in range(8): pool.submit(client, i)
        assert go.wait(60) and engine.drain(60)
    assert len(refused) == 8 and all(answered) and engine.stats()['photos'] == len(answered)

def test_drain_says_when_it_did_not_manage(model, start):
    engine, gate, first = held(start, model)
    assert not engine.drain(.02)
    with pytest.raises(Draining): engine.submit(PHOTOS[0])
    gate.open.set()
    assert engine.drain(30) and first.result(1)

def test_close_refuses_what_waits_and_ends_the_threads(model, start):
    engine, gate, first = held(start, model)
    waiting = engine.submit(PHOTOS[1])
    threads = list(engine._threads.values())
    threading.Timer(.05, gate.open.set).start()
    engine.close(30)
    with pytest.raises(Draining): waiting.result(1)
    assert first.result(1).prediction.label and not any(t.is_alive() for t in threads)

def test_everyone_gets_their_own_answer(model, start):
    engine, want = start(threads=2, batch=3), model.probabilities(PHOTOS)
    def right(i, a): return np.abs(probabilities(model, a) - want[i]).max() <= 1e-5
    async def requests(seed):
        rng = random.Random(seed)
        async def one():
            some = rng.choices(range(12), k=rng.randint(1, 6))
            return all(right(i, a) for i, a in zip(some, await engine.answers([PHOTOS[i] for i in some])))
        return all(await asyncio.gather(*(one() for _ in range(30))))
    def thread(seed): return all(right(i, engine.submit(PHOTOS[i]).result(30)) for i in random.Random(seed).choices(range(12), k=40))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(asyncio.run, requests(0)), pool.submit(asyncio.run, requests(1)), pool.submit(thread, 2), pool.submit(thread, 3)]
        assert all(f.result(60) for f in found)

def test_an_event_loop_that_went_away_harms_nobody(model, start):
    engine, gate, first = held(start, model)
    async def leave(): asyncio.ensure_future(engine.answers([PHOTOS[1]])); await asyncio.sleep(0)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    [t.cancel() for t in asyncio.all_tasks(loop)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.open.set()
    assert first.result(30) and engine.submit(PHOTOS[2]).result(30).prediction.label and engine.stats()['deaths'] == 0

def test_idle_costs_nothing(model, start):
    engine = start(threads=8)
    engine.submit(PHOTOS[0]).result(30)
    time.sleep(.1)
    before = time.process_time()
    time.sleep(.5)
    assert time.process_time() - before < .25   # one thread that spins takes .5

@pytest.mark.parametrize('name, value', [('batch', 0), ('batch', 2.5), ('threads', -1), ('queue', True), ('queue_ms', float('nan')),
                                         ('deadline_ms', 0), ('queue_ms', '5')])
def test_a_setting_that_makes_no_sense_is_named(name, value):
    with pytest.raises(Problem, match=name): EngineConfig(**{name: value})
