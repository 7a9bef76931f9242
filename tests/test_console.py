"The console without a browser: who may do what, forged requests, hostile text, and what every page is sent with."
import asyncio, json, re, time
from types import SimpleNamespace
from urllib.parse import quote

import httpx
import pandas as pd
import pytest
import sqlalchemy as sa
from colours import pack_colours
from gated import gated
from live_server import until
from hypothesis import given, strategies as st

from mlproject.console.charts import lines, runs, ticks
from mlproject.console.console import compose
from mlproject.console.curated import Shown
from mlproject.console.pages import POLICY
from mlproject.console.reports import SANDBOX, run_of
from mlproject.console.session import COOKIE, LIFE_S, Door, shared_secret
from mlproject.console.watching import pieces
from mlproject.core import Problem, write_json
from mlproject.data.findings import read_build
from mlproject.export.registry import register
from mlproject.monitoring.watching import LOOKS
from mlproject.operations.feedback import enqueue, review
from mlproject.operations.release import EVENTS, history
from mlproject.serving.app import create_app
from mlproject.serving.capture import ANSWERS, REQUESTS
from mlproject.serving.guarding import Guard, create_key, revoke_key
from mlproject.serving.rollout import Fleet
from mlproject.serving.service import Service
from mlproject.serving.state import open_engine
from mlproject.serving.worker import Inside, Rollout
from mlproject.settings import Serving

HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>"\''
SCOPES = dict(client=('predict',), vera=('viewer',), anna=('reviewer',), olga=('operator',), mona=('metrics',))
PAGE = {'accept': 'text/html'}

class Site:
    "The console in this process; nobody answers photos."
    def __init__(self, folder, monkeypatch, keys=True, runs='no runs'):
        monkeypatch.setenv('MLPROJECT_TRACKING_URI', f'sqlite:///{folder}/mlflow.db')
        self.keys, url = folder/'keys.json', f'sqlite:///{folder}/state.db'
        self.tokens = {n: create_key(self.keys, n, s) for n, s in SCOPES.items()} if keys else {}
        guard = Guard(self.keys, look_every=0)
        self.rollout, self.engine = Rollout(folder), open_engine(url)
        service = Service(Fleet())
        self.extras = compose(Inside(service, guard, None, Serving(database=url, photo_store=str(folder/'photos'), keys=str(self.keys), runs=str(runs)), self.rollout, '0'))
        self.app, self.door = create_app(service, guard=guard, routers=self.extras.routers), Door(guard, shared_secret(folder))

    def ask(self, method, path, who=None, **more):
        "One request; `who` is signed in, and brings the token of its pages unless another is given."
        async def one():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url='http://console') as c:
                headers = dict(more.pop('headers', {}))
                if who:
                    cookie = self.door.open(self.tokens[who][0] if self.tokens else None, who)
                    c.cookies.set(COOKIE, cookie, path='/console')
                    if method == 'POST': headers.setdefault('x-csrf-token', self.door.csrf(self.door.read(cookie)))
                return await c.request(method, path, headers=headers, **more)
        return asyncio.run(one())

    def close(self):
        async def stop():
            for f in self.extras.stop: await f()
        asyncio.run(stop())
        self.engine.dispose()

@pytest.fixture
def site(tmp_path, monkeypatch):
    made = Site(tmp_path, monkeypatch)
    yield made
    made.close()

ALLOWED = [('/console/try', 'client vera anna olga'), ('/console/review', 'anna'), ('/console/review/next', 'anna'), ('/console/review/state', 'anna'), ('/console/photo/' + 'a' * 32, 'anna'),
           ('/console/watch', 'vera anna olga'), ('/console/release', 'vera olga'), ('/console/release/start', 'vera olga'),
           ('/console/data', 'vera anna olga'), (f'/console/data/photo/{"a" * 24}/{"b" * 32}.jpg', 'vera anna olga'), ('/console/report/survey/data.html', 'vera anna olga'), ('/console/watch/drift?begin=0&end=1', 'vera anna olga')]

@pytest.mark.parametrize('path, who', ALLOWED)
def test_each_page_opens_for_its_scopes_only(site, path, who):
    for name in SCOPES:
        if name == 'mona': continue
        status = site.ask('GET', path, name).status_code
        assert (status in (200, 202, 404)) == (name in who.split()), (path, name, status)
        assert status == 403 or name in who.split()
    asked = site.ask('GET', path, headers=PAGE)
    assert asked.status_code == 303 and asked.headers['location'].startswith('/console/sign-in?next=%2Fconsole')
    assert site.ask('GET', path).status_code == 401

