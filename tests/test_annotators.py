"""Unreliable annotators behind a real server that lies, hangs, varies and dies; caches under kill and concurrency."""
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, environment
from mlproject.core import Problem
from mlproject.data.agreement import self_agreement
from mlproject.data.annotators import AskConfig, Annotator, annotate
from mlproject.data.calls import AnswerCache, Breaker, chat_ask, http_ask, reader
from mlproject.data.records import records_table

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
Label = Literal['lion', 'zebra', 'heron', 'unknown']
QUICK = dict(timeout=60, backoff=.001, backoff_max=.01)  # no answer is late on a busy machine; who waits for one that never comes says how long


class Moody(BaseHTTPRequestHandler):
    "Behaves as the note says; `seen` counts the calls about each."
    seen, lock = Counter(), threading.Lock()
    protocol_version = 'HTTP/1.0'

    def log_message(self, *_): pass

    def do_POST(self):
        note = json.loads(self.rfile.read(int(self.headers['Content-Length'])))['occurrenceRemarks']
        with Moody.lock:
            Moody.seen[note] += 1
            turn = Moody.seen[note]
        mood, _, label = note.partition(' ')
        try: getattr(self, mood)(turn, label.split()[0] if label else '')
        except OSError: pass  # the client gave up

    def say(self, body, status=200, **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for k, v in {'Content-Length': len(body), **headers}.items(): self.send_header(k.replace('_', '-'), str(v))
        self.end_headers()
        self.wfile.write(body)

    def honest(self, turn, label): self.say(json.dumps(label))
    def lies_once(self, turn, label): self.say(json.dumps('zebra' if turn == 1 else label))
    def varies(self, turn, label): self.say(json.dumps(['lion', 'zebra', 'heron'][turn % 3]))
    def shrugs(self, turn, label): self.say('"unknown"')
    def hangs(self, turn, label): self.rfile.read(1)  # until the client has gone
    def hangs_once(self, turn, label): self.hangs(turn, label) if turn == 1 else self.honest(turn, label)
    def overloaded(self, turn, label): self.say('', 429, Retry_After='0') if turn < 3 else self.honest(turn, label)
    def broken(self, turn, label): self.say('', 500)
    def forbidden(self, turn, label): self.say('no such model', 403)
    def rambles(self, turn, label): self.say('I would say that this is most likely a lion, but…')
    def garbage(self, turn, label): self.say(b'\xff\xfe\x00' * 1000)
    def nested(self, turn, label): self.say('[' * 200_000)
    def fenced(self, turn, label): self.say(f'```json\n"{label}"\n```')

    def drips(self, turn, label):
        self.send_response(200)
        self.end_headers()
        while True:  # until the client has gone
            self.wfile.write(b' ')
            self.wfile.flush()
            time.sleep(.05)

    def cut(self, turn, label):
        self.send_response(200)
        self.send_header('Content-Length', '100')
        self.end_headers()
        self.wfile.write(b'"li')


@pytest.fixture(scope='module')
def url():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Moody)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


def records(*notes): return records_table([dict(occurrenceID=f'r{i:03d}', occurrenceRemarks=n) for i, n in enumerate(notes)])


LATE = dict(hangs=dict(timeout=.2), drips=dict(timeout=.2), hangs_once=dict(timeout=3))


@pytest.mark.parametrize('mood, wanted', [
    ('honest', 'lion'), ('lies_once', 'lion'), ('hangs_once', 'lion'), ('overloaded', 'lion'), ('fenced', 'lion'), ('varies', 'low_agreement'),
    ('shrugs', 'declined'), ('hangs', 'timeout'), ('drips', 'timeout'), ('broken', 'unavailable'), ('cut', 'unavailable'), ('forbidden', 'refused'),
    ('rambles', 'invalid'), ('garbage', 'invalid'), ('nested', 'invalid')])
def test_every_mood_of_a_server_ends_in_an_answer_or_in_the_ledger(url, tmp_path, mood, wanted):
    a = Annotator('animal', '1', http_ask(url), Label, config=AskConfig(**QUICK | LATE.get(mood, {}), retries=2 if mood == 'overloaded' else 1, repeats=3, workers=2))
    out = annotate(records(f'{mood} lion {tmp_path.name}'), a, tmp_path / 'answers.db')
    told = out.records['answer'].to_pylist() + out.rejects['rule'].to_pylist()
    assert told == [wanted]
    if out.rejects.num_rows: assert out.rejects['step'][0].as_py() == 'annotate animal@1' and 'occurrenceRemarks' in out.rejects['record'][0].as_py()


