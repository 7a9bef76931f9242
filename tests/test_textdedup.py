"Duplicate texts: signatures, the index on disk, who stands for whom."
import signal, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import ROOT, SHARED, environment
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproject.core import Problem
from mlproject.data import textsigns
from mlproject.data.minhash import TextConfig, jaccard, plain, signatures, sorted_sets, word_hashes
from mlproject.data.records import account, records_table
from mlproject.data.textdedup import CLUSTERS, TextIndex, drop_near
from mlproject.data.textsigns import bucket_pairs

ARTICLES = SHARED / 'neardup' / 'minhash_articles'
settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
VOCABULARY = [f'{a}{b}{i}' for i in range(20) for a in 'bdfgklmn' for b in 'aeiou']


def texts_of(words): return pa.array([' '.join(w) for w in words])


def documents(n, seed=0, length=60):
    rng = np.random.default_rng(seed)
    return [list(rng.choice(VOCABULARY, length)) for _ in range(n)]


def edited(words, share, seed):
    rng, words = np.random.default_rng(seed), list(words)
    for at in rng.choice(len(words), round(share * len(words)), replace=False): words[at] = f'new{rng.integers(10**6)}'
    return words


def table(texts, first=0, **more):
    return records_table([dict(occurrenceID=f'id{first + i:05d}', occurrenceRemarks=t, **more) for i, t in enumerate(texts)])


@pytest.fixture
def corpus():
    "300 records: 150 texts, 90 edited copies, 30 equal ones, empty and short ones."
    docs = documents(150)
    copies = [edited(docs[i], (i % 3) * .03, i) for i in range(90)]
    return table([' '.join(d) for d in docs + copies + docs[:30]] + [None, '', 'two adults'] * 10)


def clusters_of(folder, parts, **options):
    index = TextIndex(folder, **options)
    for i, part in enumerate(parts): index.add(part, f'part-{i}')
    return index.clusters()


# --- words and sketches

@settings(max_examples=30)
@given(st.lists(st.text(max_size=40), max_size=6), st.integers(1, 60))
def test_any_text_has_a_signature_whatever_it_is_beside(texts, at_once):
    whole = signatures(pa.array(texts, pa.string()), TextConfig(near_words=3))
    assert whole == signatures(pa.array(texts, pa.string()), TextConfig(near_words=3), at_once=at_once)
    if texts: assert signatures(pa.array(texts[:1]), TextConfig(near_words=3)) == whole.slice(0, 1)


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(['deer', 'Füchse', '3', 'Ἀθῆναι', 'o’clock', 'été', '鹿']), max_size=12), min_size=1, max_size=5))
def test_case_and_punctuation_do_not_count(words):
    rough = pa.array(['  ' + ' – '.join(w).upper() + '!?' for w in words])
    assert signatures(texts_of(words)) == signatures(rough)


def test_words_are_counted_as_a_person_would():
    texts = ['Two adults: resting.', '', None, '…!?', 'a-b', 'x' * 64, 'x' * 65, '鹿が三頭', 'no_blank\x00here', '🦊 fox', 'O\u0308dland Ödland']
    assert word_hashes(plain(pa.array(texts)))[1].tolist() == [3, 0, 0, 0, 2, 1, 2, 4, 3, 1, 2]
    hashes = word_hashes(plain(pa.array(['O\u0308dland Ödland'])))[0]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize('text', ['x' * 1_000_000, 'deer ' * 200_000, '\x00' * 1000, '\u202eabc ' * 50, 'é' * 100_000, '鹿' * 100_000, '\\ud800 ' * 30])
def test_hostile_texts_have_signatures(text):
    made = signatures(pa.array([text, 'one two three four five six seven eight nine']))
    assert made.num_rows == 2 and pc.max(pc.list_value_length(made['sketch'])).as_py() <= 4096


@given(st.lists(st.lists(st.integers(0, 65535), max_size=20), max_size=10))
def test_many_small_sets_are_sorted_as_each_would_be(sets):
    values, sizes = sorted_sets(np.array([v for s in sets for v in s], np.uint16), np.array([len(s) for s in sets], int))
    expected = [sorted({min(v, 65534) for v in s}) for s in sets]
    assert values.tolist() == [v for s in expected for v in s] and sizes.tolist() == [len(s) for s in expected]


