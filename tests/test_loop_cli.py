"`mlproject monitor`, `release`, `feedback`, `retrain` as typed, beside a real server with a database and a state folder."
import json, os, subprocess, sys, time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import httpx
import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from colours import SPECIES, Process, pack_colours, photo
from conftest import ROOT, TINY, copy_repository, environment
from live_server import until
from typer.testing import CliRunner

from mlproject.cli import app
from mlproject.core import Problem, write_folder, write_json
from mlproject.data.records import Outcome, records_table, save_step
from mlproject.evaluation.calibration import Calibration
from mlproject.evaluation.evaluate import evaluate, prediction_rows, write_evaluation
from mlproject.export.extended import ExtendedModel
from mlproject.export.registry import find_version, list_versions, register
from mlproject.looks import QUALITY, quality, small_grey
from mlproject.monitoring.reference import make_reference, write_reference
from mlproject.operations.evidence import read, stale
from mlproject.operations.feedback import ITEMS, next_items, queue_state, review, verdicts
from mlproject.operations.selection import draw_active, draw_audit
from mlproject.photos import read_photo
from mlproject.serving.capture import PHOTOS, REQUESTS, captured
from mlproject.serving.state import open_engine
from mlproject.serving.worker import Rollout

def mlproject(*words, code=0):
    "What a command printed; its exit status is checked."
    r = CliRunner().invoke(app, [str(w) for w in words])
    if isinstance(r.exception, Problem): raise r.exception
    assert code is None or r.exit_code == code, (r.exit_code, r.output, r.exception)
    return r.output

SEEN = range(1000, 1200)   # seeds of the photos that the reference knows

def as_deployed(folder: Path, **how) -> Path:
    "A model of colours with the reference that the pipeline would have packed: it is right about what it says."
    model = ExtendedModel.load(pack_colours(folder, **how))
    photos = [photo(i) for i in SEEN]
    logits, embedding = model.numbers(photos)
    looks = [quality(small_grey(read_photo(p, min_side_hint=128))) for p in photos]
    y = np.where(np.arange(len(photos)) % 20, logits.argmax(1), (logits.argmax(1) + 1) % len(SPECIES))   # 95 % right
    write_reference(folder, make_reference(logits, embedding, y, SPECIES, model.temperature, {n: np.array([l[n] for l in looks]) for n in QUALITY}))
    return folder

@pytest.fixture(scope='module')
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp('models')
    return as_deployed(root/'one'), as_deployed(root/'two', size=16)

@pytest.fixture
def place(tmp_path, monkeypatch):
    "Nothing of this machine's own settings."
    for name, value in dict(DATABASE=f'sqlite:///{tmp_path}/state.db', STATE=tmp_path/'state', PHOTO_STORE=tmp_path/'photos', CAPTURE='1').items(): monkeypatch.setenv(f'MLPROJECT_SERVING_{name}', str(value))
    monkeypatch.setenv('MLPROJECT_TRACKING_URI', f'sqlite:///{tmp_path}/mlruns/mlflow.db')
    return tmp_path

@pytest.fixture
def served(place, models):
    "A server that keeps everything."
    server = Process(models[0], database=f'sqlite:///{place}/state.db', photo_store=str(place/'photos'), capture=1., state=str(place/'state'))
    with httpx.Client(base_url=f'http://127.0.0.1:{server.rest}', timeout=20) as client: yield client, open_engine(f'sqlite:///{place}/state.db')
    if server.process.poll() is None: server.stop()

def ask(served, photos, together=25):
    client, engine = served
    before = len(captured(engine))
    for i in range(0, len(photos), together): assert client.post('/v1/predict', files=[('photos', (f'{k}.jpg', p)) for k, p in enumerate(photos[i:i + together])]).status_code == 200
    until(lambda: len(captured(engine)) == before + len(photos))

