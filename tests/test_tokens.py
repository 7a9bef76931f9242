"""Tokens: exact both ways, the same everywhere, whole after a kill, and traceable."""
import json
import multiprocessing
import os
import pickle
import random
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
from mlproject.core import Problem, digest_file, walk
from mlproject.data.packing import TokenSet, finish, pack, write_part
from mlproject.data.records import SPLITS, records_table
from mlproject.data.tokens import END, Tokenizer, TokenizerConfig, load_tokenizer, train_bpe

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
WORDS = 'heron lion zebra fox pond forest river 46.2° café 豹 🦁 it\'s 1758 (Linnaeus) and or the'.split()


def corpus(n, seed=0):
    rng = random.Random(seed)
    return [' '.join(rng.choices(WORDS, k=rng.randint(1, 40))) + rng.choice(['.', '\n', '']) for _ in range(n)]


BPE = train_bpe(corpus(300), TokenizerConfig(vocabulary=500))


def content(folder): return {n: digest_file(e.path) for n, e in walk(folder)}


def rows(notes, start=0): return records_table([dict(occurrenceID=f'r{start + i:05d}', occurrenceRemarks=n) for i, n in enumerate(notes)])


@given(st.lists(st.text() | st.sampled_from([END, ' ' + END, '<|', '\r\n', "'s", '\x00', '\U0010ffff', '\ufeff', 'ſ', "I'LL", '١٢٣']), max_size=20).map(''.join))
@settings(max_examples=400)
def test_any_text_comes_back_exactly_and_holds_no_end(text):
    ids, at = BPE.encode([text, text])
    assert BPE.decode(ids[:at[1]]) == text and BPE.end not in ids and (ids[:at[1]] == ids[at[1]:]).all() and ids.dtype == np.uint16


@given(st.lists(st.sampled_from([*WORDS, ' ', '  ', '\n', '\t', "'", "'S", '!?', 'é', '\u0301', '中文', '👩‍👩‍👧', '\u2028', '\u200b', END]), max_size=30).map(''.join))
@settings(max_examples=300)
def test_the_fast_library_and_the_reference_agree(text):
    tokenizers = pytest.importorskip('tokenizers')
    reference = tokenizers.Tokenizer.from_str(BPE.definition)
    reference.encode_special_tokens = True
    assert BPE.encode([text])[0].tolist() == reference.encode(text, add_special_tokens=False).ids


def test_many_texts_at_once_are_the_texts_one_by_one(monkeypatch):
    texts = [*corpus(50), '', None, 'x' * 5000]
    ids, at = BPE.encode(pa.chunked_array([texts[:20], texts[20:]], pa.string()))
    monkeypatch.setattr('mlproject.data.tokens.CACHE', 4000)  # forgets all the time
    again = Tokenizer(BPE.definition)
    assert again.encode(texts)[0].tolist() == ids.tolist() and again.encode(texts)[1].tolist() == at.tolist()
    assert [ids[a:b].tolist() for a, b in zip(at, at[1:])] == [BPE.encode([t])[0].tolist() for t in texts]
    assert BPE.encode([])[1].tolist() == [0]


@pytest.mark.slow
def test_training_gives_the_same_bytes_in_another_process():
    script = 'import sys; sys.path[:0] = [sys.argv[1]]; import test_tokens as t; print(t.BPE.digest)'
    for seed in '12':
        told = subprocess.run([sys.executable, '-c', script, str(ROOT / 'tests')], env=environment(ROOT) | dict(PYTHONHASHSEED=seed), capture_output=True, text=True, check=True)
        assert told.stdout.split()[-1] == BPE.digest


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text():
    psutil = pytest.importorskip('psutil')
    rng, before = random.Random(0), None
    t = Tokenizer(BPE.definition)
    import mlproject.data.tokens as tokens
    limit, tokens.CACHE = tokens.CACHE, 1_000_000
    try:
        for i in range(12):
            t.encode([' '.join(''.join(rng.choices('abcdefghij', k=9)) for _ in range(100)) for _ in range(1000)])
            if i == 3: before = psutil.Process().memory_info().rss
        assert psutil.Process().memory_info().rss - before < 60e6
    finally: tokens.CACHE = limit


def altered(**parts): return json.dumps(json.loads(BPE.definition) | parts)


