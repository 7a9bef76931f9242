"Curation of whole folders: planted faults found, good photos kept, every record accounted for."
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mlproject.core import Problem
from mlproject.data.examples import LOOKS, STEPS, PhotosConfig, check_schema, curate_photos, examine_photos, with_groups
from mlproject.data.records import Outcome, records_table
from mlproject.data.survey import make_survey

PHOTOS = Path(os.environ.get('MLPROJECT_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data') / 'photos'


def photo(seed):
    rng = np.random.default_rng(seed)
    img = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (120, 90), interpolation=cv2.INTER_NEAREST)
    return cv2.imencode('.jpg', img)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    for i in range(12): (tmp_path / f'{i}.jpg').write_bytes(photo(i))
    return tmp_path


def rows(n=12, **more): return [dict(occurrenceID=f'r{i:02d}', scientificName=f'Species {"ab"[i % 2]}', associatedMedia=f'{i}.jpg', **more) for i in range(n)]


def rules(outcome): return {r['occurrenceID']: r['rule'] for r in outcome.rejects.to_pylist()}


def test_one_bad_photo_does_not_harm_those_looked_at_with_it(folder):
    (folder / '3.jpg').write_bytes(photo(3)[:300])
    (folder / '4.jpg').write_bytes(b'')
    outcome, looks = curate_photos(records_table(rows()), folder)
    assert rules(outcome) == {'r03': 'truncated', 'r04': 'empty'} and outcome.records.num_rows == 10
    assert looks.num_rows == 12 and looks['group'].null_count == 2


def test_the_copy_in_the_given_test_set_stays(folder):
    (folder / '2.jpg').write_bytes(photo(0))
    given = rows()
    given[0]['givenSplit'], given[2]['givenSplit'] = 'train', 'test'
    assert rules(curate_photos(records_table(given), folder)[0]) == {'r00': 'duplicate'}


def test_one_photo_under_two_names_is_believed_under_neither(folder):
    (folder / '1.jpg').write_bytes(photo(0))
    outcome, _ = curate_photos(records_table(rows()), folder)
    assert rules(outcome) == {'r00': 'conflicting_labels', 'r01': 'conflicting_labels'}
    assert 'Species a, Species b' in outcome.rejects['detail'][0].as_py()


def test_the_same_pixels_in_another_file_are_a_duplicate(folder):
    data = (folder / '0.jpg').read_bytes()
    (folder / '2.jpg').write_bytes(data[:2] + b'\xff\xfe\x00\x06note' + data[2:])
    assert rules(curate_photos(records_table(rows()), folder)[0]) == {'r02': 'duplicate'}


def test_bursts_and_near_duplicates_share_a_group(folder):
    given = rows()
    for i in (0, 2, 4): given[i] |= dict(locationID='camera', eventDate=f'2024-05-03T06:12:{10 + i}Z')
    (folder / '6.jpg').write_bytes(cv2.imencode('.jpg', cv2.flip(cv2.imdecode(np.frombuffer(photo(4), np.uint8), 1), 1))[1].tobytes())
    outcome, looks = curate_photos(records_table(given), folder)
    group = dict(zip(outcome.records['occurrenceID'].to_pylist(), with_groups(outcome.records, looks)['group'].to_pylist()))
    assert len({group[f'r0{i}'] for i in (0, 2, 4, 6)}) == 1 and len(set(group.values())) == 9


def test_a_twice_used_id_leaves_one_record_whatever_the_order(folder):
    twice = records_table([*rows(3), dict(rows(1)[0], scientificName='Species c')])
    kept = [check_schema(t).records for t in (twice, twice.take([3, 2, 1, 0]))]
    assert kept[0].sort_by('occurrenceID').equals(kept[1].sort_by('occurrenceID')) and kept[0].num_rows == 3
    assert curate_photos(twice, folder)[0].rejects['rule'].to_pylist() == ['duplicate_id']


def test_identical_rows_count_one_by_one(folder):
    outcome, _ = curate_photos(records_table([*rows(3), *rows(1), *rows(1)]), folder)
    assert outcome.records.num_rows == 3 and outcome.rejects['rule'].to_pylist() == ['duplicate_id'] * 2


def test_when_nothing_is_left_the_reasons_are_told(tmp_path):
    with pytest.raises(Problem, match='no record is left of 3: 3 missing'): curate_photos(records_table(rows(3)), tmp_path)
    with pytest.raises(Problem, match='no record is left of 0'): curate_photos(records_table([]), tmp_path)