def test_a_key_without_a_page_cannot_sign_in(site):
    assert site.ask('POST', '/console/sign-in', data=dict(token=site.tokens['mona'][0])).status_code == 403

CHANGES = [('/console/try', 'vera'), ('/console/try/correct', 'vera'), ('/console/review/1', 'anna'), ('/console/review/undo', 'anna'), ('/console/release', 'olga'), ('/console/release/start', 'olga'),
           ('/console/sign-out', 'vera')]

def test_the_list_of_changes_is_complete(site):
    posts = {r.path for router in site.extras.routers for r in router.routes if 'POST' in r.methods and r.path.startswith('/console')}
    assert posts - {'/console/sign-in'} == {p.replace('/1', '/{id}') for p, _ in CHANGES}

@pytest.mark.parametrize('path, who', CHANGES)
@pytest.mark.parametrize('headers', [{'x-csrf-token': ''}, {'x-csrf-token': 'guess'}, {'x-csrf-token': '\u00e9'.encode()}, {'sec-fetch-site': 'cross-site'}, {'sec-fetch-site': 'same-site'}])
def test_a_forged_change_is_refused(site, path, who, headers):
    r = site.ask('POST', path, who, headers=headers, json=dict(label=None, action='pause', reason='x', seen='0'))
    assert r.status_code == 403 and 'csrf' in r.text

def test_a_token_of_another_session_is_refused(site):
    other = site.door.csrf(site.door.read(site.door.open(site.tokens['anna'][0])))
    assert site.ask('POST', '/console/review/undo', 'anna', headers={'x-csrf-token': other}).status_code == 403

@pytest.mark.parametrize('name', ['vera', 'anna', 'client'])
def test_only_an_operator_decides(site, name):
    for path in ('/console/release', '/console/release/start'):
        assert site.ask('POST', path, name, data=dict(action='promote', reason='x', seen='0')).status_code == 403
    assert history(site.engine) == []

def test_a_revoked_key_and_an_old_session_are_outside_at_once(site):
    cookie = site.door.open(site.tokens['anna'][0])
    assert site.door.read(cookie).name == 'anna'
    site.door.clock = lambda: time.time() + LIFE_S + 1
    assert site.door.read(cookie) is None
    site.door.clock = time.time
    revoke_key(site.keys, site.tokens['anna'][1].id)
    assert site.door.read(cookie) is None

@given(st.text(max_size=80))
def test_no_invented_cookie_opens(text):
    assert Door(Guard(), b's' * 32).read(text) is None

def test_a_session_does_not_survive_in_another_servers_secret(site, tmp_path):
    cookie = site.door.open(site.tokens['anna'][0])
    assert Door(site.door.guard, b'x' * 32).read(cookie) is None and site.tokens['anna'][0] not in cookie

def test_without_keys_a_name_is_enough_until_keys_are_made(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch, keys=False)
    r = site.ask('POST', '/console/sign-in', data=dict(name=HOSTILE))
    assert r.status_code == 303 and site.ask('POST', '/console/sign-in', data=dict(name=' ')).status_code == 422
    page = site.ask('GET', '/console/watch', HOSTILE, headers=PAGE)
    assert page.status_code == 200 and '<script>alert' not in page.text and '<img src=x' not in page.text
    cookie = site.door.open(None, 'anna')
    create_key(site.keys, 'olga', ('operator',))
    assert site.door.read(cookie) is None
    site.close()

def test_every_page_is_sent_with_the_policy(site):
    for path, who in [('/console/sign-in', None), ('/console/try', 'vera'), ('/console/review', 'anna'), ('/console/watch', 'vera'), ('/console/release', 'olga'), ('/console/release/start', 'olga'), ('/console/data', 'vera'), ('/console/review', 'vera')]:
        r = site.ask('GET', path, who, headers=PAGE)
        assert r.headers['content-security-policy'] == POLICY and 'unsafe' not in POLICY and r.headers['cache-control'] == 'no-store' and r.headers['x-frame-options'] == 'DENY'
        assert not re.search(r'<script(?![^>]* src=)|\son\w+=|\sstyle=|javascript:|https?://', r.text), path