@given(st.lists(st.sets(st.integers(0, 40), max_size=20), min_size=2, max_size=8))
def test_jaccard_is_intersection_by_union(sets):
    pairs = [(i, j) for i in range(len(sets)) for j in range(len(sets))]
    values = np.array([v for s in sets for v in sorted(s)], np.uint16)
    got = jaccard(values, np.array([len(s) for s in sets]), *np.array(pairs).T)
    for (i, j), value in zip(pairs, got): assert value == pytest.approx(len(sets[i] & sets[j]) / max(len(sets[i] | sets[j]), 1))


@given(st.lists(st.sets(st.integers(0, 65534), max_size=20), max_size=8))
def test_gaps_give_the_sets_back(sets):
    lists = pa.array([sorted(s) for s in sets], pa.list_(pa.uint16()))
    values, sizes = textsigns.sets_of(textsigns.gaps_of(lists))
    assert values.tolist() == lists.flatten().to_pylist() and sizes.tolist() == [len(s) for s in sets]


def test_a_long_text_and_a_version_of_it_still_agree():
    words = documents(1, length=30_000)[0]
    words = [f'{w}{i % 977}' for i, w in enumerate(words)]
    made = signatures(texts_of([words, edited(words, .05, 1), documents(1, 9, 30_000)[0]]))
    sketch = made['sketch'].combine_chunks()
    near, far = jaccard(sketch.values.to_numpy(), pc.list_value_length(sketch).to_numpy(), np.array([0, 0]), np.array([1, 2]))
    assert near == pytest.approx(.82, abs=.03) and far < .05


# --- candidates

@given(st.lists(st.integers(0, 6), max_size=40))
def test_small_groups_give_all_their_pairs(keys):
    found = {(int(p >> np.uint64(32)), int(p & np.uint64(0xFFFFFFFF))) for p in bucket_pairs(np.array(keys, np.uint32), np.zeros(len(keys), np.uint32))}
    assert found == {(i, j) for j in range(len(keys)) for i in range(j) if keys[i] == keys[j]}


def test_a_large_group_gives_few_pairs_and_keeps_those_with_a_further_key_together():
    further = np.random.default_rng(0).integers(0, 2**32, 5000, dtype=np.uint32)
    further[[17, 4000]] = 7
    found = bucket_pairs(np.full(5000, 3, np.uint32), further)
    assert len(found) < 8 * 5000 and (17 << 32 | 4000) in found.tolist()


# --- the index

def test_copies_are_found_and_strangers_stay_apart(corpus, tmp_path):
    found = clusters_of(tmp_path, [corpus])
    cluster = dict(zip(found['occurrenceID'].to_pylist(), found['cluster'].to_pylist()))
    assert all(cluster[f'id{150 + i:05d}'] == f'id{i:05d}' for i in range(90)) and all(cluster[f'id{240 + i:05d}'] == f'id{i:05d}' for i in range(30))
    assert set(cluster) == {f'id{i:05d}' for i in [*range(90), *range(150, 270)]}  # no empty, short or single text
    assert found.schema == CLUSTERS and found['occurrenceID'].to_pylist() == sorted(cluster)


@pytest.mark.parametrize('size', [7, 64, 300])
def test_shuffled_rows_and_shards_give_the_same_clusters(corpus, tmp_path, size):
    expected = clusters_of(tmp_path / 'one', [corpus])
    mixed = corpus.take(pa.array(np.random.default_rng(size).permutation(corpus.num_rows)))
    assert clusters_of(tmp_path / 'other', [mixed.slice(i, size) for i in range(0, 300, size)]) == expected


def test_delivery_by_delivery_is_all_at_once(corpus, tmp_path):
    index = TextIndex(tmp_path / 'daily')
    for i in range(0, 300, 100):
        index.add(corpus.slice(i, 100), f'day-{i}')
        assert index.clusters() == clusters_of(tmp_path / f'whole-{i}', [corpus.slice(0, i + 100)])


def test_little_memory_changes_nothing_but_the_number_of_blocks(corpus, tmp_path):
    assert clusters_of(tmp_path / 'small', [corpus], memory=2000) == clusters_of(tmp_path / 'large', [corpus])


def test_templates_give_the_same_whatever_the_order(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f'{rng.integers(9)} adults and {rng.integers(9)} juveniles of the {rng.choice(VOCABULARY)} herd moving {rng.choice(["north", "south"])} along the'
            f' {rng.choice(VOCABULARY)} river at {rng.integers(24)} hours in light rain' for _ in range(400)]
    notes = table(rows)
    expected = clusters_of(tmp_path / 'one', [notes])
    mixed = notes.take(pa.array(rng.permutation(400)))
    assert clusters_of(tmp_path / 'other', [mixed.slice(0, 150), mixed.slice(150)]) == expected
    left = drop_near(notes, expected)
    sketch = signatures(left.records['occurrenceRemarks'])['sketch'].combine_chunks()
    sizes, ids = pc.list_value_length(sketch).to_numpy(), notes['occurrenceID'].to_pylist()
    for row in left.rejects.to_pylist():  # each that left agrees with a record that stays
        stands = row['detail'].split()[-1]
        assert stands in left.records['occurrenceID'].to_pylist() and ids.index(stands) >= 0
    assert len(sizes) == left.records.num_rows


