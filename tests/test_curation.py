"The nine steps together: every record accounted for, only what changed is done again, a killed run ends as an undisturbed one."
import json, os, random, signal, subprocess, sys, time
from pathlib import Path

import brake
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

os.environ.setdefault('MLPROJECT_PRIVACY_KEY', 'a key for the tests, no secret')

from mlproject.core import MANIFEST, Problem, digest_file, walk, write_shards
from mlproject.data.curation import curate
from mlproject.data.between import doubled_ids
from mlproject.data.passes import CurationConfig, check_ids, config_of
from mlproject.data.planning import count_rows, plan
from mlproject.data.records import records_table
from mlproject.data.shards import NOTES

WORDS = ('fox badger river morning dusk reeds path fence hedge snow owl call track den young adult slope oak bramble stream bank crossed waited listened '
         'turned slowly heron marsh ridge cloud frost willow grass stone bridge road field barn lamp shadow feather antler').split()
LOCAL = CurationConfig(persons=False)

def note(rng): return ' '.join(rng.choices(WORDS, k=40)) + '.'

def rows(n, start=0, **more):
    rng = random.Random(start)
    return [dict(occurrenceID=f'r{i:05d}', occurrenceRemarks=note(rng), scientificName='Vulpes vulpes', eventDate='2024-05-01T06:00:00Z', **more) for i in range(start, start + n)]

def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
    return str(path)

def files(out): return {n: digest_file(e.path) for n, e in walk(out) if n.split('/')[0] in ('records', 'rejects', 'tokens', 'between', 'tokenizer.json', MANIFEST)}

def balanced(made):
    m = made.manifest
    assert m['loaded']['rows'] + m['loaded']['rejected'] == m['rows'] + made.rejects().num_rows + made.merged()

@pytest.fixture
def sources(tmp_path):
    first = rows(300)
    for i, text in enumerate(('Write to anna.keller@example.org today.', 'Her card is 4539 1488 0343 6467.', '<b>bold</b> and <i>sloped</i>')): first[i]['occurrenceRemarks'] += ' ' + text
    copies = [dict(r, occurrenceID='c' + r['occurrenceID']) for r in first[100:120]]
    edited = [dict(r, occurrenceID='e' + r['occurrenceID'], occurrenceRemarks=r['occurrenceRemarks'] + ' Again.') for r in first[130:140]]
    bad = tmp_path/'b.jsonl'
    write(bad, copies + edited)
    bad.write_text(bad.read_text() + '{"occurrenceID": broken\n')
    return [write(tmp_path/'a.jsonl', first), str(bad)]

def test_copies_leave_personal_data_is_gone_and_every_record_is_accounted_for(sources, tmp_path):
    made = curate(sources, tmp_path/'out', LOCAL, workers=1)
    balanced(made)
    rules = made.rejects().group_by('rule').aggregate([('rule', 'count')]).to_pylist()
    assert {r['rule']: r['rule_count'] for r in rules} == dict(same_text=20, near_text=10, bad_json=1)
    texts = ' '.join(t for t in made.records()['occurrenceRemarks'].to_pylist())
    assert '@' not in texts and '4539' not in texts and '<b>' not in texts and '<EMAIL>' in texts and '<CARD>' in texts
    assert made.manifest['products'].keys() >= {'records', 'rejects', 'clusters', 'tokens', 'enrichment/season/1'}

def test_one_and_two_processes_make_the_same(sources, tmp_path):
    one, two = (curate(sources, tmp_path/f'out{n}', LOCAL, workers=n) for n in (1, 2))
    assert one.manifest == two.manifest and files(one.folder) == files(two.folder)

def test_intermediates_can_be_deleted_on_the_way_and_the_result_is_the_same(sources, tmp_path):
    kept, lean = (curate(sources, tmp_path/f'out{k}', LOCAL, workers=1, keep_intermediates=k) for k in (True, False))
    assert files(kept.folder) == files(lean.folder)
    assert not [p for n in ('loaded', 'first', 'second') for p in (lean.folder/n).glob('part*')]
    before = files(lean.folder)
    curate(sources, lean.folder, LOCAL, workers=1, keep_intermediates=False)
    assert files(lean.folder) == before and not list((lean.folder/'loaded').glob('part*'))

