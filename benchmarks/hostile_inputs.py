"""What the dearest request of each kind costs the server: seconds of CPU, MB above what it had. `make bench-hostile`"""
import sys, time, warnings
from collections import defaultdict

from common import ROOT, publish
sys.path.insert(0, str(ROOT / 'tests'))
from hostile import hostile, photo
from test_hostile import LIMITS, PREP, ask, resident
from mlproject.serving.inputs import pixels

warnings.filterwarnings('ignore', module='PIL')
pixels(PREP, photo(), LIMITS)

def price(h) -> tuple[float, float, int]:
    "CPU seconds and MB of one request, and its status."
    h.body
    before, _ = resident(reset=True)
    start = time.process_time()
    status, _ = ask(h)
    found = time.process_time() - start, resident()[1] - before, status
    del h.__dict__['body']
    return found

groups = defaultdict(list)
for h in hostile(): groups[h.name.split('-')[0]].append((h, *price(h)))
wrong = [h.name for g in groups.values() for h, _, _, status in g if status not in h.expected]
rows = []
for kind, found in sorted(groups.items(), key=lambda g: -max(f[1] for f in g[1])):
    if len(found) < 4: continue
    slow, big = max(found, key=lambda f: f[1]), max(found, key=lambda f: f[2])
    rows.append({'kind': kind, 'requests': len(found), 'most CPU, s': f'{slow[1]:.2f}', 'by': slow[0].name, 'most memory, MB': f'{big[2]:.0f}', 'of': big[0].name})
every = [f for g in groups.values() for f in g]
rows.insert(0, {'kind': 'all', 'requests': len(every), 'most CPU, s': f'{max(f[1] for f in every):.2f}', 'by': max(every, key=lambda f: f[1])[0].name,
                'most memory, MB': f'{max(f[2] for f in every):.0f}', 'of': max(every, key=lambda f: f[2])[0].name})
publish('hostile_inputs', 'Hostile requests: the dearest of each kind (`make bench-hostile`)', rows,
        f'Bars: 1 s, 300 MB. {len(every) - len(wrong)} of {len(every)} got the right status. Memory above the idle process, the body itself not counted.')
sys.exit(f'wrong status: {wrong}' if wrong else 0)
