"""What repeating and voting brings with annotators that are right 70 to 90 % of the time: accuracy, coverage, cost. Simulated, known truth."""
import tempfile
from pathlib import Path

import numpy as np

from common import publish

LABELS = ('forest', 'meadow', 'water', 'rock', 'field')


def unreliable(right: float, invalid: float, stubborn: float, truth: dict, seed: int):
    """An annotator that is right with probability `right` and else names another label; a share `invalid` of its answers is prose;
    on a share `stubborn` of the items its mistakes are always the same (repeating cannot help there)."""
    rng = np.random.default_rng(seed)
    fixed = {n: str(rng.choice([l for l in LABELS if l != t])) for n, t in truth.items() if rng.random() < stubborn}
    def ask(item):
        note = item['occurrenceRemarks']
        if rng.random() < invalid: return 'It is hard to say, but I would guess that this is outdoors.'
        if note in fixed: return fixed[note]
        p = min(1., right / (1 - stubborn))
        return truth[note] if rng.random() < p else str(rng.choice([l for l in LABELS if l != truth[note]]))
    return ask


def main(n: int = 1500):
    from typing import Literal
    from mlproject.data.agreement import audit
    from mlproject.data.annotators import AskConfig, Annotator, annotate
    from mlproject.data.records import records_table

    rng, folder, rows = np.random.default_rng(0), Path(tempfile.mkdtemp()), []
    truth = {f'note {i}': str(rng.choice(LABELS)) for i in range(n)}
    records = records_table([dict(occurrenceID=note, occurrenceRemarks=note) for note in truth])
    for right, stubborn in ((.7, 0), (.8, 0), (.9, 0), (.8, .1)):
        for repeats, quorum in ((1, 1), (3, 2 / 3), (5, .6), (5, .8)):
            name = f'right {right:.0%}' + (f', of the errors {stubborn:.0%} points always the same' if stubborn else '')
            a = Annotator('habitat', f'{right}-{stubborn}-{repeats}-{quorum:.2f}', unreliable(right, .05, stubborn, truth, 7), Literal[LABELS],
                          config=AskConfig(repeats=repeats, quorum=quorum, backoff=0, workers=1))
            out = annotate(records, a, folder / 'answers.db')
            found = audit(dict(zip(out.records['occurrenceID'].to_pylist(), out.records['answer'].to_pylist())), truth, n=300)
            alpha = out.counts['agreement']['alpha']
            rows.append({'annotator': name, 'repeats': repeats, 'must agree': a.config.needed, 'accuracy of what is answered': f'{found.accuracy:.1%}',
                         'coverage': f'{found.coverage:.1%}', 'kappa': f'{found.kappa:.2f}', 'alpha with itself': '' if alpha is None else f'{alpha:.2f}',
                         'calls an item': f"{out.counts['calls'] / n:.2f}"})
    publish('annotators', f'Repeat and vote: {n:,} items, {len(LABELS)} labels, 5 % of all answers are prose', rows,
            'Mistakes that are the same every time are not found by repeating: alpha stays high, only human labels show them.')


if __name__ == '__main__': main()
