"""NannyML's confidence-based accuracy, in an interpreter of its own: python cbpe.py FOLDER

FOLDER holds reference.npy (photos, classes) with y.npy and traffic.npy, windows of chunk photos after each other, all calibrated probabilities. Prints one accuracy a window.
"""
import json, sys, warnings
from pathlib import Path

import numpy as np
import pandas as pd

warnings.filterwarnings('ignore')
import nannyml as nml

def main(folder: str, chunk: int):
    reference, y, traffic = (np.load(Path(folder) / f'{n}.npy') for n in ('reference', 'y', 'traffic'))
    classes = np.array([f'c{i:03d}' for i in range(reference.shape[1])])
    def frame(p, truth): return pd.DataFrame(p, columns=['p_' + c for c in classes]).assign(pred=classes[p.argmax(1)], y=classes[truth])
    e = nml.CBPE(y_pred_proba={c: 'p_' + c for c in classes}, y_pred='pred', y_true='y', problem_type='classification_multiclass', metrics=['accuracy'], chunk_size=chunk)
    e.fit(frame(reference, y))
    got = e.estimate(frame(traffic, np.zeros(len(traffic), int))).to_df()
    print(json.dumps(got[('accuracy', 'value')][got[('chunk', 'period')] == 'analysis'].tolist()))

if __name__ == '__main__': main(sys.argv[1], int(sys.argv[2]))
