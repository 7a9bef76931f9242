"""Accuracy of live traffic with and without labels, against NannyML's CBPE on the same arrays; harm found and harmless change left alone.

    python benchmarks/live_accuracy.py [NAME]     # NAME: of benchmarks/shifted.py
    MLPROJECT_NANNYML=/path/to/python             # an interpreter with nannyml, for its column
"""
import json, math, os, subprocess, sys, tempfile
from pathlib import Path

import numpy as np

import shifted
from common import publish
from mlproject.evaluation.calibration import fit_temperature
from mlproject.evaluation.sequential import log_e_change
from mlproject.metrics import wilson
from mlproject.monitoring.drift import Ready, detect
from mlproject.monitoring.performance import atc, audit_chance, estimate, estimate_unlabelled, remember
from mlproject.monitoring.reference import make_reference, see

RUNS, N, LABELS = 1000, 1000, 200

CBPE = """
import sys, json, warnings, numpy as np, pandas as pd
warnings.filterwarnings('ignore')
import nannyml as nml
z = np.load(sys.argv[1]); classes = [f'c{i:03d}' for i in range(z['reference'].shape[1])]
def frame(p, y): return pd.DataFrame(p, columns=['p_' + c for c in classes]).assign(pred=np.array(classes)[p.argmax(1)], y=np.array(classes)[y])
e = nml.CBPE(y_pred_proba={c: 'p_' + c for c in classes}, y_pred='pred', y_true='y', problem_type='classification_multiclass', metrics=['accuracy'], chunk_size=int(z['chunk']))
e.fit(frame(z['reference'], z['y']))
got = e.estimate(frame(z['traffic'], np.zeros(len(z['traffic']), int))).to_df()
print(json.dumps(got[('accuracy', 'value')][got[('chunk', 'period')] == 'analysis'].tolist()))
"""

def cbpe(reference, y, windows):
    "NannyML's estimate for each window of probabilities, each one chunk; None without NannyML."
    python = os.environ.get('MLPROJECT_NANNYML')
    if not python: return None
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f'{folder}/a.npz', reference=reference, y=y, traffic=np.concatenate(windows), chunk=len(windows[0]))
        Path(f'{folder}/b.py').write_text(CBPE)
        r = subprocess.run([python, f'{folder}/b.py', f'{folder}/a.npz'], capture_output=True, text=True, env=os.environ | dict(MPLBACKEND='agg', PYTHONPATH='', NML_DISABLE_USAGE_LOGGING='1'))
    if r.returncode: print(r.stderr[-1500:], file=sys.stderr); return None
    return json.loads(r.stdout.splitlines()[-1])

def halves(rows):
    "(reference, production) photos: validation against test, or two halves of the groups where validation is small."
    v = rows['split'] == 'validation'
    if v.sum() < 300: v = np.random.default_rng(0).random(10**5)[np.unique(rows['group'], return_inverse=True)[1]] < .5
    return np.flatnonzero(v), np.flatnonzero(~v)

def setting(name):
    "(y, arrays, reference without rehearsals, photos of the reference, photos of production)."
    rows, found = shifted.load(name)
    old, new = halves(rows)
    clean, y = found['clean', 0], rows['y']
    t = fit_temperature(clean['logits'][old], y[old])
    reference = make_reference(clean['logits'][old], clean['embedding'][old], y[old], list(rows['classes']), t, {k: v[old] for k, v in clean['quality'].items()})
    return y, found, reference, old, new

def rehearsed(reference, found, y, old, without):
    "The reference with rehearsals of all kinds but one."
    return remember(reference, {k: v['logits'][old] for k, v in found.items() if k[0] != without}, y[old])

def mixed(rng, y, photos, n, mix):
    "n photos; with `mix`, species in other shares."
    if not mix: return rng.choice(photos, n)
    w = rng.gamma(1., size=y.max() + 1)[y[photos]] + 1e-9
    return rng.choice(photos, n, p=w/w.sum())

