"""CPU time per record of each built-in enricher, and of a second run over the same records."""
import tempfile, time
from pathlib import Path

import numpy as np

from common import publish


def shard(n: int):
    "Records of which no two share a time or a position."
    import pyarrow as pa
    from mlproject.data.records import records_table
    from mlproject.data.season import season
    from mlproject.data.survey import first_record
    rng, shots = np.random.default_rng(0), season(100, 20, 0)
    few = records_table([first_record(s, i, 0, f'photos/{i}.jpg') for i, s in enumerate(shots)])
    when = np.datetime_as_string(np.datetime64('2024-01-01') + rng.integers(0, 366 * 86_400, n).astype('timedelta64[s]'), 's')
    out = few.take(pa.array(rng.integers(0, few.num_rows, n)))
    new = dict(occurrenceID=[f's{i}' for i in range(n)], eventDate=[f'{t}Z' for t in when], decimalLatitude=rng.uniform(45, 48, n), decimalLongitude=rng.uniform(7, 13, n))
    for name, values in new.items(): out = out.set_column(out.column_names.index(name), name, pa.array(values))
    return out


def polygons(path: Path, n: int = 60, corners: int = 500):
    "A layer of wavy areas."
    from mlproject.core import write_json
    rng, a = np.random.default_rng(0), np.linspace(0, 2 * np.pi, corners, endpoint=False)
    def ring():
        r = .4 * (1 + .2 * np.sin(a * rng.integers(3, 9)) + .02 * rng.standard_normal(corners))
        p = np.stack([rng.uniform(7.5, 12.5) + r * np.cos(a), rng.uniform(45.3, 47.7) + r * np.sin(a)], 1).round(5).tolist()
        return p + p[:1]
    write_json(path, dict(features=[dict(properties=dict(kind=f'area {i}'), geometry=dict(type='Polygon', coordinates=[ring()])) for i in range(n)]))


def main(n: int = 65_536):
    from mlproject.data.enrichers import area, conservation, daylight, seasons, taxonomy_ranks
    from mlproject.data.enrichment import enrich
    records, folder = shard(n), Path(tempfile.mkdtemp())
    polygons(folder / 'layer.geojson')
    def cost(e):
        start = time.process_time()
        enrich(records, [e], folder / 'out')
        return (time.process_time() - start) / n * 1e6
    enrichers = [taxonomy_ranks(), seasons(), daylight(), area('habitat', folder / 'layer.geojson', 'kind'), conservation()]
    rows = [dict(enricher=e.name, first=cost(e), again=cost(e)) for e in enrichers]
    rows.append(dict(enricher='all', first=sum(r['first'] for r in rows), again=sum(r['again'] for r in rows)))
    publish('enrichment', f'Built-in enrichers, CPU-µs a record ({n:,} records, side-cars written; the bar: 40)',
            [{'enricher': r['enricher'], 'first run': f"{r['first']:.1f}", 'nothing changed': f"{r['again']:.1f}"} for r in rows], 'The layer has 60 areas of 500 corners.')


if __name__ == '__main__': main()
