"Versions beside each other: shares that move as few keys as possible, loading and leaving under load."
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from small_model import photo, small_extended, until

from mlproject.core import Problem, read_json, write_folder, write_json
from mlproject.export.registry import register
from mlproject.serving.inputs import Limits
from mlproject.serving.jobs import EngineConfig
from mlproject.serving.rollout import LINE, Fleet, place, rebalance, widths
from mlproject.serving.service import Service
from mlproject.serving.worker import Rollout, bands_of, bring_in_line

FAR = EngineConfig(threads=2, queue=10_000, queue_ms=600_000., deadline_ms=600_000.)
KEYS = [f'camera-{i}' for i in range(4000)]
WEIGHTS = st.dictionaries(st.sampled_from('abcde'), st.one_of(st.just(0), st.floats(.001, 1000)), min_size=1).filter(lambda w: any(w.values()))

@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('rollout')
    return [small_extended(root / f'v{i}', i) for i in range(3)]

@pytest.fixture
def fleet():
    f = Fleet(FAR)
    yield f
    f.close()

def answering(bands, key): return next(v for _, high, v in bands if place(key) < high)
def width(bands, v): return sum(high - low for low, high, x in bands if x == v)

@given(st.lists(WEIGHTS, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_shares_are_exact_and_no_more_ground_moves_than_must(steps):
    bands = ()
    for weights in steps:
        wanted, before = widths(weights), bands
        bands = rebalance(bands, wanted)
        assert [low for low, _, _ in bands] == [0, *(high for _, high, _ in bands[:-1])] and bands[-1][1] == LINE
        assert {v: width(bands, v) for _, _, v in bands} == wanted
        for v, w in wanted.items(): assert abs(w / LINE - weights[v] / sum(weights.values())) < 1e-9
        moved = 0
        for low, high, v in before:
            stays = sum(max(0, min(high, h) - max(low, l)) for l, h, x in bands if x == v)
            moved += high - low - stays
            if wanted.get(v, 0) >= width(before, v): assert stays == high - low   # a version that does not shrink keeps its keys
        assert moved == sum(max(0, width(before, v) - wanted.get(v, 0)) for v in {x for *_, x in before})

def test_keys_are_spread_by_the_shares():
    bands = rebalance((), widths(dict(old=.9, new=.1)))
    share = np.mean([answering(bands, k) == 'new' for k in KEYS])
    assert abs(share - .1) < .02   # four standard deviations of 4,000 keys

def test_a_growing_canary_only_takes_keys_it_keeps():
    bands, had = rebalance((), {'old': LINE}), set()
    for share in (.01, .1, .5, 1):
        bands = rebalance(bands, widths(dict(old=1 - share, new=share)))
        has = {k for k in KEYS if answering(bands, k) == 'new'}
        assert had <= has
        had = has
    assert len(had) == len(KEYS)

@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None)
def test_two_versions_lie_as_cumulative_weights_whatever_came_before(steps):
    bands = ()
    for share in steps:
        wanted = widths(dict(old=1 - share, new=share))
        bands = rebalance(bands, wanted)
        assert bands == rebalance((), wanted)

def test_the_middle_version_keeps_its_keys_when_its_neighbours_change():
    before = rebalance((), widths(dict(a=.2, b=.2, c=.6)))
    after = rebalance(before, widths(dict(a=.4, b=.2, c=.4)))
    assert all(answering(after, k) == 'b' for k in KEYS if answering(before, k) == 'b')

def test_without_a_key_every_run_of_requests_is_split_by_the_shares(fleet, folders):
    for v, f in zip('ab', folders): fleet.load(f, v)
    fleet.set_weights(dict(a=3, b=1))
    for _ in range(5): assert 22 <= sum(fleet.route().version == 'b' for _ in range(100)) <= 28
    assert fleet.weights() == dict(a=.75, b=.25) and fleet.get().version == 'a' and fleet.get('b').version == 'b' and fleet.get('x') is None

def test_a_new_version_answers_to_its_name_and_takes_no_request(fleet, folders):
    fleet.load(folders[0], 'a')
    b = fleet.load(folders[1], 'b')
    assert fleet.weights() == dict(a=1, b=0) and {fleet.route(k).version for k in KEYS[:50]} == {'a'} and fleet.get('b') is b
    assert fleet.load(folders[1], 'b') is b   # the same content again: nothing to do
    with pytest.raises(Problem, match='other content'): fleet.load(folders[2], 'b')

@pytest.mark.parametrize('weights, told', [(dict(a=-1), "version a is -1"), (dict(a=float('nan')), 'nan'), (dict(a='1'), "'1'"), (dict(a=0), 'all weights are 0'),
                                           ({}, 'all weights are 0'), (dict(a=1, z=1), 'z is not loaded')])
def test_weights_that_make_no_sense_change_nothing(fleet, folders, weights, told):
    fleet.load(folders[0], 'a')
    with pytest.raises(Problem, match=told): fleet.set_weights(weights)
    assert fleet.weights() == dict(a=1)

def test_bands_travel_to_another_process(fleet, folders):
    for v, f in zip('abc', folders): fleet.load(f, v)
    for w in (dict(a=1, b=1), dict(a=1, b=1, c=2), dict(b=1, c=1)): fleet.set_weights(w)
    other = Fleet(FAR)
    for v, f in zip('abc', folders): other.load(f, v)
    other.set_bands(fleet.bands())
    assert all(fleet.route(k).version == other.route(k).version for k in KEYS) and other.weights() == fleet.weights()
    for wrong in ([], [[0, 5, 'a']], [[0, LINE, 'z']], [[0, LINE]], 7, [[1, LINE, 'a']], [[0, 9, 'a'], [8, LINE, 'b']], [[0, 0, 'a'], [0, LINE, 'b']]):
        with pytest.raises(Problem): other.set_bands(wrong)
    other.close()

def test_a_version_with_requests_cannot_leave_and_the_last_one_can(fleet, folders):
    for v, f in zip('ab', folders): fleet.load(f, v)
    with pytest.raises(Problem, match='share of 100'): fleet.unload('a')
    with pytest.raises(Problem, match='x is not loaded'): fleet.unload('x')
    assert fleet.unload('b') and fleet.unload('a')
    with pytest.raises(Problem, match='no version'): fleet.route()

def test_switching_back_and_forth_under_load_drops_nothing(fleet, folders):
    fleet.load(folders[0], 'v0')
    service, stop, found = Service(fleet), threading.Event(), []
    photos = [photo(i) for i in range(6)]
    async def client(i):
        while not stop.is_set(): found.append(await service.predict([photos[i % 6]], route_key=str(i)))
    async def clients(): await asyncio.gather(*map(client, range(12)))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, clients())
        for k in (1, 2, 0, 1):
            seen = len(found)
            until(lambda: len(found) > seen + 20 or running.done())
            fleet.switch(folders[k], f'v{k}')
        stop.set()
        running.result(60)   # any refused request would be raised here
    want = {v: fleet.load(folders[int(v[1])], v).model for v in ('v1', 'v2', 'v0')}
    assert len({s.version for s in found}) == 3 and len(found) > 80
    for s in found:   # each answer is that of the version that signs it
        i = int(s.route_key) % 6
        assert np.allclose(s.answers[0].logits, want[s.version].logits(photos[i])[0], atol=1e-4)

