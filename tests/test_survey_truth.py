"The survey's planted faults against what the nine steps made of them: recall and precision of every step, in one table."
import json, re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pytest
from PIL import Image
from mlproject import tasks
from mlproject.data.findings import read_build
from mlproject.data.exif import strip_photos
from mlproject.data.records import records_table
from mlproject.metrics import wilson
from mlproject.places import find_positions

ARTIST_OR_GPS = {0x013b, 0x8825}
COPIES = ('exact_duplicate', 'near_duplicate')
SIZE = dict(survey_species=20, survey_photos=30, seed=5)

@pytest.fixture(scope='module')
def build(tmp_path_factory):
    "The data part of the pipeline; pattern PII and the person tagger."
    place = tmp_path_factory.mktemp('truth')/'build'
    at = {name: place/name/'manifest.json' for name in ('records', 'curated', 'splits')}
    tasks.ingest(at['records'], data='survey', sources=[], label_column='auto', photo_column='auto', inputs='', more='', code='', **SIZE)
    tasks.curate(at['curated'], dict(ingest=at['records']), min_side=32, near_threshold=8, burst_seconds=60, curation=dict(persons=True), code='')
    tasks.split(at['splits'], dict(curate=at['curated']), validation=.15, test=.15, honour_given=True, seed=0, code='')
    return read_build(place)

class Story:
    "Truth, and what became of each record."
    def __init__(self, build):
        self.survey = survey = build.raw.folder.parent/'survey'
        self.build, self.truth = build, pd.read_parquet(survey/'truth.parquet')
        self.given = pd.read_csv(survey/'occurrences.csv', keep_default_na=False, dtype=str).set_index('occurrenceID')
        self.notes = {n['noteID']: n for n in map(json.loads, (survey/'notes.jsonl').read_text().splitlines())}
        self.records = build.whole.exact().to_pandas().set_index('occurrenceID')  # before places of sensitive species were moved
        self.gone = build.whole.rejects().to_pandas().set_index('occurrenceID')
        self.links = build.shards('aligned/links')
        self.loaded = build.raw.records.to_pandas().set_index('occurrenceID')

    def planted(self, *faults: str, copies: bool = True) -> set[str]:
        "Records with a fault, and copies of such records, which took it along."
        mine = set(self.truth.occurrenceID[self.truth.fault.isin(faults)])
        copied = self.truth[self.truth.fault.isin(COPIES) & self.truth.duplicate_of.isin(mine)]
        return mine | set(copied.occurrenceID) if copies else mine

    def original(self, *faults: str) -> dict[str, str]:
        "Of each copy with one of these faults what it was made of."
        mine = self.truth[self.truth.fault.isin(faults)]
        return dict(zip(mine.occurrenceID, mine.duplicate_of))

    def stayed(self, ids: set[str]) -> set[str]: return ids & set(self.records.index)
    def left(self, rule: str) -> set[str]: return set(self.gone.index[self.gone['rule'] == rule])
    def detail(self, fault: str) -> dict: return {r.occurrenceID: r.detail for r in self.truth[self.truth.fault == fault].itertuples()}
    def note(self, i: str) -> str: return self.records.occurrenceRemarks.fillna('')[i]

@dataclass(frozen=True)
class Row:
    "One line of the table: which records should be found, which were, and of the found ones which are right."
    fault: str
    step: str
    wanted: set
    found: set
    least: tuple  # recall, precision

    @property
    def recall(self): return wilson(len(self.wanted & self.found), len(self.wanted))
    @property
    def precision(self): return wilson(len(self.wanted & self.found), len(self.found))

def pairs(groups) -> set: return {(a, b) for g in groups for a in g for b in g if a < b}

def exact_duplicate(s):
    "One of the two has left as a duplicate: which of them, the rule of the canonical record says."
    of = s.original('exact_duplicate')
    wanted = {frozenset((i, of[i])) for i in s.planted('exact_duplicate', copies=False)}
    detail = s.gone[s.gone['rule'] == 'duplicate'].detail
    return wanted, {frozenset((i, d.rsplit(' ', 1)[-1])) for i, d in detail.items()}

