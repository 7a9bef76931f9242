"A look at captured traffic: what it compares with, what it says, what it remembers; on both databases, and with whatever a database may hold."
import json, time
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.export.extended import ExtendedModel, Prediction
from mlproject.looks import QUALITY, quality, small_grey
from mlproject.metrics import softmax
from mlproject.monitoring.alarms import AlarmPolicy
from mlproject.monitoring.reference import make_reference, read_reference
from mlproject.monitoring.watching import LOOKS, Limits, alarm_history, bursts_of, last_alarm, table, traffic_of, unsound, watch
from mlproject.serving.capture import ANSWERS, CAPTURE, PHOTOS, REQUESTS, answer_row, half, request_row
from mlproject.serving.state import open_engine, prepare

LABELS = [f'Species {c}' for c in 'abcdefgh']
CENTRES = np.random.default_rng(3).normal(size=(8, 10)) * 1.4

def photos(n, rng, share=None):
    y = rng.choice(8, n, p=share)
    e = CENTRES[y] + rng.normal(size=(n, 10))
    return e @ CENTRES.T - (CENTRES**2).sum(1) / 2, e, y

@pytest.fixture(scope='module')
def reference():
    rng = np.random.default_rng(4)
    logits, e, y = photos(1500, rng)
    return make_reference(logits, e, y, LABELS, quality={n: rng.normal(.5, .05, 1500) for n in QUALITY}, dims=6, model='abc')

@pytest.fixture
def engine(state_url):
    made = open_engine(state_url)
    prepare(made, CAPTURE)
    yield made
    made.dispose()

def fill(engine, tag, n, start=0., step=1., share=None, spoilt=0., brightness=.5, version='1', place=None, audit=5, same=False, chosen=0, seed=0):
    "Captured answers from `start` on; verdicts for every `audit`-th."
    rng = np.random.default_rng([seed, *map(ord, tag)])
    logits, e, y = photos(n, rng, share)
    requests, answers, pictures, audits = [], [], {}, []
    for i in range(n):
        said = np.roll(logits[i], 1) if rng.random() < spoilt else logits[i]
        p = softmax(said[None])[0]
        order = np.argsort(-p)[:5]
        served = SimpleNamespace(request_id=f'{tag}-{i}', door='rest', name='m', version=version, route_key=None, key_id=None, trace=None, outcome='ok', timings=dict(total=20.), context=dict(locationID=place) if place else {})
        answer = SimpleNamespace(prediction=Prediction(tuple((LABELS[k], float(p[k])) for k in order), LABELS[order[0]], float(p[order[0]])), logits=said, embedding=e[i])
        requests.append(request_row(served, start + i * step, 'disagreement' if i < chosen else 'sample'))
        name = tag if same else served.request_id
        answers.append(answer_row(served.request_id, 0, answer, version, name))
        pictures[name] = dict(digest=name, first_seen=0., format='jpeg', bytes=1, width=1, height=1) | {k: float(rng.normal(brightness if k == 'brightness' else .5, .05)) for k in QUALITY}
        if audit and i % audit == 0: audits.append(dict(request_id=served.request_id, item=0, truth=LABELS[y[i]], probability=1 / audit))
    with engine.begin() as c:
        for t, rows in ((REQUESTS, requests), (ANSWERS, answers), (PHOTOS, list(pictures.values()))): c.execute(sa.insert(t), rows)
    return audits

def test_the_two_keys_on_both_databases(engine, reference):
    audits = fill(engine, 'quiet', 400)
    calm = watch(engine, reference, audits, until=1e3)
    assert (calm.level, calm.alarm.audit_rate, calm.retrain) == ('calm', .02, False) and calm.live.low < reference.accuracy < calm.live.high
    audits += fill(engine, 'fog', 400, 1e3, brightness=.6)
    fog = watch(engine, reference, audits, 1e3, 2e3)
    assert (fog.level, fog.alarm.audit_rate, fog.retrain) == ('watch', .25, False) and [a.key for a in fog.tell] == ['drift.inputs']
    audits += fill(engine, 'bad', 800, 2e3, spoilt=.4)
    bad = watch(engine, reference, audits, 2e3, 3e3)
    assert (bad.level, bad.retrain, bad.live.high < reference.accuracy) == ('harm', True, True)
    assert not watch(engine, reference, audits, 2e3, 3e3).retrain   # asked for once
    assert [r['level'] for r in alarm_history(engine)] == ['calm', 'watch', 'harm', 'harm'] and last_alarm(engine, 'mlproject')[0].level == 'harm'
    assert json.loads(json.dumps(bad.as_dict(), allow_nan=False))['harm']['alarm'] is True and ('harm', 'shown') in [r[:2] for r in table(bad)]

