"""The whole chain beside datatrove on the same documents. `make bench-datatrove` or `python benchmarks/datatrove_chain.py [DOCUMENTS] [PYTHON OF THE PEER]`

Both read one JSON-lines file and write what they keep: clean, Gopher rules, MinHash near-duplicates, pattern PII. The peer runs in a virtual environment of
its own (`python -m venv /tmp/peers/datatrove && /tmp/peers/datatrove/bin/pip install datatrove spacy ftfy regex tldextract
tokenizers orjson 'xxhash<3.6'`: its 0.10.1 gives xxhash text, which newer ones refuse), in this file with
`--peer`, as its own example of MinHash deduplication does: four runs of its local executor, one worker. Its English tokeniser is `spacy.blank('en')` with a
sentencizer, which is rules only and needs no download (NLTK's punkt, which it used before, does). Each side goes through 200 documents first, so that imports,
tokenisers and compiled expressions are not counted; CPU-seconds are those of the process and its children from there on.
"""
import json, os, resource, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
STEPS = ('clean', 'quality', 'near-duplicates', 'PII', 'rest')   # rest: reading, writing, accounts

def cpu() -> float:
    "CPU-seconds of this process and of its children that ended."
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


# -- the peer

def timed(spent: dict, step: str, kind: type, method: str) -> None:
    "Count the CPU time of a method under a step."
    plain = getattr(kind, method)
    def counted(*args):
        start = time.thread_time()
        try: return plain(*args)
        finally: spent[step] = spent.get(step, 0) + time.thread_time() - start
    setattr(kind, method, counted)

def near(folder: Path, source: str, config, spent: dict) -> None:
    "datatrove's stages 1 to 3 over finished documents; leaves folder/remove."
    from datatrove.executor import LocalPipelineExecutor as Executor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.readers import JsonlReader
    at, start = (lambda name: str(folder/name)), cpu()
    Executor([JsonlReader(source, doc_progress=False), MinhashDedupSignature(at('signatures'), config)], tasks=1, logging_dir=at('logs/1')).run()
    Executor([MinhashDedupBuckets(at('signatures'), at('buckets'), config=config)], tasks=config.num_buckets, workers=1, logging_dir=at('logs/2')).run()
    Executor([MinhashDedupCluster(at('buckets'), at('remove'), config)], tasks=1, logging_dir=at('logs/3')).run()
    spent['near-duplicates'] = spent.get('near-duplicates', 0) + cpu() - start

def whole(folder: Path, source: Path, spent: dict, bands) -> None:
    "The chain; the documents kept are in folder/kept, those after quality in folder/clean."
    from datatrove.executor import LocalPipelineExecutor as Executor
    from datatrove.pipeline.dedup import MinhashDedupFilter
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    at = lambda name: str(folder/name)
    Executor([JsonlReader(str(source), text_key='occurrenceRemarks', id_key='occurrenceID', doc_progress=False), FTFYFormatter(), GopherRepetitionFilter(),
              GopherQualityFilter(min_doc_words=None, max_non_alpha_words_ratio=.7), JsonlWriter(at('clean'), compression=None)], tasks=1, logging_dir=at('logs/0')).run()
    near(folder, at('clean'), bands, spent)
    Executor([JsonlReader(at('clean'), doc_progress=False), MinhashDedupFilter(at('remove')), PIIFormatter(only_remove_public_ips=False), JsonlWriter(at('kept'), compression=None)], tasks=1, logging_dir=at('logs/4')).run()

def removed(folder: Path) -> list[str]:
    "Ids that stage 3 named."
    import numpy as np
    ids = [json.loads(l)['id'] for f in sorted((folder.parent/'whole'/'clean').glob('*.jsonl')) for l in open(f, encoding='utf-8')]
    return [ids[i] for f in (folder/'remove').glob('*.remove') for i in np.fromfile(f, '<u4')]

def peer(work: str) -> None:
    "Run in the peer's environment."
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from importlib.metadata import version
    work, spent = Path(work), {}
    for step, kind, method in (('clean', FTFYFormatter, 'format'), ('quality', GopherRepetitionFilter, 'filter'), ('quality', GopherQualityFilter, 'filter'), ('PII', PIIFormatter, 'format')):
        timed(spent, step, kind, method)
    whole(work/'warm', work/'few', {}, MinhashConfig())
    spent.clear()
    start = cpu()
    whole(work/'whole', work/'all', spent, MinhashConfig())
    spent['all'], more = cpu() - start, {}
    near(work/'ours', str(work/'whole'/'clean'), MinhashConfig(n_grams=2, num_buckets=28, hashes_per_bucket=5), more)  # what TextConfig has
    rows = lambda name: {r['id']: r['text'] for f in (work/'whole'/name).glob('*.jsonl') for r in map(json.loads, open(f, encoding='utf-8'))}
    print(json.dumps(dict(spent=spent, more=more['near-duplicates'], good=sorted(rows('clean')), kept=rows('kept'), removed=removed(work/'whole'), more_removed=removed(work/'ours'), version=version('datatrove'))))