def test_a_shard_is_added_once_and_replaced_when_it_changed(corpus, tmp_path):
    index = TextIndex(tmp_path)
    assert index.add(corpus, 'a') and not index.add(corpus, 'a') and not index.add(pa.concat_tables([corpus.slice(0, 9), corpus.slice(9)]), 'a')
    before = index.clusters()
    assert index.clusters() == before and index.add(corpus.slice(0, 150), 'a') and index.clusters().num_rows == 0 < before.num_rows
    assert index.add(corpus) and not index.add(corpus) and len(index.shards()) == 2


def test_an_empty_index_and_an_empty_shard_have_no_clusters(corpus, tmp_path):
    index = TextIndex(tmp_path)
    assert index.clusters() == CLUSTERS.empty_table()
    index.add(corpus.slice(0, 0), 'nothing')
    assert index.clusters().num_rows == 0 and drop_near(corpus.slice(0, 0), index.clusters()).records.num_rows == 0
    assert drop_near(corpus, index.clusters()).records == corpus


def test_a_damaged_shard_is_named(corpus, tmp_path):
    index = TextIndex(tmp_path)
    index.add(corpus, 'a')
    data = (tmp_path / 'shards/a/texts.parquet').read_bytes()
    (tmp_path / 'shards/a/texts.parquet').write_bytes(data[:-1] + b'x')
    with pytest.raises(Problem, match='texts.parquet'): index.clusters()


def test_settings_of_a_folder_stay(tmp_path):
    TextIndex(tmp_path, TextConfig(bands=8))
    assert TextIndex(tmp_path).config.bands == 8
    with pytest.raises(Problem, match='bands=8, not 28'): TextIndex(tmp_path, TextConfig())


# --- who stands for whom

def stands(rows, tmp_path, **options):
    index = TextIndex(tmp_path)
    index.add(records_table(rows), 'a')
    found = index.clusters(**options)
    return dict(zip(found['occurrenceID'].to_pylist(), found['canonical'].to_pylist()))


NOTE = 'An adult female with two cubs drinking at the eastern shore of the lake shortly before sunrise.'


def test_a_photo_then_a_label_then_the_test_split_then_the_smaller_id_is_preferred(tmp_path):
    row = lambda id_, **more: dict(occurrenceID=id_, occurrenceRemarks=NOTE, **more)
    assert stands([row('a'), row('b')], tmp_path / '1') == dict(a='a', b='a')
    assert stands([row('a'), row('b', givenSplit='test')], tmp_path / '2') == dict(a='b', b='b')
    assert stands([row('a', givenSplit='test'), row('b', scientificName='Ursus arctos')], tmp_path / '3') == dict(a='b', b='b')
    assert stands([row('a', scientificName='Ursus arctos'), row('b', associatedMedia='b.jpg')], tmp_path / '4') == dict(a='a', b='b')
    assert stands([row('a', givenSplit='test'), row('b', associatedMedia='b.jpg')], tmp_path / '5') == dict(a='b', b='b')


def test_different_labels_are_different_observations(tmp_path):
    rows = [dict(occurrenceID=i, occurrenceRemarks=NOTE, scientificName=n) for i, n in zip('abcde', ['Ursus arctos', 'Canis lupus', 'Ursus arctos', None, 'Canis lupus'])]
    assert stands(rows, tmp_path) == dict(a='a', b='b', c='a', d='a', e='b')


def test_a_long_text_is_one_document_whatever_its_label(tmp_path):
    rows = [dict(occurrenceID=i, occurrenceRemarks=NOTE * 3, scientificName=n) for i, n in zip('ab', ['Ursus arctos', 'Canis lupus'])]
    assert stands(rows, tmp_path) == dict(a='a', b='a')


def test_records_in_use_are_preferred_to_new_ones(tmp_path):
    index = TextIndex(tmp_path)
    index.add(table([NOTE], 5), 'old')
    index.add(table([NOTE], 1), 'new')
    assert set(index.clusters()['canonical'].to_pylist()) == {'id00001'} and set(index.clusters(['old'])['canonical'].to_pylist()) == {'id00005'}
    with pytest.raises(Problem, match="no shard 'older'"): index.clusters(['older'])


