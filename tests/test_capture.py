"What goes through the service is kept beside it, on SQLite and on PostgreSQL; nothing it does is felt by a request."
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import simplejpeg
import sqlalchemy as sa
from conftest import ROOT
from PIL import Image

from mlproject.core import Problem, digest
from mlproject.export.extended import Prediction
from mlproject.photos import read_photo
from mlproject.serving.capture import ANSWERS, CAPTURE, PHOTOS, REQUESTS, Capture, CaptureConfig, captured, forget
from mlproject.serving.photostore import PhotoStore
from mlproject.serving.schemas import ServingError
from mlproject.serving.state import COMPONENTS, Component, open_engine, prepare, reading

ALL = CaptureConfig(sample=1, every_s=.02)

def photo(seed: int = 0, size=(120, 160)) -> bytes:
    return simplejpeg.encode_jpeg(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8))

def answer(label='Vulpes vulpes', confidence=.8):
    return SimpleNamespace(prediction=Prediction(((label, confidence), ('Canis lupus', .1)), label, confidence), logits=np.arange(4, dtype=np.float32), embedding=np.ones(8, np.float32))

def served(request_id=None, photos=(), answers=None, **more):
    photos = list(photos) or [photo()]
    told = dict(request_id=request_id or secrets.token_hex(8), version='3', name='mlproject', route_key='cam-7', door='rest', key_id='k1', outcome='ok', context={},
                trace=SimpleNamespace(trace_id='0af7651916cd43dd8448eb211c80319c'), timings=dict(total=2.5, queue=.2))
    return SimpleNamespace(photos=photos, answers=answers or [answer() for _ in photos], **told | more)

def count(engine, table):
    with reading(engine) as c: return c.execute(sa.select(sa.func.count()).select_from(table)).scalar()

def test_a_request_comes_back_as_it_was(state_url, tmp_path):
    capture = Capture(state_url, tmp_path/'photos', ALL)
    two = served('r1', [photo(1), photo(2)], [answer(), ServingError('truncated', 'cut off')], context=dict(locationID='cam-7', license='CC0', consent='yes', eventDate='2026-05-01T06:00Z'))
    capture(two, {'4': [answer('Canis lupus', .6), answer()]})
    capture.close()
    rows = captured(capture.engine)
    assert [r['label'] for r in rows] == ['Vulpes vulpes', None] and rows[1]['error'] == 'truncated'
    assert rows[0]['logits'].tolist() == [0, 1, 2, 3] and rows[0]['embedding'].shape == (8,)
    assert rows[0]['species'] == [['Vulpes vulpes', .8], ['Canis lupus', .1]] and 0 < rows[0]['brightness'] < 1
    assert [(r['label'], r['version']) for r in captured(capture.engine, role='shadow')][0] == ('Canis lupus', '4')
    with reading(capture.engine) as c: request = c.execute(sa.select(REQUESTS)).mappings().one()
    assert (request['locationID'], request['license'], request['consent'], request['trace_id']) == ('cam-7', 'CC0', 'yes', '0af7651916cd43dd8448eb211c80319c')

def test_a_batch_written_twice_is_there_once(state_url, tmp_path):
    capture = Capture(state_url, tmp_path/'photos', ALL)
    batch = [(time.time(), 'sample', served(f'r{i}', [photo(i % 2)]), {}) for i in range(10)]
    capture._write(batch); capture._write(batch)
    capture.close()
    assert [count(capture.engine, t) for t in (REQUESTS, ANSWERS, PHOTOS)] == [10, 10, 2]