# -- this project

def ours(work: str) -> None:
    "Run in this project's environment."
    from mlproject.data.curation import curate
    from mlproject.data.passes import CurationConfig
    from mlproject.data.quality import QualityConfig
    from mlproject.data.shards import Stage, costs
    work = Path(work)
    config = CurationConfig(only=('cleaning', 'quality', 'dedup', 'privacy'), persons=False, quality=QualityConfig(languages=('en',)))
    curate([str(work/'few')], work/'warm', config, workers=1)
    start = cpu()
    made = curate([str(work/'all')], work/'out', config, workers=1)
    used = dict(all=cpu() - start)
    told = {c['step']: c['cpu'] for n in ('first', 'second') for c in costs(Stage(work/'all', work/'out'/n, ())) if c['step'] not in ('read', 'write')}
    named = dict(clean=('cleaning',), quality=('quality',), PII=('privacy',))
    used |= {k: sum(told[s] for s in v) for k, v in named.items()}
    used['near-duplicates'] = told['signatures'] + told['near'] + grouping(work, config)
    records, gone = made.records(['occurrenceID', 'occurrenceRemarks']), made.rejects()
    low = {i for i, s in zip(gone['occurrenceID'].to_pylist(), gone['step'].to_pylist()) if s in ('cleaning', 'quality')}
    print(json.dumps(dict(spent=used, low=sorted(low), kept=dict(zip(*(records[c].to_pylist() for c in records.column_names))))))

def grouping(work: Path, config) -> float:
    "CPU-seconds of finding the groups, done once more over the index."
    from mlproject.data.textdedup import TextIndex
    start = cpu()
    TextIndex(work/'out'/'index', config.texts).clusters()
    return cpu() - start

if __name__ == '__main__' and sys.argv[1:2] in (['--peer'], ['--ours']):
    (peer if sys.argv[1] == '--peer' else ours)(sys.argv[2]); sys.exit()


# -- both

from common import ROOT, publish
from corpus import shard

def run(python: str, side: str, work: Path) -> dict:
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | (dict(PYTHONPATH=str(ROOT), MLPROJECT_PRIVACY_KEY='a key for a benchmark, no secret') if side == '--ours' else {})
    done = subprocess.run([python, __file__, side, str(work)], capture_output=True, text=True, env=env)
    if done.returncode: sys.exit(f'{side}: {done.stderr[-3000:]}')
    return json.loads(done.stdout.splitlines()[-1])

def families(truth: list[dict]) -> dict[str, str]:  # id -> the original that its words come from
    return {t['occurrenceID']: t['source'] or t['occurrenceID'] for t in truth}

def found(truth: list[dict], good: set, gone: set) -> dict:
    "Of planted copies whose original passed too: how many left; and what left without being one of a pair."
    of = families(truth)
    near = [t for t in truth if t['kind'] == 'near' and {t['occurrenceID'], t['source']} <= good]
    same = lambda ts: f'{sum(t["occurrenceID"] in gone or t["source"] in gone for t in ts) / max(len(ts), 1):.3f} of {len(ts)}'
    alive: dict = {}
    for i in good: alive.setdefault(of[i], set()).add(i)
    wrong = sum(max(0, len(members & gone) - (len(members) - 1)) for members in alive.values())
    return {'near copies found, up to 5 % edited': same([t for t in near if t['edited'] <= .05]), 'up to 10 %': same([t for t in near if t['edited'] > .05]), 'wrong merges': f'{wrong / max(len(good), 1):.2%}'}

def replaced(truth: list[dict], kept: dict, kinds: tuple) -> str:
    "Planted instances that are gone from what is kept."
    has = [t for t in truth if t['pii_type'] in kinds and t['pii_text'] and t['kind'] in ('plain', 'short') and t['occurrenceID'] in kept]
    return f"{sum(t['pii_text'] not in kept[t['occurrenceID']] for t in has) / max(len(has), 1):.3f} of {len(has)}"

def quality(rejected: set, truth: list[dict]) -> dict:
    low = {t['occurrenceID'] for t in truth if t['low']}
    return {'low quality: recall': f'{len(rejected & low) / len(low):.3f}', 'precision': f'{len(rejected & low) / max(len(rejected), 1):.3f}'}

