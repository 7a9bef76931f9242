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
from mlproject.metrics import softmax, wilson
from mlproject.monitoring.alarms import AlarmPolicy
from mlproject.monitoring.drift import Ready, detect
from mlproject.monitoring.performance import FALSE_HARM, atc, audit_chance, band_level, estimate, estimate_unlabelled, remember
from mlproject.monitoring.reference import make_reference, see
from mlproject.monitoring.watching import AUDITS

RUNS, N, LABELS = 1000, 1000, 200

def cbpe(reference, y, windows):
    "NannyML's estimate for each window of probabilities, each one chunk; None without NannyML."
    python = os.environ.get('MLPROJECT_NANNYML')
    if not python: return None
    with tempfile.TemporaryDirectory() as folder:
        for k, v in dict(reference=reference, y=y, traffic=np.concatenate(windows)).items(): np.save(f'{folder}/{k}.npy', v)
        r = subprocess.run([python, str(Path(__file__).parent/'peers'/'cbpe.py'), folder, str(len(windows[0]))], capture_output=True, text=True,
                           env=os.environ | dict(MPLBACKEND='agg', PYTHONPATH='', NML_DISABLE_USAGE_LOGGING='1'))
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

def pick(new, old, i, spoiled):
    return np.where(spoiled.reshape(-1, *[1]*(old.ndim - 1)), new[i], old[i])

def drift_rate(references, a, clean, share, rng, windows=40, p=None):
    "How often a window of 250 is found to have drifted."
    hits, N = 0, len(clean['logits'])
    for k in range(windows):
        i, s = rng.choice(N, WINDOW, p=p), rng.random(WINDOW) < share
        r, seen = references[k % len(references)], {f: pick(a[f], clean[f], i, s) for f in ('logits', 'embedding')}
        hits += detect(r, see(r.reference, seen['logits'], seen['embedding'], {q: pick(a['quality'][q], v, i, s) for q, v in clean['quality'].items()})).drifted
    return hits/windows

WINDOW, CALM, SEEN = 250, 8, 8    # requests a look; looks before the change; looks that the corrected estimate reaches back
POLICY = AlarmPolicy()

def one_life(rng, calm, changed, share, p, drifts, false, promised, looks):
    "(looks after the change until harm was shown or inf, audits until then, harm ever, shown by the bet alone)."
    N, least = len(calm['right']), promised - POLICY.tolerance
    need, past, wrong, watching, opened, asked, bet = -math.log(FALSE_HARM), [], [], 0, None, 0, False
    for w in range(CALM + looks):
        rate, late = POLICY.watch_rate if watching else POLICY.base_rate, w >= CALM
        i = rng.choice(N, WINDOW, p=p if late else None) if p is not None else rng.integers(0, N, WINDOW)
        s, drawn = (rng.random(WINDOW) < share) & late, rng.random(WINDOW) < rate
        right, sure = (np.where(s, changed[k][i], calm[k][i]) for k in ('right', 'sure'))
        wrong += (~right[drawn]).tolist(); past.append((sure, drawn, right, np.full(WINDOW, rate)))
        if w == CALM: before = len(wrong) - int(drawn.sum())
        x = np.array(wrong, bool)
        bet = bool(len(x)) and log_e_change(x, 1 - least)[-1] >= need
        band = False
        if opened is not None:
            g, a, r, c = (np.concatenate(v) for v in zip(*past[max(opened, w + 1 - SEEN):]))
            if a.sum() >= AUDITS:
                j, asked = np.flatnonzero(a), asked + 1
                band = estimate(g, j, r[j], c, None, band_level(asked - 1)).high < least
        if bet or band: return (w - CALM + 1, len(wrong) - before) if late else (math.inf, math.inf), True, bet
        found = rng.random() < (drifts if late else false)
        if found and not watching: opened = w + 1
        watching = POLICY.calm_after if found else max(0, watching - 1)
        if not watching: opened = None
    return (math.inf, math.inf), False, False

