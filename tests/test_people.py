"People are hidden in the file that is kept, or there is no file; `require` starts nothing without a detector."
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.operations.deployment import remember
from mlproject.photos import PhotoError, read_photo
from mlproject.serving.capture import Capture, CaptureConfig, captured
from mlproject.serving.people import checked, conceal_for, concealer, hidden, load_detector
from mlproject.settings import Serving

HERE = 'test_people'

def scene(people: int = 1) -> np.ndarray:
    "A meadow with drawn walkers: red coats with fine stripes."
    rgb = np.full((240, 320, 3), (90, 150, 80), np.uint8)
    for i in range(people):
        x = 40 + 90 * i
        rgb[60:180, x:x + 40] = (200, 20, 20)
        rgb[60:180:2, x:x + 40] = (255, 240, 240)
        cv2.circle(rgb, (x + 20, 45), 14, (230, 180, 150), -1)
    return rgb

def coats(rgb: np.ndarray) -> np.ndarray:
    "A detector of whatever is more red than green."
    red = (rgb[..., 0].astype(int) > rgb[..., 1]).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(red, np.ones((5, 5), np.uint8)))
    return np.array([(x, y, w, h) for x, y, w, h, area in stats[1:] if area > 500], float).reshape(-1, 4)

def broken(rgb): return np.zeros((0, 4)) if rgb.std() == 0 else 1 / 0

def detail(rgb, x) -> float: return float(np.abs(np.diff(rgb[70:170, x:x + 40].astype(int), axis=0)).mean())

def test_walkers_are_hidden_and_the_meadow_is_not():
    rgb = scene(3)
    kept = concealer(coats)(rgb)
    for x in (40, 130, 220): assert detail(rgb, x) > 100 and detail(kept, x) < 5
    assert (kept[210:] == rgb[210:]).all() and (kept[:, 305:] == rgb[:, 305:]).all()
    assert len(coats(rgb)) == 3 and (rgb == scene(3)).all()          # the photo that is answered is not touched

@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 4), max_size=4), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_any_boxes_on_any_photo(boxes, h, w):
    rgb = np.random.default_rng(0).integers(0, 255, (h, w, 3), np.uint8)
    assert hidden(rgb, boxes).shape == rgb.shape

@pytest.mark.parametrize('boxes', [[[1, 2, 3]], [[1, 2, 3, np.nan]], 'text', [[1, 2, 3, None, 5]]])
def test_what_is_no_boxes_is_one_line(boxes):
    with pytest.raises((Problem, ValueError, TypeError)): checked(boxes)
    with pytest.raises(PhotoError, match='people could not be looked for'): concealer(lambda rgb: boxes)(scene())

@pytest.mark.parametrize('name, words', [('', 'not set'), ('coats', 'MODULE:FUNCTION'), ('nowhere:f', 'cannot be loaded'), (f'{HERE}:nothing', 'cannot be loaded'), ('builtins:len', 'does not work')])
def test_require_refuses_to_start_and_on_starts_without_photos(name, words):
    with pytest.raises(Problem, match=words) as e: conceal_for('require', name)
    assert '\n' not in str(e.value) and 'people = require' in str(e.value)
    conceal, why = conceal_for('on', name)
    assert conceal is None and words in why
    assert conceal_for('off', name) == (None, None)

def test_a_worker_with_require_and_no_detector_does_not_start(tmp_path):
    s = Serving(database=f'sqlite:///{tmp_path}/s.db', photo_store=str(tmp_path/'photos'), people='require')
    with pytest.raises(Problem, match='people = require, but people_detector is not set'): remember(SimpleNamespace(settings=s, service=None), None)

def keep(tmp_path, people, conceal):
    "What capture keeps of a drawn photo: its pixels or None, and whether it has a row."
    photo = cv2.imencode('.jpg', scene()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    capture = Capture(f'sqlite:///{tmp_path}/s.db', tmp_path/'photos', CaptureConfig(sample=1, every_s=.02, people=people), conceal)
    answer = SimpleNamespace(prediction=None, code='busy')
    capture(SimpleNamespace(request_id='r', photos=[photo], answers=[answer], context={}, timings={}, door='rest', name='m', version='1', route_key=None, key_id=None, trace=None, outcome='ok'))
    capture.close(20)
    assert capture.counts['kept'] == 1 and capture.counts['failures'] == 0
    row, = captured(capture.engine)
    try: return read_photo(capture.store.get(row['photo'])), capture
    except Problem: return None, capture

def test_the_stored_file_itself_has_nobody_in_it(tmp_path):
    kept, _ = keep(tmp_path, 'require', conceal_for('require', f'{HERE}:coats')[0])
    assert detail(kept, 40) < 8 and detail(scene(), 40) > 100

@pytest.mark.parametrize('people', ['on', 'require'])
def test_without_a_detector_no_photo_is_kept(tmp_path, people): assert keep(tmp_path, people, None)[0] is None

def test_off_keeps_it_as_it_is(tmp_path): assert detail(keep(tmp_path, 'off', None)[0], 40) > 60

def test_a_photo_on_which_the_detector_fails_is_not_kept_and_capture_goes_on(tmp_path):
    kept, capture = keep(tmp_path, 'on', concealer(load_detector(f'{HERE}:broken')))
    assert kept is None and capture.counts['not_emptied'] == 1

@pytest.mark.slow   # seconds of a sliding window
def test_the_example_finds_a_face_from_the_front():
    pytest.importorskip('skimage')
    from skimage.data import astronaut
    from mlproject.serving.people import faces
    photo = astronaut()
    hers = lambda boxes: any(x < 220 < x + w and y < 115 < y + h for x, y, w, h in boxes)
    assert hers(faces(photo))
    assert len(faces(scene(0))) == 0 and faces(np.zeros((3, 500, 3), np.uint8)).shape == (0, 4)
    kept = conceal_for('require', 'mlproject.serving.people:faces')[0](photo)
    assert not hers(faces(kept))
