"""Tokenising: MB per CPU-second of what we use against peers with the same merges, and what packing costs in all.

    python benchmarks/tokens.py                      # with the libraries that are installed
    python benchmarks/tokens.py --peers VENV         # and with those of another environment (tiktoken, tokie, kitoken)
"""
import argparse, json, os, subprocess, tempfile, time
from pathlib import Path

import numpy as np

from common import SHARED, publish

PEERS = '''
import json, sys, time
texts, definition = json.load(open(sys.argv[1])), sys.argv[2]
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"""
def unicode_bytes():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}
def tiktoken():
    import tiktoken
    table = unicode_bytes()
    vocabulary = json.load(open(definition))['model']['vocab']
    ranks = {bytes(table[c] for c in t): i for t, i in vocabulary.items() if i}
    e = tiktoken.Encoding('bpe', pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    return 'encode_to_numpy', lambda: [e.encode_to_numpy(t, disallowed_special=()) for t in texts]
def tokie():
    import tokie
    t = tokie.Tokenizer.from_json(definition)
    return 'encode_batch', lambda: [e.ids for e in t.encode_batch(texts, add_special_tokens=False)]
def kitoken():
    import kitoken
    k = kitoken.Kitoken.from_file(definition)
    return 'encode', lambda: [k.encode(t) for t in texts]
out = []
for f in (tiktoken, tokie, kitoken):
    try: call, run = f()
    except ImportError: continue
    from importlib.metadata import version
    times, ids = [], None
    for _ in range(2):
        start = time.process_time(); ids = run(); times.append(time.process_time() - start)
    out.append(dict(name=f.__name__ + ' ' + version(f.__name__), call=call, seconds=min(times), total=sum(map(len, ids)), ids=[list(map(int, x)) for x in ids[:200]]))
print(json.dumps(out))
'''


def documents(n: int) -> list[str]:
    "Field notes and article text, about 1 KB each."
    from mlproject.data.season import field_note, season
    rng = np.random.default_rng(0)
    pool = [field_note(s, rng) for s in season(100, 40, 0)]
    article = SHARED / 'neardup' / 'minhash_articles' / 'articles_1000.train'
    words = ' '.join(l.split(' ', 1)[1] for l in article.read_text().splitlines()).split() if article.exists() else ' '.join(pool).split()
    pick = lambda: ' '.join(pool[j] for j in rng.integers(0, len(pool), 8)) + '\n' + ' '.join(words[(k := int(rng.integers(0, len(words) - 70))):k + 64])
    return [pick() for _ in range(n)]


def timed(f, *args) -> tuple[object, float]:
    "What a call returns, and its CPU seconds."
    start = time.process_time()
    found = f(*args)
    return found, time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--peers', type=Path, help='a virtual environment with peers')
    parser.add_argument('--documents', type=int, default=20_000)
    a = parser.parse_args()
    os.environ |= dict(RAYON_NUM_THREADS='1', TOKENIZERS_PARALLELISM='false')
    import pyarrow as pa, tokenizers
    from importlib.metadata import version
    from mlproject.data.packing import pack
    from mlproject.data.tokens import Tokenizer, train_bpe

    docs = documents(a.documents)
    few, size = docs[:3000], sum(len(d.encode()) for d in docs) / len(docs)
    bpe, train = timed(train_bpe, docs)
    def row(name, seconds, n, same, peer): return dict(tokeniser=name, **{'µs / document': f'{seconds / n * 1e6:.1f}', 'MB / CPU-s': f'{n * size / seconds / 1e6:.0f}', 'same ids': same, 'against': peer})

    fresh = Tokenizer(bpe.definition)
    ids, cold = timed(fresh.encode, few)
    (_, at), warm = ids, timed(fresh.encode, docs)[1]
    rng = np.random.default_rng(1)
    new = [' '.join(''.join(map(chr, rng.integers(97, 123, 8))) for _ in range(110)) for _ in range(2000)]
    worst = timed(Tokenizer(bpe.definition).encode, new)[1]
    folder = Path(tempfile.mkdtemp())
    table = pa.table(dict(occurrenceID=[f'r{i:06d}' for i in range(len(docs))], occurrenceRemarks=docs))
    packing = timed(lambda: pack([table], folder / 'packed', bpe))[1]
    reference = tokenizers.Tokenizer.from_str(bpe.definition)
    (found, seconds) = timed(lambda: [e.ids for e in reference.encode_batch_fast(few, add_special_tokens=False)])
    truth = [ids[0][i:j].tolist() for i, j in zip(at, at[1:])]
    name = f"ours (gigatoken {version('gigatoken')})"
    rows = [row(f'{name}, words seen before', warm, len(docs), 'yes', ''), row(f'{name}, first 3,000 documents', cold, len(few), 'yes', ''),
            row(f'{name}, no word ever repeats', worst, len(new), 'yes', ''), row('ours, whole step: encode, index, digest, write', packing, len(docs), 'yes', ''),
            row(f"tokenizers {tokenizers.__version__}, encode_batch_fast", seconds, len(few), 'yes' if found == truth else 'NO', f'{seconds / len(few) / (warm / len(docs)):.0f}x')]
    if a.peers:
        (folder / 'texts.json').write_text(json.dumps(few))
        bpe.save(folder / 'tokenizer.json')
        told = subprocess.run([a.peers / 'bin' / 'python', '-c', PEERS, folder / 'texts.json', folder / 'tokenizer.json'], capture_output=True, text=True, check=True)
        for p in json.loads(told.stdout.splitlines()[-1]):
            rows.append(row(f"{p['name']}, {p['call']}", p['seconds'], len(few), 'yes' if p['ids'] == truth[:200] else 'NO', f"{p['seconds'] / len(few) / (warm / len(docs)):.0f}x"))
    publish('tokens', f'Byte-level BPE of {bpe.size:,} tokens on documents of {size:,.0f} bytes, one core', rows,
            f'Trained on {len(docs):,} documents in {train:.1f} CPU-s; {len(docs) * size / (np.diff(fresh.encode(docs)[1]).sum()):.2f} bytes a token. The bar: at most 250 µs a document.')


if __name__ == '__main__': main()