def test_a_step_that_loses_a_record_is_a_bug_that_shows(folder, monkeypatch):
    monkeypatch.setattr('mlproject.data.examples.STEPS', (*STEPS, ('leaky', lambda records, looks, config: Outcome(records.slice(1)))))
    with pytest.raises(AssertionError, match='leaky: 12 rows in'): curate_photos(records_table(rows()), folder)


def test_absolute_paths_and_odd_names_are_found(tmp_path):
    (tmp_path / 'möwe & co').mkdir()
    (odd := tmp_path / 'möwe & co' / 'a photo #1 (%20).jpg').write_bytes(photo(0))
    (tmp_path / '1.jpg').write_bytes(photo(1))
    names = [str(odd), 'möwe & co/a photo #1 (%20).jpg', '1.jpg']
    looks = examine_photos(records_table([dict(occurrenceID=str(i), scientificName='x', associatedMedia=n) for i, n in enumerate(names)]), tmp_path)
    assert looks['reason'].to_pylist() == [None] * 3 and looks.schema == LOOKS


def test_batches_and_threads_do_not_change_what_is_seen(folder):
    records = records_table(rows())
    assert examine_photos(records, folder, threads=1, batch=2).equals(examine_photos(records, folder, threads=4, batch=100))


def _in_another_process(folder): return examine_photos(records_table(rows()), folder).num_rows


def test_it_works_in_a_spawned_process(folder):
    with multiprocessing.get_context('spawn').Pool(1) as pool: assert pool.apply_async(_in_another_process, (str(folder),)).get(60) == 12


def test_the_process_ends_by_itself_and_is_silent(folder):
    code = f'''from mlproject.data.examples import curate_photos
from mlproject.data.records import records_table
print(curate_photos(records_table([dict(occurrenceID=str(i), scientificName="x", associatedMedia=f"{{i}}.jpg") for i in range(12)]), {str(folder)!r})[0].records.num_rows)'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, '12\n', '')


@pytest.mark.parametrize('wrong', [dict(min_side=0), dict(contrast=2), dict(near_threshold=17), dict(burst_seconds=-1)])
def test_a_wrong_threshold_is_named(wrong):
    with pytest.raises(Problem, match=f'{next(iter(wrong))}=.* allowed'): PhotosConfig(**wrong)


def test_planted_faults_of_the_survey_are_found_and_nothing_else(tmp_path):
    import pyarrow.parquet as pq
    from mlproject.data.loading import load_source
    survey = make_survey(tmp_path / 'survey', species=10, photos=20, seed=3)
    records, _, root = load_source(survey / 'occurrences.csv', tmp_path / 'cache')
    outcome, looks = curate_photos(records, root)
    planted: dict = {}
    copies = {}
    for t in pq.read_table(survey / 'truth.parquet').to_pylist():
        planted.setdefault(t['fault'], set()).add(t['occurrenceID'])
        if t['fault'] == 'near_duplicate': copies[t['occurrenceID']] = t['duplicate_of']
    found: dict = {}
    for id_, rule in rules(outcome).items(): found.setdefault(rule, set()).add(id_)
    for fault in ('blurred', 'black', 'truncated'): assert found[fault] == planted[fault]
    assert len(found['duplicate']) + len(found.get('conflicting_labels', ())) >= len(planted['exact_duplicate'])
    assert set(found) <= {'blurred', 'black', 'truncated', 'duplicate', 'conflicting_labels'}
    near = dict(zip(looks['occurrenceID'].to_pylist(), looks['near'].to_pylist()))
    pairs = [(a, b) for a, b in copies.items() if near[a] and near[b]]
    assert pairs and all(near[a] == near[b] for a, b in pairs)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the real photos are not here')
@pytest.mark.parametrize('name,expected', [('monkeys10', {'duplicate': 68}), ('caltech101_animals', {})])
def test_no_good_photo_of_the_real_ones_is_rejected(name, expected):
    paths = sorted(p.relative_to(PHOTOS / name) for p in (PHOTOS / name).rglob('*') if p.suffix.lower() in ('.jpg', '.png'))
    outcome, _ = curate_photos(records_table([dict(occurrenceID=str(p), scientificName=p.parent.name, associatedMedia=str(p)) for p in paths]), PHOTOS / name)
    assert outcome.rules() == expected
