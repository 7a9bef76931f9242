"The whole server in processes of its own: signals, deaths, slow clients, shared state."
import os, re, shutil, signal, socket, subprocess, sys, threading, time
from pathlib import Path

import psutil
import pytest

from live_server import Server, alive, start, until
from mlproject.core import Problem, write_json
from mlproject.serving.guarding import create_key
from mlproject.serving.supervisor import begin, listen
from mlproject.serving.worker import Rollout
from small_model import photo, small_extended

PHOTO = photo(1)


@pytest.fixture(scope='module')
def model(tmp_path_factory): return small_extended(tmp_path_factory.mktemp('model')/'one')


@pytest.fixture(scope='module')
def server(model, tmp_path_factory):
    s = start(model, tmp_path_factory.mktemp('server'), header_s=1, body_s=1, idle_s=2, body_mib=1, photo_mib=1)
    yield s
    assert s.stop() == 0


@pytest.fixture()
def two(model, tmp_path):
    s = start(model, tmp_path, workers=2)
    until(lambda: len(s.workers()) == 2 and all(['ready'] in [g[0] for g in w['gauges']] and w['gauges'][-1][1] for w in s.workers().values()))
    yield s
    assert s.stop() == 0


def test_it_answers_and_writes_a_line(server):
    status, found = server.predict(PHOTO, x_request_id='line-1')
    assert status == 200 and found['model']['version'] == '1'
    line = until(lambda: [l for l in server.log() if l.get('request_id') == 'line-1'])[0]
    assert line['outcome'] == 'ok' and line['bytes'] == len(PHOTO) and line['total_ms'] > 0


def test_slow_headers_slow_bodies_and_silence_are_cut_off(server):
    start_line = b'POST /v1/predict HTTP/1.1\r\nhost: x\r\n'
    assert b' 408 ' in server.raw(start_line + b'x-a: ', *[b'a'] * 60, pause=.1).split(b'\r\n')[0]
    assert b' 408 ' in server.raw(start_line + b'content-length: 9999\r\n\r\n', *[b'a'] * 60, pause=.1).split(b'\r\n')[0]
    assert server.raw() == b''
    assert server.predict(PHOTO)[0] == 200


def test_a_huge_upload_is_refused_before_it_comes(server):
    sent, before = 0, {p: rss(p) for p in server.workers()}
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as s:
        s.sendall(b'POST /v1/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n')
        chunk = b'10000\r\n' + b'x' * 65_536 + b'\r\n'
        try:
            while sent < 500 * 2**20:
                s.sendall(chunk)
                sent += 65_536
        except OSError: pass
    assert sent < 100 * 2**20
    assert all(rss(p) - before.get(p, rss(p)) < 60 for p in server.workers())
    answer = server.raw(b'POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 524288000\r\n\r\n', b'x' * 2**20)
    assert b' 413 ' in answer.split(b'\r\n')[0] and b'application/problem+json' in answer


def rss(pid: int) -> int:   # MiB
    return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 2**20


def test_the_memory_for_bodies_is_a_setting(model, tmp_path):
    s, held, size = start(model, tmp_path, body_mib=1, room_mib=2, body_s=60), [], 900_000
    code = lambda: s.predict(bytes(size))[1].get('code')
    def full():   # one more body that lacks its last byte
        held.append(c := socket.create_connection(('127.0.0.1', s.port), timeout=20))
        c.sendall(b'POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n' % (size + 1) + bytes(size))
        return code() == 'overloaded'
    try:
        until(full)
        assert len(held) < 20    # of the 256 MiB that are usual, they take less than a tenth
        for c in held: c.close()
        until(lambda: code() == 'not_an_image')
    finally: assert s.stop() == 0


def test_headers_have_a_limit(server):
    assert b' 431 ' in server.raw(b'GET / HTTP/1.1\r\nhost: x\r\n' + b'x-a: 1\r\n' * 500 + b'\r\n').split(b'\r\n')[0]
    assert b' 431 ' in server.raw(b'GET / HTTP/1.1\r\nhost: x\r\nx-a: ' + b'a' * 50_000 + b'\r\n\r\n').split(b'\r\n')[0]


