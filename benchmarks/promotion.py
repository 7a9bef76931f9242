"""Canary releases decided by the beta-binomial e-process, on the audited answers of a real champion: errors and power.

The champion's answers are those stored for darkened held-out photos (two thirds right, so that there is room above and below); the candidate turns some of its wrong ones right (wins) and some right
ones wrong (losses), more on some cameras than on others, alike inside a burst.

    python benchmarks/promotion.py [NAME]      # NAME: of benchmarks/shifted.py, default survey
"""
import math, sys

import numpy as np

import shifted
from common import publish
from mlproject.evaluation.sequential import CanaryPolicy, log_e_better, log_e_not_worse
from mlproject.metrics import wilson

RUNS, PAIRS, EVERY, ALPHA = 1000, 5000, 10, .05

def fill(chance, share):
    "Chances scaled until their mean is `share`, none above 1."
    for _ in range(20): chance = np.minimum(chance*share/chance.mean(), 1)
    return chance

def scores(rng, site, right, difference, discordance, runs=RUNS, n=PAIRS):
    "(runs, n) of +1 (only the candidate is right), -1, 0: one random photo of each burst, in order."
    camera = np.unique(site, return_inverse=True)[1]
    lean = rng.lognormal(0, .5, (runs, 2, camera.max() + 1))   # some cameras gain, others lose: the same over the whole run
    out = np.empty((runs, n), np.int8)
    for r in range(runs):
        win, loss = (fill(lean[r, k][camera]*mine + 0., share) for k, mine, share in ((0, ~right, (discordance + difference)/2), (1, right, (discordance - difference)/2)))
        i, u = rng.integers(0, len(right), n), rng.random(n)
        out[r] = (u < win[i]).astype(np.int8) - (u > 1 - loss[i])
    return out

def clustered(rng, score, mean=6):
    "Photo by photo instead: every burst's outcome is repeated, as often as the burst is long."
    many = rng.geometric(1/mean, score.shape)
    return [np.repeat(row, k)[:score.shape[1]] for row, k in zip(score, many)]

def play(score, policy):
    "(promoted at, rolled back at, widened at) in pairs, inf for never; a look after every `EVERY` pairs."
    at = np.arange(EVERY, score.shape[1] + 1, EVERY)
    w, l = (score > 0).cumsum(1)[:, at - 1], (score < 0).cumsum(1)[:, at - 1]
    need, first = -math.log(policy.alpha), lambda hit: np.where(hit.any(1), at[hit.argmax(1)], np.inf)
    table = log_e_better(np.arange(w.max() + 1)[:, None], np.arange(l.max() + 1)[None])
    back = log_e_better(np.arange(l.max() + 1)[:, None], np.arange(w.max() + 1)[None])
    ramp = np.concatenate([log_e_not_worse(w[i:i + 50], l[i:i + 50], at - w[i:i + 50] - l[i:i + 50], policy.ramp_margin) for i in range(0, len(w), 50)])
    up, down, wide = first(table[w, l] >= need), first(back[l, w] >= need), first(ramp >= need)
    done = np.minimum(up, down)
    wide = np.where(wide < done, wide, np.inf)
    return np.where(up < down, up, np.inf), np.where(up < down, np.inf, np.minimum(down, PAIRS)), wide

def rate(hit): return f'{wilson(float(np.sum(hit)), len(hit)):%}'
def median(x): return f'{np.median(x[np.isfinite(x)]):,.0f}' if np.isfinite(x).any() else '—'

def main(name='survey'):
    rows, found = shifted.load(name)
    right, site = found['dark', 2]['logits'].argmax(1) == rows['y'], rows['site'] if rows['site'][0] else rows['group'].astype('U2')
    rng, policy, table = np.random.default_rng(0), CanaryPolicy(alpha=ALPHA), []
    for difference, discordance in [(0, d) for d in (.05, .1, .25)] + [(-.005, .1)] + [(.02, d) for d in (.05, .1, .15, .2, .25)] + [(.03, d) for d in (.1, .25)] + [(-.03, d) for d in (.05, .1, .15, .2, .25)]:
        up, down, wide = play(scores(rng, site, right, difference, discordance), policy)
        table.append({'true difference': f'{difference:+.1%}', 'discordant': f'{discordance:.0%}', 'promoted': rate(np.isfinite(up)), 'median pairs until': median(up),
                      'rolled back': rate(np.isfinite(down)), 'median pairs': median(down), 'rolled back before 10 % of traffic': rate(np.isfinite(down) & np.isinf(wide))})
    publish(f'promotion_{name}', 'Canary by e-process: promoted and rolled back within 5,000 audited pairs, a look after every ten', table,
            f'{RUNS:,} runs a row, 95 % Wilson intervals; one photo a burst, gains and losses differ between cameras. No verdict after 5,000 pairs is a rollback.')
    lines, n = [], PAIRS
    score = scores(rng, site, right, 0, .1)
    photos = np.stack(clustered(rng, score))
    looks = np.arange(50, n + 1, 50)
    for title, s in (('one photo a burst', score), ('every photo of a burst', photos)):
        w, l = (s > 0).cumsum(1)[:, looks - 1], (s < 0).cumsum(1)[:, looks - 1]
        z = (w - l)/np.sqrt(np.maximum(w + l, 1))
        lines += [{'test': 'McNemar at the end', 'counted': title, 'false promotions': rate(z[:, -1] > 1.645)}, {'test': 'McNemar, a look every 50', 'counted': title, 'false promotions': rate((z > 1.645).any(1))},
                  {'test': 'e-process, a look every 50', 'counted': title, 'false promotions': rate((log_e_better(w, l) >= math.log(1/ALPHA)).any(1))}]
    lines += [{'test': 'always promote', 'counted': '—', 'false promotions': '100.0 %'}, {'test': 'never promote', 'counted': '—', 'false promotions': '0.0 %'}]
    publish(f'promotion_tests_{name}', 'False promotions of an equal candidate by test, 10 % discordant pairs', lines, f'{RUNS:,} runs, bursts of six photos on average.')

if __name__ == '__main__': main(*sys.argv[1:])