def test_a_new_source_costs_its_own_records_only(sources, tmp_path):
    curate(sources, tmp_path/'out', LOCAL, workers=1)
    stamps = lambda: {p.name: p.stat().st_mtime_ns for p in (tmp_path/'out'/'first'/NOTES).glob('*')}
    before = stamps()
    made = curate([sources[0], write(tmp_path/'n.jsonl', rows(50, 5000)), sources[1]], tmp_path/'out', LOCAL, workers=1)
    balanced(made)
    assert {n for n, t in stamps().items() if before.get(n) != t} == stamps().keys() - before.keys() and len(stamps()) == 3
    fresh = curate([sources[0], str(tmp_path/'n.jsonl'), sources[1]], tmp_path/'fresh', LOCAL, workers=1)
    assert files(made.folder) == files(fresh.folder)

def test_a_changed_threshold_leaves_the_passes_before_it_alone(sources, tmp_path):
    curate(sources, tmp_path/'out', LOCAL, workers=1)
    stamp = lambda n: [p.stat().st_mtime_ns for p in sorted((tmp_path/'out'/n/NOTES).glob('*'))]
    before = {n: stamp(n) for n in ('first', 'second')}
    curate(sources, tmp_path/'out', config_of(dict(persons=False, formats=dict(edits=1))), workers=1)
    assert stamp('first') == before['first'] and stamp('second') != before['second']

def test_what_was_lost_outside_the_passes_is_made_again(sources, tmp_path):
    made = curate(sources, tmp_path/'out', LOCAL, workers=1)
    before = files(made.folder)
    import shutil
    shutil.rmtree(next((made.folder/'index'/'shards').iterdir()))
    next((made.folder/'tokens').glob('*.tokens')).unlink()
    next((made.folder/'tokens').glob('part-*.json')).unlink()
    curate(sources, made.folder, LOCAL, workers=1)
    assert files(made.folder) == before

def test_only_some_steps(sources, tmp_path):
    made = curate(sources, tmp_path/'out', CurationConfig(only=('quality', 'dedup')), workers=1)
    balanced(made)
    steps = [s['step'] for s in made.funnel()]
    assert 'quality' in steps and 'near' in steps and not {'cleaning', 'privacy', 'formats', 'tokens'} & set(steps)
    assert 'anna.keller@example.org' in ' '.join(made.records()['occurrenceRemarks'].to_pylist())

def test_an_id_that_comes_twice_is_kept_once(tmp_path):
    made = curate([write(tmp_path/'a.jsonl', rows(40)), write(tmp_path/'b.jsonl', [dict(r, occurrenceRemarks=note(random.Random(9 + i))) for i, r in enumerate(rows(5, 10))])], tmp_path/'out', LOCAL, workers=1)
    balanced(made)
    ids = made.records()['occurrenceID'].to_pylist()
    assert len(ids) == len(set(ids))

def test_equal_notes_that_came_alone_find_each_its_photo(tmp_path):
    import cv2, numpy as np
    rng = np.random.default_rng(0)
    for i in range(4):
        img = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (120, 90), interpolation=cv2.INTER_NEAREST)
        (tmp_path/'photos').mkdir(exist_ok=True)
        (tmp_path/'photos'/f'{i}.jpg').write_bytes(cv2.imencode('.jpg', img)[1].tobytes())
    (tmp_path/'p.csv').write_text('occurrenceID,scientificName,associatedMedia,locationID,eventDate\n' + ''.join(f'p{i},Vulpes vulpes,photos/{i}.jpg,CAM{i},2024-05-01T06:00:00Z\n' for i in range(4)))
    told = 'Two adults walked slowly along the old fence in the morning, the smaller one stopped to listen, then both went on.'
    notes = [dict(locationID=f'CAM{i}', eventDate='2024-05-01T06:00:20Z', occurrenceRemarks=told) for i in range(4)]
    made = curate([str(tmp_path/'p.csv'), write(tmp_path/'n.jsonl', notes)], tmp_path/'out', LOCAL, workers=1)
    balanced(made)
    assert made.merged() == 4 and [r['occurrenceRemarks'] for r in made.records().to_pylist()] == [told] * 4
    assert made.looks().num_rows == 4 and made.photo_root.is_dir()