def test_a_look_from_calm_to_watch_and_what_follows(served, place, models):
    ask(served, [photo(i) for i in range(150)], 1)   # the audit draws requests
    told = mlproject('monitor')
    assert told.startswith('CALM') and 'accuracy, unlabelled' in told and not [line for line in told.splitlines() if line != line.rstrip()]
    drawn = sum(queue_state(served[1])['audit'].values())
    assert drawn < 20                                                     # 2 %
    started = time.time()
    dark = [cv2.imencode('.jpg', (cv2.imdecode(np.frombuffer(photo(i), np.uint8), 1) * .3).astype(np.uint8))[1].tobytes() for i in range(200, 350)]
    ask(served, dark, 1)
    seen = json.loads(mlproject('monitor', '--json', '--since', datetime.fromtimestamp(started, timezone.utc).isoformat(), '--alerts', place/'alerts.jsonl', code=1))
    assert seen['level'] == 'watch' and 'drift.inputs' in [a['key'] for a in seen['alarm']['alerts']] and not seen['retrain']
    assert seen['drawn'] > 10 and sum(queue_state(served[1])['audit'].values()) == drawn + seen['drawn']   # 25 % now
    lines = [json.loads(line) for line in (place/'alerts.jsonl').read_text().splitlines()]
    assert {line['event'] for line in lines} == {'opened'} and {line['key'] for line in lines} == {a['key'] for a in seen['tell']}
    card = mlproject('card', '--model', models[0])                        # and the model card knows of it
    assert '2 looks at the traffic' in card and 'the alarm is *watch*' in card and 'opened drift.inputs (version' in card

def test_a_card_without_a_database_says_so_and_makes_none(place, models):
    assert 'the serving database could not be read' in mlproject('card', '--model', models[0])   # it is set, and not there yet
    with pytest.raises(Problem, match='there is no database'): mlproject('card', '--model', models[0], '--database', f'sqlite:///{place}/typo.db')
    assert not list(place.glob('*.db'))

def test_harm_is_exit_status_3_and_makes_a_retraining_due(served, place):
    ask(served, [photo(i) for i in range(200)])
    mlproject('monitor')
    with served[1].begin() as c: c.execute(sa.delete(ITEMS))
    draw_audit(served[1], 1.)
    for w in next_items(served[1], 'anna', 'audit', 200): review(served[1], SPECIES, w.id, 'anna', SPECIES[0])   # most answers are wrong
    assert 'no retraining is due' in mlproject('retrain', '--if-due')
    told = mlproject('monitor', code=3)
    assert told.startswith('HARM') and 'shown' in told
    assert mlproject('retrain', '--if-due', '--plan').startswith('harm: ') and mlproject('retrain', '--plan', '-r', 'new camera').startswith('hand: new camera')

def test_looking_only_changes_nothing(served, place):
    ask(served, [photo(i) for i in range(40)])
    mlproject('monitor', '--look')
    assert not sa.inspect(served[1]).has_table('monitoring') and not sum(queue_state(served[1])['audit'].values())

def test_old_captures_are_forgotten(served, place):
    ask(served, [photo(i) for i in range(30)])
    with served[1].begin() as c:
        c.execute(sa.update(REQUESTS).values(received=time.time() - 91 * 86_400))
        c.execute(sa.update(PHOTOS).values(first_seen=0.))
    assert json.loads(mlproject('monitor', '--json', code=1))['forgotten'] == 2      # requests; the silence since is told
    assert not captured(served[1]) and not [p for p in (place/'photos').rglob('*') if p.is_file()]

def test_the_report(served, place):
    ask(served, [photo(i) for i in range(60)])
    mlproject('monitor', '--since', 'all', '--report', place/'pages'/'monitoring.html')
    page = (place/'pages'/'monitoring.html').read_text()
    assert 'Monitoring report' in page and page.count('data:image/png;base64') >= 4 and 'check_parameters' not in page and str(place) not in page