def test_a_mixed_batch_keeps_its_order_asks_once_a_content_and_asks_nothing_twice(url, tmp_path):
    notes = [f'{m} {l} {tmp_path.name}' for m in ('honest', 'lies_once', 'forbidden') for l in ('lion', 'heron')] * 5 + [None]
    a = Annotator('animal', '1', http_ask(url), Label, config=AskConfig(**QUICK))
    first = annotate(records(*notes), a, tmp_path / 'answers.db')
    assert first.records['occurrenceID'].to_pylist() == [f'r{i:03d}' for i, n in enumerate(notes) if n and 'forbidden' not in n]
    assert first.records['answer'].to_pylist() == [n.split()[1] for n in notes if n and 'forbidden' not in n]
    assert first.counts['items'] == 6 and first.counts['calls'] == 2 * 2 + 2 * 3 + 2 * 1
    again = annotate(records(*notes), a, tmp_path / 'answers.db')
    assert again.records.equals(first.records) and again.counts['calls'] == 2  # only what was refused


def test_a_dead_service_is_left_alone_and_taken_up_again(url, tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        dead = f'http://127.0.0.1:{s.getsockname()[1]}/'
    config = AskConfig(**QUICK, retries=1, breaker=4, cooldown=.01, openings=2, workers=4)
    notes = [f'honest lion {tmp_path.name} {i}' for i in range(200)]
    down = annotate(records(*notes), Annotator('animal', '1', http_ask(dead), Label, config=config), tmp_path / 'a.db')
    assert down.records.num_rows == 0 and down.counts['calls'] < 40 and set(down.rules()) <= {'circuit_open', 'unavailable'}
    up = annotate(records(*notes), Annotator('animal', '1', http_ask(url), Label, config=config), tmp_path / 'a.db')
    assert up.records.num_rows == 200


def test_the_budget_holds_over_runs_and_threads(tmp_path):
    a = Annotator('animal', '1', lambda item: 'lion', Label, config=AskConfig(max_calls=25, workers=8, backoff=0))
    outs = [annotate(records(*[f'n{i}' for i in range(40)]), a, tmp_path / 'a.db') for _ in range(2)]
    assert [o.counts['calls'] for o in outs] == [25, 0]
    assert outs[1].rules()['budget'] == 40 - outs[1].records.num_rows and 8 <= outs[1].records.num_rows <= 12


def test_another_version_uses_no_answer_of_the_old_one(tmp_path):
    old, new = (Annotator('animal', v, lambda item, v=v: dict(a='lion', b='zebra')[v], Label) for v in 'ab')
    for a, wanted in ((old, 'lion'), (new, 'zebra'), (old, 'lion')):
        assert annotate(records('x'), a, tmp_path / 'a.db').records['answer'].to_pylist() == [wanted]


def test_a_vote_on_one_field_of_an_answer(tmp_path):
    said = iter([dict(species='lion', why='mane'), dict(species='zebra', why='?'), dict(species='lion', why='roar')])
    schema = dict(type='object', required=['species'], properties=dict(species=dict(enum=['lion', 'zebra'])))
    a = Annotator('animal', '1', lambda item: next(said), schema, vote_on=lambda v: v['species'], config=AskConfig(workers=1))
    row = annotate(records('x'), a, tmp_path / 'a.db').records.to_pylist()[0]
    assert json.loads(row['answer']) == dict(species='lion', why='mane') and row['share'] == pytest.approx(2 / 3) and len(row['answers']) == 3


def test_agreement_with_itself_is_not_biased_by_early_stopping(tmp_path):
    import random
    rng = random.Random(0)
    truth, said = {f'n{i}': rng.choice(['lion', 'zebra']) for i in range(600)}, {}
    def ask(item):
        note = item['occurrenceRemarks']
        answer = truth[note] if rng.random() < .8 else rng.choice(['lion', 'zebra'])
        said.setdefault(note, []).append(answer)
        return answer
    out = annotate(records(*truth), Annotator('animal', '1', ask, Label, config=AskConfig(workers=1)), tmp_path / 'a.db')
    assert out.counts['agreement']['alpha'] == round(self_agreement([said[n][:2] for n in truth]).value, 4)  # not of the third, tie-breaking answers
    assert out.counts['agreement']['low'] <= .64 <= out.counts['agreement']['high']  # .8 of the answers are knowledge
    assert out.counts['calls'] == sum(map(len, said.values())) < 600 * 2.5


def test_the_first_stored_answer_stays(tmp_path):
    with AnswerCache(tmp_path / 'a.db') as left, AnswerCache(tmp_path / 'a.db') as right:
        assert [left.put('k', '1'), right.put('k', '2'), left.get('k')] == ['1', '1', '1']


@given(st.recursive(st.none() | st.booleans() | st.integers(-10**6, 10**6) | st.text(max_size=20), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3), max_leaves=8))
def test_no_answer_makes_the_reader_raise_anything_but_value_error(value):
    for read in (reader(Label), reader(int), reader(dict(type='object', required=['a']))):
        for answer in (value, json.dumps(value), json.dumps(value).encode(), str(value)):
            try: assert isinstance(json.loads(read(answer)), (str, int, dict))
            except ValueError: pass


