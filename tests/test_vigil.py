"The server rolls an ill candidate back by itself: two workers, real networks that fail or are slow, a watch that is killed."
import http.client, json, os, signal, subprocess, sys, threading, time
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_server import Server, alive, until
from small_model import photo, small_extended

from mlproject.core import read_json
from mlproject.export.registry import list_versions, register
from mlproject.operations.feedback import FEEDBACK
from mlproject.operations.release import RELEASE, Release, append, current, history
from mlproject.operations.vigil import Vigil, aliases, known
from mlproject.serving.capture import CAPTURE
from mlproject.serving.rollout import place
from mlproject.serving.state import open_engine, prepare
from mlproject.serving.telemetry import SECONDS
from mlproject.serving.worker import Rollout

BRIGHT = cv2.imencode('.jpg', np.full((90, 120, 3), 180, np.uint8))[1].tobytes()   # a candidate below cannot look at these
SOON = 120.   # s; a few seconds where nothing else runs

def serve(model, folder, **settings):
    "The server as `mlproject serve` starts it, with two workers and a database."
    given = dict(port=0, workers=2, threads=1, log=str(folder/'requests.log'), keys=str(folder/'keys.json'), state=str(folder/'state'), database=f'sqlite:///{folder}/state.db',
                 photo_store=str(folder/'photos'), capture=0.) | settings
    code = ('import sys, json; from mlproject.serving.supervisor import Serving, serve\nmodel, given = json.loads(sys.argv[1])\n'
            'serve(model, Serving(**given), version="1", compose="mlproject.operations.deployment:compose", announce=lambda s: print(s.port, flush=True))')
    env = os.environ | dict(MLPROJECT_TRACKING_URI=f'sqlite:///{folder}/no-registry.db')
    process = subprocess.Popen([sys.executable, '-c', code, json.dumps([str(model), given])], stdout=subprocess.PIPE, text=True, env=env)
    return Server(process, int(process.stdout.readline()), folder)

@pytest.fixture(scope='module')
def models(tmp_path_factory):
    "A champion; candidates: as good, blind to bright photos, slow."
    root = tmp_path_factory.mktemp('models')
    return dict(champion=small_extended(root/'champion'), good=small_extended(root/'good', 1), blind=small_extended(root/'blind', 1, shift=3.4), slow=small_extended(root/'slow', 1, work=4))

class Site:
    "A running server, its release, and clients by camera."
    def __init__(self, models, folder: Path, **settings):
        self.server, self.folder, self.models = serve(models['champion'], folder, **settings), folder, models
        self.engine = open_engine(f'sqlite:///{folder}/state.db')
        prepare(self.engine, CAPTURE, FEEDBACK, RELEASE)
        self.release = Release(self.engine, 'mlproject', Rollout(folder/'state'), card=lambda folder: None)
        self.stop, self.threads, self.said = threading.Event(), [], []   # (camera, version or None, status)
        until(lambda: len(self.server.workers()) == 2, SOON)

    def start(self, which: str, share: float | None = None):
        event = self.release.start('2', self.models[which], dict(passed=True), by='anna')
        until(lambda: all('2' in str(w['gauges']) for w in self.server.workers().values()), SOON)
        return self.release.move(share, 'anna', 'a try') if share else event

    def ask(self, camera: str, body: bytes) -> None:
        try: status, answer = self.server.predict(body, x_route_key=camera)
        except (OSError, http.client.HTTPException) as e: status, answer = type(e).__name__, {}
        self.said.append((camera, answer.get('model', {}).get('version'), status))

    def clients(self, n: int = 4, body=lambda i: BRIGHT, pause: float = .01):
        def live(k):
            i = k
            while not self.stop.is_set():
                self.ask(f'camera-{i % 97}', body(i))
                i += n
                time.sleep(pause)
        self.threads = [threading.Thread(target=live, args=(k,)) for k in range(n)]
        for t in self.threads: t.start()

    def settled(self) -> bool: return all('2' not in str(w['gauges']) for w in self.server.workers().values())

    def end(self):
        self.stop.set()
        for t in self.threads: t.join()
        assert self.server.stop() == 0
        self.engine.dispose()

@pytest.fixture
def site(models, tmp_path):
    made = []
    def make(**settings): made.append(Site(models, tmp_path, **settings)); return made[0]
    yield make
    for s in made: s.end()