def test_a_version_that_is_unloaded_finishes_what_it_has(fleet, folders):
    for v, f in zip('ab', folders): fleet.load(f, v)
    engine, gate = fleet.get('b').engine, threading.Event()
    decode, engine._decode = engine._decode, lambda p: (gate.wait(30), decode(p))[1]
    futures = [engine.submit(photo(i)) for i in range(9)]
    threading.Timer(.1, gate.set).start()
    assert fleet.unload('b') and all(f.result(0).prediction.label for f in futures)

def test_what_cannot_answer_its_golden_photo_is_not_loaded(tmp_path, folders):
    fleet, threads = Fleet(FAR, Limits(pixels=100)), threading.active_count()
    with pytest.raises(Problem, match='cannot answer its golden photo: too_large'): fleet.load(folders[0])
    assert not fleet.versions() and threading.active_count() == threads
    about = read_json(folders[0] / 'extended.json')
    other = read_json(small_extended(tmp_path / 'x', 7) / 'extended.json')
    write_json(tmp_path / 'x/extended.json', other | dict(golden=about['golden']))
    with pytest.raises(Problem, match='not the file that was written'): Fleet(FAR).load(tmp_path / 'x')

def test_a_golden_answer_that_differs_is_found(fleet, folders):
    loaded = fleet.load(folders[0])
    assert loaded.version == loaded.digest[:8] and loaded.golden_off(loaded.about['golden']['logits']) == 0
    with pytest.raises(Problem, match='golden photo differently'): loaded.golden_off(np.array(loaded.about['golden']['logits']) * 1.5)

