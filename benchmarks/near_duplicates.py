"""Near-duplicates: how many are found, what is merged wrongly, what it costs. `python benchmarks/near_duplicates.py [texts] [photos] [cost]`"""
import resource, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from common import SHARED, publish

from mlproject.data.dedup import near_groups
from mlproject.data.records import SCHEMA
from mlproject.data.textdedup import TextIndex, drop_near
from mlproject.looks import orientation_hashes, small_grey, tiny
from mlproject.metrics import share
from mlproject.photos import read_photo

DOCUMENTS = 20_000   # originals of each length; a tenth of them for each kind of edit


def records(ids: list[str], texts: list[str]) -> pa.Table:
    "Text-only records."
    given = dict(occurrenceID=ids, occurrenceRemarks=texts)
    return pa.table([pa.array(given[f.name], f.type) if f.name in given else pa.nulls(len(ids), f.type) for f in SCHEMA], schema=SCHEMA)


def grouped(*tables: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    "Clusters of some tables, and the cluster of each id."
    with tempfile.TemporaryDirectory() as folder:
        index = TextIndex(folder)
        for i, table in enumerate(tables): index.add(table, f'part-{i}')
        found = index.clusters()
    return found, dict(zip(found['occurrenceID'].to_pylist(), found['cluster'].to_pylist()))


# --- texts

def replace(words, n, rng, pool):
    words = list(words)
    for at in rng.choice(len(words), min(n, len(words)), replace=False): words[at] = pool[rng.integers(len(pool))]
    return words


def insert(words, n, rng, pool): return np.insert(np.array(words, object), rng.integers(0, len(words) + 1, n), rng.choice(pool, n)).tolist()
def delete(words, n, rng, pool): return np.delete(np.array(words, object), rng.choice(len(words), min(n, len(words) - 1), replace=False)).tolist()


def mixed(words, n, rng, pool):
    a, b = sorted(rng.integers(0, n + 1, 2))
    return delete(insert(replace(words, a, rng, pool), b - a, rng, pool), n - b, rng, pool)


def moved(words, n, rng, pool):
    "n sentences elsewhere; a note of one sentence has its halves exchanged."
    sentences = ' '.join(words).split('. ')
    if len(sentences) < 3: return words[len(words) // 2:] + words[:len(words) // 2]
    for _ in range(n): sentences.insert(rng.integers(len(sentences)), sentences.pop(rng.integers(len(sentences))))
    return '. '.join(sentences).split(' ')


def retyped(words, n, rng, pool): return [w.upper() if rng.random() < .5 else w.strip('.,;').capitalize() + ' –' * (rng.random() < .2) for w in words]
def all_of_it(words, n, rng, pool): return retyped(moved(mixed(words, n, rng, pool), 1, rng, pool), 0, rng, pool)


EDITS = [('5 % of the words replaced', replace, .05, .95), ('5 % inserted', insert, .05, .95), ('5 % deleted', delete, .05, .95),
         ('5 % of all three, a sentence moved, case and punctuation', all_of_it, .05, .95),
         ('10 % of the words replaced', replace, .1, .9), ('10 % inserted', insert, .1, .9), ('10 % deleted', delete, .1, .9),
         ('10 % of all three, a sentence moved, case and punctuation', all_of_it, .1, .9),
         ('two sentences moved', moved, 2, .95), ('case and punctuation', retyped, 0, .95)]


def planted(short: bool) -> list[dict]:
    "Recall for each kind of edit, and what was merged wrongly, among DOCUMENTS originals."
    from corpus import base_documents
    first = np.arange(DOCUMENTS) + (10**6 if short else 0)
    texts = base_documents(first, 3, np.full(DOCUMENTS, 'short' if short else 'plain'))[0].to_pylist()
    use = [i for i, t in enumerate(texts) if len(t.split()) >= 10]
    rng = np.random.default_rng(4)
    pool = np.array(sorted({w for t in texts[:2000] for w in t.split()}), object)
    ids, copies, of = [], [], {}
    for k, i in enumerate(use):
        name, edit, amount, _ = EDITS[k % len(EDITS)]
        words = texts[i].split(' ')
        n = amount if amount >= 1 or not amount else max(1, round(amount * len(words)))  # a note of ten words has one word edited at least
        ids.append(f'c{i:06d}')
        copies.append(' '.join(edit(words, n, rng, pool)))
        of[ids[-1]] = f'o{i:06d}', name
    table = records([f'o{i:06d}' for i in use], [texts[i] for i in use])
    found, cluster = grouped(table, records(ids, copies))
    right = {name: [] for name, *_ in EDITS}
    for copy, (original, name) in of.items(): right[name].append(cluster.get(copy, '') == cluster.get(original, '-'))
    wrong = [c[1:] != o[1:] for c, o in zip(found['occurrenceID'].to_pylist(), found['canonical'].to_pylist())]
    return [dict(edit=name, n=len(right[name]), words=round(np.mean([len(texts[i].split()) for i in use])), found=share(np.array(right[name])), bar=bar) for name, _, _, bar in EDITS] + [
        dict(edit='wrongly merged records', n=2 * len(use), words='', found=share(np.array(wrong + [False] * (2 * len(use) - len(wrong)))), bar=None)]


def percent(e, wrong: bool = False) -> str:
    digits = 3 if wrong else 1
    return f'{100 * e.value:.{digits}f} % ({100 * e.low:.{digits}f} to {100 * e.high:.{digits}f})'


def articles(n: int) -> dict:
    "The articles with plagiarised ones."
    folder = SHARED / 'neardup' / 'minhash_articles'
    rows = [line.split(' ', 1) for line in (folder / f'articles_{n}.train').read_text().splitlines()]
    _, cluster = grouped(records([r[0] for r in rows], [r[1] for r in rows]))
    groups: dict = {}
    for i, c in cluster.items(): groups.setdefault(c, set()).add(i)
    truth = [set(l.split()) for l in (folder / f'articles_{n}.truth').read_text().splitlines()]
    return {'edit': f'{n} articles, plagiarised pairs found', '1 KB documents': f'{sum(t in groups.values() for t in truth)} of {len(truth)}, {sum(g not in truth for g in groups.values())} wrong',
            'short notes': '', 'bar': 'all, none'}


def texts() -> None:
    long, short = planted(False), planted(True)
    rows = [{'edit': a['edit'], '1 KB documents': percent(a['found'], a['bar'] is None), 'short notes': percent(b['found'], a['bar'] is None),
             'bar': f">= {100 * a['bar']:.0f} %" if a['bar'] else '<= 0.1 %'} for a, b in zip(long, short)]
    if (SHARED / 'neardup').is_dir(): rows += [articles(100), articles(1000)]
    publish('near_duplicate_texts', 'Copies of texts found in one cluster with their original (`make bench-near-duplicates`)', rows,
            f"{long[0]['n']} copies of each kind among {DOCUMENTS:,} documents of {long[0]['words']} words on average, {short[0]['n']} among notes of {short[0]['words']}; 95 % intervals.")


# --- photos

def jpeg(quality): return lambda x: cv2.imdecode(cv2.imencode('.jpg', x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
def size(f): return lambda x: cv2.resize(x, None, fx=f, fy=f, interpolation=cv2.INTER_AREA if f < 1 else cv2.INTER_LINEAR)
def light(f, plus=0): return lambda x: np.clip(x * np.float32(f) + plus, 0, 255).astype(np.uint8)


def cut(left, top, right, bottom):
    def f(x):
        h, w = x.shape[:2]
        return x[round(h * top):h - round(h * bottom), round(w * left):w - round(w * right)]
    return f


def tilt(degrees, inner=False):
    def f(x):
        h, w = x.shape[:2]
        out = cv2.warpAffine(x, cv2.getRotationMatrix2D((w / 2 - .5, h / 2 - .5), degrees, 1), (w, h), borderMode=cv2.BORDER_REPLICATE)
        dy, dx = (int(np.ceil(s * np.tan(np.radians(abs(degrees))) / 2)) for s in (w, h))
        return out[dy:h - dy, dx:w - dx] if inner else out
    return f


CHANGES = [('half the size', size(.5), .95), ('twice the size', size(2), .95), ('a tenth wider', lambda x: cv2.resize(x, None, fx=1.1, fy=1), .95),
           ('JPEG quality 30', jpeg(30), .95), ('JPEG quality 10', jpeg(10), None), ('brighter, x 1.3', light(1.3), .95), ('darker, x 0.7', light(.7), .95),
           ('more contrast, x 1.4', light(1.4, -51), None), ('5 % cut: 2.5 % from each side', cut(.025, .025, .025, .025), .95), ('5 % cut from each side', cut(.05, .05, .05, .05), .95),
           ('5 % cut from the left', cut(.05, 0, 0, 0), .95), ('5 % cut from the left and the top', cut(.05, .05, 0, 0), .95), ('10 % cut from the left', cut(.1, 0, 0, 0), None),
           ('mirrored', lambda x: np.ascontiguousarray(x[:, ::-1]), .95), ('upside down', lambda x: np.ascontiguousarray(x[::-1]), .95),
           *((f'turned by {90 * k} degrees', lambda x, k=k: np.ascontiguousarray(np.rot90(x, k)), .95) for k in (1, 2, 3)),
           *((f'tilted by {d} degrees', tilt(d), None) for d in (1, 2, 3, 5)), ('tilted by 2 degrees and cut', tilt(2, True), None),
           ('half the size, JPEG 30, brighter, mirrored', lambda x: jpeg(30)(light(1.15)(size(.5)(np.ascontiguousarray(x[:, ::-1])))), None)]


def described(photos) -> tuple[np.ndarray, np.ndarray]:
    greys = [small_grey(p) for p in photos]
    return np.stack([orientation_hashes(g) for g in greys]), np.stack([tiny(g) for g in greys])


def photos() -> None:
    root = SHARED / 'photos' / 'caltech101_animals'
    paths = sorted(root.rglob('*.jpg'))
    every = [read_photo(p) for p in paths]
    hashes, tinies = described(every)
    start = time.process_time()
    alone = near_groups(hashes, tinies=tinies)
    cost = time.process_time() - start
    chosen = np.sort(np.random.default_rng(0).choice(len(paths), 400, replace=False))
    rows = []
    for name, change, bar in CHANGES:
        h, t = described([change(every[i]) for i in chosen])
        both = near_groups(np.concatenate([hashes, h]), tinies=np.concatenate([tinies, t]))
        found = both[chosen] == both[len(paths):]
        rows.append({'change': name, 'found': percent(share(found)), 'groups of strangers': len(strangers(paths, both[:len(paths)])), 'bar': f'>= {100 * bar:.0f} %, 0' if bar else ''})
    several = sum(n > 1 for n in Counter(alone.tolist()).values())
    rows.append({'change': f'nothing: the {len(paths)} photos alone', 'found': f'{several} groups of copies', 'groups of strangers': len(strangers(paths, alone)), 'bar': '0'})
    publish('near_duplicate_photos', 'Changed copies found among all photos of caltech101_animals (`make bench-near-duplicates`)', rows,
            f'{len(chosen)} photos, changed and compared with all {len(paths)}; 95 % intervals. Grouping took {1e3 * cost / len(paths):.2f} CPU-ms a photo. Copies in the set itself were confirmed by eye.')


KNOWN = [set(g.split()) for g in '''beaver/4 beaver/22|butterfly/1 butterfly/31|cougar_body/2 cougar_body/33|cougar_body/13 cougar_body/46|cougar_body/26 cougar_body/35
cougar_face/24 cougar_face/37 cougar_face/61 cougar_face/66|cougar_body/7 cougar_body/43|tick/2 tick/16|crayfish/1 crayfish/23|crayfish/44 crayfish/51|dalmatian/50 dalmatian/61|flamingo/20 flamingo/49|gerenuk/1 gerenuk/19|gerenuk/4 gerenuk/25
hawksbill/28 hawksbill/40|hedgehog/1 hedgehog/10|ibis/76 ibis/79|kangaroo/15 kangaroo/25|kangaroo/35 kangaroo/50|llama/1 llama/10|lobster/1 lobster/4|mayfly/3 mayfly/14|nautilus/2 nautilus/38
nautilus/20 nautilus/33|octopus/1 octopus/2 octopus/3 octopus/4 octopus/5 octopus/6|octopus/18 octopus/35|pigeon/2 pigeon/6|platypus/15 platypus/22 platypus/30|rhino/51 rhino/55|starfish/16 starfish/67
starfish/13 starfish/79|rooster/29 rooster/48'''.replace('\n', '|').split('|')]  # looked at


def strangers(paths: list[Path], groups: np.ndarray) -> list[list[Path]]:
    "Groups that nobody confirmed."
    of: dict = {}
    for p, g in zip(paths, groups.tolist()): of.setdefault(g, []).append(p)
    found = [g for g in of.values() if len(g) > 1 and not true_copies(g)]
    for g in found: print('not confirmed:', *(f'{p.parent.name}/{p.stem}' for p in g))
    return found


def true_copies(paths: list[Path]) -> bool:
    "Whether a person confirmed the group; the leopards are 100 photos and their mirror images, n and n + 100."
    names = {f"{p.parent.name}/{int(p.stem.split('_')[1])}" for p in paths}
    numbers = sorted(int(n.split('/')[1]) for n in names)
    return any(names <= k for k in KNOWN) or all(n.startswith('Leopards') for n in names) and len(numbers) == 2 and numbers[1] == numbers[0] + 100


# --- cost

def one_size(rows: int) -> None:
    "Print the cost of one corpus size; run in a process of its own, for its peak memory."
    with tempfile.TemporaryDirectory() as folder:
        source = subprocess.run([sys.executable, '-c', f'from corpus import write_corpus; print(write_corpus({folder!r} + "/corpus", {rows}))'], cwd=Path(__file__).parent,
                                check=True, capture_output=True, text=True).stdout.strip()
        import pyarrow.parquet as pq
        index, spent = TextIndex(Path(folder) / 'index'), dict(add=0., clusters=0., drop=0.)
        def timed(what, f):
            start = time.process_time()
            out = f()
            spent[what] += time.process_time() - start
            return out
        parts = sorted(Path(source).glob('*.parquet'))
        size = 0
        for p in parts:
            table = pq.read_table(p)
            size += pc.sum(pc.binary_length(table['occurrenceRemarks'])).as_py() or 0
            timed('add', lambda: index.add(table, p.stem))
        found = timed('clusters', index.clusters)
        gone = sum(timed('drop', lambda: drop_near(pq.read_table(p), found)).rejects.num_rows for p in parts)
        disk = sum(f.stat().st_size for f in (Path(folder) / 'index').rglob('*') if f.is_file())
        truth = pa.concat_tables(pq.read_table(p, columns=['occurrenceID', 'source', 'kind']) for p in sorted((Path(folder) / 'corpus/truth').glob('*.parquet')))
        cluster = lambda ids: found['cluster'].combine_chunks().take(pc.index_in(ids, found['occurrenceID'].combine_chunks()))
        copies = truth.filter(pc.is_valid(truth['source']))
        together = pc.mean(pc.fill_null(pc.equal(cluster(copies['occurrenceID'].combine_chunks()), cluster(copies['source'].combine_chunks())), False)).as_py()
    us = {k: 1e6 * v / rows for k, v in spent.items()}
    print(repr({'documents': f'{rows:,}', 'bytes each': round(size / rows), 'signature, CPU-us': f"{us['add']:.1f}", 'grouping, CPU-us': f"{us['clusters']:.1f}", 'dropping, CPU-us': f"{us['drop']:.1f}",
                'sum (bar 60)': f'{sum(us.values()):.1f}', 'planted copies found': f'{100 * together:.1f} %', 'dropped': f'{gone:,}', 'index on disk, B each': round(disk / rows),
                'peak memory, GB': f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f}'}))


def cost(*sizes: str) -> None:
    rows = [eval(subprocess.run([sys.executable, __file__, 'one_size', s], check=True, capture_output=True, text=True).stdout.splitlines()[-1]) for s in sizes or ('100000', '1000000')]
    publish('near_duplicates_cost', 'Cost of finding near-duplicate texts, a document (`make bench-near-duplicates`)', rows, 'Corpus of `benchmarks/corpus.py`, uncleaned; one process; reading Parquet counts as dropping.')


if __name__ == '__main__':
    if sys.argv[1:2] == ['one_size']: one_size(int(sys.argv[2]))
    elif sys.argv[1:2] == ['cost']: cost(*sys.argv[2:])
    else:
        for what in sys.argv[1:] or ['texts', 'photos', 'cost']: dict(texts=texts, photos=photos, cost=cost)[what]()
