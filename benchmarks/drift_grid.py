"""Which change is found at which size? A grid after Rabanser et al. (2019): kinds of shift x strength x photos in the window.

    python benchmarks/drift_grid.py [NAME]        # NAME: of benchmarks/shifted.py
    MLPROJECT_DRIFT_PEERS=/path/to/python         # an interpreter with nannyml and frouros (pip install nannyml frouros statsmodels), for their columns

Reference and window are drawn with replacement from the same photos, so that "no change" is exactly true. Every method judges the same windows, drawn once and kept as .npy.
"""
import json, os, subprocess, sys, tempfile, time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import shifted
from common import publish
from mlproject.evaluation.calibration import fit_temperature
from mlproject.metrics import softmax, wilson
from mlproject.monitoring.drift import Ready, detect, ks_columns
from mlproject.monitoring.reference import make_reference, see

SIZES, REFERENCE, WORDS = (10, 100, 1000, 10000), 1000, ('weak', 'medium', 'strong')
RUNS = {10: 20, 100: 20, 1000: 10, 10000: 2}             # windows of each kind and strength
GONE = {10: 100, 100: 100, 1000: 50, 10000: 10}          # and of a third of the species gone
MIX = {10: 100, 100: 200, 1000: 200, 10000: 10}          # and of one species six times commoner, every species in turn
NULL = {10: 1000, 100: 1000, 1000: 1000, 10000: 100}     # and of no change
MMD = {10: 4, 100: 3}                                    # of every eighth job, for the peer's permutation test: most of its time
PEERS = ('nannyml', 'nannyml at 5 %', 'frouros KS', 'frouros MMD')
METHODS = ('mlproject', 'univariate BBSDs', *PEERS)

@dataclass
class Job:
    "Windows that are compared with one reference."
    change: str               # the row of the table
    kind: str                 # of photos: clean_0, dark_1, …
    n: int
    reference: np.ndarray     # indices: the first 1,000 are everybody's; nannyml's thresholds need ten chunks
    windows: np.ndarray       # (R, n) indices

