"The whole loop with known truth: the tiny drill has its outcomes, its timeline tells them in order, and the same seed tells the same story."
import json, os, signal, subprocess, sys
from dataclasses import replace

import numpy as np
import psutil
import pytest
from small_model import until

from mlproject.core import Problem
from mlproject.operations.actors import Reviewers
from mlproject.operations.drill import checks, run_drill, story
from mlproject.operations.heads import fit_head, in_colours_of
from mlproject.operations.simulation import TINY, Plan
from mlproject.operations.timeline import Check, Moment, accuracy, read_drill
from mlproject.operations.traffic import PHASES, World
from mlproject.relearning import next_folder

def failed(checks: list[Check]) -> list[str]: return [c.line() for c in checks if not c.passed]

@pytest.fixture(scope='module')
def drilled(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drill')
    return folder, run_drill(folder, TINY, tell=lambda line: None)

def test_the_tiny_drill_has_all_its_outcomes(drilled): assert not failed(drilled[1]) and len(drilled[1]) >= 9

def test_harm_is_looked_for_both_ways(drilled):
    "The corrected estimate is asked while an alert is open and enough was audited, as `mlproject monitor` does."
    moments = [json.loads(l) for l in (drilled[0]/'timeline.jsonl').read_text().splitlines()]
    asked = [m['figures'] for m in moments if m['kind'] == 'window' and 'live' in m['figures']]
    assert asked and all(f['live'] <= f['live_high'] <= 1.5 for f in asked)

def test_the_timeline_tells_them_in_order(drilled):
    moments = [json.loads(l) for l in (drilled[0]/'timeline.jsonl').read_text().splitlines()]
    kinds = [m['kind'] for m in moments if m['phase'] == 'broken']
    first = [kinds.index(k) for k in ('phase', 'window', 'alarm', 'retraining', 'gate', 'shadow', 'promoted')]
    assert first == sorted(first)
    record = next((drilled[0]/'retraining').glob('*/record.json'))
    assert json.loads(record.read_text())['trigger']['kind'] == 'harm'
    assert [m['sent'] for m in moments] == sorted(m['sent'] for m in moments) and [m['at'] for m in moments] == sorted(m['at'] for m in moments)

def test_a_candidate_in_the_canary_answers_its_share_and_the_shadow_every_photo(drilled):
    "What a busy server may leave out, a drill may not."
    import sqlalchemy as sa
    from mlproject.operations.release import history
    from mlproject.serving.capture import ANSWERS, REQUESTS
    from mlproject.serving.state import open_engine
    engine = open_engine(f'sqlite:///{drilled[0]}/server/state.db')
    shadowed, ended = (next(e.at for e in history(engine, 'drill') if e.candidate == '3' and e.stage == s) for s in ('shadow', 'rolled_back'))
    during = sa.select(ANSWERS.c.role, sa.func.count()).join(REQUESTS, REQUESTS.c.id == ANSWERS.c.request_id).where(REQUESTS.c.received > shadowed, REQUESTS.c.received < ended).group_by(ANSWERS.c.role)
    with engine.connect() as c: counted = dict(c.execute(during).all())
    engine.dispose()
    assert counted['shadow'] == counted['answer'] >= TINY.window

def test_a_drill_does_not_overwrite_another(drilled):
    with pytest.raises(Problem, match='earlier drill'): run_drill(drilled[0], TINY)

@pytest.mark.parametrize('without, missing', [('promoted', 'the good candidate is promoted'), ('alarm', 'alarm on the harmful fault'), ('rolled_back', 'one that got past it is rolled back'), ('gate', 'a bad candidate is stopped')])
def test_an_outcome_that_did_not_happen_is_missed(drilled, without, missing):
    moments, _, _ = read_drill(drilled[0])
    assert not failed(checks(moments, TINY))
    lost, = failed(checks([m for m in moments if m.kind != without], TINY))
    assert missing in lost

def test_a_retraining_without_harm_is_a_failure_and_so_are_too_many_labels(drilled):
    moments, _, _ = read_drill(drilled[0])
    first = moments.index(next(m for m in moments if m.kind == 'window'))
    false_alarm = [*moments[:first], Moment(0, 0., 'calm', 'retraining', 'harm: none'), *moments[first:]]
    assert 'nothing harmful' in failed(checks(false_alarm, TINY))[0]
    assert 'labelled' in failed(checks(moments, replace(TINY, labelled=.01)))[0]
    assert accuracy(moments, 'broken') < accuracy(moments, 'calm') - .1

def test_what_a_reviewer_says_does_not_depend_on_the_order():
    people = Reviewers(None, ['a', 'b', 'c'], seed=3)
    people.truth = {f'drill-3-{i:06}': 'a' for i in range(300)}
    said = {r: people.says('ben', r, .3) for r in people.truth}
    assert said == {r: people.says('ben', r, .3) for r in reversed(people.truth)} != {r: people.says('anna', r, .3) for r in people.truth}
    assert .2 < np.mean([v != 'a' for v in said.values()]) < .5

def test_the_seed_decides_names_places_and_times_of_the_traffic():
    def told(seed): return [(s.name, s.place, s.at, s.truth) for s in (make() for make in World(3, train=2, held=1, traffic=20, seed=seed).traffic(25, PHASES['new camera']))]
    assert told(1) == told(1) != told(2)
    names, _, at, _ = zip(*told(1))
    assert len(set(names)) == 25 and sorted(at) == list(at) and len(set(at)) == 25

def test_the_story_names_what_happened_and_not_when_it_was_played(drilled):
    moments, _, told = read_drill(drilled[0])
    played = [m for m in moments if m.kind != 'check']
    assert story(played) == told['story'] != story(played[:-1])

def test_the_next_folder_comes_after_the_last_one(tmp_path):
    assert next_folder(tmp_path/'none').name == '001'
    for n in ('001', '007', 'mine'): (tmp_path/n).mkdir()
    assert next_folder(tmp_path).name == '008'

def _cli(*words: str): return [sys.executable, '-m', 'mlproject.cli', 'drill', '--tiny', *words]

@pytest.mark.slow
def test_the_same_seed_tells_the_same_story_and_leaves_a_report(drilled, tmp_path):
    said = subprocess.run(_cli('--out', str(tmp_path/'again')), capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-2000:]
    again, once = read_drill(tmp_path/'again')[2], read_drill(drilled[0])[2]
    assert [m for m in again['moments'] if m['kind'] != 'window'] == [m for m in once['moments'] if m['kind'] != 'window'] and again['story'] == once['story']
    report = (tmp_path/'again'/'report.html').read_text()
    assert f'report: {tmp_path}/again/report.html' in said.stdout and once['story'][:12] in report and 'image/png' in report

@pytest.mark.slow
@pytest.mark.parametrize('how, status', [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_drill_leaves_no_server_behind(tmp_path, how, status):
    drill = subprocess.Popen(_cli('--out', str(tmp_path/'drill')), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))   # a shell's background jobs ignore Ctrl-C
    try:
        until(lambda: drill.poll() is not None or (p := tmp_path/'drill'/'timeline.jsonl').exists() and '"window"' in p.read_text(), 300)
        assert drill.poll() is None
        children = psutil.Process(drill.pid).children(recursive=True)
        os.kill(drill.pid, how)
        assert drill.wait(120) == status
    finally: drill.kill()
    assert len(children) >= 2
    until(lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children), 120)

def test_no_event_is_in_two_parts_of_the_world():
    world = World(3, train=8, held=3, traffic=12, seed=5)
    parts = [{s.event for s in shots} for shots in world.parts.values()] + [{s.event for l in world.left for b in l for s in b}]
    assert sum(map(len, parts)) == len(set().union(*parts)) and all(parts)

def test_a_burst_keeps_its_place():
    world = World(3, train=2, held=1, traffic=30)
    places = [make().place for make in world.traffic(30, PHASES['new camera'])]
    changes = sum(a != b for a, b in zip(places, places[1:]))
    assert changes == len(set(places)) - 1 and any(p.startswith('CAM99/') for p in places) and not all(p.startswith('CAM99/') for p in places)

def test_old_photos_get_the_histograms_of_today():
    rng = np.random.default_rng(0)
    old = rng.integers(0, 256, (40, 16, 16, 3), np.uint8)
    today = np.clip(rng.integers(0, 256, (40, 16, 16, 3))*np.array([.3, .9, 1.5]), 0, 255).astype(np.uint8)
    moved = in_colours_of(old, today)
    for c in range(3): assert np.abs(np.quantile(moved[..., c], [.1, .5, .9]) - np.quantile(today[..., c], [.1, .5, .9])).max() <= 3

def test_weight_decides_whom_a_head_believes():
    x, rng = np.repeat(np.eye(2, 6), 20, 0) + .01, np.random.default_rng(1)
    y, z = np.repeat([0, 1], 20), np.repeat([1, 0], 20)
    both = lambda w: fit_head(np.concatenate([x, x]), np.concatenate([y, z]), 2, np.repeat([1., w], 40))(x).argmax(1)
    assert (both(5) == z).all() and (both(.2) == y).all()
