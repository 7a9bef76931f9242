"""What it costs to read text records of about 1 KB: CPU per record, peak memory, and what a second run costs.

python benchmarks/load_text.py [records]
"""
import json, random, sys, tempfile, time
from pathlib import Path

from common import publish

WORDS = 'the lynx crossed a stream at dusk near old ford and left tracks in wet snow under pine before rain came otter sett fresh earth camera'.split()


def write(folder: Path, n: int) -> None:
    "The same records as JSONL, CSV and Parquet."
    import csv
    import pyarrow as pa, pyarrow.parquet as pq
    rng = random.Random(0)
    tail = [' '.join(rng.choices(WORDS, k=180)) for _ in range(997)]
    rows = (dict(id=f'doc-{i}', text=f'Visit {i}. {tail[i % 997]}', eventDate=f'2024-03-{i % 28 + 1:02}T10:00:00Z', latitude=46.5, station=f's{i % 100}') for i in range(n))
    columns = ['id', 'text', 'eventDate', 'latitude', 'station']
    with open(folder/'notes.jsonl', 'w') as j, open(folder/'notes.csv', 'w', newline='') as c:
        sheet, held = csv.DictWriter(c, columns), {k: [] for k in columns}
        sheet.writeheader()
        for row in rows:
            j.write(json.dumps(row) + '\n')
            sheet.writerow(row)
            for k, v in row.items(): held[k].append(v)
    pq.write_table(pa.table(held), folder/'notes.parquet', row_group_size=131_072)


def load(path: str, cache: str, known_file: str) -> None:
    "In a process of its own: stream all parts, remember their keys."
    from mlproject.data.loading import iter_sources
    known = set(json.loads(Path(known_file).read_text())) if Path(known_file).exists() else set()
    start, rows, keys = time.process_time(), 0, []
    for part in iter_sources(path, cache, known):
        rows += part.rows
        keys.append(part.key)
    Path(known_file).write_text(json.dumps(keys))
    peak = int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])*1024/1e6 # getrusage's would be the parent's
    print(json.dumps(dict(rows=rows, cpu=time.process_time() - start, peak=peak)))


def main(n: int) -> None:
    import os, subprocess
    out = []
    with tempfile.TemporaryDirectory() as box:
        folder = Path(box)
        write(folder, n)
        for name in ('notes.jsonl', 'notes.csv', 'notes.parquet'):
            os.utime(folder/name, (1, 1))
            size = (folder/name).stat().st_size
            def once(): return json.loads(subprocess.run([sys.executable, __file__, 'load', str(folder/name), str(folder/'cache'), str(folder/f'{name}.known')],
                                                         env=os.environ | dict(OMP_NUM_THREADS='1'), check=True, capture_output=True, text=True).stdout)
            first, second = once(), once()
            os.utime(folder/name, (2, 2))
            third = once()
            assert first['rows'] == n and second['rows'] == third['rows'] == 0
            out.append({'format': name.split('.')[1], 'MB': round(size/1e6), 'CPU-µs a record': f"{first['cpu']/n*1e6:.1f}", 'peak memory MB': round(first['peak']),
                        'again, unchanged: CPU-s': f"{second['cpu']:.2f}", 'again, touched (digests only): CPU-µs a record': f"{third['cpu']/n*1e6:.2f}"})
    publish('load_text', f'Reading {n:,} text records of about 1 KB with `iter_sources`', out)


if __name__ == '__main__':
    load(*sys.argv[2:]) if sys.argv[1:2] == ['load'] else main(int(sys.argv[1]) if sys.argv[1:] else 200_000)
