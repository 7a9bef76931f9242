"""The drill, three times: what happened after how many photos, how much was labelled, how long it took.

    python benchmarks/drill.py [RUNS] [--tiny]
"""
import json, sys, tempfile, time
from dataclasses import replace
from pathlib import Path

from common import publish
from mlproject.operations.drill import TINY, Plan, run_drill

def one(seed: int, tiny: bool) -> dict:
    "A row of the table."
    with tempfile.TemporaryDirectory() as d:
        began = time.time()
        checks = run_drill(Path(d)/'drill', replace(TINY if tiny else Plan(), seed=seed))
        told = json.loads((Path(d)/'drill'/'drill.json').read_text())
    seen = {c.name: c.seen for c in checks}
    short = lambda start: next(v for k, v in seen.items() if k.startswith(start))
    return dict(seed=seed, outcomes=f'{sum(c.passed for c in checks)} of {len(checks)}', failed='; '.join(c.name for c in checks if not c.passed) or '—', alarm=short('alarm'),
                accuracy=short('accuracy'), labelled=short('at most'), minutes=f'{(time.time() - began)/60:.1f}', photos=max(m['sent'] for m in told['moments']))

if __name__ == '__main__':
    tiny = '--tiny' in sys.argv
    runs = next((int(a) for a in sys.argv[1:] if a.isdigit()), 3)
    publish('drill_tiny' if tiny else 'drill', 'The whole loop against a real server, with known truth', [one(s, tiny) for s in range(runs)],
            'Heads on frozen features stand in for the training pipeline; everything else is what runs in life.')