def draw_jobs(rng, y, kinds):
    "The grid."
    N, out, even = len(y), [], None
    def add(change, kind, n, runs, p, a_job):
        while runs > 0:
            out.append(Job(change, kind, n, rng.integers(0, N, max(10*n, REFERENCE)), rng.choice(N, (min(runs, a_job), n), p=p() if p else None)))
            runs -= a_job
    species = y.max() + 1
    def gone():
        w = np.where(np.isin(y, rng.permutation(species)[:species//3]), 0., 1.)
        return w/w.sum()
    def six():
        w = np.where(y == rng.integers(0, species), 6., 1.)
        return w/w.sum()
    for n in SIZES:
        for kind, level in kinds:
            if level: add(f'{kind} {level}', f'{kind}_{level}', n, RUNS[n], even, 10 if n < 10000 else 4)
        add('a third of the species gone', 'clean_0', n, GONE[n], gone, 10)
        add('one species six times commoner', 'clean_0', n, MIX[n], six, 4)
        add('none: false alarms', 'clean_0', n, NULL[n], even, 10)
    return out

def start_peers(folder, jobs, found, t):
    "Keep the arrays and start nannyml and frouros on them."
    if not (python := os.environ.get('MLPROJECT_DRIFT_PEERS')): return None
    for (kind, level), a in found.items():
        figures = np.column_stack([*a['quality'].values(), softmax(a['logits'], t).max(1)]).astype(float)
        for name, v in dict(figures=figures, answers=a['logits'].argmax(1), embedding=a['embedding'].astype(float)).items(): np.save(f'{folder}/{name}_{kind}_{level}.npy', v)
    told = []
    for k, j in enumerate(jobs):
        np.save(f'{folder}/r{k}.npy', j.reference); np.save(f'{folder}/w{k}.npy', j.windows)
        told.append(dict(kind=j.kind, n=j.n, reference=f'r{k}', windows=f'w{k}', mmd=MMD.get(j.n, 0) if k % 8 == 0 or j.change.startswith('a third') else 0))
    Path(folder, 'jobs.json').write_text(json.dumps(told))
    script = Path(__file__).parent/'peers'/'drift.py'
    return subprocess.Popen([python, str(script), folder], env=os.environ | dict(MPLBACKEND='agg', PYTHONPATH='', NML_DISABLE_USAGE_LOGGING='1'))

def judge(job, found, y, labels, t):
    "method -> 0 or 1 for every window."
    kind, level = job.kind.split('_')
    clean, a, i = found['clean', 0], found[kind, int(level)], job.reference[:REFERENCE]
    r = Ready(make_reference(clean['logits'][i], clean['embedding'][i], y[i], labels, t, {k: v[i] for k, v in clean['quality'].items()}))
    old, out = np.sort(softmax(clean['logits'][i], t), 0).T, dict.fromkeys(METHODS[:2], ())
    for w in job.windows:
        seen = see(r.reference, a['logits'][w], a['embedding'][w], {k: v[w] for k, v in a['quality'].items()})
        out['mlproject'] += (int(detect(r, seen).drifted),)
        new = softmax(a['logits'][w], t)      # univariate BBSDs: KS on every softmax output, Bonferroni
        out['univariate BBSDs'] += (int(ks_columns(old, new)[1].min()*new.shape[1] <= .05),)
    return out

def shown(x, interval=True):
    if not len(x): return '—'
    return f'{wilson(float(sum(x)), len(x)):%}' if interval else f'{np.mean(x):.0%}'

def at_level(jobs, found, method='nannyml at 5 %'):
    "Figures -> 0 or 1, with the limit for each size that the windows without a change exceed in 5 %."
    for n in SIZES:
        mine = [(j, f) for j, f in zip(jobs, found) if j.n == n and method in f]
        if not mine: continue
        limit = np.quantile(np.concatenate([f[method] for j, f in mine if j.change.startswith('none')]), .95)
        for _, f in mine: f[method] = [int(v > limit) for v in f[method]]

def tables(jobs, found):
    "(rows by strength, rows by kind)."
    got = {}
    for job, f in zip(jobs, found):
        for m, hits in f.items():
            strength = WORDS[int(job.change[-1]) - 1] + ' spoiling' if job.change[-1].isdigit() else job.change
            for change in {strength, job.change}: got.setdefault((change, job.n, m), []).extend(hits)
    of = lambda change, n, m: got.get((change, n, m), [])
    changes = [*(f'{w} spoiling' for w in WORDS), 'a third of the species gone', 'one species six times commoner', 'none: false alarms']
    main = [{'change': c, 'photos': f'{n:,}'} | {m: shown(of(c, n, m)) for m in METHODS} for c in changes for n in SIZES]
    main += [{'change': w, 'photos': 'any'} | dict.fromkeys(METHODS, v) for w, v in (('always alarmed: found and false', '100 %'), ('never alarmed: found and false', '0 %'))]
    kinds = sorted({j.change for j in jobs if j.change[-1].isdigit()})
    by = [{'photos spoiled by': f'{c[:-2]} {c[-1]}/3'} | {f'{n:,}: {m}': shown(of(c, n, m), False) for n in SIZES for m in METHODS[:2] + PEERS[1:3]} for c in kinds]
    return main, by

def main(name='survey'):
    rows, found = shifted.load(name)
    y, labels, started = rows['y'], list(rows['classes']), time.process_time()
    t = fit_temperature(found['clean', 0]['logits'], y)
    jobs = draw_jobs(np.random.default_rng(0), y, list(found))
    with tempfile.TemporaryDirectory() as folder:
        peers = start_peers(folder, jobs, found, t)
        judged = [judge(j, found, y, labels, t) for j in jobs]
        if peers:
            if peers.wait(): sys.exit(f'the peers failed with exit status {peers.returncode}')
            judged = [a | b for a, b in zip(judged, json.loads(Path(folder, 'found.json').read_text()))]
            at_level(jobs, judged)
    table, by = tables(jobs, judged)
    note = f'{time.process_time() - started:.0f} CPU seconds for the first two. ' + ('' if peers else "The peers' columns are not filled in this run. ")
    publish(f'drift_grid_{name}', f'Share of windows in which drift is found, with 95 % Wilson intervals; reference of {REFERENCE:,} photos, false alarms meant to be at most 5 %', table,
            note + 'The same windows for every method. nannyml: univariate Jensen–Shannon on quality figures, confidence and answer with its own thresholds, set on ten chunks; alarm when any column leaves them; its second column: the same figures with the limit at which the windows of the last rows alarm in 5 %. '
            'frouros: KS on figures and confidence, Bonferroni, and MMD on 200 embeddings with 40 permutations (up to 100 photos).')
    publish(f'drift_kinds_{name}', 'Share of windows in which drift is found, by kind and strength of spoiling and photos in the window', by, f'Windows a cell: {", ".join(f"{RUNS[n]} of {n:,}" for n in SIZES)}.')

if __name__ == '__main__': main(*sys.argv[1:])
