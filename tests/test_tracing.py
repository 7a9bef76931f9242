"From a served prediction back to what made it; and no position at full precision in what is kept of a request."
import io, sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from colours import SPECIES, network, photo
from PIL import Image
from typer.testing import CliRunner

from mlproject.core import Problem, digest_file
from mlproject.export.extended import Prediction, Preprocess, pack
from mlproject.export.registry import DIGEST, Version
from mlproject.operations.feedback import FEEDBACK, report
from mlproject.operations.tracing import lineage_of, registered_as, trace
from mlproject.photos import photo_exif
from mlproject.serving.capture import Capture, CaptureConfig, captured
from mlproject.serving.state import open_engine, prepare

LABEL = SPECIES[0]

def served(request_id='r1', version='1', photos=(), **context):
    answer = SimpleNamespace(prediction=Prediction(((LABEL, .9),), LABEL, .9), logits=None, embedding=None)
    return SimpleNamespace(request_id=request_id, photos=list(photos) or [photo(1)], answers=[answer] * max(1, len(photos)), context=context, timings={}, door='rest', name='colours', version=version,
                           route_key=None, key_id=None, trace=None, outcome='ok')

def kept(tmp_path, *requests):
    "A database with captured requests: (address, engine, capture)."
    url = f'sqlite:///{tmp_path}/state.db'
    capture = Capture(url, tmp_path/'photos', CaptureConfig(sample=1, every_s=.02))
    for r in requests: capture(r)
    capture.close(20)
    assert capture.counts['kept'] == len(requests)
    return url, open_engine(url), capture

def test_a_request_that_was_not_captured_and_a_database_without_any(tmp_path):
    empty = open_engine(f'sqlite:///{tmp_path}/other.db')
    with pytest.raises(Problem, match='holds no captured requests'): trace(empty, 'r1')
    _, engine, _ = kept(tmp_path, served())
    for name in ('r2', '', "' OR 1=1 --", 'x' * 10_000, '\n\x00'):
        with pytest.raises(Problem, match='was not captured: only a sample') as e: trace(engine, name)
        assert '\n' not in str(e.value) and len(str(e.value)) < 400
    found = trace(engine, 'r1')
    assert (found.version, found.answers[0]['label'], found.gaps) == ('1', LABEL, ('the registry was not asked',))

def test_versions_are_found_by_number_or_by_the_beginning_of_their_digest():
    known = [Version('m', n, f'{n}' * 32, Path('x')) for n in (1, 2)]
    assert registered_as(known, '2').version == 2 and registered_as(known, '11111111').version == 1
    for odd in ('3', '', '1111', 'v1', '²', '-1', '9' * 5000): assert registered_as(known, odd) is None

def test_tags_tell_run_data_figures_and_commit():
    told = lineage_of(Version('m', 1, 'd', Path('x'), tags={'run': 'abc', 'git_commit': 'c0', 'curate': '1', 'split': '2', 'train': '3', 'parameters.lr': '0.1', 'metrics.top1': '0.8', DIGEST: 'd'}))
    assert told == dict(run={'MLflow run': 'abc', 'lr': '0.1'}, data=dict(curate='1', split='2', train='3'), figures=dict(top1='0.8'), commit='c0')