@pytest.mark.parametrize('junk', [b'\x16\x03\x01\x02\x00\x01\x00', b'GET\r\n\r\n', b'POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx',
                                  b'POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\n', b'POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n', b'\0' * 100])
def test_what_is_not_http_gets_400(server, junk):
    assert b' 400 ' in server.raw(junk).split(b'\r\n')[0]


def test_pipelined_requests_are_answered_in_order(server):
    one = b'GET /v1/models/%s HTTP/1.1\r\nhost: x\r\n\r\n'
    answer = server.raw(one % b'1' + one % b'2' + b'GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    assert re.findall(rb'HTTP/1.1 (\d+)', answer) == [b'200', b'404', b'200']


def test_ports_and_addresses_that_cannot_be_had_are_one_line(server):
    with pytest.raises(Problem, match='is taken'): listen('127.0.0.1', server.port)
    with pytest.raises(Problem, match='no address of this machine'): listen('192.0.2.7', 0)


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(model, tmp_path):
    with pytest.raises(RuntimeError, match='status 2'): start(model, tmp_path, host='0.0.0.0')
    with pytest.raises(RuntimeError, match='status 2'): start(tmp_path, tmp_path)
    (tmp_path/'keys.json').write_text('nonsense')
    with pytest.raises(RuntimeError, match='status 2'): start(model, tmp_path)


def test_killed_worker_under_load(two):
    "Only what it was answering fails; another takes over, and the server goes on."
    failed, done, stop = [], [], threading.Event()
    def load():
        while not stop.is_set():
            try: status = two.predict(PHOTO)[0]
            except OSError as e: status = type(e).__name__
            except Exception as e: status = type(e).__name__
            (done if status == 200 else failed).append(status)
    threads = [threading.Thread(target=load) for _ in range(4)]
    for t in threads: t.start()
    until(lambda: len(done) > 20)
    victim = next(iter(two.workers()))
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in two.workers() and len(two.workers()) == 2, 30)
    before = len(done)
    until(lambda: len(done) > before + 20)
    stop.set()
    for t in threads: t.join()
    assert len(failed) <= 4, failed
    text = two.ask('GET', '/metrics')[2].decode()
    counted = sum(float(l.split()[-1]) for l in text.splitlines() if l.startswith('mlproject_requests_total') and 'outcome="ok"' in l)
    assert counted >= len(done) * .3


def test_sigterm_loses_nothing(model, tmp_path):
    "Clients that keep their connection get an answer to all they asked; then the server refuses connections and ends."
    s = start(model, tmp_path, workers=2)
    import http.client
    lost, answered, refused = [], [], threading.Event()
    def load():
        while not refused.is_set():
            c = http.client.HTTPConnection('127.0.0.1', s.port, timeout=20)
            try: c.connect()
            except OSError: return refused.set()
            try:
                while True:
                    c.request('POST', '/v1/predict', PHOTO, {'content-type': 'image/jpeg'})
                    r = c.getresponse()
                    r.read()
                    (answered if r.status == 200 else lost).append(r.status)
                    if r.will_close: break
            except Exception as e: lost.append(repr(e))
            finally: c.close()
    threads = [threading.Thread(target=load) for _ in range(6)]
    for t in threads: t.start()
    until(lambda: len(answered) > 50)
    s.process.send_signal(signal.SIGTERM)
    for t in threads: t.join(30)
    assert s.process.wait(30) == 0 and not lost


@pytest.mark.slow
def test_a_second_signal_ends_at_once(model, tmp_path):
    s = start(model, tmp_path)
    with socket.create_connection(('127.0.0.1', s.port)) as held:
        held.sendall(b'POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nx')
        time.sleep(.3)
        s.process.send_signal(signal.SIGTERM)
        time.sleep(.3)
        assert s.process.poll() is None
        s.process.send_signal(signal.SIGTERM)
        s.process.wait(10)


