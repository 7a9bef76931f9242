"""Hypothesis against `read_request` and `pixels`, for as long as you like: python tests/fuzz_inputs.py --seconds 180

Real photos are mutated, forms and JSON are put together from odd pieces. Only `ServingError` and `PhotoError` may come out, each
fit to be sent, within a second of CPU."""
import argparse, itertools, json, random, sys, time, warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from conftest import SHARED
from hostile import FORM, JSON, form, part, photo, pictures

from mlproject.export.extended import Preprocess
from mlproject.photos import PhotoError
from mlproject.serving.inputs import Request, pixels, read_request
from mlproject.serving.limits import Limits
from mlproject.serving.schemas import ServingError, photo_problem

PREP, LIMITS = Preprocess(64, 72, (.5, .5, .5), (.25, .25, .25)), Limits(body_bytes=2**20, photo_bytes=2**19, photos=4)
SECOND = 1.

def bases() -> list[bytes]:
    "One good photo of each kind, and some from a camera where they are at hand."
    made = [make() for make, expected in pictures().values() if expected == {200}]
    real = sorted(SHARED.glob('odd_images/*.jpg')) if SHARED.is_dir() else []
    return [b for b in [*made, *(p.read_bytes() for p in real)] if len(b) < 2**18]

def fit(e: ServingError) -> None:
    document = e.document('id')
    json.dumps(document, allow_nan=False).encode()
    assert 400 <= e.status < 500 and all(str(v).isprintable() and len(str(v)) < 600 for v in document.values()), document

def check_pixels(data: bytes) -> str:
    start = time.process_time()
    try:
        found = pixels(PREP, data, LIMITS)
        assert found.shape == (64, 64, 3) and found.dtype == np.uint8
        told = 'ok'
    except PhotoError as e:
        fit(photo_problem(e, 'photos[0]'))
        told = e.reason
    assert (spent := time.process_time() - start) < SECOND, f'{spent:.2f} s'
    return told

def check_request(kind, body: bytes, query='') -> str:
    start = time.process_time()
    try: request = read_request(kind, body, query, LIMITS)
    except ServingError as e:
        fit(e)
        return e.code
    finally: assert time.process_time() - start < SECOND
    assert isinstance(request, Request) and 1 <= len(request.photos) <= LIMITS.photos and 1 <= request.top_k <= 100
    for p in request.photos:
        assert sum(x is not None for x in (p.data, p.error, p.url)) == 1 and (p.id is None or p.id.isprintable() and len(p.id) <= 128)
        if p.error: fit(p.error)
        if p.data: check_pixels(p.data)
    return 'ok'

# a mutation: where (a fraction), what is done, with which bytes
BYTES = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b'\xff' * 4, bytes(4), b'\x7f\xff\xff\xff', b'\xff\xd8', b'\xff\xda', b'\xff\xc4', b'IDAT', b'IEND', b'\x21\xfe', b'\0\1\0\0', b'\x80']))
MUTATION = st.tuples(st.floats(0, 1) | st.floats(0, .02), st.sampled_from(['set', 'insert', 'delete', 'repeat', 'flip', 'cut']), BYTES)

def mutated(data: bytes, mutations) -> bytes:
    for where, what, b in mutations:
        at = int(where * max(0, len(data) - 1))
        if what == 'set': data = data[:at] + b + data[at + len(b):]
        elif what == 'insert': data = data[:at] + b + data[at:]
        elif what == 'delete': data = data[:at] + data[at + len(b):]
        elif what == 'repeat': data = data[:at] + data[at:at + 16 * len(b)] * 50 + data[at:]
        elif what == 'flip' and data: data = data[:at] + bytes([data[at] ^ b[0]]) + data[at + 1:]
        elif what == 'cut' and b[0] < 64: data = data[:at]
    return data

WORD = st.sampled_from(['photos', 'photo', 'top_k', 'version', 'id', 'data', 'url', '', 'x', '"', 'filename', '\\', ';']) | st.text(max_size=6)
def form_part(name, content, filename, extra): return part(name.encode('utf-8', 'replace').decode('latin-1'), content, filename and filename.encode('utf-8', 'replace').decode('latin-1'), extra)
PART = st.builds(form_part, WORD, st.sampled_from([photo(), b'3', b'']) | st.binary(max_size=40), st.none() | WORD, st.sampled_from(['', 'Content-Type: image/png\r\n', 'X: y\r\n', '\r\n', 'Content-Disposition: x\r\n', ': \r\n']))
FORMS = st.builds(lambda parts, end, m: mutated(form(*parts, end=end), m), st.lists(PART, max_size=6), st.sampled_from([b'--cut--\r\n', b'--cut--', b'--cut', b'', b'\r\n--cut--\r\nx']), st.lists(MUTATION, max_size=2))
VALUE = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(['/9j/4AAQ', 'data:;base64,/9j/', 'https://a.org/']), lambda v: st.lists(v, max_size=4) | st.dictionaries(WORD, v, max_size=4), max_leaves=12)
JSONS = st.builds(lambda value, m: mutated(json.dumps(value).encode(), m), st.fixed_dictionaries(dict(photos=st.lists(VALUE, max_size=5)), optional=dict(top_k=VALUE, version=VALUE)) | VALUE, st.lists(MUTATION, max_size=1))
TYPES = st.sampled_from([FORM, JSON, 'image/jpeg', None, 'multipart/form-data', 'multipart/form-data; boundary=""', 'text/plain']) | st.text(st.characters(max_codepoint=255), max_size=40)
QUERIES = st.sampled_from(['', 'top_k=3', 'version=1', 'top_k=']) | st.text(max_size=30)

def checks(found: dict, examples: int):
    "The properties, each a function that runs `examples` of them."
    def count(told): found[told] = found.get(told, 0) + 1
    quiet = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
    originals = bases()
    @quiet
    @given(st.sampled_from(range(len(originals))), st.lists(MUTATION, min_size=1, max_size=6))
    def photos(i, mutations): count('photo ' + check_pixels(mutated(originals[i], mutations)))
    @quiet
    @given(FORMS)
    def forms(body): count('form ' + check_request(FORM, body))
    @quiet
    @given(JSONS)
    def jsons(body): count('json ' + check_request(JSON, body))
    @quiet
    @given(TYPES, FORMS | JSONS | st.binary(max_size=60), QUERIES)
    def anything(kind, body, query): count('any ' + check_request(kind, body, query))
    return photos, forms, jsons, anything

def fuzz(seconds: float, start: int = 0, examples: int = 100) -> dict[str, int]:
    "Rounds of examples with new seeds until the time is over; how often each outcome was seen."
    warnings.filterwarnings('ignore', module='PIL')
    found: dict[str, int] = {}
    properties, until = checks(found, examples), time.monotonic() + seconds
    for i in itertools.count(start):
        for p in properties: seed(i)(p)()
        if time.monotonic() > until: return found

def command(fuzz, about: str, what: str) -> None:
    "The command line of a fuzzer: `fuzz(seconds, first seed)` gives how often each outcome was seen."
    options = argparse.ArgumentParser(description=about)
    options.add_argument('--seconds', type=float, default=180)
    options.add_argument('--seed', type=int, default=None, help='the same seed tries the same things')
    chosen = options.parse_args()
    first = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    print(f'seed {first}', flush=True)
    outcomes = fuzz(chosen.seconds, first)
    print(f'{sum(outcomes.values()):,} {what}:', ', '.join(f'{k} {n:,}' for k, n in sorted(outcomes.items())))

if __name__ == '__main__': command(fuzz, __doc__, 'inputs')
