"The whole loop with known truth: the tiny drill has its outcomes, and its timeline tells them in order."
import json

import numpy as np
import pytest

from mlproject.core import Problem
from mlproject.operations.drill import TINY, Check, Plan, run_drill
from mlproject.operations.heads import fit_head, in_colours_of
from mlproject.operations.traffic import PHASES, World

def failed(checks: list[Check]) -> list[str]: return [c.line() for c in checks if not c.passed]

@pytest.fixture(scope='module')
def drilled(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drill')
    return folder, run_drill(folder, TINY, tell=lambda line: None)

@pytest.mark.drill
def test_the_tiny_drill_has_all_its_outcomes(drilled): assert not failed(drilled[1])

@pytest.mark.drill
def test_the_timeline_tells_them_in_order(drilled):
    moments = [json.loads(l) for l in (drilled[0]/'timeline.jsonl').read_text().splitlines()]
    kinds = [m['kind'] for m in moments if m['phase'] == 'broken']
    first = [kinds.index(k) for k in ('phase', 'window', 'alarm', 'retraining', 'gate', 'shadow', 'promoted')]
    assert first == sorted(first)
    record = next((drilled[0]/'retraining').glob('*/record.json'))
    assert json.loads(record.read_text())['trigger']['kind'] == 'harm'
    assert [m['sent'] for m in moments] == sorted(m['sent'] for m in moments)

@pytest.mark.drill
def test_a_drill_does_not_overwrite_another(drilled):
    with pytest.raises(Problem, match='earlier drill'): run_drill(drilled[0], TINY)

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

@pytest.mark.drill
def test_the_full_drill_has_all_its_outcomes(tmp_path):
    assert not failed(run_drill(tmp_path, Plan(), tell=lambda line: None))