def near_duplicate(s):
    "Copy and original stand in one group; a pair is right when it is planted, or a burst, which looks alike as it should."
    of, looks = s.original(*COPIES), s.build.curated.table('looks').to_pandas().set_index('occurrenceID')
    origin = lambda i: of.get(i, i)
    alive = set(looks.index)
    wanted = {tuple(sorted((i, of[i]))) for i in s.planted('near_duplicate', copies=False) if {i, of[i]} <= alive}
    found = pairs(g for _, g in looks.reset_index().groupby('near').occurrenceID)
    burst = {p for p in found if s.given.eventID[origin(p[0])] == s.given.eventID[origin(p[1])]}
    return wanted, {p for p in found if p in wanted or p not in burst}

def note_pii(s):
    "Spans that are not in the finished note any more; found are the placeholders of all notes."
    wanted, found = set(), set()
    for i, spans in s.detail('note_pii').items():
        if i not in s.records.index: continue
        for k, (kind, _, text) in enumerate(json.loads(spans)):
            wanted.add((i, k))
            if text not in s.note(i): found.add((i, k))
    planted = s.planted('note_pii') | _given_notes(s, s.planted('note_pii'))
    wrong = {(i, 'wrong') for i in s.records.index if i not in planted and '<' in s.note(i)}
    return wanted, found | wrong

def _given_notes(s, ids):
    "Records that have the note of one of `ids`."
    texts = {s.given.occurrenceRemarks[i] for i in ids}
    return {i for i in s.given.index if s.given.occurrenceRemarks[i] in texts}

def odd_date(s):
    "The moment is right, in UTC; found are all whose date was read as another one than plain reading gives."
    plain = {i for i in s.given.index if i not in s.planted('odd_date')}
    true, made = _moments(s), {i: d for i, d in s.records.eventDate.items() if i in s.given.index}
    wanted = s.stayed(s.planted('odd_date'))
    right = {i for i, d in made.items() if d and abs(pd.Timestamp(d).timestamp() - true[i]) < 1}
    return wanted, (wanted & right) | {i for i in set(made) & plain if i not in right}

def _moments(s) -> dict[str, float]:
    "When each photo was really taken, from the way the truth says it was written."
    kind, out = s.detail('odd_date'), {}
    of = s.original(*COPIES)
    for i, text in s.given.eventDate.items():
        day_first = kind.get(i, kind.get(of.get(i))) == 'day first'
        at = pd.to_datetime(text, format='%d/%m/%Y %H:%M:%S', utc=True) if day_first else pd.Timestamp(text)
        out[i] = at.timestamp()
    return out

def odd_unit(s):
    "Elevation in metres and temperature in degrees Celsius, within half a unit."
    wanted, found = set(), set()
    for i, said in s.detail('odd_unit').items():
        if i not in s.records.index: continue
        true, r = json.loads(said), s.records.loc[i]
        props = json.loads(r.dynamicProperties or '{}')
        for name, value, want in (('m', r.minimumElevationInMeters, true['elevation_m']), ('c', props.get('airTemperatureInCelsius'), true['temperature_c'])):
            wanted.add((i, name))
            if value is not None: found.add((i, name) if abs(value - want) <= .5 else (i, name, 'wrong'))
    return wanted, found

def odd_position(s):
    "The position of the note is in the columns, within 30 m; found are all whose columns were empty and are filled."
    wanted = s.stayed(s.planted('odd_position'))
    right, filled = set(), {i for i in s.stayed(set(s.given.index[s.given.decimalLatitude == ''])) if pd.notna(s.records.decimalLatitude[i])}
    origin, kind = s.original(*COPIES), s.detail('odd_position')
    for i in filled:
        p = find_positions(kind.get(i) or kind.get(origin.get(i)) or '')
        if p and max(abs(s.records.decimalLatitude[i] - p[0].latitude), abs(s.records.decimalLongitude[i] - p[0].longitude)) < 3e-4: right.add(i)
    return wanted, right | {(i, 'wrong') for i in filled - right}

def separate_note(s):
    "The note is linked to the very photo that it was taken from; that of a rejected photo to none."
    text = lambda i: s.loaded.occurrenceRemarks[i]
    wanted = {(s.notes[n]['locationID'], s.notes[n]['occurrenceRemarks'], i) for i, n in s.detail('separate_note').items() if i in s.records.index}
    return wanted, {(s.loaded.locationID[r.occurrenceID], text(r.occurrenceID), r.photo) for r in s.links.itertuples() if r.part == 'note'}

