"The generated corpus, and the text steps against its truth."
import re
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import ROOT
from mlproject.data.cleaning import clean_text
from mlproject.data.quality import QualityConfig, check_notes
from mlproject.data.records import SCHEMA

sys.path.insert(0, str(ROOT / 'benchmarks'))


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    import corpus
    folder = tmp_path_factory.mktemp('corpus')
    corpus.write_corpus(folder, 6000, seed=3, rows_per_shard=4096)
    return [pq.read_table(folder / name) for name in ('records', 'truth')]


def shingles(text, n=3):
    ws = re.findall(r'\w+', text.lower())
    return set(zip(*(ws[i:] for i in range(n))))


def test_rows_do_not_depend_on_shards(corpus, tmp_path):
    import corpus as made
    records, truth = corpus
    assert records.schema == SCHEMA and records.num_rows == truth.num_rows == 6000
    assert made.shard(2000, 500, 3)[0].equals(records.slice(2000, 500).combine_chunks()) and made.shard(2000, 500, 3)[1].equals(truth.slice(2000, 500).combine_chunks())
    assert not made.shard(2000, 500, 4)[0].equals(records.slice(2000, 500).combine_chunks())
    one, two = (made.write_corpus(tmp_path / k, 300, seed=1) / 'part-00000.parquet' for k in 'ab')
    assert one.read_bytes() == two.read_bytes()


def test_copies_are_copies_and_strangers_are_strangers(corpus):
    records, truth = corpus
    text = dict(zip(records['occurrenceID'].to_pylist(), records['occurrenceRemarks'].to_pylist()))
    rows = truth.to_pylist()
    assert all(text[r['occurrenceID']] == text[r['source']] for r in rows if r['kind'] == 'exact')
    noise = {r['occurrenceID']: r['noise'] for r in rows}
    near = [(shingles(text[r['occurrenceID']]), shingles(text[r['source']])) for r in rows if r['kind'] == 'near' and not r['noise'] and not noise[r['source']]]
    assert min(len(a & b) / len(a | b) for a, b in near) > .4 and len(near) > 50
    rng, plain = np.random.default_rng(0), [shingles(text[r['occurrenceID']]) for r in rows if r['kind'] in ('plain', 'short')][:1500]
    pairs = [(plain[i], plain[j]) for i, j in rng.integers(0, 1500, (20_000, 2)) if i != j]
    assert max(len(a & b) / max(1, len(a | b)) for a, b in pairs) < .2
    assert all(r['pii_text'] in text[r['occurrenceID']] for r in rows if r['pii_text'] and not r['noise'] and r['kind'] == 'plain')


def test_cleaning_undoes_the_planted_noise_and_touches_nothing_else(corpus):
    records, truth = corpus
    out = dict(zip(*(clean_text(records).records[n].to_pylist() for n in ('occurrenceID', 'occurrenceRemarks'))))
    flat = lambda t: ' '.join((t or '').split())
    good = [[flat(out.get(r['occurrenceID'])) == flat(r['text'] or note) for r, note in zip(truth.to_pylist(), records['occurrenceRemarks'].to_pylist()) if r['kind'] != 'low' and bool(r['noise']) == noisy] for noisy in (True, False)]
    assert np.mean(good[0]) >= .99 and np.mean(good[1]) == 1


def test_quality_finds_the_planted_and_keeps_the_rest(corpus):
    records, truth = corpus
    outcome = check_notes(clean_text(records).records, QualityConfig(languages=('en',)))
    low = set(truth.filter(pc.is_valid(truth['low']))['occurrenceID'].to_pylist())
    gone = low - set(outcome.records['occurrenceID'].to_pylist())
    rejected = set(outcome.rejects['occurrenceID'].to_pylist())
    assert len(gone) / len(low) >= .99 and len(rejected - low) <= .0005 * records.num_rows
