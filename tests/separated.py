"A hard set for alignment with known truth: wrong clocks, missing keys, two cameras at one place, notes in no order."
import numpy as np

from mlproject.data.genomes import genomes
from mlproject.data.records import records_table

CLOCKS = [(0, 0), (0, 0), (3600, 0), (-7200, 0), (86_400, 0), (0, 4), (-3600, -6), (137, 0), (0, 0), (0, 0), (600, 2), (0, 0)]  # s, s a day
DAYS = 120


def stamp(seconds): return str(np.datetime64(int(seconds), 's')) + 'Z'


def separated(seed: int = 0, visits: int = 150, share: float = .4):
    "Records (photos, then notes in any order) and for each note the event of its photo, '' when there is none."
    rng, species, start = np.random.default_rng(seed), genomes(), 1_714_521_600
    photos, notes, truth = [], [], {}
    for site, clock in enumerate(CLOCKS):
        twin = site in (1, 5)  # a second camera at the same place, its clock another one
        at = np.sort(start + 86_400 * rng.integers(0, DAYS, visits) + np.where(rng.random(visits) < .6, 3600 * rng.normal(5, 1, visits), 3600 * rng.uniform(0, 24, visits)))
        close = rng.random(visits) < .15
        at = np.concatenate([at, at[close] + rng.uniform(30, 220, close.sum())])
        for v, t in enumerate(at):
            g, event, camera = species[rng.integers(100)], f'site{site}-{v}', 'B' if twin and rng.random() < .5 else 'A'
            offset, rate = (1800, -3) if camera == 'B' else clock
            who = f'Observer {site}.{rng.integers(3)}'
            there = rng.random() > .05
            for k in range(int(rng.integers(1, 5))) if there else ():
                wrong = t + 2 * k + offset + rate * (t - start) / 86_400
                photos.append(dict(occurrenceID=f'{event}-{k}', scientificName=g.name, vernacularName=g.vernacular, eventDate=stamp(wrong), locationID=f'SITE{site}', recordedBy=who,
                                   decimalLatitude=46.5, decimalLongitude=8., eventID=event, associatedMedia=f'SITE{site}/{camera}/IMG_{v:04}_{k}.jpg'))
            if rng.random() > share: continue
            name = rng.choice([g.vernacular, g.vernacular.split()[-1], 'animal'], p=[.5, .2, .3])
            note = dict(type='Text', occurrenceID=f'note-{len(notes):05}', recordedBy=who, locationID=f'SITE{site}', eventDate=stamp(t + rng.normal(0, 40)),
                        occurrenceRemarks=f'{name.capitalize()}, {rng.choice(["calling", "feeding", "passing through"])}. Seen {rng.integers(100)} m away.')
            lack = rng.choice(['', 'place', 'time'], p=[.85, .07, .08])
            if lack == 'place': note['locationID'] = None
            if lack == 'time': note['eventDate'] = note['eventDate'][:10]
            if there and rng.random() < .1: note['eventID'] = event
            notes.append(note)
            truth[note['occurrenceID']] = event if there else ''
    order = rng.permutation(len(notes))
    return records_table(photos + [notes[i] for i in order]), truth


def score(links, truth):
    "Of the links of notes: how many notes were linked, to the right event, and how many could have been."
    got = {a: b.rsplit('-', 1)[0] for a, b, m in zip(*(links[c].to_pylist() for c in ('occurrenceID', 'photo', 'method'))) if m != 'burst'}
    right = sum(truth.get(a) == b for a, b in got.items())
    return dict(notes=len(truth), linked=len(got), right=right, precision=right / max(1, len(got)), recall=right / max(1, sum(bool(e) for e in truth.values())))