def test_after_an_alert_the_corrected_estimate_shows_harm_that_the_bet_does_not_see_yet(engine, reference):
    audits = fill(engine, 'quiet', 400)
    assert watch(engine, reference, audits, until=1e3).alarm.judged == 0                        # calm: not asked
    audits += fill(engine, 'fog', 400, 1e3, brightness=.6)
    fog = watch(engine, reference, audits, 1e3, 2e3)
    assert (fog.level, fog.alarm.judged) == ('watch', 0)                                         # its photos came before the alert
    few = audits + fill(engine, 'few', 40, 2e3, brightness=.6, audit=1, spoilt=1.)
    assert watch(engine, reference, few, 2e3, 2.5e3, keep=False).alarm.judged == 0               # too few audits
    audits += fill(engine, 'bad', 300, 3e3, brightness=.6, spoilt=.14, audit=3)
    bad = watch(engine, reference, audits, 3e3, 4e3)
    assert (bad.level, bad.retrain, bad.harm.alarm, bad.alarm.judged) == ('harm', True, False, 1)
    assert [a.message for a in bad.alarm.alerts if a.key == 'harm'][0].startswith('accuracy is')
    assert last_alarm(engine, 'mlproject')[0].judged == 1 and watch(engine, reference, audits, 3e3, 4e3, version='2').alarm.judged == 0

def test_a_species_that_became_commoner_is_named(engine, reference):
    share = np.full(8, 1.); share[5] = 4.
    fill(engine, 'many', 500, share=share / share.sum())
    seen = watch(engine, reference, until=1e3)
    assert seen.mix[0].species == LABELS[5] and seen.mix[0].now > 2 * seen.mix[0].reference and seen.mix[0].p < .01
    assert LABELS[5] in [b for a, b, _ in table(seen) if a == 'species']

def test_a_canary_beside_it_is_not_drift(engine, reference):
    fill(engine, 'old', 300)
    fill(engine, 'new', 100, spoilt=1., version='2')
    seen = watch(engine, reference, until=1e3)
    assert seen.version == '1' and not seen.drift.drifted and seen.drift.n == 300 and seen.traffic.versions == {'1': 300, '2': 100}

def test_another_version_starts_with_a_clean_slate(engine, reference):
    audits = fill(engine, 'bad', 600, spoilt=.5)
    assert watch(engine, reference, audits, until=1e3).level == 'harm'
    audits += fill(engine, 'new', 400, 1e3, version='2')
    seen = watch(engine, reference, audits, 1e3, 2e3)
    assert seen.level == 'calm' and ('harm', 'resolved') in [(a.key, a.event) for a in seen.tell] and seen.audited == 80

def test_a_night_without_photos_ends_nothing_and_is_told(engine, reference):
    fill(engine, 'fog', 400, brightness=.65)
    watch(engine, reference, until=1e3)
    for i in range(5): night = watch(engine, reference, since=1e4 + i, until=1e4 + i + 1)
    assert {a.key for a in night.alarm.alerts} == {'drift.inputs', 'quality.silence'}
    fill(engine, 'fine', 400, 2e4)
    for i in range(3): over = watch(engine, reference, since=2e4, until=2e4 + 500)
    assert over.level == 'calm' and {(a.key, a.event) for a in over.tell} == {('drift.inputs', 'resolved'), ('quality.silence', 'resolved')}

def test_only_a_random_sample_counts(engine, reference):
    fill(engine, 'chosen', 300, chosen=120)
    assert watch(engine, reference, until=1e3).traffic.photos == 180

def test_a_look_that_does_not_count_leaves_no_trace(engine, reference):
    fill(engine, 'fog', 300, brightness=.7)
    assert watch(engine, reference, until=1e3, keep=False).level == 'watch'
    assert not sa.inspect(engine).has_table(LOOKS.name)

def test_a_burst_is_one_observation(engine, reference):
    fill(engine, 'burst', 120, place='cam-1', step=.2)
    seen = watch(engine, reference, until=1e3)
    assert seen.drift.n == 1 and seen.traffic.photos == 120 and not seen.drift.drifted