def restored(truth: list[dict], kept: dict) -> str:
    "Share of the notes with planted noise, kept and without personal data, that are again as they were."
    flat = lambda t: ' '.join((t or '').split())
    noisy = [t for t in truth if t['noise'] and not t['low'] and not t['pii_type'] and t['occurrenceID'] in kept]
    return f"{sum(flat(kept[t['occurrenceID']]) == flat(t['text']) for t in noisy) / max(len(noisy), 1):.3f}"

def main(n: int = 10_000, python: str = '/tmp/peers/datatrove/bin/python') -> None:
    if not Path(python).exists(): sys.exit(f'{python} is not there: see the first lines of {Path(__file__).name}')
    records, truth = shard(0, n, 11)
    rows, truth = [dict(occurrenceID=i, occurrenceRemarks=t, type='Text') for i, t in zip(*(records[c].to_pylist() for c in ('occurrenceID', 'occurrenceRemarks')))], truth.to_pylist()
    with tempfile.TemporaryDirectory(prefix='chain-') as folder:
        sides = []
        for k, (side, p) in enumerate((('--ours', sys.executable), ('--peer', python), ('--ours', sys.executable))):  # ours before and after the peer: a busy machine costs both
            work = Path(folder)/str(k)
            for name, part in (('few', rows[:200]), ('all', rows)):
                (work/name).mkdir(parents=True)
                (work/name/'documents.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in part))
            sides.append(run(p, side, work))
    a, theirs, b = sides
    spent = {k: (a['spent'][k] + b['spent'][k]) / 2 for k in a['spent']}
    every, us = {t['occurrenceID'] for t in truth}, lambda s: f'{s / n * 1e6:,.0f}'
    def line(tool, spent, kept, low, gone):
        spent = spent | dict(rest=spent['all'] - sum(spent[k] for k in STEPS[:-1]))
        return {'tool': tool, 'documents per CPU-second': f"{n / spent['all']:,.0f}", **{f'{k}, CPU-us': us(spent[k]) for k in STEPS}, 'kept': f'{len(kept):,}', **quality(low, truth),
                **found(truth, every - low, gone), 'e-mails and IPs replaced': replaced(truth, kept, ('EMAIL', 'IP')), 'all pattern types': replaced(truth, kept, ('EMAIL', 'IP', 'PHONE', 'CARD', 'IBAN', 'SSN', 'ADDRESS', 'HANDLE')), 'noise undone': restored(truth, kept)}
    low = set(a['low'])
    their_low = every - set(theirs['good'])
    more = theirs['spent'] | {'near-duplicates': theirs['more'], 'all': theirs['spent']['all'] - theirs['spent']['near-duplicates'] + theirs['more']}
    left = {i: t for i, t in theirs['kept'].items()}
    table = [line('mlproject', spent, a['kept'], low, every - low - set(a['kept'])), line('datatrove, its MinHash settings', theirs['spent'], left, their_low, set(theirs['removed'])),
             line('datatrove, our shingles and bands', more, {i: left.get(i, '') for i in set(theirs['good']) - set(theirs['more_removed'])}, their_low, set(theirs['more_removed']))]
    for k in ('e-mails and IPs replaced', 'all pattern types', 'noise undone'): table[2][k] = table[1][k]  # the same texts
    turned = [{'': k, **{r['tool']: r[k] for r in table}} for k in list(table[0])[1:]]
    ratio = lambda t: t['all'] / spent['all']
    kept = set(a['kept'])
    agree = lambda other: 1 - len(kept ^ other) / n
    judged = f"The two agree on keeping or dropping {agree(set(left)):.1%} of the documents; without notes of one sentence {1 - len((kept ^ set(left)) - {t['occurrenceID'] for t in truth if t['kind'] == 'short'}) / n:.1%} of all."
    publish('datatrove_chain', f'The whole chain beside datatrove {theirs["version"]}: clean, Gopher rules, MinHash, pattern PII (`make bench-datatrove`)', turned,
            f'{n:,} generated field documents of about 1 KB (`benchmarks/corpus.py`) from one JSON-lines file. Documents per CPU-second: {ratio(theirs["spent"]):.0f}x and {ratio(more):.0f}x those of datatrove. {judged} '
            'One worker each; ours is the mean of a run before and one after the peer. datatrove: FTFYFormatter, GopherRepetitionFilter, GopherQualityFilter (without its least number of words, as field notes are '
            'short; alphabetic .7 as ours), MinHash, PIIFormatter (e-mail and IP; it has no other types). Its English tokeniser is the blank one of spaCy, which needs no download; what it drops beyond the planted faults are mostly notes of one sentence (fewer than two stop words). Copies count where the original passed the quality rules too.')

if __name__ == '__main__': main(*(int(x) if x.isdigit() else x for x in sys.argv[1:]))