@given(st.lists(st.sampled_from('abcde'), max_size=12))
def test_within_a_shard_the_first_of_an_id_stays(ids):
    out = check_ids(records_table(dict(occurrenceID=i, occurrenceRemarks=str(k)) for k, i in enumerate(ids)))
    assert out.records['occurrenceID'].to_pylist() == list(dict.fromkeys(ids)) and out.rejects.num_rows == len(ids) - len(set(ids))

def test_the_first_shard_keeps_an_id_that_several_have(tmp_path):
    write_shards(tmp_path/'s', records_table(dict(occurrenceID=i, occurrenceRemarks=str(k)) for k, i in enumerate('abcadbea')), kind='records', rows_per_shard=3)
    found = doubled_ids(tmp_path/'s').to_pylist()
    assert {(r['occurrenceID'], r['part']) for r in found} == {('a', 'part-00001.parquet'), ('b', 'part-00001.parquet'), ('a', 'part-00002.parquet')}

def test_a_shard_set_is_used_where_it_is(tmp_path):
    write_shards(tmp_path/'s', records_table(rows(60)), kind='records', rows_per_shard=25)
    made = curate(tmp_path/'s', tmp_path/'out', LOCAL, workers=1, keep_intermediates=False)
    balanced(made)
    assert len(list((tmp_path/'s').glob('part*'))) == 3 and not (tmp_path/'out'/'loaded').exists()

@pytest.mark.parametrize('given, told', [(dict(only=['dedupe']), "no step 'dedupe'"), (dict(only=[]), 'no step to run'), (dict(qualities={}), "no 'qualities': did you mean 'quality'"),
                                         (dict(texts=dict(bands=1000)), 'bands=1000; 1 to 99 allowed'), (dict(texts=3), 'needed: keys and values'), (dict(persons='yes'), 'needed: bool')])
def test_wrong_settings_are_one_line(given, told):
    with pytest.raises(Problem, match=told): config_of(given)

def test_sources_without_a_record_are_one_line(tmp_path):
    (tmp_path/'bad.jsonl').write_text('{"occurrenceRemarks": \n')
    with pytest.raises(Problem, match='no usable record'): curate([str(tmp_path/'bad.jsonl')], tmp_path/'out', LOCAL)
    with pytest.raises(Problem, match='does not exist'): curate([str(tmp_path/'absent.csv')], tmp_path/'out', LOCAL)

def test_two_runs_in_one_folder_do_not_mix(sources, tmp_path):
    from mlproject.core import locked
    with locked(tmp_path/'out'), pytest.raises(Problem, match='being written by another process'): curate(sources, tmp_path/'out', LOCAL)

def test_a_plan_counts_and_leaves_nothing_behind(sources, tmp_path):
    told = plan(sources, tmp_path/'out', LOCAL, sample=100)
    assert told.rows == 331 and told.sample == 50 + 30  # the second source has no more
    assert told.seconds > 0 and not (tmp_path/'out').exists()
    assert any('331 records: about' in line for line in told.lines())
    assert count_rows(tmp_path/'absent') is None

RUN = '''
import sys
import brake
from mlproject.data.curation import curate
from mlproject.data.passes import CurationConfig
from mlproject.data.units import LoadConfig
brake.put_on()
if __name__ == '__main__': curate(sys.argv[2:], sys.argv[1], CurationConfig(persons=False), workers=2, keep_intermediates=False, loading=LoadConfig(rows=100), ray={ray})
'''