@pytest.mark.parametrize('definition, says', [
    ('', 'not a tokenizer.json'), ('[]', 'byte-level BPE is needed'), ('{}', 'special token'), (altered(model=dict(type='Unigram')), 'byte-level BPE is needed'),
    (altered(normalizer=dict(type='NFC')), 'exactly|differently'), (altered(pre_tokenizer=dict(type='Whitespace')), 'exactly|differently|cannot be used'), (altered(added_tokens=[]), 'no special token'),
    (altered(pre_tokenizer=dict(type='ByteLevel', add_prefix_space=True, trim_offsets=True, use_regex=True)), 'exactly|differently|cannot be used')])
def test_a_tokenizer_that_is_not_exact_is_refused(tmp_path, definition, says):
    (tmp_path / 't.json').write_text(definition)
    with pytest.raises(Problem, match=says): load_tokenizer(tmp_path / 't.json')


def test_other_special_tokens_are_text_too(tmp_path):
    d = json.loads(BPE.definition)
    d['added_tokens'].append(d['added_tokens'][0] | dict(id=BPE.size, content='<mask>'))
    (tmp_path / 't.json').write_text(json.dumps(d))
    t = load_tokenizer(tmp_path / 't.json')
    assert t.size == BPE.size + 1 and t.decode(t.encode(['a <mask> b'])[0]) == 'a <mask> b' and BPE.size not in t.encode(['<mask>'])[0]


texts = st.lists(st.none() | st.text(max_size=30) | st.sampled_from(corpus(20)), min_size=1, max_size=30)


