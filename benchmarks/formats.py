"Steps 6 and 7: recall and precision on the survey's planted faults and a harder set, and CPU time a record. `python benchmarks/formats.py`"
import sys, tempfile, time
from pathlib import Path

import pyarrow as pa
from common import ROOT, publish

sys.path.insert(0, str(ROOT/'tests'))
from test_alignment import hard_row, survey_links, survey_row
from test_formats import format_table, survey_tables

from mlproject.data.alignment import align
from mlproject.data.dates import normalise_dates
from mlproject.data.formats import check_columns, normalise
from mlproject.data.measures import normalise_positions, normalise_units

SHARD = 65_536
WORDS = 'Moved along the edge of the wood, then stood still for a while and listened before it went down to the water. ' * 9

def shard(share: float, n: int = SHARD) -> pa.Table:
    "Records of about a kilobyte, of which a share has feet and Fahrenheit, a position in the note and a day-first date each."
    every, at = round(1/share) if share else 0, ['2024-{:02}-{:02}T06:12:{:02}'.format(1 + i % 12, 1 + i % 28, i % 60) for i in range(n)]
    odd = lambda i, k: every and i % every == k
    note = lambda i: WORDS + (' Elevation 5906 ft, 45 °F.' if odd(i, 0) else ' Position 46°24\'36"N, 7°30\'00"E.' if odd(i, 1) else ' Overcast, 16 °C.' if i % 3 == 0 else '')
    date = lambda i: f'{at[i][8:10]}/{at[i][5:7]}/{at[i][:4]} {at[i][11:]}' if odd(i, 2) else at[i] + '+02:00'
    return pa.table(dict(occurrenceID=[f'r{i}' for i in range(n)], scientificName=[('Panthera leo', 'red fox', 'Felis tigris')[i % 3] for i in range(n)],
                         eventDate=[date(i) for i in range(n)], occurrenceRemarks=[note(i) for i in range(n)], datasetName=['bench']*n))

def cost(step, table: pa.Table) -> float:
    "CPU microseconds a record, the best of three after one to warm up."
    step(table.slice(0, 1000))
    seen = []
    for _ in range(3):
        start = time.process_time()
        step(table)
        seen.append(time.process_time() - start)
    return round(min(seen)/table.num_rows*1e6, 1)

if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        publish('formats', 'Step 6 on the survey (100 species, 60 photos each): planted faults put right', format_table(survey_tables(Path(folder), 60)))
    with tempfile.TemporaryDirectory() as folder:
        rows = [survey_row(*survey_links(Path(folder), 60)), *(hard_row(seed)[0] for seed in range(5))]
    publish('alignment', 'Step 7: notes that arrived separately', rows,
            'The hard set has clocks up to a day wrong or drifting, two cameras at one place, rival visits within minutes, notes without place or hour, 5 % of notes without a photo, few keys; '
            'right: linked to a photo of the true event; exact: to the very photo.')
    texts = pa.table(dict(occurrenceID=[str(i) for i in range(SHARD)], occurrenceRemarks=[WORDS]*SHARD))
    hard = pa.concat_tables([hard_row(0)[2]]).combine_chunks()
    costs = [dict(step=name, records=what, us=cost(step, table)) for name, what, step, table in (
        ('normalise', '1 KB, nothing odd', normalise, shard(0)), ('normalise', '1 KB, 30 % odd', normalise, shard(.1)), ('dates alone', '1 KB, 30 % odd', normalise_dates, check_columns(shard(.1))),
        ('units alone', '1 KB, 30 % odd', normalise_units, check_columns(shard(.1))), ('positions alone', '1 KB, 30 % odd', normalise_positions, check_columns(shard(.1))),
        ('align', 'texts that stand for themselves', align, texts), ('align', 'the hard set, 1 note to 6 photos', align, hard))]
    publish('formats_cost', f'Steps 6 and 7: CPU microseconds a record, shards of {SHARD:,}', costs)
