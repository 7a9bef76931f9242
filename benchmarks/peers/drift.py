"""nannyml and frouros on the windows of benchmarks/drift_grid.py, in an interpreter of their own: python drift.py FOLDER

FOLDER holds figures_K.npy (photos, columns), answers_K.npy (photos,) and embedding_K.npy for every kind K of photos, and jobs.json: a list of
{kind, n, reference, windows, mmd}, the two middle ones names of .npy files with indices of photos. Writes found.json: one dict a job, name -> 0 or 1 for every window (for `nannyml at 5 %` a figure, whose limit is set by the windows without a change).
"""
import json, sys, warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

warnings.filterwarnings('ignore')
import nannyml as nml
from frouros.callbacks import PermutationTestDistanceBased
from frouros.detectors.data_drift import KSTest, MMD
import frouros.utils.stats
from multiprocessing.dummy import Pool

frouros.utils.stats.Pool = Pool   # a thread instead of a process forked for every test: the same permutations, in less time
FOLDER, ALPHA, REFERENCE = Path(sys.argv[1]), .05, 1000
array = cache(lambda name: np.load(FOLDER / f'{name}.npy'))

def frame(figures, answers):
    return pd.DataFrame(figures, columns=[f'f{i}' for i in range(figures.shape[1])]).assign(answer=pd.Categorical([f'c{a}' for a in answers]))

def nannyml(old, new, n):
    "Univariate Jensen-Shannon with nannyml's own thresholds (three deviations of the reference's chunks); any column alarms. (alarms, largest value by its threshold)"
    c = nml.UnivariateDriftCalculator(column_names=list(old), treat_as_categorical=['answer'], chunk_size=n, continuous_methods=['jensen_shannon'], categorical_methods=['jensen_shannon'])
    c.fit(old)
    got = c.calculate(new).to_df()
    got, runs = got[(got[('chunk', 'chunk', 'period')] == 'analysis').to_numpy()], len(new) // n
    values, upper = (got[[k for k in got.columns if k[-1] == what]].to_numpy(float) for what in ('value', 'upper_threshold'))
    alerts = got[[k for k in got.columns if k[-1] == 'alert']].any(axis=1).astype(int)
    return alerts.tolist()[:runs], np.nanmax(values / upper, 1).tolist()[:runs]

def ready_ks(old):
    tests = []
    for column in old.T:
        tests.append(KSTest()); tests[-1].fit(X=column)
    return tests

def ks(tests, window): return int(min(t.compare(X=x)[0].p_value for t, x in zip(tests, window.T)) * len(tests) <= ALPHA)

def mmd(old, window, seed):
    d = MMD(callbacks=[PermutationTestDistanceBased(num_permutations=40, random_state=seed, num_jobs=1, name='p')])
    d.fit(X=old)
    return int(d.compare(X=window)[1]['p']['p_value'] <= ALPHA)

def judge(job):
    n, i, windows = job['n'], array(job['reference']), array(job['windows'])
    old, new, said_old, said_new = array('figures_clean_0'), array(f"figures_{job['kind']}"), array('answers_clean_0'), array(f"answers_{job['kind']}")
    j, tests = windows.ravel(), ready_ks(old[i[:REFERENCE]])
    alerts, ratio = nannyml(frame(old[i], said_old[i]), frame(new[j], said_new[j]), n)
    found = {'nannyml': alerts, 'nannyml at 5 %': ratio, 'frouros KS': [ks(tests, new[w]) for w in windows]}
    if job['mmd']: found['frouros MMD'] = [mmd(array('embedding_clean_0')[i[:200]], array(f"embedding_{job['kind']}")[w], k) for k, w in enumerate(windows[:job['mmd']])]
    return found

if __name__ == '__main__':
    jobs = json.loads((FOLDER / 'jobs.json').read_text())
    (FOLDER / 'found.json').write_text(json.dumps([judge(j) for j in jobs]))
