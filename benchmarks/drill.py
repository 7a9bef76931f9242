"""The drill, three times: what happened after how many requests, how good the answers were, how much people looked at, how long it took.

    python benchmarks/drill.py [RUNS] [--tiny] [--in FOLDER]     # seeds 0, 1, …; FOLDER keeps them (default build/drills), and what is finished there is not run again
"""
import sys
from dataclasses import replace
from pathlib import Path

from common import ROOT, publish
from mlproject.operations.drill import run_drill
from mlproject.operations.simulation import TINY, Plan
from mlproject.operations.timeline import accuracy, read_drill, windows

def told(folder: Path, seed: int, tiny: bool) -> tuple:
    "A drill: played now, or the one that is there."
    if not (folder/'drill.json').exists(): run_drill(folder, replace(TINY if tiny else Plan(), seed=seed))
    return read_drill(folder)

def row(seed: int, moments: list, checks: list, all_: dict) -> dict:
    "A line of the table."
    start, alarm = (next((m.sent for m in moments if m.kind == k and m.phase == 'broken'), None) for k in ('phase', 'alarm'))
    sent, labelled = windows(moments)[-1].sent, windows(moments)[-1].figures['labelled']
    return dict(seed=seed, outcomes=f'{sum(c.passed for c in checks)} of {len(checks)}', failed='; '.join(c.name for c in checks if not c.passed) or '—',
                **{f'{name}, %': f'{accuracy(moments, phase):.1%}'[:-1] for name, phase in dict(before='calm', during='broken', after='after').items()},
                **{'requests to alarm': f'{alarm - start:,}' if alarm else 'none', 'labelled, %': f'{labelled/sent:.1%}'[:-1], 'photos': f'{sent:,}',
                   'versions': f"{sum(m.kind == 'promoted' for m in moments)} promoted, {sum(m.kind == 'rolled_back' for m in moments)} rolled back, {sum(m.kind == 'gate' and not m.figures['passed'] for m in moments)} stopped",
                   'minutes': f"{all_['minutes']:.1f}", 'processor minutes': f"{all_['cpu_minutes']:.1f}"})

if __name__ == '__main__':
    words, tiny = sys.argv[1:], '--tiny' in sys.argv
    place = Path(words[words.index('--in') + 1]) if '--in' in words else ROOT/'build'/('drills_tiny' if tiny else 'drills')
    runs = next((int(a) for a in words if a.isdigit()), 3)
    publish('drill_tiny' if tiny else 'drill', 'The whole loop against a real server, with known truth (`make drill`)', [row(s, *told(place/f'seed-{s}', s, tiny)) for s in range(runs)],
            'Before: all calm phases; during: from the fault until a version that has learned about it is promoted; after: the same fault, with that version. Heads on frozen features stand in for the training '
            'pipeline; everything else is what runs in life. The same seed tells the same story; processor minutes are the cost, minutes depend on what else the machine does (in the kept result: three drills at once, on two cores at a load above 10).')