def test_hostile_text_is_text_everywhere(site):
    with site.engine.begin() as c:
        c.execute(sa.insert(REQUESTS).values(id='r', received=time.time(), kept_for='sample', outcome='ok', version=HOSTILE, total_ms=3., locationID=HOSTILE))
        c.execute(sa.insert(ANSWERS).values(request_id='r', item=0, role='answer', version=HOSTILE, label=HOSTILE, confidence=.5, abstained=False, species=[[HOSTILE, .5]]))
        c.execute(sa.insert(EVENTS).values(at=time.time(), model='mlproject', candidate=HOSTILE, champion=HOSTILE, stage='promoted', weight=1., by=HOSTILE, reason=HOSTILE, evidence=dict(passed=True, reason=HOSTILE, checks=[dict(name=HOSTILE, kind=HOSTILE)])))
    for path, who in (('/console/watch', 'vera'), ('/console/release', 'olga'), ('/console/sign-in?next=' + '%22%3E%3Cscript%3E', None), ('/console/review?stream=%3Cscript%3E', 'anna')):
        text = site.ask('GET', path, who, headers=PAGE).text
        assert '<script>' not in text and '<img' not in text and ('alert' in text or 'review' in path or 'sign-in' in path)

def test_a_review_goes_into_the_database_and_comes_back(site):
    with site.engine.begin() as c:
        for i in range(3):
            c.execute(sa.insert(REQUESTS).values(id=f'r{i}', received=1. + i, kept_for='sample', locationID='cam-7'))
            c.execute(sa.insert(ANSWERS).values(request_id=f'r{i}', item=0, role='answer', label='Vulpes vulpes', species=[['Vulpes vulpes', .7], ['Canis lupus', .2]]))
    enqueue(site.engine, [dict(stream=s, request_id=f'r{i}', item=0, photo='a' * 32, reason='random', priority=1., probability=1.) for i, s in enumerate(['audit', 'active', 'active'])])
    audit, active, _ = site.ask('GET', '/console/review/next', 'anna').json()['items']
    assert [c['name'] for c in audit['candidates']] == ['Canis lupus', 'Vulpes vulpes'] and audit['candidates'][0]['score'] is None   # blind
    assert [c['score'] for c in active['candidates']] == [.7, .2] and active['facts'] == [['Place', 'cam-7']]
    for _ in range(2):   # the second time because the answer was lost on the way
        assert site.ask('POST', f'/console/review/{audit["id"]}', 'anna', json=dict(label='unknown')).json() == dict(state='settled')
    assert site.ask('GET', '/console/review/state', 'anna').json()['mine'] == 1
    assert site.ask('POST', '/console/review/undo', 'anna').json()['item'] == audit
    assert site.ask('GET', '/console/review/state', 'anna').json()['mine'] == 0

@pytest.mark.parametrize('body, status', [(dict(label='Canis lupuss'), 422), (dict(label=3), 422), ([], 400), ('{', 400), (dict(label='x' * 300), 422)])
def test_a_review_that_makes_no_sense_is_said_so(site, body, status):
    enqueue(site.engine, [dict(stream='audit', request_id='r', item=0, photo=None, reason='random', priority=1., probability=1.)])
    r = site.ask('POST', '/console/review/1', 'anna', content=body if isinstance(body, str) else json.dumps(body), headers={'content-type': 'application/json'})
    assert r.status_code == status and r.json()['detail']
    assert site.ask('POST', '/console/review/99', 'anna', json=dict(label='unknown')).status_code == 404
    assert site.ask('POST', '/console/review/99999999999999999999', 'anna', json=dict(label='unknown')).status_code == 404

def test_a_form_that_is_too_large_is_refused(site):
    assert site.ask('POST', '/console/release', 'olga', data=dict(reason='x' * 100_000)).status_code == 413

def test_a_decision_upon_an_old_page_is_refused(site):
    site.rollout.write({'3': '3', '4': '4'}, {'3': 1.})
    with site.engine.begin() as c: c.execute(sa.insert(EVENTS).values(at=1., model='mlproject', candidate='4', champion='3', stage='shadow', weight=0., by='x', reason='y'))
    decide = lambda **said: site.ask('POST', '/console/release', 'olga', data=dict(reason='a try', seen='1') | said).status_code
    assert decide(action='move', weight='nan') == 422 and decide(action='move', weight='120') == 422 and decide(action='explode') == 422
    assert decide(action='pause', reason=' ') == 422 and decide(action='pause', seen='x') == 422
    assert decide(action='move', weight='5') == 303 and site.rollout.read()['weights'] == {'4': .05, '3': .95}
    assert decide(action='promote') == 409 and decide(action='rollback', seen='2') == 303 and site.rollout.read()['weights'] == {'3': 1.}