def alarms(name, y, found, *_):
    "The two keys at work: eight calm looks at 250 requests each, then eight changed ones."
    rng, clean, N, table = np.random.default_rng(2), found['clean', 0], len(y), []
    t = fit_temperature(clean['logits'], y)
    draw = lambda i: Ready(make_reference(clean['logits'][i], clean['embedding'][i], y[i], list(range(y.max() + 1)), t, {k: v[i] for k, v in clean['quality'].items()}))
    references = [draw(rng.integers(0, N, 1000)) for _ in range(10)]
    about = lambda a: dict(right=a['logits'].argmax(1) == y, sure=softmax(a['logits'], t).max(1))
    calm, false = about(clean), drift_rate(references, clean, clean, 0, rng, 200)
    promised = float(calm['right'].mean())
    lost = {k: promised - float(about(a)['right'].mean()) for k, a in found.items()}
    common = np.where(y == np.bincount(y).argmax(), 6., 1.)
    rows = [('nothing', clean, 0, None, 40), ('one species six times commoner', clean, 0, common/common.sum(), 8), ('dark 1/3', found['dark', 1], 1, None, 8)]
    kind = ('turn', 1) if ('turn', 1) in found else ('block', 1)
    for size in (.02, .03, .04, .05, .06, .07, .08, .09, .1, .11):
        if size <= lost[kind]: rows += [(f'{kind[0]} {kind[1]}/3 in {size/lost[kind]:.0%} of the photos', found[kind], size/lost[kind], None, looks) for looks in ((40, 8) if size == .02 else (8,))]
    rows += [(f'{k[0]} {k[1]}/3', found[k], 1, None, 8) for k in sorted(found, key=lambda k: lost[k]) if lost[k] > .1]
    for title, a, share, p, looks in rows:
        changed = about(a)
        loss = promised - ((share*changed['right'] + (1 - share)*calm['right'])*(1/N if p is None else p)).sum()
        drifts = drift_rate(references, a, clean, share, rng, p=p)
        lives = [one_life(np.random.default_rng([3, k]), calm, changed, share, p, drifts, false, promised, looks) for k in range(RUNS)]
        requests, audits = np.array([l[0] for l in lives]).T
        requests = requests*WINDOW
        table.append({'change': title, 'accuracy lost': f'{loss:+.1%}', 'requests': f'{CALM*WINDOW:,} + {looks*WINDOW:,}', 'drift in a window of 250': f'{drifts:.0%}', 'retraining started': f'{wilson(float(sum(l[1] for l in lives)), RUNS):%}',
                      'within 500 audited or 2,000 requests': f'{wilson(float(((audits <= 500) | (requests <= 2000)).sum()), RUNS):%}',
                      'median requests': f'{np.median(requests[np.isfinite(requests)]):,.0f}' if np.isfinite(requests).any() else '—',
                      'shown by the bet': f'{np.mean([l[2] for l in lives]):.0%}'})
        print(table[-1], file=sys.stderr, flush=True)
    publish(f'live_alarms_{name}', 'Two-key alarm: 2,000 calm requests, then changed ones, a look every 250', table,
            f'{RUNS:,} runs a row, 95 % Wilson intervals; promised {promised:.1%}, tolerance {POLICY.tolerance:.0%}: losing 2.0 points is the largest harmless change. {POLICY.base_rate:.0%} audited when calm and {POLICY.watch_rate:.0%} while an alert is open: '
            f'2,000 changed requests are about 440 audits. Harm is shown by the bet over all audits or by the corrected estimate of what came since the alert; together at most 5 % false alarms ever. Without a change {false:.1%} of the windows are found to have drifted.')

if __name__ == '__main__':
    name = sys.argv[1] if len(sys.argv) > 1 else 'survey'
    for part in sys.argv[2].split(',') if len(sys.argv) > 2 else ('unlabelled', 'audited', 'alarms'): globals()[part](name, *setting(name))