def exif_pii(s):
    "Photos whose file told the photographer or the place, and does not after `strip_photos`."
    root, out = s.survey, s.survey.parent/'stripped'
    told = strip_photos(records_table([dict(occurrenceID=i, associatedMedia=m) for i, m in s.given.associatedMedia.items() if i in s.records.index]), root, out)
    media = dict(zip(*(told.records[c].to_pylist() for c in ('occurrenceID', 'associatedMedia'))))
    before, after = ({i for i, m in media.items() if ARTIST_OR_GPS & set(Image.open(where/m).getexif())} for where in (root, out))
    return s.stayed(s.planted('exif_pii')), before - after

def duplicate_note(s):
    """A note is in one cluster with the one that it repeats. Generated notes are short and alike by chance, so what is called a version of another
    (another `canonical`) is wrong only when the two are not alike."""
    table, texts = s.build.shards('between/clusters').set_index('occurrenceID'), s.build.shards('first').set_index('occurrenceID').occurrenceRemarks.fillna('')
    wanted = {tuple(sorted(p)) for p in s.original('duplicate_note').items() if all(texts.get(i) for i in p)}
    versions = {tuple(sorted(p)) for p in table.canonical.items() if p[0] != p[1]}
    together = pairs(list(g.index) for _, g in table.groupby('cluster'))
    return wanted, wanted & together | {p for p in versions if not _alike(*(texts[i] for i in p))}

def _alike(a: str, b: str) -> bool:
    "Versions of one text: at least .6 of their words and pairs of words in common."
    a, b = ({*w, *zip(w, w[1:])} for w in (re.findall(r'\w+', t.lower()) for t in (a, b)))
    return len(a & b) >= .6 * len(a | b)

def _photo_fault(name): return lambda s: (s.planted(name), s.left(name))

CHECKS: dict[str, tuple[str, Callable, tuple[float, float]]] = dict(  # step, check, least recall and precision
    exact_duplicate=('dedup', exact_duplicate, (1, 1)), near_duplicate=('dedup', near_duplicate, (.95, .9)),
    blurred=('quality', _photo_fault('blurred'), (1, 1)), black=('quality', _photo_fault('black'), (1, 1)), truncated=('quality', _photo_fault('truncated'), (1, 1)),
    note_pii=('privacy', note_pii, (.95, .95)),  # "Snow flurries" and "Frost." are spared
    exif_pii=('privacy', exif_pii, (1, 1)), odd_date=('formats', odd_date, (1, 1)), odd_unit=('formats', odd_unit, (.95, .95)), odd_position=('formats', odd_position, (1, 1)),
    separate_note=('alignment', separate_note, (.95, .95)),  # a note whose photo was rejected goes to the ledger
    duplicate_note=('dedup', duplicate_note, (.8, .95)))  # of fewer than 8 words only equal notes are found

@pytest.fixture(scope='module')
def table(build):
    s = Story(build)
    return [Row(name, step, *check(s), least) for name, (step, check, least) in CHECKS.items()]

def told(rows) -> str:
    show = lambda e: f'{e.value:6.3f} ({e.low:.2f}–{e.high:.2f})'
    lines = [f'{r.fault:16} {r.step:10} {len(r.wanted):6} {len(r.found):6}  {show(r.recall):20}  {show(r.precision):20}' for r in rows]
    return '\n'.join([f"{'fault':16} {'step':10} {'wanted':>6} {'found':>6}  {'recall':20}  {'precision':20}", *lines])

@pytest.mark.slow
def test_every_planted_fault_is_dealt_with(table, capsys):
    with capsys.disabled(): print('\n' + told(table))
    short = [f'{r.fault}: recall {r.recall.value:.3f}, precision {r.precision.value:.3f}, at least {r.least} wanted; e.g. missed {list(r.wanted - r.found)[:3]}, wrong {list(r.found - r.wanted)[:3]}'
             for r in table if r.recall.value < r.least[0] or r.precision.value < r.least[1]]
    assert not short, '\n'.join(short)

@pytest.mark.slow
def test_every_fault_of_the_survey_is_in_the_table_or_is_none_of_the_steps_affairs(build, table):
    planted = set(pd.read_parquet(build.raw.folder.parent/'survey'/'truth.parquet').fault)
    assert planted - {r.fault for r in table} == {'wrong_label', 'png', 'grey', 'rotated'}
    assert all(r.wanted for r in table)