def test_a_start_needs_a_registered_version_and_takes_no_folder(site):
    assert site.ask('POST', '/console/release/start', 'olga', data=dict(version='4', seen='0', reason='a try', folder='/etc', gate='passed')).status_code == 404

def test_a_start_needs_evidence_that_passed_and_is_fresh(site, tmp_path):
    uri = f'sqlite:///{tmp_path}/mlflow.db'
    one, two, three = (register(pack_colours(tmp_path/f'size{s}', size=s), name='mlproject', tracking_uri=uri) for s in (16, 24, 32))
    site.rollout.write({'1': str(one.path)}, {'1': 1.})
    gated(three, one.digest, uri, passes=False)
    def start(version, **said): return site.ask('POST', '/console/release/start', 'olga', data=dict(version=version, seen='0', reason='why not') | said, headers=PAGE)
    for version, says in (('2', 'it has not been through the gate; run `mlproject release gate 2`'), ('3', 'version 3 did not pass the gate')):
        refused = start(version)
        assert refused.status_code == 409 and says in refused.text and '<nav' in refused.text
    gated(two, three.digest, uri, of='3')
    assert start('2').status_code == 409 and 'was compared with version 3' in start('2').text and not history(site.engine)
    until(lambda: 'Asking the registry' not in (page := site.ask('GET', '/console/release/start', 'olga', headers=PAGE).text) and 'Start with' not in page, 60)
    made = gated(two, one.digest, uri)
    assert start('2', reason='').status_code == 422 and start('2').status_code == 303
    event, = history(site.engine)
    assert (event.stage, event.by, event.reason, event.evidence) == ('shadow', 'olga', 'why not', made) and site.rollout.read()['shadows'] == ['2', '1']
    page = site.ask('GET', '/console/release', 'vera', headers=PAGE).text
    assert 'camera=&lt;b&gt;gate&lt;/b&gt;' in page and 'shown only' in page and 'Candidate minus champion' in page and 'Share of the candidate' in page

def test_an_error_is_a_page_with_the_navigation_and_a_way_back(site, monkeypatch):
    came = PAGE | {'referer': 'http://console/console/watch?range=day'}
    for path, who, status in (('/console/nowhere', 'vera', 404), ('/console/review', 'vera', 403), ('/console/report/x/y', 'vera', 404)):
        r = site.ask('GET', path, who, headers=came)
        assert r.status_code == status and '<nav' in r.text and 'Sign out' in r.text and 'href="/console/watch?range=day"' in r.text and r.headers['content-security-policy']
    for elsewhere in ('http://evil/console/watch', 'http://console/console/nowhere', 'http://console/v1/models', 'javascript:alert(1)', 'http://[', 'http://console/console/x"><script>'):
        r = site.ask('GET', '/console/nowhere', 'vera', headers=PAGE | {'referer': elsewhere})
        assert r.status_code == 404 and 'javascript:' not in r.text and '"><script>' not in r.text and 'evil' not in r.text
    nobody = site.ask('GET', '/console/nowhere', headers=PAGE)
    assert nobody.status_code == 404 and '<nav' not in nobody.text and 'href="/console"' in nobody.text
    assert site.ask('GET', '/console/nowhere', 'vera').json()['code'] == 'not_found'
    def fails(*_): raise RuntimeError('a secret of the inside')
    monkeypatch.setattr('mlproject.console.releasing.shown', fails)
    broken = site.ask('GET', '/console/release', 'vera', headers=PAGE)
    assert broken.status_code == 500 and '<nav' in broken.text and 'a secret' not in broken.text

def test_a_million_does_not_matter_pieces_count_all_and_look_at_some(site):
    rows = [dict(id=f'q{i}', received=1000 + i / 10, kept_for='sample' if i % 2 else 'disagreement', outcome='ok', version='1', total_ms=5.) for i in range(4000)]
    with site.engine.begin() as c: c.execute(sa.insert(REQUESTS), rows)
    found = pieces(site.engine, 1000, 1400, n=4, enough=50)
    assert [p.kept for p in found] == [1000] * 4 and [p.looked for p in found] == [50] * 4 and sum(p.requests for p in found) == 2000

@given(st.lists(st.one_of(st.none(), st.just(float('nan')), st.floats(0, 1e12)), max_size=30), st.text(max_size=30))
def test_any_series_can_be_drawn(values, name):
    p = lines(name, ['t'] * len(values), {name: values})
    assert len(p.rows) == len(values) and 'nan' not in p.svg.replace(name, '') and '<script' not in p.svg
    assert sum(len(r) for r in runs(values)) == sum(v is not None and v == v for v in values)
    from defusedxml.ElementTree import fromstring
    if name.isprintable(): fromstring(p.svg)

