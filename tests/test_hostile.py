"Whatever is sent: a right status, in under a second of CPU and 300 MB, and nothing leaves the machine."
import ctypes, gc, socket, sys, time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hostile import FORM, Hostile, form, hostile, part, photo

from mlproject.export.extended import Preprocess
from mlproject.photos import PhotoError
from mlproject.serving.inputs import pixels, read_request
from mlproject.serving.limits import Limits
from mlproject.serving.schemas import ServingError, photo_problem

PREP, LIMITS = Preprocess(160, 182, (.5, .5, .5), (.25, .25, .25)), Limits()   # no min_side_hint: the dearer way
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:PIL')
CPU, MEMORY = 1., 300   # seconds, MB

def resident(reset: bool = False) -> tuple[float, float]:
    "MB now and at most since the last reset; the kernel counts."
    if reset:
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), 'malloc_trim'): libc.malloc_trim(0)   # what was freed shall not hide what is taken
        Path('/proc/self/clear_refs').write_text('5')
    found = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(('VmRSS', 'VmHWM')))
    return tuple(int(found[k].split()[0]) / 1024 for k in ('VmRSS', 'VmHWM'))

def ask(h: Hostile) -> tuple[int, list[str]]:
    "Status and code of each photo, as a server would answer; anything but our two errors is a failure."
    try: request = read_request(h.content_type, h.body, h.query, LIMITS)
    except ServingError as e: return e.status, [told(e)]
    codes, errors = [], []
    for p in request.photos:
        try:
            if p.error: raise p.error
            found = pixels(PREP, p.data, LIMITS)
            assert found.shape == (160, 160, 3) and found.dtype == np.uint8
            codes.append('')
        except PhotoError as e: errors.append(photo_problem(e, p.field))
        except ServingError as e: errors.append(e)
        if p.id is not None: assert p.id.isprintable() and len(p.id) <= 128
    return (errors[0].status if len(request.photos) == 1 and errors else 200), codes + [told(e) for e in errors]

def told(e: ServingError) -> str:
    "The code, when the document is fit to be sent."
    document = e.document('id')
    assert 400 <= e.status < 500 and all(str(v).isprintable() and len(str(v)) < 600 for v in document.values())
    assert document['detail'] == document['error'] and document['code'] == e.code
    return e.code

COUNTED = sys.platform == 'linux'

def params(): return [pytest.param(h, id=h.name, marks=[pytest.mark.slow] if h.heavy else []) for h in hostile()]

@pytest.fixture
def no_calls(monkeypatch):
    def refuse(*args, **kwargs): raise AssertionError('an outbound call')
    for name in ('connect', 'connect_ex', 'sendto'): monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)

@pytest.mark.parametrize('h', params())
def test_hostile(h, no_calls):
    h.body
    pixels(PREP, photo())
    before = resident(reset=True)[0] if COUNTED else 0
    start = time.process_time()
    status, codes = ask(h)
    cpu, peak = time.process_time() - start, (resident()[1] if COUNTED else 0) - before
    del h.__dict__['body']
    assert status in h.expected, (status, codes)
    assert cpu < CPU and peak < MEMORY, f'{cpu:.2f} s of CPU, {peak:.0f} MB'

def test_names_differ_and_are_many():
    names = [h.name for h in hostile()]
    assert len(set(names)) == len(names) >= 60

def test_a_bad_photo_never_fails_a_good_one():
    "Every bad picture in one form with a good photo behind it."
    bad = [h for h in hostile() if h.content_type == 'application/octet-stream' and 200 not in h.expected and not h.heavy and len(h.body) < 100_000]
    assert len(bad) > 40
    for i in range(0, len(bad), 20):
        some = bad[i:i + 20]
        status, codes = ask(Hostile('', FORM, lambda: form(*[part('photos', h.body) for h in some if h.body], part('photos', photo())), frozenset()))
        assert status == 200 and codes.count('') == 1 and len(codes) == len(some) + 1
