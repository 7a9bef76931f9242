"""Which change is found at which size? A grid after Rabanser et al. (2019): kinds of shift x strength x photos in the window.

    python benchmarks/drift_grid.py [NAME]        # NAME: of benchmarks/shifted.py
    MLPROJECT_DRIFT_PEERS=/path/to/python         # an interpreter with nannyml and frouros, for their columns

Reference and window are drawn with replacement from the same photos, so that "no change" is exactly true.
"""
import json, os, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np

import shifted
from common import publish
from mlproject.evaluation.calibration import fit_temperature
from mlproject.metrics import softmax, wilson
from mlproject.monitoring.drift import Ready, detect, ks
from mlproject.monitoring.reference import make_reference, see

SIZES, REFERENCE = (10, 100, 1000, 10000), 1000
RUNS = {10: 40, 100: 30, 1000: 10, 10000: 2}        # of each cell of the grid
NULL = {10: 1000, 100: 1000, 1000: 1000, 10000: 100}

PEERS = """
import sys, json, warnings, numpy as np, pandas as pd
warnings.filterwarnings('ignore')
z = np.load(sys.argv[1], allow_pickle=False); n, out = int(z['n']), {}
ref, new, y_ref, y_new, e_ref, e_new = (z[k] for k in ('ref', 'new', 'pred_ref', 'pred_new', 'emb_ref', 'emb_new'))
runs = len(new)//n
import nannyml as nml
names = [f'f{i}' for i in range(ref.shape[1])]
frame = lambda x, y: pd.DataFrame(x, columns=names).assign(pred=pd.Categorical([f'c{v}' for v in y]))
c = nml.UnivariateDriftCalculator(column_names=names + ['pred'], treat_as_categorical=['pred'], chunk_size=n, continuous_methods=['jensen_shannon'], categorical_methods=['jensen_shannon'])
c.fit(frame(ref, y_ref)); got = c.calculate(frame(new, y_new)).to_df()
alerts = got[[k for k in got.columns if k[-1] == 'alert']][(got[('chunk', 'chunk', 'period')] == 'analysis').to_numpy()]
out['nannyml'] = alerts.any(axis=1).astype(int).tolist()[:runs]
from frouros.detectors.data_drift import KSTest
small, found = ref[:1000], []
for r in range(runs):
    w, p = new[r*n:(r + 1)*n], []
    for j in range(ref.shape[1]):
        d = KSTest(); d.fit(X=small[:, j]); p.append(d.compare(X=w[:, j])[0].p_value)
    found.append(int(min(p)*len(p) <= .05))
out['frouros KS'] = found
if n <= 100:
    from frouros.detectors.data_drift import MMD
    from frouros.callbacks import PermutationTestDistanceBased
    found = []
    for r in range(min(runs, 20)):
        d = MMD(callbacks=[PermutationTestDistanceBased(num_permutations=40, random_state=r, num_jobs=1, name='p')]); d.fit(X=e_ref[:200]); _, log = d.compare(X=e_new[r*n:(r + 1)*n])
        found.append(int(log['p']['p_value'] <= .05))
    out['frouros MMD'] = found
print(json.dumps(out))
"""

def peers(name, arrays, i, j, n, temperature):
    "Alarms of nannyml and frouros for windows j (runs x n) of `arrays` against the photos i of the clean ones."
    clean, new = arrays
    python = os.environ.get('MLPROJECT_DRIFT_PEERS')
    if not python: return {}
    def features(a, at): return np.column_stack([*(v[at] for v in a['quality'].values()), softmax(a['logits'][at], temperature).max(1)])
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f'{folder}/a.npz', n=n, ref=features(clean, i), new=features(new, j), pred_ref=clean['logits'][i].argmax(1), pred_new=new['logits'][j].argmax(1),
                 emb_ref=clean['embedding'][i[:200]].astype(float), emb_new=new['embedding'][j[:20*n] if n <= 100 else j[:1]].astype(float))
        Path(f'{folder}/b.py').write_text(PEERS)
        r = subprocess.run([python, f'{folder}/b.py', f'{folder}/a.npz'], capture_output=True, text=True, env=os.environ | dict(MPLBACKEND='agg'))
    if r.returncode: print(r.stderr[-800:], file=sys.stderr); return {}
    return json.loads(r.stdout.splitlines()[-1])

def bbsd(old, new):
    "Univariate BBSDs: KS on every softmax output, Bonferroni."
    return min(ks(o, c)[1] for o, c in zip(old, new.T))*new.shape[1] <= .05

def ready(clean, y, labels, t, i):
    r = Ready(make_reference(clean['logits'][i], clean['embedding'][i], y[i], labels, t, {k: v[i] for k, v in clean['quality'].items()}))
    return r, np.sort(softmax(clean['logits'][i], t), 0).T

def decide(r, old, a, j, t):
    w = see(r.reference, a['logits'][j], a['embedding'][j], {k: v[j] for k, v in a['quality'].items()})
    report = detect(r, w)
    return report.drifted, bbsd(old, softmax(a['logits'][j], t)), [f.drifted for f in report.families]