@given(st.floats(min_value=1e-9, max_value=1e15))
def test_ticks_reach_the_top(top):
    t = ticks(top)
    assert t[-1] >= top * (1 - 1e-6) and 2 <= len(t) <= 6 and t[0] == 0

def test_the_console_without_a_database_says_what_to_do(tmp_path):
    with pytest.raises(Problem, match='database ='): compose(SimpleNamespace(settings=Serving()))

def test_the_data_page_shows_a_run_and_nobody_by_name(tmp_path, monkeypatch, built):
    site, run = Site(tmp_path, monkeypatch, runs=built[0]), run_of(built[0])
    def done():
        page = site.ask('GET', '/console/data', 'vera', headers=PAGE)
        assert page.status_code == 200 and 'role="alert"' not in page.text
        return 'Looking at' not in page.text and page.text
    page = until(done, 120)
    rejected = [(n, r) for s in read_build(built[0]).whole.funnel() for r, n in s['rules'].items()]
    assert rejected and all(f'{r.replace("_", " ")} <span' in page for _, r in rejected)
    photos = re.findall(r'/console/data/photo/[0-9a-f]{24}/[0-9a-f]{32}[.]jpg', page)
    shown = [site.ask('GET', p, 'vera') for p in photos]
    assert shown and {r.status_code for r in shown} == {200} and all(r.content[:2] == b'\xff\xd8' and b'Exif' not in r.content for r in shown)
    observers = set(pd.read_csv(built[0]/'survey'/'occurrences.csv').recordedBy)
    assert observers and not [o for o in observers if o in page] and not re.search(r'[\w.]+@example[.]org|\+41 79', page)
    for name in run.reports:
        assert f'/console/report/{run.name}/{name}' in page
        report = site.ask('GET', f'/console/report/{run.name}/{name}', 'vera')
        assert report.status_code == 200 and report.headers['content-security-policy'] == SANDBOX and 'script' not in SANDBOX
    for wrong in ('manifest.json', '..%2f..%2fkeys.json', 'data.ipynb'): assert site.ask('GET', f'/console/report/{run.name}/{wrong}', 'vera').status_code == 404
    site.close()

def finished(folder):
    "A folder that looks like a run, without any data."
    for part in ('records', 'curated', 'splits', 'curation'): write_json(folder/part/'manifest.json', {})
    return folder

def test_what_a_run_tells_is_text_on_the_data_page(tmp_path, monkeypatch):
    run = run_of(finished(tmp_path/'runs'/'run & <b>'))
    site = Site(tmp_path, monkeypatch, runs=tmp_path/'runs')
    shown = Shown(tmp_path/'data-page')
    found = dict(steps=[dict(step=HOSTILE, rows=1, kept=0, merged=0, rejected=1, rules={HOSTILE: 1})], rejected=[dict(step=HOSTILE, rule=HOSTILE, count=1, photos=[dict(photo=None, detail=HOSTILE)], texts=[dict(detail=HOSTILE, text=HOSTILE)])],
                 near=[[dict(photo=None, species=HOSTILE, date=HOSTILE, split=HOSTILE)]], pairs=[[None, None]], notes=[dict(jaccard='0.8', fate='left', words=[['gone', HOSTILE], ['', HOSTILE]])],
                 personal={HOSTILE: 1}, after=[[['new', HOSTILE]]], changes=[[HOSTILE, HOSTILE, 1]], species=1, learned=1)
    write_json(shown.place/shown.key(run)/'manifest.json', found)
    page = site.ask('GET', '/console/data?run=' + quote(run.name), 'vera', headers=PAGE)
    assert page.status_code == 200 and '<script>' not in page.text and '<img' not in page.text and page.text.count('alert(1)') > 10
    assert site.ask('GET', '/console/data?run=../..', 'vera').status_code == 404
    site.close()

def test_a_server_without_the_data_extra_says_so(tmp_path, monkeypatch):
    finished(tmp_path/'runs'/'survey')
    site = Site(tmp_path, monkeypatch, runs=tmp_path/'runs')
    monkeypatch.setattr('mlproject.console.curated.find_spec', lambda name: None)
    page = site.ask('GET', '/console/data', 'vera', headers=PAGE)
    assert page.status_code == 200 and 'mlproject[data]' in page.text
    site.close()

