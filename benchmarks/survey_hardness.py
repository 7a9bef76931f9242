"""How hard the built-in survey is for a linear classifier on raw pixels. `make bench-survey`"""
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from common import publish
from mlproject.core import progress
from mlproject.data.survey import make_survey
from mlproject.metrics import share
from mlproject.photos import read_photo

SIDE, SPECIES, PHOTOS = 32, 100, 60
STRENGTHS = (.003, .01, .03, .1, .3, 1., 3.)  # weight decay: penalty / 2 * |W|^2 on the mean cross-entropy


def pixels(path: Path) -> np.ndarray:
    "The middle square of a photo as SIDE x SIDE x 3 numbers."
    rgb = read_photo(path)
    side = min(rgb.shape[:2])
    y, x = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    return cv2.resize(rgb[y:y + side, x:x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()


def fit(x, y, penalty: float, classes: int):
    "Multinomial logistic regression by L-BFGS."
    import torch
    import torch.nn.functional as F
    w = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    opt = torch.optim.LBFGS([w], max_iter=80, line_search_fn='strong_wolfe')

    def loss():
        opt.zero_grad()
        out = F.cross_entropy(x @ w[:-1] + w[-1], y) + penalty / 2 * (w[:-1] ** 2).sum()
        out.backward()
        return out
    opt.step(loss)
    return w.detach()


def main():
    import torch
    with tempfile.TemporaryDirectory() as tmp:
        survey = make_survey(Path(tmp) / 'survey', species=SPECIES, photos=PHOTOS, workers=2)
        records, truth = pd.read_csv(survey / 'occurrences.csv'), pd.read_parquet(survey / 'truth.parquet')
        unfit = truth.fault.isin(['exact_duplicate', 'near_duplicate', 'blurred', 'black', 'truncated'])
        records = records[~records.occurrenceID.isin(truth.occurrenceID[unfit])]
        x = np.stack([pixels(survey / p) for p in progress(records.associatedMedia, label='read')]).astype(np.float32)
    y, group = pd.factorize(records.scientificName)[0], pd.factorize(records.eventID)[0]
    part = np.random.default_rng(0).choice(3, group.max() + 1, p=(.7, .15, .15))[group]  # whole bursts
    x = torch.tensor((x - x[part == 0].mean(0)) / x[part == 0].std(0))
    right, best = {}, None
    for penalty in STRENGTHS:
        w = fit(x[part == 0], torch.tensor(y[part == 0]), penalty, y.max() + 1)
        right[penalty] = ((x @ w[:-1] + w[-1]).argmax(1).numpy() == y)
        best = max(right, key=lambda p: right[p][part == 1].mean())
    e = share(right[best][part == 2], groups=group[part == 2])
    publish('2_survey_hardness', 'A linear classifier on the raw pixels of the built-in survey (`make bench-survey`)', [{
        'species': SPECIES, 'photos': len(y), 'pixels': f'{SIDE} x {SIDE} x 3', 'weight decay (chosen on validation)': best,
        'training top-1': f'{100 * right[best][part == 0].mean():.1f} %',
        'test top-1': f'{100 * e.value:.1f} % ({100 * e.low:.1f} to {100 * e.high:.1f})', 'bar': 'under 30 %'}])


if __name__ == '__main__': main()
