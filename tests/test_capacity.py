"""Load that waits for nobody, and the capacity of services whose truth is known."""
import asyncio, contextlib, json, re, socket, subprocess, sys, threading, time

import numpy as np, pytest
from conftest import ROOT, environment
from hypothesis import given, settings, strategies as st
from mlproject.core import Problem
from mlproject.serving.capacity import (LEAST, MOST, Bench, Capacity, Step, autoscaler_target, first_limit, highest, local_server, step_of,
                                        with_setting, with_target, write_down)
from mlproject.serving.driving import Driver, arrivals, drive, get_request, photo_request

@contextlib.contextmanager
def scripted(script):
    "A server in a thread: `script(number of the request)` gives (seconds to wait, bytes to answer)."
    counter, lock = [0], threading.Lock()
    def talk(conn):
        with conn:
            buffer = b''
            while True:
                while b'\r\n\r\n' not in buffer:
                    if not (data := conn.recv(65536)): return
                    buffer += data
                head, _, buffer = buffer.partition(b'\r\n\r\n')
                if m := re.search(rb'Content-Length: (\d+)', head):
                    while len(buffer) < int(m[1]): buffer += conn.recv(65536)
                    buffer = buffer[int(m[1]):]
                with lock:
                    n, counter[0] = counter[0], counter[0] + 1
                wait, answer = script(n)
                time.sleep(wait)
                for piece in answer or [None]:
                    if piece is None: return
                    conn.sendall(piece)
                    time.sleep(.01)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def accept():
            with contextlib.suppress(OSError):
                while True: threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
BUSY = b'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nConnection: close\r\n\r\n'

def load(where, rate=60, seconds=.5, **more): return asyncio.run(drive(Driver(*where, [photo_request(b'photo')]), arrivals(rate, seconds), seconds, **more))