def a_command(model, *words, ignore: bool = False):
    "`mlproject serve` as typed, a newcomer's way; `ignore`: as `nohup` starts it."
    code = 'import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n' if ignore else ''
    return subprocess.Popen([sys.executable, '-c', code + 'from mlproject.cli import main; main()', 'serve', *(['-m', str(model)] if model else []), '-w', '1', '--keys', 'no-keys.json', '--set', 'log=off', *map(str, words)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said_on(stream) -> list[str]: return [l for l in stream.read().splitlines() if 'still loading' not in l]   # a busy machine


@pytest.mark.slow
def test_signals_while_it_starts_and_a_closed_terminal(model, tmp_path):
    "Each ends it without a trace of Python; `nohup` keeps it."
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        starting = a_command(model, '-p', '0', '--set', f'state={tmp_path}/{s}')
        until(psutil.Process(starting.pid).children)          # the worker, which takes far longer
        starting.send_signal(s)
        assert starting.wait(60) == 0 and not said_on(starting.stderr)
    for ignore in (False, True):
        running = a_command(model, '-p', '0', ignore=ignore)
        port = int(re.search(r'serves version .* on http://127.0.0.1:(\d+) ', running.stdout.readline())[1])
        running.send_signal(signal.SIGHUP)
        if ignore:
            assert Server(running, port, tmp_path).predict(PHOTO)[0] == 200, 'a new connection is answered'
            running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0 and not said_on(running.stderr)


@pytest.mark.slow
def test_a_newcomer_reads_one_line(model, tmp_path, server):
    "What is wrong, and what is allowed."
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'extended').symlink_to(model)
    for name, change in dict(network=lambda f: (f/'model.onnx').write_bytes(b'short'), about=lambda f: (f/'extended.json').write_text('['), golden=lambda f: (f/'golden.jpg').unlink(),
                             manifest=lambda f: (f/'manifest.json').write_text('[]'), unfinished=lambda f: (f/'manifest.json').unlink()).items():
        shutil.copytree(model, tmp_path/name)
        change(tmp_path/name)
    for words, said in [([model, '-p', str(server.port)], f'port {server.port} on 127.0.0.1 is taken by another program'), ([tmp_path/'nowhere'], 'no such folder (allowed: the folder of an extended model'),
                        ([tmp_path], 'that is not an extended model (allowed:'), ([tmp_path/'run'], f'did you mean --model {tmp_path}/run/extended'), ([tmp_path/'network'], 'model.onnx is not the file that was written'),
                        ([tmp_path/'about'], 'extended.json is not the file'), ([tmp_path/'golden'], 'golden.jpg is missing'), ([tmp_path/'manifest'], 'manifest.json is damaged'), ([tmp_path/'unfinished'], 'is not complete'),
                        (['models:nonsense'], 'allowed: models:/NAME/VERSION'), ([model, '--set', 'queue_m=3'], 'did you mean queue_ms'), ([model, '--host', '0.0.0.0'], 'keys')]:
        found = a_command(*words, *([] if '-p' in words else ['-p', '0']))
        lines = said_on(found.stderr)
        found.wait(60)
        assert found.returncode == 2 and len(lines) == 1 and lines[0].startswith('mlproject: ') and said in lines[0], (words, lines)


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_killed(model, tmp_path):
    s = start(model, tmp_path)
    pid, = until(s.workers)
    s.process.kill()
    until(lambda: not alive(pid))


def test_weights_and_versions_change_on_all_workers(two, tmp_path):
    other = small_extended(tmp_path/'two', seed=5)
    state = Rollout(two.folder/'state')
    state.write(models=state.read()['models'] | {'2': str(other)}, weights={'1': 0, '2': 1})
    seen = lambda: {two.predict(PHOTO)[1]['model']['version'] for _ in range(8)}
    until(lambda: seen() == {'2'})
    state.write(weights={'1': 1, '2': 0})
    until(lambda: seen() == {'1'})
    state.write(models={'1': state.read()['models']['1']}, weights={'1': 1})
    until(lambda: two.ask('GET', '/v1/models/2')[0] == 404)


@pytest.mark.slow
def test_a_key_has_one_rate_over_all_workers(model, tmp_path):
    token, _ = create_key(tmp_path/'keys.json', 'one', rate=1, burst=4)
    s = start(model, tmp_path, workers=2)
    until(lambda: len(s.workers()) == 2)
    found = [s.predict(PHOTO, x_api_key=token)[0] for _ in range(12)]
    assert 4 <= found.count(200) <= 7 and found.count(429) == 12 - found.count(200)
    assert s.predict(PHOTO)[0] == 401 and s.stop() == 0
    assert token.split('_')[2] not in (tmp_path/'requests.log').read_text()


def test_a_client_that_leaves_takes_its_work_along(server):
    with socket.create_connection(('127.0.0.1', server.port)) as s:
        s.sendall(b'POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n' % len(PHOTO) + PHOTO)
    assert server.predict(PHOTO)[0] == 200


def test_the_parent_imports_nothing_heavy():
    code = 'import sys, mlproject.serving.supervisor; print([m for m in ("numpy", "cv2", "pydantic", "fastapi", "onnxruntime", "mlflow") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_a_restart_goes_on_with_the_shares_of_before(model, tmp_path, capsys):
    a, b, c = (str(small_extended(tmp_path/n, seed=i)) for i, n in enumerate('abc'))
    path = tmp_path/'rollout.json'
    before = Rollout(tmp_path).write({'1': a, '2': b}, {'1': .75, '2': .25}, ['2'])
    for typed, models in ((False, {'7': c}), (True, {'1': a}), (True, {'another name': b})):
        begin(path, models, typed)
        assert Rollout(tmp_path).read() == before
    assert 'goes on as before: 1 75%, 2 25% (--anew' in capsys.readouterr().err
    begin(path, {'7': c}, True)   # named, as a unit file names it at every start: what was released is not undone
    assert Rollout(tmp_path).read() == before and f'as released; {c} is NOT served: `mlproject release start`' in capsys.readouterr().err
    begin(path, {'7': c}, True, anew=True)
    assert Rollout(tmp_path).read()['weights'] == {'7': 1} and 'gives way to 7' in capsys.readouterr().err
    begin(path, {'8': b}, True)   # what was only served gives way to another model that is named
    assert Rollout(tmp_path).read()['models'] == {'8': b} and 'gives way to 8' in capsys.readouterr().err
    write_json(path, before | dict(models={'1': a, '2': str(tmp_path/'gone')}))
    begin(path, {'7': c}, True)   # what cannot be loaded is no reason not to serve
    assert Rollout(tmp_path).read()['models'] == {'7': c}


def test_a_restart_with_the_model_of_old_keeps_a_promoted_version(model, tmp_path):
    other, folder = str(small_extended(tmp_path/'other', seed=5)), tmp_path/'server'
    first = start(model, folder)
    try: Rollout(first.folder/'state').write({'2': other}, {'2': 1})   # promoted, the old one unloaded
    finally: first.stop()
    again = start(model, folder)
    try: assert again.predict(PHOTO)[1]['model']['version'] == '2'
    finally: again.stop()


def test_a_server_that_starts_again_splits_keys_as_before(model, tmp_path):
    other, folder = small_extended(tmp_path/'other', seed=5), tmp_path/'server'
    said = lambda s: [s.predict(PHOTO, x_route_key=f'key {i}')[1]['model']['version'] for i in range(20)]
    first = start(model, folder)
    try:
        state = Rollout(first.folder/'state')
        state.write(models=state.read()['models'] | {'2': str(other)}, weights={'1': .5, '2': .5})
        until(lambda: set(said(first)) == {'1', '2'})
        was = said(first)
    finally: first.stop()
    again = start(model, folder)
    try:
        until(lambda: set(said(again)) == {'1', '2'})
        assert said(again) == was
    finally: again.stop()