def start(tmp_path, out, sources, ray=False, more={}):
    (tmp_path/'run.py').write_text(RUN.format(ray=ray))
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(str(p) for p in Path(__file__).parents[:2])) | more
    return subprocess.Popen([sys.executable, str(tmp_path/'run.py'), str(out), *sources], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_an_undisturbed_one(sources, tmp_path):
    p = start(tmp_path, tmp_path/'whole', sources)
    assert p.wait() == 0, p.stderr.read()
    rng, kills = random.Random(1), 0
    progress = lambda: sum(1 for _ in (tmp_path/'killed').rglob('*') if True) if (tmp_path/'killed').exists() else 0
    while kills < 8:
        until = progress() + rng.randint(1, 25)
        if not brake.kill_in_the_middle(lambda env: start(tmp_path, tmp_path/'killed', sources, more=env), tmp_path/'killed', progress, until, 3, rng.uniform(0, .3)): break
        kills += 1
    p = start(tmp_path, tmp_path/'killed', sources)
    assert kills >= 3 and p.wait() == 0, p.stderr.read()
    assert files(tmp_path/'whole') == files(tmp_path/'killed')

@pytest.mark.slow
def test_ray_makes_the_same(sources, tmp_path):
    pytest.importorskip('ray')
    for out, ray in (('local', False), ('ray', True)):
        p = start(tmp_path, tmp_path/out, sources, ray)
        assert p.wait() == 0, p.stderr.read()
    assert files(tmp_path/'local') == files(tmp_path/'ray')

def splits_of_tokens(made):
    from mlproject.data.packing import TokenSet
    sets = {s: TokenSet(made.folder/'tokens', s) for s in ('train', 'validation', 'test')}
    return {t.document(i).occurrenceID: s for s, t in sets.items() for i in range(t.documents())}

def test_tokens_have_splits_that_stay_as_data_grow_and_keep_what_was_given(tmp_path):
    from mlproject.data.splits import draw, place
    first, held = rows(200), rows(20, 900, givenSplit='test')
    source = write(tmp_path/'a.jsonl', first)
    made = splits_of_tokens(curate([source], tmp_path/'out', LOCAL, workers=1))
    assert made == {r['occurrenceID']: place(draw(r['occurrenceID']), dict(validation=.15, test=.15)) for r in first} and set(made.values()) == {'train', 'validation', 'test'}
    grown = splits_of_tokens(curate([source, write(tmp_path/'b.jsonl', rows(100, 5000))], tmp_path/'out', LOCAL, workers=1))
    assert len(grown) == 300 and made.items() <= grown.items()
    given = splits_of_tokens(curate([source, write(tmp_path/'c.jsonl', held)], tmp_path/'given', LOCAL, workers=1))
    assert {i for i, s in given.items() if s == 'test'} == {r['occurrenceID'] for r in held}  # the source has a test: no other is taken

def test_versions_of_a_text_that_stay_for_their_photos_are_in_one_split():
    from mlproject.data.together import SplitsConfig, policy_of, splits_of, together
    ids = [f'i{k:03d}' for k in range(300)]
    ties = [pa.table({'a': ids[k:k + 5], 'b': [ids[k]] * 5}) for k in range(0, 300, 5)]
    records = records_table(dict(occurrenceID=i, givenSplit='test' if k % 50 == 3 else None) for k, i in enumerate(ids))
    company = together(ties, records.select(['occurrenceID', 'givenSplit']))
    split = splits_of(records, company, policy_of(SplitsConfig(), {None, 'test'}))['split'].to_pylist()
    groups = [set(split[k:k + 5]) for k in range(0, 300, 5)]
    assert all(len(g) == 1 for g in groups) and [k for k, g in enumerate(groups) if g == {'test'}] == list(range(0, 60, 10))

def test_texts_are_drawn_as_photos_are():
    from mlproject.data.splits import assign_splits
    from mlproject.data.together import TOGETHER, SplitsConfig, policy_of, splits_of
    photos = records_table(dict(r, scientificName=f'Species {k % 2}') for k, r in enumerate(rows(400)))
    drawn = assign_splits(photos.append_column('group', pa.nulls(400, pa.string()))).records
    assert drawn['split'].to_pylist() == splits_of(photos, TOGETHER.empty_table(), policy_of(SplitsConfig(), {None}))['split'].to_pylist()

SECRETS = ('anna.keller@example.org', '4539 1488 0343 6467', '+49 30 901820', 'Marta Lindqvist', 'someone@example.com')

def told(folder):
    "Everything that is said in the files of a folder, unpacked."
    import pyarrow.parquet as pq
    for name, e in walk(folder):
        if name.endswith('.parquet'): yield name, json.dumps(pq.read_table(e.path).to_pylist(), default=str, ensure_ascii=False)
        elif name.endswith(('.json', '.jsonl')): yield name, Path(e.path).read_text()

def personal(tmp_path):
    "Notes that leave before privacy has seen them, each with something personal."
    first = rows(60)
    for r in first[:3]: r['occurrenceRemarks'] = ' '.join(r['occurrenceRemarks'].split()[:20]) + f'. Marta Lindqvist wrote from {SECRETS[0]}, phone {SECRETS[2]}, card {SECRETS[1]}.'
    for r in first: r['recordedBy'] = 'Marta Lindqvist'
    copies = [dict(r, occurrenceID='c' + r['occurrenceID']) for r in first[:3]]
    low = [dict(first[5], occurrenceID='low', occurrenceRemarks=f'{SECRETS[4]} ' * 40), dict(first[4])]   # repeats itself; an id that is there
    source = tmp_path/'a.jsonl'
    write(source, first + copies + low)
    source.write_text(source.read_text() + '{"occurrenceRemarks": "Marta Lindqvist, someone@example.com", broken\n')
    return str(source)

def test_nothing_personal_is_left_in_the_folder_of_a_finished_run(tmp_path):
    made = curate([personal(tmp_path)], tmp_path/'out', CurationConfig(), workers=1, keep_intermediates=False)
    balanced(made)
    assert {'same_text', 'bad_json', 'duplicate_id'} <= set(made.rejects()['rule'].to_pylist()) and made.rejects().num_rows == 6
    found = {(name, s) for name, text in told(tmp_path/'out') for s in SECRETS if s in text}
    assert not found
    from mlproject.data.privacy import scan
    from mlproject.data.records import SCHEMA
    notes = [json.loads(r) for r in made.rejects()['record'].to_pylist()]
    assert scan(records_table({k: v for k, v in n.items() if k in SCHEMA.names} for n in notes)) == {}
    assert all(n.get('recordedBy', 'person-').startswith('person-') for n in notes)

def test_a_ledger_is_left_raw_for_who_asks_and_masked_again_after(tmp_path):
    source = personal(tmp_path)
    raw = curate([source], tmp_path/'out', CurationConfig(persons=False, raw_ledger=True), workers=1)
    assert any('Marta Lindqvist' in r for r in raw.rejects()['record'].to_pylist())
    masked = curate([source], tmp_path/'out', LOCAL, workers=1)
    assert not any(SECRETS[0] in r or SECRETS[4] in r for r in masked.rejects()['record'].to_pylist())
    assert masked.manifest == curate([source], tmp_path/'new', LOCAL, workers=1).manifest

def test_the_ledger_that_comes_with_records_is_masked_in_the_products_and_not_where_it_came_from(tmp_path):
    from mlproject.data.loading import load_sources
    from mlproject.data.records import Outcome, save_step
    found = load_sources([personal(tmp_path)], tmp_path/'cache')
    save_step(tmp_path/'records', Outcome(found.records, found.rejects), kind='records', photo_root=tmp_path)
    raw = (tmp_path/'records'/'rejects'/'manifest.json').read_bytes()
    made = curate(tmp_path/'records', tmp_path/'out', LOCAL, workers=1, photos=tmp_path, keep_intermediates=False)
    assert 'bad_json' in made.rejects()['rule'].to_pylist() and not {n for n, text in told(tmp_path/'out') if SECRETS[0] in text or SECRETS[4] in text}
    assert made.manifest == curate(tmp_path/'records', tmp_path/'out', LOCAL, workers=1, photos=tmp_path, keep_intermediates=False).manifest
    kept = curate(tmp_path/'records', tmp_path/'raw', CurationConfig(persons=False, raw_ledger=True), workers=1, photos=tmp_path)
    assert any(SECRETS[4] in r for r in kept.rejects()['record'].to_pylist()) and (tmp_path/'records'/'rejects'/'manifest.json').read_bytes() == raw

def test_a_changed_setting_of_the_first_pass_is_noticed_where_there_are_no_photos(sources, tmp_path):
    before = curate(sources, tmp_path/'out', LOCAL, workers=1)
    assert json.loads(next((tmp_path/'out'/'first'/NOTES).glob('*')).read_text())['marks']
    made = curate(sources, tmp_path/'out', config_of(dict(persons=False, cleaning=dict(without=['html']))), workers=1)
    assert '<b>' in ' '.join(made.records()['occurrenceRemarks'].to_pylist()) and made.manifest['digest'] != before.manifest['digest']

def photos(tmp_path):
    "Three photos with an owner, one of them turned; a table of them elsewhere than the products."
    from PIL import Image
    exif = Image.Exif()
    exif[0x013b] = 'Marta Lindqvist'
    (tmp_path/'p').mkdir()
    for i in range(3):
        exif[0x0112] = 6 if i == 2 else 1
        Image.effect_noise((120, 90), 60 + 9 * i).convert('RGB').resize((240, 180)).save(tmp_path/'p'/f'{i}.jpg', exif=exif)
    (tmp_path/'p.csv').write_text('occurrenceID,scientificName,associatedMedia,locationID,eventDate\n' + ''.join(f'p{i},Vulpes vulpes,p/{i}.jpg,CAM{i},2024-05-0{i + 1}T06:00:00Z\n' for i in range(3)))
    return str(tmp_path/'p.csv')

@pytest.mark.parametrize('copies', ['bare', 'upright'])
def test_copies_of_photos_lie_beside_the_records_without_their_owner(tmp_path, copies):
    from mlproject.photos import read_photo
    source = photos(tmp_path)
    plain = curate([source], tmp_path/'plain', LOCAL, workers=1)
    made = curate([source], tmp_path/'out', config_of(dict(persons=False, media=dict(copies=copies))), workers=1)
    balanced(made)
    assert made.photo_root == tmp_path/'out'/'photos' and plain.photo_root != made.photo_root
    for a, b in zip(plain.records()['associatedMedia'].to_pylist(), made.records()['associatedMedia'].to_pylist(), strict=True):
        was, now = plain.photo_root/a, made.photo_root/b
        assert b'Lindqvist' in was.read_bytes() and b'Lindqvist' not in now.read_bytes()
        assert read_photo(now).shape == read_photo(was).shape
        assert copies == 'upright' or (read_photo(now) == read_photo(was)).all()
    lost = made.photo_root/b
    lost.unlink()
    (made.photo_root/'stranger.jpg').write_bytes(b'x')
    again = curate([source], tmp_path/'out', config_of(dict(persons=False, media=dict(copies=copies))), workers=1)
    assert lost.is_file() and not (made.photo_root/'stranger.jpg').exists() and again.manifest == made.manifest

def test_quality_of_photos_is_an_annotation(tmp_path):
    from mlproject.core import read_shards
    made = curate([photos(tmp_path)], tmp_path/'out', LOCAL, workers=1)
    table = read_shards(made.folder/'records'/'enrichment'/'photo_quality'/'1')
    assert table['occurrenceID'].to_pylist() == ['p0', 'p1', 'p2'] and table['width'].to_pylist() == [240, 240, 180] and min(table['sharpness'].to_pylist()) > 0