def unlabelled(name, y, found, reference, old, new):
    rng, windows, kept = np.random.default_rng(0), [], []
    for kind in sorted({k[0] for k in found}):
        taught = rehearsed(reference, found, y, old, kind)
        for level in sorted(k[1] for k in found if k[0] == kind):
            for mix in (False, True):
                for _ in range(2):
                    i = mixed(rng, y, new, N, mix)
                    logits = found[kind, level]['logits'][i]
                    windows.append(reference.probs(logits))
                    kept.append((kind, level, mix, (logits.argmax(1) == y[i]).mean(), windows[-1].max(1).mean(), atc(reference, logits), estimate_unlabelled(taught, logits).value))
    peer = cbpe(reference.probs(found['clean', 0]['logits'][old]), y[old], windows)
    table = []
    groups = {'clean': lambda k: k[0] == 'clean' and not k[2], 'clean, other shares of species': lambda k: k[0] == 'clean' and k[2], **{f'spoiled, {w}': lambda k, l=l: k[1] == l and not k[2] for l, w in ((1, 'weak'), (2, 'medium'), (3, 'strong'))},
              'spoiled, other shares of species': lambda k: k[1] > 0 and k[2], 'all': lambda k: True}
    for title, mine in groups.items():
        j = [i for i, k in enumerate(kept) if mine(k)]
        off = lambda values: f'{np.mean([abs(values[i] - kept[i][3]) for i in j]):.1%}'
        table.append({'traffic': title, 'windows': len(j), 'mean accuracy': f'{np.mean([kept[i][3] for i in j]):.1%}', 'mean confidence': off([k[4] for k in kept]), 'NannyML CBPE': off(peer) if peer else '—',
                      'thresholded confidence': off([k[5] for k in kept]), 'rehearsed (kind not rehearsed)': off([k[6] for k in kept])})
    publish(f'live_accuracy_{name}', f'Mean absolute error of accuracy without labels, windows of {N:,} photos', table, 'Every kind of spoiling is estimated by a reference that has rehearsed the other seven.')

def audited(name, y, found, reference, old, new):
    table, rng = [], np.random.default_rng(1)
    for kind, level in [('clean', 0), *((k, l) for k in shifted.KINDS for l in (1, 2) if (k, l) in found)]:
        probs = reference.probs(found[kind, level]['logits'])
        right, conf, off = probs.argmax(1) == y, probs.max(1), dict(plain=[], ppi=[], active=[])
        inside = dict(plain=0, ppi=0, active=0)
        for _ in range(RUNS):
            w = rng.choice(new, 10*N)
            true, i = right[w].mean(), rng.choice(10*N, LABELS, replace=False)
            chance = audit_chance(conf[w], LABELS/len(w))
            j = np.flatnonzero(rng.random(len(w)) < chance)
            for m, e in dict(plain=wilson(float(right[w][i].sum()), LABELS), ppi=estimate(conf[w], i, right[w][i]), active=estimate(conf[w], j, right[w][j], chance)).items():
                off[m].append(abs(e.value - true)); inside[m] += e.low <= true <= e.high
        table.append({'photos': kind if kind == 'clean' else f'{kind} {level}/3', 'accuracy': f'{right[new].mean():.1%}'} | {f'{t}: {what}': v for m, t in (('plain', 'audited share'), ('ppi', 'prediction-powered'), ('active', 'and audits where unsure'))
                     for what, v in (('error', f'{np.mean(off[m]):.2%}'), ('interval holds', f'{inside[m]/RUNS:.1%}'))})
    mean = lambda key: f"{np.mean([float(r[key].rstrip('%')) for r in table]):.2f}%"
    table.append({k: mean(k) if ':' in k else 'all' if k == 'photos' else '' for k in table[0]})
    publish(f'live_audited_{name}', f'Accuracy from {LABELS} audited photos of 10,000: mean absolute error, and how often the 95 % interval holds the truth', table, f'{RUNS:,} runs a row.')