def cells(y, found, rng, labels):
    "name -> (strength, arrays, chance of each photo)."
    even, out = np.full(len(y), 1/len(y)), {}
    for (kind, level), a in found.items():
        if level: out[f'{kind} {level}/3'] = ('weak', 'medium', 'strong')[level - 1], a, even
    gone = np.isin(y, rng.permutation(len(labels))[:len(labels)//3])
    out['a third of the species gone'] = 'species', found['clean', 0], np.where(gone, 0, 1.)/(~gone).sum()
    return out

def main(name='survey', with_peers=True):
    rows, found = shifted.load(name)
    y, labels, rng = rows['y'], list(rows['classes']), np.random.default_rng(0)
    clean, N = found['clean', 0], len(rows['y'])
    t = fit_temperature(clean['logits'], y)
    grid, rate, started = cells(y, found, rng, labels), {}, time.process_time()
    pool = [ready(clean, y, labels, t, rng.integers(0, N, REFERENCE)) for _ in range(30)]
    for cell, (strength, a, p) in grid.items():
        for n in SIZES:
            got = [decide(*pool[k % len(pool)], a, rng.choice(N, n, p=p), t)[:2] for k in range(RUNS[n])]
            rate.setdefault((strength, n), []).append(np.mean(got, 0))
    null = {n: [] for n in SIZES}
    for run in range(1000):
        r = ready(clean, y, labels, t, rng.integers(0, N, REFERENCE))
        for n in SIZES:
            if run < NULL[n]: null[n].append(decide(*r, clean, rng.integers(0, N, n), t))
    # one species six times commoner: every species in turn
    mix = {n: [] for n in SIZES[1:]}
    for k in range(300):
        n = SIZES[1:][k % 3] if k % 20 < 3 else (100, 1000)[k % 2]
        w = np.where(y == rng.integers(0, len(labels)), 6., 1.)
        mix[n].append(decide(*pool[k % len(pool)], clean, rng.choice(N, n, p=w/w.sum()), t))
    peer = {}
    if with_peers:
        for n in (10, 100, 1000):
            for cell, (strength, a, p) in [('none', ('none', clean, np.full(N, 1/N))), *[(c, g) for k, (c, g) in enumerate(grid.items()) if k % 4 in (0, 1)], *[(f'six {s}', ('six', clean, (w := np.where(y == s, 6., 1.))/w.sum())) for s in range(0, len(labels), len(labels)//3)]]:
                if n == 1000 and strength in ('medium', 'strong'): continue
                runs = 100 if strength == 'none' else 10
                got = peers(name, (clean, a), rng.integers(0, N, max(10*n, 1000)), rng.choice(N, runs*n, p=p), n, t)
                for k, v in got.items(): peer.setdefault((k, strength, n), []).extend(v)
    table, names = [], ('nannyml', 'frouros KS', 'frouros MMD')
    show = lambda k, s, n: f'{np.mean(peer[k, s, n]):.0%}' if (k, s, n) in peer else '—'
    for strength in ('weak', 'medium', 'strong', 'species'):
        for n in SIZES:
            ours, b = np.mean(rate[strength, n], 0)
            table.append({'change': dict(species='a third of the species gone').get(strength, f'{strength} spoiling, mean of {len(rate[strength, n])} kinds'), 'photos': f'{n:,}', 'mlproject': f'{ours:.0%}', 'univariate BBSDs': f'{b:.0%}'} | {k: show(k, strength, n) for k in names})
    for n, got in mix.items():
        table.append({'change': 'one species six times commoner', 'photos': f'{n:,}', 'mlproject': f'{np.mean([g[0] for g in got]):.0%}', 'univariate BBSDs': f'{np.mean([g[1] for g in got]):.0%}'} | {k: show(k, 'six', n) for k in names})
    for n, got in null.items():
        table.append({'change': 'none: false alarms', 'photos': f'{n:,}', 'mlproject': f'{wilson(float(sum(g[0] for g in got)), len(got)):%}', 'univariate BBSDs': f'{wilson(float(sum(g[1] for g in got)), len(got)):%}'} | {k: show(k, 'none', n) for k in names})
    table += [{'change': w, 'photos': 'any', **{k: v for k in ('mlproject', 'univariate BBSDs', *names)}} for w, v in (('always alarmed: found and false', '100%'), ('never alarmed: found and false', '0%'))]
    publish(f'drift_grid_{name}', f'Share of windows in which drift is found, reference of {REFERENCE:,} photos, false alarms meant to be at most 5 %', table,
            f'{time.process_time() - started:.0f} CPU seconds. nannyml: univariate Jensen–Shannon on quality figures, confidence and prediction, alarm when any column leaves its threshold; frouros: KS on the same columns, Bonferroni, and MMD on the embeddings with 40 permutations (up to 100 photos).')

if __name__ == '__main__': main(*sys.argv[1:])