# --- releases ---------------------------------------------------------------------------------------------------------
def run_of(folder: Path, extended: Path, wrong: float, uri: str, cameras: int = 1):   # Version
    "The products of a run as far as a release needs them: test photos, what the network says of them, the registered version."
    (folder/'photos').mkdir(parents=True)
    names = [f'p{i:03}.jpg' for i in range(80)]
    for i, n in enumerate(names): (folder/'photos'/n).write_bytes(photo(5000 + i))
    model = ExtendedModel.load(extended)
    logits = model.logits([folder/'photos'/n for n in names])
    y = logits.argmax(1)
    said = logits.copy()
    said[:round(wrong * len(y))] = np.roll(said[:round(wrong * len(y))], 1, 1)
    records = records_table([dict(occurrenceID=n, associatedMedia=n, scientificName=SPECIES[k], locationID=f'cam-{i % cameras}') for i, (n, k) in enumerate(zip(names, y))])
    save_step(folder/'curated', Outcome(records), kind='curated', photo_root=folder/'photos')
    table = pa.table(dict(occurrenceID=names, y=y, logits=list(said), group=np.arange(len(y))))
    write_evaluation(folder/'evaluation', evaluate(said, y, SPECIES, n=50), prediction_rows(table, SPECIES, Calibration()))
    made = register(extended, name='mlproject', tracking_uri=uri, lineage=dict(report=dict(path=(folder/'reports'/'evaluation.ipynb').as_posix())))
    with write_folder(folder/'registered', kind='registered') as out: write_json(out/'version.json', dict(uri=made.uri, name=made.name, version=made.version, digest=made.digest))
    return made

def test_a_release_from_start_to_rollback(served, place, models):
    client, engine = served
    uri, rollout = os.environ['MLPROJECT_TRACKING_URI'], Rollout(place/'state')
    assert 'nothing has been released yet' in mlproject('release', 'status')
    register(models[0], name='mlproject', tracking_uri=uri, aliases=('champion',))                       # version 1 is what the server answers with
    two = run_of(place/'run', models[1], 0., uri)
    assert two.version == 2
    assert 'shadow' in mlproject('release', 'start', '--by', 'anna')                                      # @candidate
    in_memory = lambda: len(client.get('/v1/models').json()['models'])
    until(lambda: in_memory() == 2)
    status = json.loads(mlproject('release', 'status', '--json'))
    assert status['rollout']['weights'] == {'1': 1.} and status['last']['stage'] == 'shadow' and status['last']['evidence']['passed'] and status['verdict']['action']
    with pytest.raises(Problem, match='is running'): mlproject('release', 'start', '2')
    assert 'canary' in mlproject('release', 'advance', '--step-hours', 0) and 'no step' in mlproject('release', 'advance')
    assert 'paused' in mlproject('release', 'pause', '--reason', 'a look at the photos')
    assert 'paused' in mlproject('release', 'status')
    mlproject('release', 'promote', '-r', 'good', '--by', 'anna')
    until(lambda: client.post('/v1/predict', content=photo(1), headers={'content-type': 'image/jpeg'}).json()['model']['version'] == '2' and in_memory() == 1)
    assert {v.version: v.aliases for v in list_versions('mlproject', uri)} == {1: (), 2: ('champion',)}
    mlproject('release', 'rollback', '-r', 'complaints')                                                   # version 1 left memory: the registry has it
    until(lambda: client.post('/v1/predict', content=photo(1), headers={'content-type': 'image/jpeg'}).json()['model']['version'] == '1')
    assert [json.loads(line)['stage'] for line in mlproject('release', 'log', '--json').splitlines()] == ['shadow', 'canary', 'paused', 'promoted', 'rolled_back']
    log = mlproject('release', 'log').splitlines()
    assert len(log) == 5 and 'anna: good' in log[3] and rollout.read()['weights'] == {'1': 1.}
    for words in (('pause', '-r', 'x'), ('promote', '-r', 'x'), ('rollback', '-r', 'x'), ('advance',)):
        with pytest.raises(Problem): mlproject('release', *words)