def alarms(name, y, found, reference, old, new):
    "The two keys at work: 2,000 calm requests, then 2,000 changed ones, in windows of 250."
    rng, ready, table, at = np.random.default_rng(2), Ready(reference), [], np.arange(25, 1001, 25)
    clean = found['clean', 0]['logits'].argmax(1) == y
    promised = clean[new].mean()
    for kind, level, mix in [('clean', 0, False), ('clean', 0, True), *((k, l, False) for k in shifted.KINDS for l in (1, 2, 3) if (k, l) in found)]:
        a = found[kind, level]
        right = a['logits'].argmax(1) == y
        p = np.full(len(new), 1/len(new))
        if mix: p = np.where(y[new] == np.bincount(y[new]).argmax(), 6., 1.); p /= p.sum()
        drop = promised - (right[new]*p).sum()
        seen = [rng.choice(new, 250, p=p) for _ in range(40)]
        drifts = np.mean([detect(ready, see(reference, a['logits'][i], a['embedding'][i], {k: v[i] for k, v in a['quality'].items()})).drifted for i in seen])
        quiet = [rng.choice(new, 250) for _ in range(40)]
        c = found['clean', 0]
        false = np.mean([detect(ready, see(reference, c['logits'][i], c['embedding'][i], {k: v[i] for k, v in c['quality'].items()})).drifted for i in quiet])
        hit_audits, hit_requests, any_ = np.full(RUNS, np.inf), np.full(RUNS, np.inf), np.zeros(RUNS, bool)
        n_audited = np.zeros((RUNS, 16), int)
        x = np.zeros((RUNS, 4000), bool)
        total = np.zeros(RUNS, int)
        for run in range(RUNS):                                # windows of 250 requests: eight calm, eight changed
            watch, k = 0, 0
            for window in range(16):
                m = rng.binomial(250, .25 if watch else .02)
                pool = right[rng.choice(new, m, p=p)] if window >= 8 else clean[rng.choice(new, m)]
                x[run, k:k + m] = ~pool; k += m
                n_audited[run, window] = k
                watch = 3 if rng.random() < (drifts if window >= 8 else false) else max(0, watch - 1)
            total[run] = k
        log_e = log_e_change(x, 1 - (promised - .02), at=at)
        for run in range(RUNS):
            over = np.flatnonzero((log_e[run] >= math.log(20)) & (at <= total[run]))
            if not len(over): continue
            n, before = at[over[0]], n_audited[run, 7]
            if n > before: hit_audits[run], hit_requests[run] = n - before, 250*(1 + np.searchsorted(n_audited[run, 8:], n))
            any_[run] = True
        table.append((drop, {'traffic': 'clean' if kind == 'clean' and not mix else 'one species six times commoner' if mix else f'{kind} {level}/3', 'accuracy lost': f'{drop:+.1%}', 'drift in a window of 250': f'{drifts:.0%}',
                             'retraining started': f'{wilson(float(any_.sum()), RUNS):%}', 'within 500 audited or 2,000 requests': f'{wilson(float(((hit_audits <= 500) | (hit_requests <= 2000)).sum()), RUNS):%}',
                             'median requests': f'{np.median(hit_requests[np.isfinite(hit_requests)]):,.0f}' if np.isfinite(hit_requests).any() else '—'}))
    publish(f'live_alarms_{name}', 'Two-key alarm: 2,000 calm requests, then 2,000 changed ones', [r for _, r in sorted(table, key=lambda t: t[0])], f'{RUNS:,} runs a row; promised {promised:.1%}, tolerance 2 points, 2 % audited when calm and 25 % after drift. Windows are drawn again and again from the same test photos and compared with the one reference of validation photos, so the chance difference of those two sets is found as drift even when clean.')

if __name__ == '__main__':
    name = sys.argv[1] if len(sys.argv) > 1 else 'survey'
    for part in sys.argv[2].split(',') if len(sys.argv) > 2 else ('unlabelled', 'audited', 'alarms'): globals()[part](name, *setting(name))
