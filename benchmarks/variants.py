"""What int8 and bfloat16 cost in accuracy and win in speed, for the network of a finished build.

    python benchmarks/variants.py build/survey [--keep FOLDER] [--publish]

Accuracy is that on the test photos of the build, ranges come from photos of its training split. --keep writes the extended
model with the variants that are worth it.
"""
import argparse, tempfile
from pathlib import Path

import numpy as np
from common import publish, table

from mlproject.core import say
from mlproject.export.variants import worth, write_variants
from mlproject.tasks import photos_in

def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('build', type=Path)
    ask.add_argument('--keep', type=Path)
    ask.add_argument('--ranges', type=int, default=256, help='training photos for the ranges of int8')
    ask.add_argument('--publish', action='store_true')
    a = ask.parse_args()
    upstream = {t: a.build/folder/'manifest.json' for t, folder in (('curate', 'curated'), ('split', 'splits'))}
    (test, known, _), (train, *_) = photos_in(upstream, 'test'), photos_in(upstream, 'train')
    some = [train.paths[i] for i in np.linspace(0, len(train.paths) - 1, a.ranges).astype(int)]
    say(f'measuring on {len(test.paths)} photos')
    with tempfile.TemporaryDirectory() as folder:
        found = write_variants(a.build/'extended', a.keep or Path(folder)/'extended', list(test.paths), known['scientificName'].to_pylist(), calibration=some)
    kept = {m.name for m in worth(found)}
    rows = [{'variant': m.name, 'runtime': m.runtime, 'accuracy': f'{m.accuracy:.2%}', 'lost, points': f'{100*m.loss:+.2f}',
             'same species as float32': f'{m.same:.2%}', 'CPU time of float32 / its own': f'{m.speedup:.2f}', 'kept': 'yes' if m.name in kept else 'no'} for m in found]
    note = f'{len(test.paths)} test photos, ranges from {len(some)} training photos. Kept: at most .5 points lost and at least 1.1 times as fast.'
    if a.publish: publish('variants', 'Fewer bits: accuracy and speed', rows, note)
    else: print(table(rows), '\n\n', note)

if __name__ == '__main__': main()