def last(s): return current(s.engine, 'mlproject')
def owners(s, share=.25): return {k: next(v for _, high, v in s.release.rollout.read()['bands'] if place(k) < high) for k in (f'camera-{i}' for i in range(97))}

def test_a_candidate_that_fails_goes_and_clients_of_the_champion_feel_nothing(site):
    s = site()
    s.start('blind', .25)
    of, began = owners(s), time.monotonic()
    s.clients()
    ended = until(lambda: (e := last(s)).stage == 'rolled_back' and e, SOON)
    took = time.monotonic() - began
    until(s.settled, SOON)
    n = len(s.said)
    until(lambda: len(s.said) > n + 50, SOON)
    assert ended.by == 'health' and 'errors' in ended.reason and max(ended.evidence['e_values'][k] for k in ('errors', 'shadow')) > 300, (ended, took)
    assert ended.evidence['champion']['requests'] > 0 and ended.evidence['lately']['seconds'] > 0
    failed = [(k, status) for k, _, status in s.said if status != 200]
    assert failed and {of[k] for k, _ in failed} == {'2'} and {status for _, status in failed} == {500}
    assert {(v, status) for _, v, status in s.said[n + 12:]} == {('1', 200)} and s.release.rollout.read()['weights'] == {'1': 1.}   # 12: under way when the workers followed
    assert [e.by for e in history(s.engine)] == ['anna', 'anna', 'health']   # one of the two workers acted, once
    line = until(lambda: [l for l in s.server.log() if l.get('logger') == 'mlproject.alarms'])
    assert len(line) == 1 and line[0]['level'] == 'error' and 'version 2 was rolled back, 1 answers: ' in line[0]['message']
    print(f'rolled back after {took:.1f} s')

def test_a_shadow_that_fails_goes_before_it_has_answered_anybody(site):
    s = site()
    s.start('blind')
    s.clients()
    ended = until(lambda: (e := last(s)).stage == 'rolled_back' and e, SOON)
    assert 'errors in the shadow' in ended.reason and ended.evidence['candidate']['requests'] == 0 and {(v, status) for _, v, status in s.said} == {('1', 200)}

@pytest.mark.slow
def test_a_slow_candidate_goes(site):
    s = site()
    s.clients(body=lambda i: photo(i % 7))
    s.start('slow', .25)
    ended = until(lambda: (e := last(s)).stage == 'rolled_back' and e, SOON)
    assert ended.by == 'health' and ended.evidence['slow_s'] >= .1

@pytest.mark.slow
def test_an_equal_candidate_and_clients_who_send_nonsense_change_nothing(site):
    "Both fail on the same photos now and then, and a third of the requests is no photo."
    s = site()
    s.start('good', .25)
    s.clients(body=lambda i: b'no photo' if i % 3 == 0 else photo(i % 7))
    until(lambda: len(s.said) > 400, SOON)
    seen = until(lambda: (d := read_json(s.folder/'state'/'health.json')) and d['candidate']['requests'] > 40 and d, SOON)
    assert last(s).stage == 'canary' and seen['candidate']['errors'] == seen['champion']['errors'] == 0 and any(status == 415 for *_, status in s.said)
    assert sum(seen[v]['requests'] for v in ('candidate', 'champion')) < .8 * len(s.said)   # the nonsense is not counted

@pytest.mark.slow
def test_the_watch_is_taken_over_when_its_worker_dies(site):
    s = site()
    s.start('good', .25)
    s.clients()
    until(lambda: known(s.folder/'state', last(s).id), SOON)
    lock = s.folder/'state'/'health.lock'
    holder = [int(l.split()[4]) for l in Path('/proc/locks').read_text().splitlines() if l.split()[5].endswith(f':{lock.stat().st_ino}') and l.split()[1] == 'FLOCK']
    assert len(holder) == 1 and holder[0] in s.server.workers()
    os.kill(holder[0], signal.SIGKILL)
    until(lambda: not alive(holder[0]))
    died = time.time()
    until(lambda: read_json(s.folder/'state'/'health.json')['at'] > died, SOON)   # somebody looks again
    s.release.rollback('anna', 'another one'); until(s.settled, SOON)
    s.start('blind')
    assert until(lambda: (e := last(s)).stage == 'rolled_back' and e, SOON).by == 'health'