def test_broken_data_has_a_name_of_its_own(engine, reference):
    audits = fill(engine, 'frozen', 60, same=True)
    for a in audits: a['truth'] = 'not an animal'
    with engine.begin() as c: c.execute(sa.update(ANSWERS).where(ANSWERS.c.request_id.in_([f'frozen-{i}' for i in range(30, 40)])).values(error='truncated', logits=None, embedding=None))
    seen = watch(engine, reference, audits, until=1e3, limits=Limits(least=10))
    assert {a.key for a in seen.alarm.alerts} >= {'quality.repeats', 'quality.errors', 'quality.no_animal'}
    assert seen.harm is None and seen.live is None and seen.not_animals == 10 and seen.traffic.errors == {'truncated': 10}

@pytest.mark.parametrize('spoiled', [dict(logits=half(np.zeros(3))), dict(embedding=half(np.zeros(99))), dict(logits=half(np.full(8, np.nan))), dict(logits=b''), dict(logits=None), dict(species=[], label=None)])
def test_a_row_of_another_shape_is_left_out(engine, reference, spoiled):
    audits = fill(engine, 'odd', 60)
    with engine.begin() as c: c.execute(sa.update(ANSWERS).where(ANSWERS.c.request_id == 'odd-0').values(**spoiled))
    seen = watch(engine, reference, audits, until=1e3)
    assert seen.traffic.photos == 60 and seen.drift.n in (59, 60) and json.dumps(seen.as_dict(), allow_nan=False)

@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(['a', 'b', None]), st.floats(0, 1e9), st.sampled_from(['truncated', None]), st.none() | st.floats(0, 1e4)), max_size=30))
def test_counting_whatever_came(rows):
    made = [dict(request_id=str(i), item=0, photo=p, error=e, abstained=None, locationID=p, received=t, version=None, total_ms=ms) | dict.fromkeys(QUALITY) for i, (p, t, e, ms) in enumerate(rows)]
    t = traffic_of(made)
    assert t.photos == len(rows) and 0 <= t.share(t.repeats) <= 1 and sum(t.errors.values()) == sum(r[2] is not None for r in rows) and len(bursts_of(made)) == len(rows)
    unsound(t, before=True)

def test_nothing_at_all_and_a_window_that_ends_before_it_begins(engine, reference):
    seen = watch(engine, reference)
    assert (seen.level, seen.version, seen.live, seen.traffic.photos) == ('calm', '', None, 0) and json.dumps(seen.as_dict(), allow_nan=False)
    with pytest.raises(Problem, match='must end after it begins'): watch(engine, reference, since=time.time() + 60)

def test_a_model_that_promised_next_to_nothing_can_be_watched(engine, reference):
    from dataclasses import replace
    audits = fill(engine, 'a', 50)
    for accuracy in (0., .01, 1.):
        seen = watch(engine, replace(reference, accuracy=accuracy), audits, until=1e3, policy=AlarmPolicy(tolerance=.02), keep=False)
        assert (seen.harm is None) == (accuracy < .02)

def test_the_pipeline_puts_the_reference_into_the_model_as_the_server_sees_photos(built):
    from mlproject.data.records import load_step
    from mlproject.photos import read_photo
    from mlproject.tasks import photos_in
    out, _ = built
    model, r = ExtendedModel.load(out/'extended'), read_reference(out/'extended')
    assert 'reference.safetensors' in [f['name'] for f in json.loads((out/'extended'/'manifest.json').read_text())['files']]
    photos, known, species = photos_in({t: out/f/'manifest.json' for t, f in dict(curate='curated', split='splits').items()}, 'validation')
    first = np.sort(np.unique(known['group'].to_numpy(), return_index=True)[1])
    logits, embedding = model.numbers([photos.paths[i] for i in first])
    assert r.labels == tuple(model.labels) == tuple(species) and r.temperature == model.temperature and len(r.window) == len(first)
    assert np.allclose(r.window.logits, logits, atol=1e-3) and np.allclose(r.window.embedding, r.coordinates(embedding), atol=1e-3)
    assert np.array_equal(r.right, logits.argmax(1) == photos.y[first])
    looks = [quality(small_grey(read_photo(photos.paths[i], min_side_hint=128))) for i in first]
    assert np.allclose(r.window.quality['brightness'], [l['brightness'] for l in looks], atol=1e-6)
    assert {row['kind'] for row in r.rehearsals} > {'clean', 'fog', 'dark'} and load_step(out/'curated').records.num_rows > 0