@given(texts, st.integers(1, 10), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_packed_and_read_back_every_record_is_itself(tmp_path_factory, notes, size, random):
    folder = tmp_path_factory.mktemp('p')
    records = rows(notes)
    split = {r: random.choice([*SPLITS, None]) for r in records['occurrenceID'].to_pylist()}
    splits = pa.table(dict(occurrenceID=list(split), split=pa.array(split.values(), pa.string())))
    made = pack([records.slice(i, size) for i in range(0, len(records), size)], folder, BPE, splits)['meta']
    back = {}
    for s in SPLITS:
        t = TokenSet(folder, s, check=True)
        assert len(t) == made['tokens'][s] and t.documents() == made['counts'][s]
        for d in map(t.document, range(t.documents())):
            ids = t.read(d.start, d.stop)
            assert ids[-1] == BPE.end and (ids[:-1] != BPE.end).all() and split[d.occurrenceID] == s
            back[d.occurrenceID] = BPE.decode(ids)
            assert [x.occurrenceID for x in t.sources(d.start, d.stop)] == [d.occurrenceID]
    assert back == {r['occurrenceID']: r['occurrenceRemarks'] for r in records.to_pylist() if r['occurrenceRemarks'] and split[r['occurrenceID']]}
    assert made['counts']['unassigned'] == sum(v is None for v in split.values())


def test_a_vocabulary_of_more_than_65536_takes_four_bytes(tmp_path):
    d = json.loads(BPE.definition)
    d['added_tokens'].append(d['added_tokens'][0] | dict(id=70_000, content='<far>'))
    t = Tokenizer(json.dumps(d))
    records = rows(corpus(20))
    pack([records], tmp_path, t)
    kept, (ids, at) = TokenSet(tmp_path), t.encode(records['occurrenceRemarks'])
    assert kept.dtype == np.dtype('<u4') and kept.read(0, len(kept)).tolist() == np.insert(ids, at[1:], t.end).tolist()


def test_a_changed_shard_or_tokenizer_is_packed_again_and_a_shorter_corpus_leaves_nothing(tmp_path):
    shards = [rows(corpus(30, s), s * 100) for s in range(3)]
    pack(shards, tmp_path, BPE)
    before = content(tmp_path)
    pack([shards[0], rows(corpus(30, 9), 100), shards[2]], tmp_path, BPE)
    after = content(tmp_path)
    assert {n for n in before if before[n] != after[n]} == {'train-00001.tokens', 'train-00001.index', 'part-00001.json', 'manifest.json'}
    write_part(rows(['new'], 7), tmp_path, 2, BPE)
    with pytest.raises(Problem, match='not complete'): TokenSet(tmp_path)
    pack(shards[:1], tmp_path, BPE)
    assert set(content(tmp_path)) == {'manifest.json', 'tokenizer.json', 'part-00000.json', 'train-00000.tokens', 'train-00000.index'}
    other = train_bpe(corpus(300), TokenizerConfig(vocabulary=300))
    assert pack(shards[:1], tmp_path, other)['meta']['size'] == 300


def test_wrong_arguments_are_problems(tmp_path):
    with pytest.raises(Problem, match='vocabulary=256'): TokenizerConfig(vocabulary=256)
    with pytest.raises(Problem, match='no shard'): pack([], tmp_path, BPE)
    with pytest.raises(Problem, match="split 'dev' is none"): pack([rows(['a'])], tmp_path, BPE, pa.table(dict(occurrenceID=['r00000'], split=['dev'])))
    with pytest.raises(Problem, match='not complete'): TokenSet(tmp_path)
    write_part(rows(['a']), tmp_path, 0, BPE)
    with pytest.raises(Problem, match='does not exist'): finish(tmp_path, 2, BPE)
    with pytest.raises(Problem, match="split 'dev' is none"): TokenSet(tmp_path, 'dev')


def part(job):
    folder, number = job
    write_part(rows(corpus(200, number), number * 1000), folder, number, BPE)


@pytest.mark.slow
def test_parts_made_by_two_processes_are_those_of_one(tmp_path):
    with multiprocessing.get_context('spawn').Pool(2) as pool: pool.map(part, [(tmp_path / 'two', i) for i in range(4)])
    finish(tmp_path / 'two', 4, BPE)
    pack([rows(corpus(200, i), i * 1000) for i in range(4)], tmp_path / 'one', BPE)
    assert content(tmp_path / 'one') == content(tmp_path / 'two')


def whole(folder, stop=None):
    "Pack eight shards; `stop`: say so and stand still before that one."
    def shards():
        for i in range(8):
            if i == stop:
                print('now', flush=True)
                signal.pause()
            yield rows(corpus(200, i), i * 1000)
    pack(shards(), folder, BPE)


@pytest.mark.slow
def test_a_kill_between_parts_loses_at_most_one(tmp_path):
    script = 'import sys; sys.path[:0] = [sys.argv[1]]; import test_tokens as t; t.whole(sys.argv[2], 3)'
    p = subprocess.Popen([sys.executable, '-c', script, str(ROOT / 'tests'), str(tmp_path / 'killed')], env=environment(ROOT), stdout=subprocess.PIPE)
    assert b'now' in p.stdout.read(3)
    p.kill()
    p.communicate()
    kept = {n: e.stat().st_mtime_ns for n, e in walk(tmp_path / 'killed') if n.startswith('part-')}
    assert {n.split('.')[0] for n in kept} == {f'part-0000{i}' for i in range(3)}
    whole(tmp_path / 'killed')
    whole(tmp_path / 'good')
    assert content(tmp_path / 'killed') == content(tmp_path / 'good') and not list((tmp_path / 'killed').glob('.*tmp'))
    assert all((tmp_path / 'killed' / n).stat().st_mtime_ns == t for n, t in kept.items())


def test_windows_cover_the_split_and_travel_to_other_processes(tmp_path):
    torch = pytest.importorskip('torch')
    from mlproject.training.corpus import TokenDataset
    pack([rows(corpus(60, i), i * 100) for i in range(3)], tmp_path, BPE)
    t = TokenSet(tmp_path)
    data = pickle.loads(pickle.dumps(TokenDataset(t, 50, documents=True, offset=7)))
    assert torch.cat([data[i][0] for i in range(len(data))]).tolist() == t.read(7, 7 + 50 * len(data)).tolist()
    for i in (0, len(data) - 1):
        x, y, which = data[i]
        assert x[1:].tolist() == y[:-1].tolist() and which[0] == 0 and int(which[-1]) == int((x[:-1] == BPE.end).sum())
        assert len(data.sources(i)) == int(which[-1]) + 1
    assert len(pickle.dumps(data)) < 20_000
    with pytest.raises(IndexError): data[len(data)]
    with pytest.raises(Problem): TokenDataset(t, len(t))


@pytest.mark.slow
def test_the_data_floor_needs_no_torch_to_pack():
    told = subprocess.run([sys.executable, '-c', 'import sys, mlproject.data.packing, mlproject.data.enrichers; print("torch" in sys.modules)'], env=environment(ROOT), capture_output=True, text=True, check=True)
    assert told.stdout.split()[-1] == 'False'