def test_the_breaker_lets_one_call_through_at_a_time():
    b, inside, most = Breaker(1, .02, 1000), [0], [0]
    b.leave(False, b.enter())
    def call():
        trial = b.enter()
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(.005)
        inside[0] -= 1
        b.leave(False, trial)
    threads = [threading.Thread(target=call) for _ in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert most == [1] and b.opened == 7


def test_a_closed_circuit_forgets_failures_after_a_success():
    b = Breaker(3, 10, 1)
    for fine in (False, False, True, False, False): b.leave(fine, b.enter())
    assert not b.until


def test_a_file_that_is_no_cache_is_a_problem(tmp_path):
    (tmp_path / 'a.db').write_bytes(b'not a database' * 1000)
    with pytest.raises(Problem, match='cannot be used as a cache'): AnswerCache(tmp_path / 'a.db')


def test_chat_sends_photo_and_key_and_reads_the_reply(monkeypatch, tmp_path):
    got = {}
    class Chat(BaseHTTPRequestHandler):
        def log_message(self, *_): pass
        def do_POST(self):
            got.update(json.loads(self.rfile.read(int(self.headers['Content-Length']))), key=self.headers['Authorization'])
            body = json.dumps(dict(choices=[dict(message=dict(content='lion'))])).encode()
            self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('MODEL_KEY', 'secret')
    ask = chat_ask(f'http://127.0.0.1:{server.server_port}/', 'm', lambda item: 'Which?', lambda item: b'JPEG', key_variable='MODEL_KEY')
    assert ask({}) == 'lion'
    server.shutdown()
    assert got['key'] == 'Bearer secret' and got['messages'][0]['content'][1]['image_url']['url'].startswith('data:image/jpeg;base64,')


CHILD = '''
import itertools, sys, threading
from mlproject.data.annotators import AskConfig, Annotator, annotate
from mlproject.data.records import records_table
path, name, n, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
turn = itertools.count()
def ask(item):
    if next(turn) >= most: threading.Event().wait()  # stands still until it is killed
    return name + ' says ' + item['occurrenceRemarks']
rows = records_table([dict(occurrenceID=f'r{i}', occurrenceRemarks=f'note {i}') for i in range(n)])
out = annotate(rows, Annotator('who', '1', ask, str, config=AskConfig(repeats=1, workers=4, max_calls=10**6)), path)
print('\\n'.join(out.records['answer'].to_pylist()))
'''


def child(path, name, n, most=10**6): return subprocess.Popen([sys.executable, '-c', CHILD, str(path), name, str(n), str(most)], env=environment(ROOT), stdout=subprocess.PIPE, text=True)


def test_a_killed_run_keeps_its_answers(tmp_path):
    path = tmp_path / 'a.db'
    first = child(path, 'first', 400, 40)
    def stored():
        try:
            with sqlite3.connect(path, timeout=10) as db: return db.execute('SELECT count(*) FROM answers').fetchone()[0]
        except sqlite3.Error: return 0
    while stored() < 40 and first.poll() is None: time.sleep(.02)
    first.kill()
    first.communicate()
    kept = stored()
    assert kept == 40
    said = Counter(line.split()[0] for line in child(path, 'second', 400).communicate(timeout=300)[0].splitlines())
    assert said == dict(first=kept, second=400 - kept)


@pytest.mark.slow
def test_two_processes_on_one_cache_end_with_the_same_answers(tmp_path):
    both = [child(tmp_path / 'a.db', name, 120) for name in ('left', 'right')]
    left, right = (p.communicate(timeout=300)[0].splitlines() for p in both)
    assert len(left) == 120 and left == right