def test_data_that_cannot_be_read_are_said_so(tmp_path, monkeypatch):
    (finished(tmp_path/'runs'/'survey')/'curation'/'manifest.json').write_text('{')
    site = Site(tmp_path, monkeypatch, runs=tmp_path/'runs')
    until(lambda: 'role="alert"' in site.ask('GET', '/console/data', 'vera', headers=PAGE).text, 120)
    site.close()

def traffic(site, n=400, at=None):
    "Requests of two versions and two cameras, one every second until now."
    at = time.time() - n if at is None else at
    rows = [dict(id=f'q{i}', received=at + i, kept_for='sample', outcome='ok', version='1' if i % 4 else '2', locationID=HOSTILE if i % 2 else 'cam-7', total_ms=5.) for i in range(n)]
    with site.engine.begin() as c:
        c.execute(sa.insert(REQUESTS), rows)
        c.execute(sa.insert(ANSWERS), [dict(request_id=r['id'], item=0, role='answer', version=r['version'], label='Canis lupus', confidence=.9, abstained=False, species=[['Canis lupus', .9]]) for r in rows])

def test_watch_is_for_a_time_a_version_and_a_camera(site):
    traffic(site, 400, at=1.7e9)
    kept = lambda **asked: int(re.search(r'from ([\d,]+) kept', site.ask('GET', '/console/watch', 'vera', headers=PAGE, params=asked).text)[1].replace(',', ''))
    span = dict(since='2023-11-14T22:00', until='2023-11-14T23:00')
    assert kept(range='month') == 0 and kept(**span) == 400 and kept(**span, version='2') == 100 and kept(**span, site=HOSTILE) == 200 and kept(**span, version='2', site=HOSTILE) == 0
    page = site.ask('GET', '/console/watch', 'vera', headers=PAGE, params=span | dict(site=HOSTILE)).text
    assert '<script>' not in page and '<img' not in page and page.count('onerror') > 1

@pytest.mark.parametrize('asked', [dict(since='yesterday'), dict(since='2026-01-01T00:00', until='2025-01-01T00:00'), dict(range='aeon'), dict(until='0001-01-01T00:00'), dict(site='x' * 300), dict(since='9999-12-31T23:59')])
def test_a_time_that_is_none_is_said_so(site, asked):
    assert site.ask('GET', '/console/watch', 'vera', params=asked).status_code == 422

def test_watch_shows_live_accuracy_by_group_and_the_alarm(site):
    traffic(site)
    enqueue(site.engine, [dict(stream='audit', request_id=f'q{i}', item=0, photo=None, reason='random', priority=1., probability=1.) for i in range(0, 400, 5)])
    for i in range(80): review(site.engine, ('Canis lupus', 'Vulpes vulpes'), i + 1, 'anna', 'Canis lupus' if i % 2 else 'Vulpes vulpes')
    alert = dict(key='harm', severity='critical', message=HOSTILE, since=1e9, last=1e9, told=1e9, count=1, quiet=0, event='opened')
    with site.engine.begin() as c: c.execute(sa.insert(LOOKS).values(at=time.time() - 60, since=0., until=0., model='mlproject', version='1', reference='x', level='harm', alarm=dict(level='harm', audit_rate=.25, alerts=[alert], windows=2), told=[alert],
        retrain=True, photos=90, errors=0, drifted=['inputs'], promised=.8, accuracy=.5, low=.4, high=.6, unlabelled=None, audited=80))
    page = site.ask('GET', '/console/watch?range=hour', 'vera', headers=PAGE).text
    assert '<script>alert' not in page and 'critical' in page and 'inputs' in page
    for title in ('Accuracy at each look', 'Live accuracy by version', 'Live accuracy by camera or site', 'Live accuracy by species, as reviewed'): assert f'<h2>{title}</h2>' in page
    assert page.count('<svg class="plot"') == page.count('The numbers</summary>')     # no plot without its table

def test_drift_is_tested_apart_and_its_failure_is_told(site):
    traffic(site)
    site.rollout.write({'1': '/nowhere'}, {'1': 1.})
    ask = lambda: site.ask('GET', f'/console/watch/drift?version=1&begin={time.time() // 1e5 * 1e5}&end={2e9}', 'vera')
    assert ask().status_code in (200, 202)
    said = until(lambda: (r := ask()).status_code == 200 and r.text, 120)
    assert 'without a reference' in said
    assert site.ask('GET', '/console/watch/drift?version=1&begin=nan&end=1', 'vera').status_code == 422