def test_two_writers_at_once_lose_nothing(state_url, tmp_path):
    both = [Capture(state_url, tmp_path/'photos', ALL) for _ in range(2)]
    def send(k):
        for i in range(60): both[k](served(f'{k}-{i}', [photo(i % 3)]))
    threads = [threading.Thread(target=send, args=(k,)) for k in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
    for c in both: c.close(20)
    assert count(both[0].engine, REQUESTS) == 120 and all(c.lost == 0 for c in both)

def test_forgetting_by_key_leaves_the_others_and_a_shared_photo(state_url, tmp_path):
    capture = Capture(state_url, tmp_path/'photos', ALL)
    for k, seed in (('k1', 1), ('k1', 2), ('k2', 2)): capture(served(photos=[photo(seed)], key_id=k))
    capture.close()
    gone = forget(capture.engine, capture.store, key_id='k1', now=time.time() + 100)
    assert gone == dict(requests=2, photos=1) and [r['key_id'] for r in captured(capture.engine)] == ['k2']
    assert capture.store.get(digest(photo(2)))
    with pytest.raises(Problem, match='is not kept'): capture.store.get(digest(photo(1)))

def test_an_older_database_becomes_what_a_new_one_is(state_url):
    "Versions 1 and 2 of some tables: the upgraded database has the columns of a fresh one, and its rows."
    table = lambda *more: sa.Table('notes', sa.MetaData(), sa.Column('id', sa.Integer, primary_key=True), sa.Column('text', sa.Text), *more)
    def add(c): c.execute(sa.text('ALTER TABLE notes ADD COLUMN reviewer TEXT'))
    engine, new = open_engine(state_url), table(sa.Column('reviewer', sa.Text))
    prepare(engine, Component('notes', (table(),)))
    with engine.begin() as c: c.execute(sa.insert(table()).values(id=1, text='fox'))
    prepare(engine, Component('notes', (new,), 2, {1: add}))
    assert [c['name'] for c in sa.inspect(engine).get_columns('notes')] == [c.name for c in new.c]
    with reading(engine) as c: assert c.execute(sa.select(new)).all() == [(1, 'fox', None)]
    with pytest.raises(Problem, match='has version 2 of notes, this mlproject knows 1'): prepare(engine, Component('notes', (table(),)))

def test_many_processes_prepare_one_database(state_url, tmp_path):
    code = "import sys; from mlproject.serving.capture import CAPTURE; from mlproject.serving.state import open_engine, prepare; prepare(open_engine(sys.argv[1]), CAPTURE)"
    started = [subprocess.Popen([sys.executable, '-c', code, state_url], cwd=ROOT, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(p.wait(60), p.stderr.read()) for p in started] == [(0, b'')] * 4

def test_the_owner_is_not_stored(tmp_path):
    exif = Image.Exif(); exif[0x013b] = 'Leila Rossi'
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(tmp_path/'p.jpg', exif=exif)
    data = (tmp_path/'p.jpg').read_bytes()
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', ALL)
    capture(served(photos=[data])); capture.close()
    kept = capture.store.get(digest(data))
    assert b'Rossi' in data and b'Rossi' not in kept and (read_photo(kept) == read_photo(data)).all()
    assert all(b'Rossi' not in f.read_bytes() for f in tmp_path.rglob('*') if f.is_file() and f.name != 'p.jpg')

def test_a_position_is_never_kept_as_it_came(tmp_path):
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', ALL)
    for lat, lon in (('46.512347', '7.123456'), ('-89.95', '180'), ('1e999', '7'), ('x', 'y'), ('91', '0')): capture(served(context=dict(decimalLatitude=lat, decimalLongitude=lon)))
    capture.close()
    with reading(capture.engine) as c: found = c.execute(sa.select(REQUESTS.c.decimalLatitude, REQUESTS.c.coordinateUncertaintyInMeters)).all()
    assert sorted(p for p in found if p[0] is not None) == [(-89.9, 11120.), (46.5, 13504.)] and found.count((None, None)) == 3
    assert b'46.512' not in b''.join(f.read_bytes() for f in tmp_path.glob('s.db*'))

@pytest.mark.parametrize('people, conceal, kept', [('off', None, True), ('on', 'blur', True), ('require', 'blur', True), ('require', None, False)])
def test_people(tmp_path, people, conceal, kept):
    black = lambda rgb: np.zeros_like(rgb)
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', CaptureConfig(sample=1, every_s=.02, people=people), conceal and black)
    capture(served()); capture.close()
    assert count(capture.engine, PHOTOS) == 1 and len(list((tmp_path/'photos').rglob('*/*'))) == kept
    if kept: assert (read_photo(capture.store.get(digest(photo()))).max() < 8) == (conceal is not None)

def test_hostile_photos_and_words_are_kept_or_left_never_felt(tmp_path):
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', ALL)
    for data in (b'', b'<svg/>', photo()[:300], b'\xff\xd8\xff' * 50, None): capture(served(photos=[data or SimpleNamespace(data=None)]))
    capture(served(context=dict(locationID="'; drop table requests; --\0\n" + 'x' * 10_000, consent='\ud800')))
    capture.close()
    assert capture.counts['kept'] == 6 and capture.counts['failures'] == 0
    assert count(capture.engine, REQUESTS) == 6 and len(max((r['locationID'] or '' for r in captured(capture.engine)), key=len)) <= 200

def test_without_a_database_serving_goes_on_and_what_waits_is_written_later(tmp_path):
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', CaptureConfig(sample=1, every_s=.02, waiting=20))
    with capture.engine.begin() as c: c.exec_driver_sql('ALTER TABLE requests RENAME TO away')
    start = time.perf_counter()
    for i in range(200): capture(served(f'r{i}'))
    assert time.perf_counter() - start < 20   # it does not wait for the database
    while not capture.failing: time.sleep(.02)
    told = capture.figures(capture.failing + 60)
    assert 'no such table' in told['wrong']['capture.failing'][0] and 'INSERT' not in told['wrong']['capture.failing'][0] and [['capture_failing_seconds'], 60.] in told['gauges']
    with capture.engine.begin() as c: c.exec_driver_sql('ALTER TABLE away RENAME TO requests')
    while capture.failing: time.sleep(.02)
    capture.close()
    assert capture.lost == capture.counts['full'] and capture.lost and capture.counts['kept'] + capture.lost == 200 == count(capture.engine, REQUESTS) + capture.lost
    assert list(capture.figures()['wrong']) == ['capture.lost']   # what is over is not failing

FULL = """
import resource, signal, sys, time
sys.path.insert(0, {tests!r})
from test_capture import ALL, Capture, photo, served
capture = Capture('sqlite:///{folder}/s.db', '{folder}/photos', ALL)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))   # a disk that takes no more
for i in range(50): capture(served(f'r{{i}}', [photo(i)]))
while not capture.failing: time.sleep(.01)
print(capture.counts['kept'], bool(capture.error))
"""

def test_a_full_disk_is_counted_and_said(tmp_path):
    done = subprocess.run([sys.executable, '-c', FULL.format(tests=str(ROOT/'tests'), folder=tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.split() == ['0', 'True'], done.stderr

KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_capture import Capture, CaptureConfig, photo, served
capture, i = Capture({url!r}, '{folder}/photos', CaptureConfig(sample=1, every_s=.2)), 0
while True:
    capture(served(f'{{i:06}}'))
    print(i, time.time(), flush=True)
    i += 1
    time.sleep(.002)
"""

def test_sigkill_loses_at_most_the_last_second(state_url, tmp_path):
    child = subprocess.Popen([sys.executable, '-c', KILLED.format(tests=str(ROOT/'tests'), url=state_url, folder=tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    lines = [child.stdout.readline() for _ in range(600)]
    child.kill()
    told = [l.split() for l in lines + child.stdout.read().splitlines() if len(l.split()) == 2]
    engine = open_engine(state_url)
    prepare(engine, CAPTURE)
    with reading(engine) as c: there = {int(i) for i in c.execute(sa.select(REQUESTS.c.id)).scalars()}
    last = float(told[-1][1])
    lost = [float(t) for i, t in told if int(i) not in there]
    assert there and all(last - t < 4 for t in lost), max(last - t for t in lost)   # one second where the processor is free; a busy machine writes later
    store = PhotoStore(tmp_path/'photos')
    with reading(engine) as c: assert all(store.get(d) for d in c.execute(sa.select(PHOTOS.c.digest)).scalars())

def test_a_disagreement_is_kept_outside_the_sample_and_counts_for_no_rate(tmp_path):
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', CaptureConfig(sample=0., every_s=.02))
    capture(served('same'), {'4': [answer()]})
    capture(served('other'), {'4': [answer('Canis lupus', .6)]})
    capture.close()
    assert captured(capture.engine) == [] and [r['request_id'] for r in captured(capture.engine, chosen=True)] == ['other']

def test_a_database_of_the_first_version_gets_the_new_indices_and_keeps_its_rows(state_url):
    engine = open_engine(state_url)
    prepare(engine, CAPTURE)
    indices = lambda: {(i['name'], tuple(i['column_names'])) for i in sa.inspect(engine).get_indexes('requests')}
    fresh = indices()
    with engine.begin() as c:     # back to what version 1 had
        for name in ('requests_version', 'requests_site'): c.execute(sa.text(f'DROP INDEX {name}'))
        for name in ('version', 'locationID'): c.execute(sa.text(f'CREATE INDEX "ix_requests_{name}" ON requests ("{name}")'))
        c.execute(sa.insert(REQUESTS).values(id='r', received=1., kept_for='sample'))
        c.execute(sa.update(COMPONENTS).where(COMPONENTS.c.name == 'capture').values(version=1))
    for _ in range(2): prepare(engine, CAPTURE)
    assert indices() == fresh and ('requests_version', ('version', 'received')) in fresh and ('requests_site', ('locationID', 'received')) in fresh
    with reading(engine) as c: assert c.execute(sa.select(REQUESTS.c.id)).scalars().all() == ['r'] and c.execute(sa.select(COMPONENTS.c.version)).scalar() == 2
    engine.dispose()

def test_a_new_file_is_waited_for_while_another_process_makes_it(tmp_path):
    "SQLite itself does not wait when the journal is changed: a server whose workers start together failed now and then."
    other = sqlite3.connect(tmp_path/'state.db', isolation_level=None, check_same_thread=False)
    other.execute('BEGIN IMMEDIATE')
    release = threading.Timer(.3, lambda: other.execute('COMMIT'))
    release.start()
    prepare(open_engine(f'sqlite:///{tmp_path}/state.db'), CAPTURE)
    release.join()
    other.close()