@pytest.mark.slow   # imports MLflow
def test_the_command_leads_from_a_prediction_to_its_lineage(tmp_path, monkeypatch):
    from mlproject.cli import app
    from mlproject.export.registry import register
    url, engine, _ = kept(tmp_path, served('by-number', '1'), served('by-folder', '99'))
    note = tmp_path/'evaluation.ipynb'
    note.write_text('{}')
    folder = pack(tmp_path/'m', network(32), SPECIES, Preprocess(32, 36, (.5,) * 3, (.25,) * 3), golden=photo(0), name='colours', lineage=dict(curate='c1', split='s1', train='t1'))
    registry = f'sqlite:///{tmp_path}/mlflow.db'
    v = register(folder, name='colours', tracking_uri=registry, lineage=dict(git_commit='808449b', run='run-7', report=dict(path=note.as_posix(), digest=digest_file(note)), metrics=dict(top1=.8)))
    for name, value in dict(TRACKING_URI=registry, REGISTRY_NAME='colours', SERVING_DATABASE=url).items(): monkeypatch.setenv(f'MLPROJECT_{name}', value)
    ask = lambda *words: CliRunner().invoke(app, ['trace', *words])
    told = ask('by-number').output
    for part in ('models:/colours/1', v.digest, '808449b', 'MLflow run: run-7', 'curate: c1', 'split: s1', 'train: t1', 'top1: 0.8', 'as it was registered', LABEL): assert part in told, (part, told)
    note.write_text('{"another": 1}')
    assert 'changed since' in ask('by-number').output
    assert 'no version 99 of colours is registered' in ask('by-folder').output
    missing = ask('nobody')
    assert isinstance(missing.exception, Problem) and 'was not captured' in str(missing.exception)

# --- positions ---------------------------------------------------------------------------------------------------------

LAT, LON = 46.512347, 7.123456
DIGITS = [b'46.5123', b'512347', b'7.1234', b'123456', b'46.51', b'7.12']

def with_gps() -> bytes:
    "A JPEG whose EXIF says where it was taken."
    exif, out = Image.Exif(), io.BytesIO()
    exact = lambda x: (float(int(x)), float(int(x % 1 * 60)), x * 3600 % 60)
    exif.get_ifd(0x8825).update({1: 'N', 2: exact(LAT), 3: 'E', 4: exact(LON)})
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(out, 'jpeg', exif=exif)
    return out.getvalue()

def test_nothing_that_capture_keeps_tells_a_place_more_precisely_than_its_cell(tmp_path):
    image = with_gps()
    assert photo_exif(image)['GPS']
    _, engine, capture = kept(tmp_path, served('a', photos=[image], decimalLatitude=str(LAT), decimalLongitude=str(LON), locationID=f'den at {LAT}, {LON}', license=f'N{LAT} E{LON}', eventDate='2024-05-01'))
    prepare(engine, FEEDBACK)
    report(engine, SPECIES, 'a', right=False, comment=f'the den is at {LAT}, {LON}')
    row, = captured(engine)
    assert (row['decimalLatitude'], row['decimalLongitude'], row['locationID']) == (46.5, 7.1, 'den at 46.5, 7.1')
    text = '\n'.join(sqlite3.connect(tmp_path/'state.db').iterdump()).encode()
    assert [d for d in DIGITS if d in text] == []
    stored = capture.store.get(row['photo'])
    assert not photo_exif(stored) and b'GPS' not in stored and b'Exif' not in stored
    assert [d for d in DIGITS if d in '\n'.join(trace(engine, 'a').lines()).encode()] == []

def test_no_part_of_a_card_tells_a_place(tmp_path):
    from carded import toy_card
    from mlproject.export.cardpages import card_files
    from mlproject.export.cards import card_from, data_facts, statements
    from mlproject.data.records import records_table
    where = f'{LAT}, {LON}'
    records = records_table([dict(occurrenceID=str(i), scientificName=SPECIES[0], decimalLatitude=LAT, decimalLongitude=LON, locationID=where, datasetName=f'traps at {where}', license=f'see N{LAT} E{LON}', occurrenceRemarks=where) for i in range(4)])
    from mlproject.evaluation.attributes import attributes
    ids = [str(i % 4) for i in range(40)]
    y = np.arange(40) % 4
    card = card_from('m', SPECIES, np.eye(4)[y], y, lineage=dict(train='1'), columns=attributes(records, ids, {}), data=data_facts(records, ['test'] * 4, {}), said=dict(contact=f'the hut at {where}'), n=20)
    for data in card_files(card).values(): assert [d for d in DIGITS if d in data] == []
    assert '46 N to 47 N, 7 E to 8 E' in [r['value'] for r in card['slices']['rows']]
    assert statements(dict(intended=where))['intended']['text'] == '46.5, 7.1' and toy_card(SPECIES)
