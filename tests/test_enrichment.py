"""Side-cars: the same whether computed at once or bit by bit, by one process or two, after a kill or not."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, environment
from mlproject.core import Problem, digest_file, read_manifest, walk
from mlproject.data.annotators import Annotator
from mlproject.data.enrichers import area, conservation, daylight, photo_quality, read_status, seasons, taxonomy_ranks
from mlproject.data.enrichment import asked, distinct_rows, embedding, enrich, joined, row_digests, rowwise, sidecar
from mlproject.data.records import records_table
from mlproject.looks import QUALITY

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
NOTES = ['', ' ', 'heron', '\x00\x1f\x1f', '‮שלום🦁', 'x' * 1_000_000, '\\ud800', None]


def lengths(table): return dict(size=[None if t is None else len(t) for t in table['occurrenceRemarks'].to_pylist()])


def size(version='1', f=lengths): return rowwise('size', version, ['occurrenceRemarks'], f)


def table(notes): return records_table([dict(occurrenceID=i, occurrenceRemarks=n) for i, n in notes.items()])


def content(folder): return {n: digest_file(e.path) for n, e in walk(folder)}


@given(st.dictionaries(st.sampled_from('abcdefgh'), st.sampled_from(['x', 'xx', '', None]), min_size=1),
       st.dictionaries(st.sampled_from('abcdefgh'), st.sampled_from(['x', 'xx', 'y']), min_size=1), st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_step_by_step_is_the_same_as_at_once(tmp_path_factory, before, after, random):
    tmp = tmp_path_factory.mktemp('s')
    rows = list(after.items())
    random.shuffle(rows)
    seen = []
    def counting(t):
        seen.append(t.num_rows)
        return lengths(t)
    enrich(table(before), [size(f=counting)], tmp / 'steps')
    seen.clear()
    out = enrich(table(dict(rows)), [size(f=counting)], tmp / 'steps')['size']
    changed = [i for i, n in rows if i not in before or (before[i] or None) != (n or None)]
    assert out.counts['computed'] == len(changed) and sum(seen) == len({after[i] for i in changed})
    assert out.records['size'].to_pylist() == [len(n) for _, n in rows]
    enrich(table(dict(rows)), [size(f=counting)], tmp / 'once')
    assert content(tmp / 'steps') == content(tmp / 'once') or changed == []
    assert sidecar(tmp / 'steps', 'size', '1').equals(sidecar(tmp / 'once', 'size', '1'))


@given(st.lists(st.tuples(st.sampled_from(['', '\x1f', '1', None]), st.sampled_from(['', '\x1f', '1', None])), min_size=1, max_size=12))
def test_rows_that_differ_have_different_digests_and_are_seen_once(rows):
    t = pa.table(dict(a=pa.array([r[0] for r in rows], pa.string()), b=pa.array([r[1] for r in rows], pa.string())))
    assert len(set(row_digests(t).tolist())) == len(set(rows))
    distinct, where = distinct_rows(t)
    assert distinct.num_rows == len(set(rows)) and distinct.take(pa.array(where)).equals(t)


def test_versions_live_side_by_side_and_a_changed_code_is_noticed(tmp_path):
    rows = table({'a': 'x', 'b': 'yy'})
    enrich(rows, [size('1'), ], tmp_path)
    def double(t): return dict(size=[len(x) * 2 for x in t['occurrenceRemarks'].to_pylist()])
    enrich(rows, [size('2', double)], tmp_path)
    assert [sidecar(tmp_path, 'size', v)['size'].to_pylist() for v in '12'] == [[1, 2], [2, 4]]
    assert enrich(rows, [size('1', double)], tmp_path)['size'].counts['computed'] == 2
    assert joined(rows, tmp_path, dict(size='2')).column_names == [*rows.column_names, 'size']


def test_the_signature_of_a_built_in_enricher_follows_its_configuration(tmp_path):
    assert seasons(0).signature == seasons(0).signature != seasons(10).signature
    assert conservation().signature != conservation({'Panthera leo': 'EN'}).signature


def test_a_damaged_side_car_is_made_again(tmp_path):
    rows = table({'a': 'x', 'b': 'yy'})
    enrich(rows, [size()], tmp_path)
    part = next((tmp_path / 'size' / '1').glob('part-*.parquet'))
    good = part.read_bytes()
    part.write_bytes(good[:-1])
    assert enrich(rows, [size()], tmp_path)['size'].counts['computed'] == 2 and part.read_bytes() == good


def test_hostile_content_goes_through_every_built_in_enricher(tmp_path):
    odd = ['2024-13-45', '0000-00-00', '9999-12-31T23:59:59Z', '-1', '1e9', *NOTES]
    rows = records_table([dict(occurrenceID=f'r{i}', scientificName=v, eventDate=v, occurrenceRemarks=v, locationID=v, decimalLatitude=x, decimalLongitude=-x if x == x else None)
                          for i, (v, x) in enumerate((v, x) for v in odd for x in (0., 90., 91., 1e308, -180.))])
    (tmp_path / 'l.geojson').write_text('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}, "properties": {"k": null}}]}')
    outs = enrich(rows, [taxonomy_ranks(), seasons(), daylight(), conservation(), area('habitat', tmp_path / 'l.geojson', 'k'), size()], tmp_path / 'out')
    assert all(o.records.num_rows == rows.num_rows and not o.rejects.num_rows for o in outs.values())


def test_season_and_daylight_are_right_where_one_knows(tmp_path):
    at = [('2024-06-21T12:00:00Z', 51.5, 0, 'summer', 'day'), ('2024-06-21T12:00:00Z', -33.9, 18.4, 'winter', 'day'), ('2024-12-21T23:00:00Z', 51.5, 0, 'winter', 'night'),
          ('2024-06-21T23:30:00Z', 70, 25, 'summer', 'day'), ('2024-12-21T11:00:00Z', 78, 16, 'winter', 'night'), ('2024-03-20T18:25:00Z', 51.5, 0, 'spring', 'twilight')]
    rows = records_table([dict(occurrenceID=f'r{i}', eventDate=d, decimalLatitude=la, decimalLongitude=lo) for i, (d, la, lo, *_) in enumerate(at)])
    out = enrich(rows, [seasons(), daylight()], tmp_path)
    assert list(zip(out['season'].records['season'].to_pylist(), out['daylight'].records['light'].to_pylist())) == [(s, l) for *_, s, l in at]


def test_a_photo_that_was_replaced_is_measured_again(tmp_path):
    rows = records_table([dict(occurrenceID=i, associatedMedia=f'{i}.jpg') for i in 'abc'])
    def looks(bright): return pa.table(dict(occurrenceID=['a', 'b'], width=pa.array([10, 10], pa.int32()), height=pa.array([10, 10], pa.int32())) | {q: pa.array([.5, bright], pa.float32()) for q in QUALITY})
    enrich(rows, [photo_quality(looks(.5))], tmp_path)
    out = enrich(rows, [photo_quality(looks(.75))], tmp_path)['quality']
    assert out.counts['computed'] == 1 and out.records['bright'].to_pylist() == [.5, .75, None]


def test_what_cannot_be_embedded_takes_nothing_with_it(tmp_path):
    calls = []
    def embed(paths):
        calls.append(len(paths))
        if any('bad' in p for p in paths): raise OSError('unreadable')
        return np.array([[len(p), np.nan if 'nan' in p else 1] for p in paths])
    media = [f'{i}.jpg' for i in range(10)] + ['bad.jpg', 'nan.jpg', None, '0.jpg']
    rows = records_table([dict(occurrenceID=f'r{i}', associatedMedia=m, occurrenceRemarks='x') for i, m in enumerate(media)])
    e = embedding('view', '1', embed, 'associatedMedia', root='/photos', batch=4)
    out = enrich(rows, [e], tmp_path)['view']
    assert out.records.num_rows == 11 and out.rules() == dict(unreadable=2, empty=1) and out.records['view'].type == pa.list_(pa.float32(), 2)
    calls.clear()
    again = enrich(rows, [e], tmp_path)['view']
    assert again.counts['computed'] == 3 and again.records.equals(out.records)
    with pytest.raises(Problem, match='the embedder gave'): enrich(rows, [embedding('v', '1', lambda v: np.zeros(3))], tmp_path)


def test_abstentions_of_an_annotator_are_tried_again_and_the_records_stay(tmp_path):
    known = {'heron': 'water'}
    def ask(item): return known.get(item['occurrenceRemarks'], 'unknown')
    e = lambda: asked(Annotator('habitat', '1', ask), tmp_path / 'a.db')
    rows = table({'a': 'heron', 'b': 'fox', 'c': None})
    out = enrich(rows, [e()], tmp_path / 'out')['habitat']
    assert out.records['answer'].to_pylist() == ['water'] and out.rules() == dict(declined=1, empty=1)
    assert read_manifest(tmp_path / 'out' / 'habitat' / '1')['meta']['rules'] == dict(declined=1, empty=1)
    assert joined(rows, tmp_path / 'out', dict(habitat='1'))['answer'].to_pylist() == ['water', None, None]


def test_wrong_names_are_problems(tmp_path):
    rows = table({'a': 'x'})
    with pytest.raises(Problem, match="cannot be a folder"): rowwise('../up', '1', [], lengths)
    with pytest.raises(Problem, match="reads the column 'mood'"): enrich(rows, [rowwise('m', '1', ['mood'], lengths)], tmp_path)
    with pytest.raises(Problem, match='occurs twice'): enrich(pa.concat_tables([rows, rows]), [size()], tmp_path)
    (tmp_path / 's.csv').write_text('scientificName\nPanthera leo\n')
    with pytest.raises(Problem, match="needs the columns"): read_status(tmp_path / 's.csv')


def work(folder):
    rows = records_table([dict(occurrenceID=f'r{i}', scientificName='Panthera leo', eventDate='2024-05-01T10:00:00Z', decimalLatitude=i / 100, decimalLongitude=1.) for i in range(2000)])
    enrich(rows, [taxonomy_ranks(), seasons(), daylight()], folder)


@pytest.mark.slow
def test_two_spawned_processes_make_the_same_bytes(tmp_path):
    with multiprocessing.get_context('spawn').Pool(2) as pool: pool.map(work, [tmp_path / 'a', tmp_path / 'b'])
    assert content(tmp_path / 'a') == content(tmp_path / 'b') and content(tmp_path / 'a')


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_side_car_that_is_whole_or_made_again(tmp_path):
    script = f'import sys; sys.path[:0] = [{str(ROOT / "tests")!r}]; import test_enrichment as t, pathlib; t.work(pathlib.Path(sys.argv[1]))'
    work(tmp_path / 'good')
    for delay in (0, .004, .01, .03, .1, .3):
        folder = tmp_path / f'd{delay}'
        p = subprocess.Popen([sys.executable, '-c', script, str(folder)], env=environment(ROOT))
        while not folder.exists() and p.poll() is None: time.sleep(.001)
        time.sleep(delay)
        os.kill(p.pid, signal.SIGKILL)
        p.wait()
        work(folder)
        assert content(folder) == content(tmp_path / 'good')


@pytest.mark.slow
def test_an_extended_model_is_an_embedder_and_an_annotator(tmp_path):
    pytest.importorskip('torch')
    cv2 = pytest.importorskip('cv2')
    from test_export import LABELS, PREP, make_network
    from mlproject.export.extended import ExtendedModel
    from mlproject.export.formats import write_extended
    rng = np.random.default_rng(0)
    for i in range(3): cv2.imwrite(str(tmp_path / f'{i}.png'), rng.integers(0, 255, (50, 60, 3), dtype=np.uint8))
    (tmp_path / 'bad.png').write_bytes(b'no photo')
    golden = (tmp_path / '0.png').read_bytes()
    model = ExtendedModel.load(write_extended(tmp_path / 'model', make_network(), LABELS, PREP, golden=golden, calibration=dict(temperature=1., threshold=0.)), threads=1)
    net = make_network()
    net[-1].weight.data *= 2
    other = ExtendedModel.load(write_extended(tmp_path / 'other', net, LABELS, PREP, golden=golden, calibration=dict(temperature=1., threshold=0.)), threads=1)
    assert embedding('view', '1', model.embed).signature == embedding('view', '1', model.embed).signature != embedding('view', '1', other.embed).signature
    rows = records_table([dict(occurrenceID=f'r{n}', associatedMedia=f'{n}.png') for n in (0, 1, 'bad', 2)])
    def opinion(item): return model.predict(tmp_path / item['associatedMedia'])[0].label or 'unknown'
    seen = Annotator('species', '1', opinion, columns=('associatedMedia',))
    out = enrich(rows, [embedding('view', '1', model.embed, 'associatedMedia', root=tmp_path), asked(seen, tmp_path / 'a.db')], tmp_path / 'out')
    assert out['view'].rules() == dict(unreadable=1) and out['species'].rules() == dict(declined=1)
    assert np.allclose(out['view'].records['view'].to_pylist(), model.embed([tmp_path / f'{i}.png' for i in range(3)]), atol=1e-5)
    assert set(out['species'].records['answer'].to_pylist()) <= set(LABELS)
