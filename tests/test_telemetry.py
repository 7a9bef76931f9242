"Lines that never wait, counts that add up, traces that are handed on."
import json, logging, os, re, threading, time

import pytest
from hypothesis import given, settings, strategies as st

from mlproject.export.extended import Prediction
from mlproject.serving.engine import Answer
from mlproject.serving.schemas import ServingError
from mlproject.serving.service import Served
from mlproject.serving.telemetry import (ATOMIC, TABLE, Board, LineHandler, Lines, Metrics, Telemetry, add_up, exposition, in_pieces, read_trace,
                                         request_line)
from live_server import until

TIMES = dict(read=1., queue=2., decode=3., network=4., total=10.)


def served(**more):
    return Served('r1', version='3', name='reserve', answers=[Answer(Prediction((('Vulpes vulpes', .9),), 'Vulpes vulpes', .9), batch=4)], sizes=[10], timings=TIMES, **more)


def test_many_threads_one_line_each(tmp_path):
    lines = Lines(tmp_path/'log')
    def talk(n):
        for i in range(200): lines.put(dict(n=n, i=i))
    threads = [threading.Thread(target=talk, args=(n,)) for n in range(5)]
    for t in threads: t.start()
    for t in threads: t.join()
    lines.close()
    found = [json.loads(l) for l in (tmp_path/'log').read_text().splitlines()]
    assert len(found) == 1000 and {f['n'] for f in found} == set(range(5)) and not lines.dropped


def test_a_stalled_reader_costs_lines_and_nothing_else():
    read, write = os.pipe()
    lines = Lines(write, most=500)
    until(lambda: [lines.put(dict(text='x' * 900)) for _ in range(200)] and lines.dropped)
    before = time.perf_counter()
    for _ in range(1000): lines.put(dict(text='x'))
    assert time.perf_counter() - before < 10 and len(lines._queue) <= 500
    os.close(read)


@given(st.lists(st.binary(max_size=3000).map(lambda b: b.replace(b'\n', b'') + b'\n')))
def test_pieces_keep_lines_whole(lines):
    pieces = list(in_pieces(lines))
    assert b''.join(pieces) == b''.join(lines)
    assert all(p.endswith(b'\n') and (len(p) <= ATOMIC or p.count(b'\n') == 1) for p in pieces)


def test_a_line_tells_no_secrets_and_no_photos():
    photo = ServingError('url_refused', 'no', 'photos[0].url', 'https://x.org/a.jpg?signature=SECRET')
    line = json.dumps(request_line(served(error=photo, outcome=photo.code)))
    heard = []
    class Heard:
        dropped = 0
        def put(self, line): heard.append(line)
    Telemetry(Heard()).refused(photo, path='/v1/predict')
    assert 'SECRET' not in line + json.dumps(heard) and heard[0]['outcome'] == 'url_refused'


def test_faults_of_the_program_are_lines_with_a_stack(tmp_path):
    lines = Lines(tmp_path/'log')
    log = logging.getLogger('test.telemetry')
    log.addHandler(handler := LineHandler(lines))
    try: raise KeyError('a\nb')
    except KeyError: log.exception('it\nbroke')
    log.removeHandler(handler)
    lines.close()
    line, = map(json.loads, (tmp_path/'log').read_text().splitlines())
    assert line['message'] == 'it broke' and 'KeyError' in line['stack'] and line['level'] == 'error'


@settings(deadline=None)
@given(st.text('0123456789abcdefF-\n\0 ', max_size=80) | st.binary(max_size=80))
def test_any_traceparent_is_read_or_ignored(text):
    trace = read_trace(text)
    assert trace is None or re.fullmatch('[0-9a-f]{32}', trace.trace_id)


def test_our_step_has_its_own_id_and_the_journey_is_handed_on():
    theirs = f'00-{"a" * 32}-{"b" * 16}-01'
    one, two = read_trace(theirs, 'vendor=1'), read_trace(theirs.encode())
    assert one.trace_id == 'a' * 32 and one.parent_id == 'b' * 16 and one.span_id != two.span_id and one.state == 'vendor=1'
    assert read_trace(one.traceparent).parent_id == one.span_id
    assert read_trace(f'cc-{"a" * 32}-{"b" * 16}-01-more').trace_id == 'a' * 32      # a later version of the standard
    assert read_trace(f'00-{"A" * 32}-{"b" * 16}-01') is None


def test_the_exposition_is_what_prometheus_reads(tmp_path):
    from prometheus_client.parser import text_string_to_metric_families
    t = Telemetry()
    for _ in range(3): t(served())
    t.refused(ServingError('unauthorized'))
    boards = [Board(tmp_path, n) for n in 'ab']
    for b in boards: b.publish(t.metrics.snapshot() | dict(gauges=[[['saturation', '3'], .25], [['workers'], 1]]))
    text = exposition(add_up(boards[0].all())).decode()
    found = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert found[('mlproject_requests_total', (('door', 'rest'), ('outcome', 'ok'), ('version', '3')))] == 6
    assert found[('mlproject_request_seconds_count', (('door', 'rest'), ('version', '3')))] == 6
    assert found[('mlproject_request_seconds_sum', (('door', 'rest'), ('version', '3')))] == pytest.approx(.06)
    buckets = [v for (n, l), v in sorted(found.items(), key=str) if n == 'mlproject_stage_seconds_bucket' and ('stage', 'read') in l and ('le', '0.0025') in l]
    assert buckets == [6]
    assert found[('mlproject_saturation', (('version', '3'),))] == .25 and found[('mlproject_workers', ())] == 2
    assert all(f'# HELP mlproject_{n}' in text for n in TABLE)


def test_what_a_dead_worker_counted_still_counts(tmp_path):
    m = Metrics()
    m.count('requests', 'rest', 'ok', '1')
    Board(tmp_path, 'dead').publish(m.snapshot() | dict(gauges=[[['in_flight', '1'], 9]]))
    path = tmp_path/'worker-dead.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(pid=2**22 + 5)))
    (tmp_path/'worker-torn.json').write_text('{"counters": [[')
    me = Board(tmp_path, 'me')
    me.publish(m.snapshot())
    sums = add_up(me.all())
    assert sums['counters'][('requests', 'rest', 'ok', '1')] == 2 and not sums['gauges']