@pytest.mark.slow   # imports MLflow
def test_versions_of_the_registry_keep_their_numbers(fleet, folders, tmp_path):
    uri = f'sqlite:///{tmp_path}/mlflow.db'
    for f, alias in zip(folders, ('first', 'challenger')): register(f, name='animals', tracking_uri=uri, aliases=(alias,))
    assert fleet.load('models:/animals@first', tracking_uri=uri).version == '1'
    assert fleet.load('models:/animals/2', tracking_uri=uri).version == '2'
    with pytest.raises(Problem, match='not registered'): fleet.load('models:/animals@nobody', tracking_uri=uri)

def test_a_model_whose_golden_answer_is_another_one_here_is_not_loaded(fleet, folders, tmp_path):
    about = read_json(folders[0] / 'extended.json')
    with write_folder(tmp_path / 'x', kind='extended') as out:   # a whole folder, as another machine might have written it
        for name in ('model.onnx', 'golden.jpg'): (out / name).write_bytes((folders[0] / name).read_bytes())
        write_json(out / 'extended.json', about | dict(golden=about['golden'] | dict(logits=[1., 2., 3., 4., 5.])))
    with pytest.raises(Problem, match='golden photo differently'): fleet.load(tmp_path / 'x')
    assert not fleet.versions()

@given(st.lists(WEIGHTS, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_who_reads_the_same_file_divides_the_keys_alike(steps):
    bands = []
    for weights in steps:
        bands = bands_of(weights, bands)
        assert bands_of(weights, bands) == bands == bands_of(dict(reversed(weights.items())), bands)   # whoever reads it, whenever
        assert {v: width(bands, v) for *_, v in bands} == widths(dict(sorted(weights.items())))

def test_a_restarted_worker_sends_keys_where_the_others_do(folders, tmp_path, fleet):
    rollout, late = Rollout(tmp_path), Fleet(FAR)
    names = dict(zip(('9', '10', '8'), map(str, folders)))
    for weights in ({'9': 1}, {'9': .7, '10': .3}, {'9': .5, '10': .3, '8': .2}, {'9': .3, '10': .5, '8': .2}):
        bring_in_line(fleet, rollout.write(names, weights))   # it follows every step
    bring_in_line(late, rollout.read())                       # it sees the last one, in the order of the file
    try: assert [l.version for l in late.versions()] != [l.version for l in fleet.versions()] and all(late.route(k).version == fleet.route(k).version for k in KEYS)
    finally: late.close()

def test_writers_at_once_lose_nothing(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.write({str(i): f'v{i}' for i in range(3)}, {'0': 1})
    with ThreadPoolExecutor(8) as pool: list(pool.map(lambda i: Rollout(tmp_path).write(models=None, weights={'0': .5, '1': .5}) if i % 2 else Rollout(tmp_path).write(shadows=['2']), range(60)))
    now = rollout.read()
    assert (now['weights'], now['shadows'], len(now['models'])) == ({'0': .5, '1': .5}, ['2'], 3)