def test_an_id_that_came_twice_does_not_drop_itself(tmp_path):
    index = TextIndex(tmp_path)
    for name, text in (('a', NOTE), ('b', NOTE), ('c', NOTE.replace('adult', 'old'))): index.add(table([text]), name)
    found = index.clusters()
    assert found['canonical'].to_pylist() == ['id00000'] and drop_near(table([NOTE]), found).rejects.num_rows == 0


def test_photos_stay_whatever_their_notes_say(tmp_path):
    records = records_table([dict(occurrenceID=f'p{i}', occurrenceRemarks=NOTE, associatedMedia=f'{i}.jpg') for i in range(5)]
                            + [dict(occurrenceID=f't{i}', occurrenceRemarks=NOTE) for i in range(3)] + [dict(occurrenceID='alone', occurrenceRemarks='A single wolf heard at night.')])
    index = TextIndex(tmp_path)
    index.add(records)
    out = account(9, drop_near(records, index.clusters()))
    assert out.records['occurrenceID'].to_pylist() == ['p0', 'p1', 'p2', 'p3', 'p4', 'alone']
    assert out.rejects['detail'].to_pylist() == ['same text as p0'] * 3 and out.counts == dict(same_text=3, near_text=0, kept_for_photo=4)


# --- real texts

@pytest.mark.skipif(not ARTICLES.is_dir(), reason='the articles are not here')
@pytest.mark.parametrize('n', [100, 1000])
def test_the_plagiarised_articles_are_found_and_no_others(n, tmp_path):
    rows = [line.split(' ', 1) for line in (ARTICLES / f'articles_{n}.train').read_text().splitlines()]
    index = TextIndex(tmp_path)
    index.add(records_table([dict(occurrenceID=i, occurrenceRemarks=t) for i, t in rows]))
    groups: dict = {}
    for row in index.clusters().to_pylist(): groups.setdefault(row['cluster'], set()).add(row['occurrenceID'])
    assert {frozenset(g) for g in groups.values()} == {frozenset(l.split()) for l in (ARTICLES / f'articles_{n}.truth').read_text().splitlines()}


# --- processes

def add_part(job):
    folder, first = job
    return TextIndex(folder).add(table([' '.join(d) for d in documents(50, first)], first), f'part-{first}')


def test_two_processes_add_at_once(tmp_path):
    jobs = [(tmp_path / 'two', first) for first in (0, 50, 100, 150)]
    with ProcessPoolExecutor(2, mp_context=get_context('spawn')) as pool: assert all(pool.map(add_part, jobs))
    for job in jobs: add_part((tmp_path / 'one', job[1]))
    assert TextIndex(tmp_path / 'two').shards() == TextIndex(tmp_path / 'one').shards() and len(TextIndex(tmp_path / 'two').shards()) == 4


KILLED = '''
import sys, pyarrow.parquet as pq
import mlproject.data.textdedup as t
from mlproject.data.textdedup import TextIndex
write, n = pq.write_table, 0
def slow(*args, **options):
    global n
    write(*args, **options); n += 1
    if n == int(sys.argv[2]): print('now', flush=True); import time; time.sleep(60)
t.pq.write_table = slow
import pyarrow as pa
records = pq.read_table(sys.argv[3])
index = TextIndex(sys.argv[1])
for i in range(0, 300, 100): index.add(records.slice(i, 100), f'part-{i}')
'''


@pytest.mark.parametrize('at', [1, 4])
def test_a_killed_process_leaves_nothing_that_counts(corpus, tmp_path, at):
    import pyarrow.parquet as pq
    pq.write_table(corpus, tmp_path / 'corpus.parquet')
    child = subprocess.Popen([sys.executable, '-c', KILLED, str(tmp_path / 'index'), str(at), str(tmp_path / 'corpus.parquet')], stdout=subprocess.PIPE, env=environment(ROOT))
    assert child.stdout.readline() == b'now\n'
    child.send_signal(signal.SIGKILL); child.wait(); child.stdout.close()
    index = TextIndex(tmp_path / 'index')
    assert len(index.shards()) == (at - 1) // 2 and len(list((tmp_path / 'index/shards').iterdir())) == (at + 1) // 2
    done = [index.add(corpus.slice(i, 100), f'part-{i}') for i in range(0, 300, 100)]
    assert done == [i >= (at - 1) // 2 for i in range(3)] and index.clusters() == clusters_of(tmp_path / 'other', [corpus])