@pytest.mark.slow
def test_where_it_may_not_act_it_measures_and_the_timer_acts(site, monkeypatch):
    from typer.testing import CliRunner
    from mlproject.cli import app
    s = site(health_rollback=False)
    s.start('blind', .25)
    s.clients()
    until(lambda: (h := known(s.folder/'state', last(s).id)) and h[0].errors > 20, SOON)
    assert last(s).stage == 'canary'
    monkeypatch.setenv('MLPROJECT_TRACKING_URI', f'sqlite:///{s.folder}/no-registry.db')
    done = CliRunner().invoke(app, ['release', 'advance', '--database', f'sqlite:///{s.folder}/state.db', '--state', str(s.folder/'state')])
    assert done.exit_code == 0 and 'rolled_back' in done.output and 'health: errors' in done.output, done

# without a server: what is rare

@pytest.fixture
def quiet(tmp_path):
    engine, rollout = open_engine(f'sqlite:///{tmp_path}/state.db'), Rollout(tmp_path)
    prepare(engine, RELEASE)
    rollout.write({'3': tmp_path/'three'}, {'3': 1.})
    release = Release(engine, 'mlproject', rollout, card=lambda folder: None)
    release.start('4', tmp_path/'four', dict(passed=True))
    yield release
    engine.dispose()

def test_a_candidate_that_takes_workers_with_it_goes(quiet, tmp_path):
    dead = subprocess.Popen(['true']); dead.wait()
    vigil = Vigil(quiet)
    write = lambda name, pid, ago=0: ((p := tmp_path/f'worker-{name}.json').write_text(json.dumps(dict(pid=pid))), os.utime(p, (time.time() - ago,) * 2))
    write('a', os.getpid()); write('b', dead.pid); write('c', dead.pid); write('old', dead.pid, ago=500)
    os.utime(tmp_path/'worker-b.json', (time.time() + 1,) * 2); os.utime(tmp_path/'worker-c.json', (time.time() + 1,) * 2)
    assert vigil.look() is None   # two may have died of something else
    write('d', dead.pid, ago=-1)
    assert vigil.look().reason.startswith('3 workers died')

def test_a_rollback_that_was_written_and_not_told_is_made_true(quiet):
    quiet.move(.25, 'anna', 'a try')
    append(quiet.engine, dict(at=time.time(), model='mlproject', candidate='4', champion='3', stage='rolled_back', weight=0., by='health', reason='errors', evidence=None))   # killed here
    assert quiet.rollout.read()['weights'] == {'3': .75, '4': .25}
    assert Vigil(quiet).look() is None and quiet.rollout.read()['weights'] == {'3': 1.}

def test_an_alias_is_moved_in_a_process_that_ends(models, tmp_path):
    uri = f'sqlite:///{tmp_path}/mlflow.db'
    register(models['good'], name='m', tracking_uri=uri)
    move = aliases(uri)
    has = lambda: list_versions('m', uri)[0].aliases
    move('m', 'champion', '7')      # is none of the registry's: nothing happens
    move('m', 'champion', 'abc')
    move('m', 'candidate', '1')
    until(lambda: has() == ('candidate',), SOON)
    move('m', 'candidate', None)
    until(lambda: has() == (), SOON)

def test_slow_is_twice_what_the_champion_keeps_to(quiet, tmp_path):
    "The champion answers within 40 ms; half of the candidate's answers take a second, later nobody waits for them."
    quiet.move(.25, 'anna', 'a try')
    vigil, fast, late = Vigil(quiet), SECONDS.index(.04), SECONDS.index(1.)
    def tell(n):
        hist = lambda v, *at: [['request_seconds', 'rest', v], list(SECONDS), [at.count(i) * n for i in range(len(SECONDS) + 1)], 0.]
        counters = [[['requests', 'rest', 'ok', v], 2 * n * k] for v, k in (('3', 6), ('4', 1))]
        (tmp_path/'worker-a.json').write_text(json.dumps(dict(pid=os.getpid(), counters=counters, histograms=[hist('3', *[fast] * 12), hist('4', fast, late)])))
    for n in range(40):
        tell(4 * n)
        if ended := vigil.look(): break
    assert ended.evidence['slow_s'] == .1 and ended.reason.startswith('slow answers: ') and n < 20