def test_a_candidate_that_got_worse_does_not_start(place, models):
    uri, rollout = os.environ['MLPROJECT_TRACKING_URI'], Rollout(place/'state')
    rollout.write({'1': models[1]}, {'1': 1.})
    open_engine(f'sqlite:///{place}/state.db').connect().close()
    register(models[1], name='mlproject', tracking_uri=uri)
    bad = run_of(place/'run', models[0], .9, uri)
    with pytest.raises(Problem, match=r'did not pass the gate: overall: not worse'): mlproject('release', 'start', bad.version)
    assert rollout.read()['models'] == {'1': str(models[1])} and 'nothing has been released' in mlproject('release', 'status')
    write_json(place/'run'/'registered'/'version.json', dict(digest='another'))
    with pytest.raises(Problem, match='products of another version'): mlproject('release', 'start', bad.version)
    with pytest.raises(Problem, match='name their folder with --products'): mlproject('release', 'start', bad.version, '--products', place)
    with pytest.raises(Problem, match='is not registered'): mlproject('release', 'start', '99')

def test_the_gate_writes_down_what_it_found_and_starts_nothing(place, models):
    uri, rollout = os.environ['MLPROJECT_TRACKING_URI'], Rollout(place/'state')
    one = register(models[0], name='mlproject', tracking_uri=uri)
    rollout.write({'1': str(one.path)}, {'1': 1.})
    open_engine(f'sqlite:///{place}/state.db').connect().close()
    two = run_of(place/'run', models[1], 0., uri, cameras=2)
    told = mlproject('release', 'gate')                                                                    # @candidate
    kept = lambda v: read(find_version(f'models:/mlproject/{v}', uri).tags)
    assert 'models:/mlproject/2 passed against version 1 on 80 photos in 80 groups' in told and told.startswith('what ') and 'camera=cam-1' in told
    assert kept(2)['passed'] and kept(2)['champion'] == dict(version='1', digest=one.digest) and kept(2)['candidate']['digest'] == two.digest and len(kept(2)['data']['digest']) == 32
    assert stale(kept(2), '2', two.digest, one.digest) is None and 'gate 2' in stale(kept(2), '2', two.digest, two.digest)
    assert {c['kind'] for c in kept(2)['checks'] if c['name'].startswith('camera=')} == {'shown'} and 'nothing has been released' in mlproject('release', 'status')
    said = json.loads(mlproject('release', 'gate', '2', '--slice', 'camera', '--seed', 5, '--json'))
    assert said == kept(2) and said['seed'] == 5 and {c['kind'] for c in said['checks'] if c['name'].startswith('camera=')} == {'not worse'}
    with pytest.raises(Problem, match=r'--slice moon \(allowed: camera'): mlproject('release', 'gate', '2', '--slice', 'moon')
    rollout.write({'2': str(two.path)}, {'2': 1.})
    register(models[0], name='mlproject', tracking_uri=uri)
    run_of(place/'poor', models[0], .9, uri)
    assert 'models:/mlproject/1 did not pass against version 2' in mlproject('release', 'gate', '1', code=1) and kept(1)['passed'] is False
    rollout.write({'1': str(one.path)}, {'1': 1.})
    mlproject('release', 'start', '2', '-r', 'a new camera')
    event = json.loads(mlproject('release', 'log', '--json'))
    assert event['evidence'] == kept(2) and event['reason'] == 'a new camera'

def test_the_first_version_has_to_pass_an_absolute_bar(place, models):
    uri = os.environ['MLPROJECT_TRACKING_URI']
    open_engine(f'sqlite:///{place}/state.db').connect().close()
    one = run_of(place/'run', models[0], 0., uri)
    assert 'promoted' in mlproject('release', 'start', one.version)
    assert Rollout(place/'state').read()['weights'] == {'1': 1.}

