"""CPU-µs a record of cleaning and quality, and datatrove on the same documents. `make bench-text` or `python benchmarks/text_steps.py [ROWS] [PYTHON OF THE PEER]`

The peer runs in a virtual environment of its own (`pip install datatrove nltk spacy ftfy`), in this file with `--peer`: FTFYFormatter, then
GopherRepetitionFilter, GopherQualityFilter and C4QualityFilter with their defaults, each document through the filters until one rejects it, as in its pipelines.
"""
import json, os, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

def peer(path: str) -> None:
    "Run in the peer's environment: documents as JSON lines in, seconds and decisions out."
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import FTFYFormatter
    documents = [Document(text=t or ' ', id=str(i)) for i, t in enumerate(map(json.loads, open(path, encoding='utf-8')))]
    ftfy, filters = FTFYFormatter(), [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False)]
    for f in filters: f.filter(Document(text='Warm the tokeniser up. ' * 20, id=''))  # loading the tokeniser is not counted
    start, decisions, texts, clean = time.process_time(), [], [], 0.
    for d in documents:
        t = time.process_time()
        d.text = ftfy.format(d.text)
        clean += time.process_time() - t
        texts.append(d.text)
        decisions.append(next((str(r[1]) for f in filters if isinstance(r := f.filter(d), tuple)), '') )
    print(json.dumps(dict(seconds=time.process_time() - start, clean=clean, decisions=decisions, texts=texts)))

if __name__ == '__main__' and sys.argv[1:2] == ['--peer']:
    peer(sys.argv[2]); sys.exit()

import pyarrow as pa
from common import publish
from corpus import shard

from mlproject.data.cleaning import clean_text
from mlproject.data.quality import QualityConfig, check_notes

def seconds(step, records, times: int = 3):
    "The least CPU time of three runs, and the outcome."
    used = []
    for _ in range(times):
        start = time.process_time()
        outcome = step(records)
        used.append(time.process_time() - start)
    return min(used), outcome

def flat(text: str | None) -> str: return ' '.join((text or '').split())

def figures(rejected: set, truth: list[dict]) -> dict:
    "Precision and recall of what was rejected, field notes of one sentence aside and with them."
    low = {t['occurrenceID'] for t in truth if t['low']}
    short = {t['occurrenceID'] for t in truth if t['kind'] == 'short'}
    hit = len(rejected & low)
    return {'recall': f'{hit / len(low):.4f}', 'precision': f'{hit / max(len(rejected), 1):.4f}', 'precision on documents': f'{hit / max(len(rejected - short), 1):.4f}', 'short notes kept': f'{1 - len(rejected & short) / len(short):.4f}'}

def restored(texts: dict, truth: list[dict]) -> str:
    "Share of the notes with planted noise that are again as they were."
    noisy = [t for t in truth if t['noise'] and t['kind'] != 'low']
    return f"{sum(flat(texts.get(t['occurrenceID'])) == flat(t['text']) for t in noisy) / len(noisy):.4f}"

def main(rows: int = 65_536, python: str = '/tmp/peers/text/v/bin/python', sample: int = 4000) -> None:
    pa.set_cpu_count(1)
    records, truth = shard(0, rows, 7)  # rules were written looking at seed 0
    truth, size = truth.to_pylist(), sum(len(b) for b in records['occurrenceRemarks'].combine_chunks().buffers()[2:]) / rows
    config = QualityConfig(languages=('en',))
    clean, cleaned = seconds(clean_text, records)
    judge, judged = seconds(lambda r: check_notes(r, config), cleaned.records)
    texts = dict(zip(cleaned.records['occurrenceID'].to_pylist(), cleaned.records['occurrenceRemarks'].to_pylist()))
    both = (clean + judge) / rows
    ours = {'tool': 'mlproject', 'documents': rows, 'clean, CPU-µs': f'{clean / rows * 1e6:.0f}', 'quality, CPU-µs': f'{judge / rows * 1e6:.0f}', 'documents per CPU-second': f'{1 / both:,.0f}', 'noise undone': restored(texts, truth),
            **figures(set(judged.rejects['occurrenceID'].to_pylist()) | set(cleaned.rejects['occurrenceID'].to_pylist()), truth)}
    table = [ours]
    if Path(python).exists():
        ids, notes = records['occurrenceID'].to_pylist()[:sample], records['occurrenceRemarks'].to_pylist()[:sample]
        with tempfile.NamedTemporaryFile('w', suffix='.jsonl', encoding='utf-8') as f:
            f.writelines(json.dumps(n) + '\n' for n in notes); f.flush()
            env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
            told = json.loads(subprocess.run([python, __file__, '--peer', f.name], capture_output=True, text=True, check=True, env=env).stdout.splitlines()[-1])
        table.append({'tool': 'datatrove', 'documents': sample, 'clean, CPU-µs': f"{told['clean'] / sample * 1e6:.0f}", 'quality, CPU-µs': f"{(told['seconds'] - told['clean']) / sample * 1e6:.0f}", 'documents per CPU-second': f"{sample / told['seconds']:,.0f}",
                      'noise undone': restored(dict(zip(ids, told['texts'])), truth[:sample]), **figures({i for i, d in zip(ids, told['decisions']) if d}, truth[:sample])})
    ratio = f" Ratio {told['seconds'] / sample / both:.0f}." if len(table) == 2 else ''
    publish('text_steps', 'Cleaning and quality of notes (`make bench-text`)', table, f'Generated field documents of {size:,.0f} bytes with planted faults (`benchmarks/corpus.py`), least of three runs, language included.{ratio} '
            'datatrove: FTFYFormatter, Gopher repetition and quality, C4 quality without its terminal-punctuation rule; it has no rules for markup, boilerplate or signatures.')

if __name__ == '__main__': main(*(int(a) if a.isdigit() else a for a in sys.argv[1:]))