@given(st.floats(1, 500), st.floats(.1, 5), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_arrivals_are_a_function_of_the_seed_and_lie_in_time(rate, seconds, seed):
    due = arrivals(rate, seconds, seed)
    assert (due == arrivals(rate, seconds, seed)).all() and (np.diff(due) >= 0).all() and (due < seconds).all()
    assert abs(len(due) - rate * seconds) <= 6 * (rate * seconds) ** .5 + 6

def test_a_request_is_what_the_server_expects():
    from mlproject.serving.inputs import read_request
    from mlproject.serving.inputs import Limits
    head, _, body = photo_request(b'\xff\xd8 a photo \r\n--', headers={'x-api-key': 'k'}).partition(b'\r\n\r\n')
    fields = dict(l.split(': ', 1) for l in head.decode().split('\r\n')[1:])
    asked = read_request(fields['Content-Type'], body, b'', Limits())
    assert [p.data for p in asked.photos] == [b'\xff\xd8 a photo \r\n--'] and int(fields['Content-Length']) == len(body) and fields['x-api-key'] == 'k'
    with pytest.raises(Problem): photo_request(b'', headers={'x': 'a\r\nb'})

@pytest.mark.parametrize('pieces, status, body', [
    ([OK[:9], OK[9:30], OK[30:]], 200, b'ok'), ([BUSY], 503, b''), ([b'HTTP/1.1 200 OK\r\n\r\nuntil the', b' end', None], 200, b'until the end'),
    ([b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort', None], 0, b'short'), ([None], 0, b'')])
def test_answers_in_pieces_without_a_length_and_broken_off(pieces, status, body):
    "None: the server hangs up."
    async def talk(where):
        wire = await Driver(*where, [b'x']).connect()
        try: return await asyncio.wait_for(wire.ask(get_request('/')), 5)
        finally: wire.transport.close()
    with scripted(lambda n: (0, pieces)) as where: assert asyncio.run(talk(where)) == (status, body)

def test_a_stall_is_felt_by_everybody_who_was_due_in_it():
    "A client that waits for its answer would count one slow request; 20 were due while the server stood still."
    with scripted(lambda n: (.6 if n == 0 else 0, [OK])) as where:
        made = asyncio.run(drive(Driver(*where, [photo_request(b'photo')], most=1), arrivals(40, 1., 3), 1.))
    assert set(made.statuses()) == {200} and (made.latency > .2).sum() >= 8
    assert (made.sent - made.due).max() > .2, 'they waited for the one connection, and that counts'

def test_a_slow_server_does_not_slow_the_sending():
    with scripted(lambda n: (.5, [OK])) as where: made = load(where, 60, .5)
    assert len(made.due) > 15 and made.status.tolist() == [200] * len(made.due)
    assert np.median(made.sent - made.due) < .2 and (made.latency > .45).all()

def test_refused_and_lost_requests_count_as_missed_and_connections_are_made_again():
    with scripted(lambda n: (0, [[OK], [BUSY], None][n % 3])) as where: made = load(where)
    found = made.statuses()
    assert set(found) == {0, 200, 503} and abs(made.within(1.) - 1 / 3) < .1
    s = step_of(made, 60, 1000)
    assert abs(s.refused - 1 / 3) < .1 and abs(s.failed - 1 / 3) < .1 and not s.meets

def test_an_answer_that_never_comes_ends_with_patience():
    with scripted(lambda n: (30, [OK])) as where:
        start = time.monotonic()
        made = load(where, 20, .3, patience=.2)
    assert time.monotonic() - start < 10 and made.statuses().keys() == {0} and np.isinf(made.latency).all()

def test_nobody_there_is_a_finding_not_a_crash():
    with socket.create_server(('127.0.0.1', 0)) as s: where = s.getsockname()
    assert load(where, 30, .2).statuses().keys() <= {0}
    with pytest.raises(Problem, match='not one photo was answered'): asyncio.run(Bench([photo_request(b'x')], 100, .2, tell=len).warm(where))

@given(st.floats(1, 5000), st.floats(1, 500))
@settings(max_examples=60, deadline=None)
def test_the_rate_that_is_found_is_the_truth_within_precision(truth, start):
    tried = []
    async def meets(rate, times):
        tried.append(rate)
        return rate <= truth
    found = asyncio.run(highest(meets, start))
    assert truth * .9 <= found <= truth and len(tried) < 40

@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_luck_near_the_limit_ends_near_the_limit(seed):
    luck = np.random.default_rng(seed)
    async def meets(rate, times): return rate * luck.normal(1, .03) <= 300
    assert 200 < asyncio.run(highest(meets, 20)) < 360

def test_limits_follow_from_what_was_measured():
    step = lambda p99, saturation: Step(10, 1., 5, p99, 0, 0, saturation, 0)
    assert first_limit(200, step(50, 0)) == 140 and first_limit(200, step(1000, 0)) == 20 and first_limit(200, step(float('inf'), 0)) == 20
    assert autoscaler_target(step(1, .3)) == .3 and autoscaler_target(step(1, 0)) == LEAST and autoscaler_target(step(1, float('nan'))) == MOST

def test_what_is_written_keeps_all_the_rest(tmp_path):
    for name in ('settings.ini', 'deploy/kubernetes/hpa.yaml', 'deploy/kserve/inferenceservice.yaml'):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_text((ROOT/name).read_text())
    found = Capacity(200, 400, 140, .35)
    changed = write_down(found, tmp_path)
    assert len(changed) == 3 and write_down(found, tmp_path) == changed
    for path in changed:
        old, new = ((r/path.relative_to(tmp_path)).read_text().splitlines() for r in (ROOT, tmp_path))
        assert len(set(new) - set(old)) <= 3 and all(l in new or 'queue_ms' in l or 'alue' in l for l in old)
    assert '350m' in changed[1].read_text() and 'value: "0.35"' in changed[2].read_text() and re.search(r'^queue_ms = 140$', changed[0].read_text(), re.M)
    with pytest.raises(Problem): write_down(Capacity(200), tmp_path)
    with pytest.raises(Problem): with_target('nothing here', .5)

@given(st.sampled_from(['threads', 'queue_ms', 'port']), st.integers(0, 999), st.sampled_from(['', '[serving]\nthreads = 9\n', '[serving]\n# port\n\n[more]\nport = 2\n']))
def test_a_setting_is_read_back_and_nothing_else_changes(name, value, tail):
    import configparser
    def read(text):
        parser = configparser.ConfigParser(inline_comment_prefixes=('#',))
        parser.read_string(text)
        return {s: dict(parser[s]) for s in parser.sections()}
    old = '[mlproject]\n# a comment\nthreads = 0\nport = auto\n' + tail
    new = with_setting(old, name, str(value))
    want = read(old)
    want.setdefault('serving', {})[name] = str(value)
    assert read(new) == want and with_setting(new, name, str(value)) == new

def serves():
    from mlproject.cli import app
    import typer.main
    if 'serve' not in typer.main.get_command(app).commands: pytest.skip('`mlproject serve` is not here yet')

@pytest.mark.slow
def test_the_command_measures_a_real_server(built, tmp_path):
    serves()
    model = built[0]/'extended'
    done = subprocess.run([sys.executable, '-m', 'mlproject.cli', 'capacity', str(model/'golden.jpg'), '--model', str(model), '--deadline', '500', '--seconds', '.6',
                           '--no-write', '--plot', str(tmp_path/'plot.json')], cwd=tmp_path, env=environment(ROOT), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path/'plot.json').read_text())
    assert made['rate'] > 20 and 50 <= made['queue_ms'] <= 500 and LEAST <= made['target'] <= MOST
    columns = made['columns']
    assert columns['rate'] == sorted(columns['rate']) and len({len(c) for c in columns.values()}) == 1 and '<- highest' in done.stdout
    assert f'queue_ms = {made["queue_ms"]} ' in done.stdout and 'nothing is written' in done.stdout, 'for a person: what to set where'

def test_a_server_that_does_not_start_is_one_line(tmp_path):
    with pytest.raises(Problem, match='did not become ready'):
        with local_server(tmp_path/'no model', {}): pass