# --- feedback ---------------------------------------------------------------------------------------------------------
def test_feedback_goes_to_label_studio_and_back(served, place):
    ask(served, [photo(i) for i in range(25)])
    assert draw_active(served[1], 5) == 5
    mlproject('feedback', 'export', place/'tasks.json', '--stream', 'active', '--config', place/'config.xml')
    tasks = json.loads((place/'tasks.json').read_text())
    assert len(tasks) == 5 and all(t['data']['photo'].startswith('http://127.0.0.1:8000/v1/review/photo/') for t in tasks) and SPECIES[2] in (place/'config.xml').read_text()
    back = [t | dict(annotations=[dict(completed_by=7, result=[dict(value=dict(choices=[SPECIES[1]]))])]) for t in tasks]
    back[0]['annotations'][0]['result'][0]['value']['choices'] = ['Canis lupos']
    write_json(place/'back.json', back)
    assert '4 reviews taken over, 1 not' in mlproject('feedback', 'import', place/'back.json', code=1)
    assert len(verdicts(served[1], 'active')) == 4 and 'active' in mlproject('feedback', 'status')
    (place/'broken.json').write_bytes(b'\xff\xfe[')
    for wrong in ('broken.json', 'none.json'):
        with pytest.raises(Problem, match='cannot read'): mlproject('feedback', 'import', place/wrong)
    for url in ('http://x/', 'http://x/{photo}/{item}', 'http://x/{photo'):
        with pytest.raises(Problem, match='--photo-url'): mlproject('feedback', 'export', place/'t.json', '--photo-url', url)

# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('words, says', [(('monitor',), 'there is no database'), (('release', 'status'), 'there is no database'), (('feedback', 'status'), 'there is no database'), (('retrain',), 'there is no database'),
    (('monitor', '--since', 'yesterday'), 'allowed: 30m'), (('monitor', '--database', 'no address'), 'no database address'), (('monitor', '--webhook', 'file:///x'), 'http or https')])
def test_what_is_missing_is_one_line(place, models, words, says):
    Rollout(place/'state').write({'1': models[0]}, {'1': 1.})
    with pytest.raises(Problem, match=says) as e: mlproject(*words)
    assert '\n' not in str(e.value)

def test_without_state_or_reference_it_says_what_to_do(place, tmp_path, monkeypatch):
    open_engine(f'sqlite:///{place}/state.db').connect().close()
    with pytest.raises(Problem, match='reference.safetensors does not exist: it is written when the model is exported'): mlproject('monitor', '--model', pack_colours(tmp_path/'bare'))
    monkeypatch.setenv('MLPROJECT_SERVING_STATE', '')
    with pytest.raises(Problem, match='no state folder is named'): mlproject('release', 'status')

def test_a_mistake_in_a_shell_is_one_line_and_exit_status_2(place):
    r = subprocess.run([sys.executable, '-m', 'mlproject.cli', 'monitor', '--since', 'x'], capture_output=True, text=True, env=environment(ROOT))
    assert r.returncode == 2 and len(r.stderr.strip().splitlines()) == 1 and r.stderr.startswith('mlproject: --since')

@pytest.mark.parametrize('words', [('monitor',), ('retrain',), ('release',), ('feedback',), *(('release', w) for w in ('status', 'gate', 'start', 'pause', 'promote', 'rollback', 'log', 'advance')), *(('feedback', w) for w in ('status', 'export', 'import'))])
def test_every_command_explains_itself(words):
    assert 'Usage: ' in (told := mlproject(*words, '--help')) and len(told) > 150

@pytest.mark.slow
def test_a_retraining_by_hand_registers_a_candidate(served, place, tmp_path):
    "In a copy of the repository, so that its build folder and registry are its own."
    ask(served, [photo(i) for i in range(25)])
    home = copy_repository(tmp_path/'home')
    text = (home/'env.yaml').read_text()
    for k, v in TINY.items():
        lines = [f'{k}: {v}' if line.startswith(f'{k}:') else line for line in text.splitlines()]
        text = '\n'.join(lines) + '\n'
    (home/'env.yaml').write_text(text)
    env = environment(home) | dict(MLPROJECT_TRACKING_URI=f'sqlite:///{home}/mlruns/mlflow.db', MLPROJECT_CACHE_DIR=str(home/'cache'))
    r = subprocess.run([sys.executable, '-m', 'mlproject.cli', 'retrain', '-r', 'trial'], cwd=home, env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert 'models:/mlproject/1 is the candidate' in r.stdout
    run, = (home/'build'/'retraining').iterdir()
    record = json.loads((run/'record.json').read_text())
    assert record['state'] == 'done' and record['trigger'] == dict(kind='hand', reason='trial') and (run/'products'/'extended'/'reference.safetensors').is_file()
