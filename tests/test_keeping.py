"When nothing can be kept: clients are answered, the worker counts it, and `mlproject monitor` tells it once, and when it is over."
import contextlib, json, os, shutil, subprocess
from pathlib import Path

import pytest
from live_server import until
from prometheus_client.parser import text_string_to_metric_families
from test_loop_cli import ask, mlproject, models, photo, place, served   # noqa: F401 (fixtures)

from mlproject.monitoring.keeping import FILE, wrong_of

def figures(served) -> dict:
    "Of /metrics, those without a version."
    text = served[0].get('/metrics').text
    return {(s.name, s.labels.get('reason')): s.value for f in text_string_to_metric_families(text) for s in f.samples if 'version' not in s.labels}

def events(place: Path, key: str) -> list[str]:
    lines = (place/'alerts.jsonl').read_text().splitlines() if (place/'alerts.jsonl').exists() else []
    return [a['event'] for a in map(json.loads, lines) if a['key'] == key]

def look(place: Path, code: int) -> str: return mlproject('monitor', '--alerts', place/'alerts.jsonl', code=code)

def send(served, seeds) -> None:   # answered, whatever becomes of it
    for i in seeds: assert served[0].post('/v1/predict', files=[('photos', ('a.jpg', photo(i)))]).status_code == 200

def said(place: Path) -> dict: return wrong_of(place/'state')

def test_photos_that_cannot_be_stored_ring_once_and_are_resolved(served, place):
    ask(served, [photo(i) for i in range(150)])
    look(place, 0)
    shutil.move(place/'photos', place/'away')
    (place/'photos').write_text('no folder')        # refuses, as a bucket without permission would
    send(served, range(200, 210))
    until(lambda: 'capture.failing' in said(place))
    found = figures(served)
    assert found['mlproject_capture_failing_seconds', None] > 0 and found['mlproject_capture_failures_total', None] >= 1 and found['mlproject_captured_total', None] == 6   # requests, of 25 photos
    told = look(place, 1)
    assert told.startswith('WATCH') and 'alarm: capture.failing' in told and 'no request could be kept since' in told
    look(place, 1)
    assert events(place, 'capture.failing') == ['opened']
    (place/'photos').unlink()
    shutil.move(place/'away', place/'photos')
    until(lambda: figures(served)['mlproject_captured_total', None] == 16)   # what waited is written
    until(lambda: not said(place))
    for code in (1, 1, 0): look(place, code)                                 # an alert is over after three looks without it
    assert events(place, 'capture.failing') == ['opened', 'resolved']

def test_a_database_that_goes_away_is_told_without_it(served, place):
    ask(served, [photo(i) for i in range(150)])
    look(place, 0)
    with served[1].begin() as c: c.exec_driver_sql('ALTER TABLE requests RENAME TO away')
    send(served, range(200, 205))
    until(lambda: 'capture.failing' in said(place))
    assert 'no such table' in look(place, 1)
    assert 'no such table' in mlproject('monitor', '--look', code=1)
    look(place, 1)
    assert events(place, 'database') == ['opened'] and (place/'state'/FILE).exists()
    with served[1].begin() as c: c.exec_driver_sql('ALTER TABLE away RENAME TO requests')
    until(lambda: not said(place))
    look(place, 0)
    assert events(place, 'database') == ['opened', 'resolved'] and events(place, 'capture.failing') == [] and not (place/'state'/FILE).exists()

@pytest.fixture
def small_disk(tmp_path):
    "A file system of two megabytes; only who may mount can have one."
    disk = tmp_path/'disk'
    disk.mkdir()
    if not shutil.which('mount') or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk], capture_output=True).returncode: pytest.skip('mounting is not allowed here')
    yield disk
    subprocess.run(['umount', '-l', disk], check=True)

@pytest.fixture
def on_a_small_disk(small_disk, place, monkeypatch):
    "Database and photos lie there; the state folder does not."
    monkeypatch.setenv('MLPROJECT_SERVING_DATABASE', f'sqlite:///{small_disk}/state.db')
    return small_disk

def test_a_full_disk_is_alarmed_and_what_waited_is_written_when_there_is_room(on_a_small_disk, place, models):   # noqa: F811
    import httpx
    from colours import Process
    from mlproject.serving.state import open_engine
    disk = on_a_small_disk
    server = Process(models[0], database=f'sqlite:///{disk}/state.db', photo_store=str(disk/'photos'), capture=1., state=str(place/'state'))
    try:
        with httpx.Client(base_url=f'http://127.0.0.1:{server.rest}', timeout=20) as client:
            served = client, open_engine(f'sqlite:///{disk}/state.db')
            ask(served, [photo(i) for i in range(40)])
            look(place, 0)
            ballast = os.open(disk/'ballast', os.O_WRONLY | os.O_CREAT)
            with contextlib.suppress(OSError):        # no space left on device
                while os.write(ballast, bytes(4096)): pass
            os.close(ballast)
            send(served, range(200, 230))
            until(lambda: 'capture.failing' in said(place))
            assert figures(served)['mlproject_capture_failing_seconds', None] > 0
            look(place, 1)
            look(place, 1)
            assert events(place, 'database') + events(place, 'capture.failing') == ['opened']   # by whichever way the look itself could go
            (disk/'ballast').unlink()
            until(lambda: not said(place))
            assert figures(served)['mlproject_captured_total', None] == 32 and not figures(served)['mlproject_capture_lost_total', 'full']
            for _ in range(3): mlproject('monitor', '--alerts', place/'alerts.jsonl', code=None)
            assert (events(place, 'database') + events(place, 'capture.failing'))[1:] == ['resolved']
            served[1].dispose()
    finally: server.stop()
