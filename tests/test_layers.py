"""Point in polygon against another implementation."""
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproject.core import Problem
from mlproject.data.layers import inside, locate, read_layer

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
corner = st.tuples(st.integers(-8, 8), st.integers(-8, 8))


@given(st.lists(corner, min_size=3, max_size=12), st.integers(0, 10**6))
def test_even_odd_is_that_of_another_library(corners, seed):
    path = pytest.importorskip('matplotlib.path')
    ring = np.array([*corners, corners[0]], float)
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-9, 9, (2, 80))
    order = np.argsort(y)
    found = inside(x[order], y[order], np.hstack([ring[:-1], ring[1:]]))
    crossings = np.zeros(80, int)
    for (x1, y1), (x2, y2) in zip(ring, ring[1:]):  # the rule itself, an edge and a point at a time
        for k, (px, py) in enumerate(zip(x[order], y[order])):
            if (y1 <= py) != (y2 <= py) and x1 + (py - y1) * (x2 - x1) / (y2 - y1) <= px: crossings[k] += 1
    assert (found == crossings % 2).all()
    if len(set(corners)) == 3 and len(corners) == 3: assert (found == path.Path(ring).contains_points(np.stack([x, y], 1)[order])).all()


def layer(folder, *features):
    (folder / 'l.geojson').write_text(json.dumps(dict(type='FeatureCollection', features=list(features))))
    return read_layer(folder / 'l.geojson', 'kind')


def box(kind, w, s, e, n): return dict(type='Feature', properties=dict(kind=kind), geometry=dict(type='Polygon', coordinates=[[[w, s], [e, s], [e, n], [w, n], [w, s]]]))


def test_neighbours_share_a_border_without_gap_or_overlap(tmp_path):
    found = locate(layer(tmp_path, box('a', 0, 0, 1, 1), box('b', 1, 0, 2, 1), box('c', 0, 1, 2, 2)), np.array([.5, .5, 1., 1.]), np.array([1., .999, 1., .2]))
    assert found.tolist() == [1, 0, 2, 2]


def test_the_first_of_two_overlapping_areas_is_told_and_nan_is_nowhere(tmp_path):
    a = layer(tmp_path, box('reserve', 0, 0, 1, 1), dict(type='Feature', properties={}, geometry=dict(type='Point', coordinates=[0, 0])), box('country', -5, -5, 5, 5))
    assert [a.values[k] if k >= 0 else None for k in locate(a, [.5, 3, np.nan, 50, np.inf], [.5, 3, 1, 1, 1])] == ['reserve', 'country', None, None, None]


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"features": []}', '{"features": [{"geometry": {"type": "Polygon", "coordinates": 3}, "properties": {"kind": 1}}]}',
                                  '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1], [0, 0]]]}, "properties": {"kind": 1}}]}',
                                  '{"features": [7]}', '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}, "properties": null}]}'])
def test_whatever_is_in_the_file_is_at_worst_a_problem(tmp_path, text):
    (tmp_path / 'l.geojson').write_text(text)
    with pytest.raises(Problem): read_layer(tmp_path / 'l.geojson', 'kind')
