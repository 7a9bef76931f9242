"The console in a browser, against the real server: each journey from sign-in to its effect in the database."
import os, shutil, time
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa
from colours import SPECIES, Process, pack_colours, photo
from gated import gated
from test_deployment import until

from mlproject.export.registry import list_versions, register
from mlproject.operations.feedback import REPORTS, REVIEWS, VERDICTS, next_items, review
from mlproject.operations.release import history
from mlproject.operations.selection import draw_audit
from mlproject.serving.capture import ANSWERS, captured
from mlproject.serving.guarding import create_key
from mlproject.serving.state import open_engine, reading
from mlproject.serving.worker import Rollout

import httpx

expect = getattr(pytest.importorskip('playwright.sync_api'), 'expect')
CHROMIUM = shutil.which('chromium', path=os.environ.get('PATH', '') + os.pathsep + '/usr/bin') or shutil.which('chromium-browser')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason='no browser is installed (Debian: apt-get install chromium)')]
PHONE, DESKTOP = dict(width=390, height=844), dict(width=1280, height=800)
SCOPES = dict(client=('predict',), anna=('reviewer',), bert=('reviewer',), olga=('operator', 'viewer', 'reviewer'), vera=('viewer',))
HOSTILE = '<img src=x onerror="document.title=1">\u202e"\'><script>document.title=2</script>'

class Site:
    "A server with the console, its keys and its database."
    def __init__(self, folder: Path):
        self.folder, self.keys, url = folder, folder/'keys.json', f'sqlite:///{folder}/state.db'
        self.tokens = {name: create_key(self.keys, name, scopes)[0] for name, scopes in SCOPES.items()}
        self.settings = dict(database=url, photo_store=str(folder/'photos'), capture=1., keys=str(self.keys), state=str(folder/'state'), runs=str(folder/'runs'), compose='mlproject.console.console:compose')
        self.model, self.engine = pack_colours(folder/'model'), open_engine(url)
        self.start()

    def start(self, **more):
        self.server = Process(self.model, **self.settings | more)
        self.url = f'http://127.0.0.1:{self.server.rest}'

    def ask(self, n: int, first: int = 0, **context) -> list[str]:
        "Requests of a client, until they are captured."
        before = len(captured(self.engine))
        with httpx.Client(base_url=self.url, headers={'x-api-key': self.tokens['client']}, timeout=20) as c:
            ids = [c.post('/v1/predict', files=[('photos', ('a.jpg', photo(first + i)))], data=context).json()['request_id'] for i in range(n)]
        until(lambda: len(captured(self.engine)) >= before + n)
        return ids

    def rows(self, table) -> list[dict]:
        with reading(self.engine) as c: return [dict(r) for r in c.execute(sa.select(table)).mappings()]

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('console')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MLPROJECT_TRACKING_URI', f'sqlite:///{folder}/mlflow.db')
        yield from served(Site(folder))

def served(made):
    made.ask(30, locationID='cam-7')
    draw_audit(made.engine, 1.)
    yield made
    made.engine.dispose()
    if made.server.process.poll() is None: made.server.stop()

@pytest.fixture(scope='module')
def chromium():
    api = pytest.importorskip('playwright.sync_api')
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        yield browser
        browser.close()

@pytest.fixture
def visit(chromium, site):
    "Sign somebody in: a page that counts what the browser complains about."
    contexts = []
    def enter(name: str, path: str = '/console', size=DESKTOP, dark: bool = False):
        context = chromium.new_context(viewport=size, color_scheme='dark' if dark else 'light')
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.complaints = []
        page.on('console', lambda m: page.complaints.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: page.complaints.append(str(e)))
        page.goto(site.url + path)
        page.get_by_label('API key').fill(site.tokens[name])
        page.get_by_role('button', name='Sign in').click()
        page.wait_for_selector('nav')
        return page
    yield enter
    for c in contexts: c.close()

def keep(page, name: str) -> None:
    "A screenshot as an artefact of the tests."
    folder = Path(os.environ.get('MLPROJECT_SCREENSHOTS', Path(__file__).parent.parent/'build'/'screenshots'))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder/f'{name}.png', full_page=True)

def comes(page, what: str) -> None:
    "Wait until an expression is true in the page (its policy forbids Playwright's own way)."
    until(lambda: page.evaluate(what), 60)

def fits(page) -> bool: return page.evaluate('document.documentElement.scrollWidth <= innerWidth')

def test_a_wrong_key_stays_outside(chromium, site):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(site.url + '/console/review')
    assert 'sign-in?next=%2Fconsole%2Freview' in page.url
    page.get_by_label('API key').fill('mlp_00000000_' + 'a' * 43)
    page.get_by_role('button', name='Sign in').click()
    assert page.get_by_role('alert').text_content() and not context.cookies()
    keep(page, 'sign-in')
    page.get_by_label('API key').fill(site.tokens['anna'])
    page.get_by_role('button', name='Sign in').click()
    page.wait_for_url('**/console/review')
    cookie, = context.cookies()
    assert cookie['httpOnly'] and cookie['sameSite'] == 'Strict' and site.tokens['anna'] not in cookie['value']
    context.close()

def test_a_photo_is_tried_and_corrected(visit, site):
    page = visit('vera')
    page.set_input_files('#choose', files=[dict(name=HOSTILE + '.jpg', mimeType='image/jpeg', buffer=photo(99, 240, 320))])
    page.wait_for_selector('#answer .verdict')
    said = page.locator('#answer .verdict .name').text_content()
    assert said in SPECIES and page.locator('#answer .bars tr').count() >= 4
    keep(page, 'try-desktop')
    right = next(s for s in SPECIES if s != said)
    page.locator('#label').fill(right)
    page.get_by_role('button', name='Correct it').click()
    page.get_by_text('Thank you').wait_for()
    report = site.rows(REPORTS)[-1]
    request = page.locator('#correct').get_attribute('data-request')
    assert (report['request_id'], report['label'], report['right']) == (request, right, False)
    assert request not in {r['request_id'] for r in captured(site.engine)}   # what is tried is in no sample
    assert page.title().startswith('Try it') and not page.complaints

def test_what_is_no_photo_is_said_so(visit):
    page = visit('vera')
    page.set_input_files('#choose', files=[dict(name='a.jpg', mimeType='image/jpeg', buffer=b'not a photo')])
    page.locator('#answer [role=alert]').wait_for()
    assert page.locator('#answer [role=alert]').text_content()

def test_five_reviews_by_keyboard(visit, site):
    page = visit('anna', '/console/review?stream=audit')
    comes(page, "document.querySelector('#photo').naturalWidth > 0")
    keep(page, 'review-desktop')
    items = []
    def press(*keys):
        items.append(int(page.locator('#review').get_attribute('data-item')))
        for k in keys: page.keyboard.press(k)
    comes(page, 'labels.length > 0')
    press('1'); press('?'); press('-'); press('ArrowRight'); press('p', 'i', 'c', 'Enter')
    comes(page, "document.querySelector('#review').dataset.waiting === '0'")
    said = {r['item_id']: r['label'] for r in site.rows(REVIEWS) if r['reviewer'] == 'anna' and not r['undone']}
    assert len(set(items)) == 5 and set(said) == set(items)
    assert said[items[0]] in SPECIES and [said[i] for i in items[1:]] == ['unknown', 'not an animal', None, 'Pica pica']
    page.keyboard.press('ArrowLeft')
    page.get_by_text('taken back').wait_for()
    assert int(page.locator('#review').get_attribute('data-item')) == items[-1]
    assert items[-1] not in {v['item_id'] for v in site.rows(VERDICTS)} and items[0] in {v['item_id'] for v in site.rows(VERDICTS)}
    assert not page.complaints

def test_the_next_photo_is_there_before_it_is_asked_for(visit, site):
    page = visit('bert', '/console/review?stream=audit')
    comes(page, "document.querySelector('#photo').naturalWidth > 0")
    for _ in range(3):
        comes(page, 'queue.length > 0 && pictures.get(queue[0].photo)?.complete && pictures.get(queue[0].photo).naturalWidth > 0')
        following = page.evaluate('queue[0].photo')
        page.keyboard.press('ArrowRight')
        assert page.evaluate("document.querySelector('#photo').src").endswith(following)
    assert not page.complaints

def test_a_session_that_is_over_loses_no_review(visit, site):
    page = visit('bert', '/console/review')
    comes(page, "document.querySelector('#photo').naturalWidth > 0")
    page.context.clear_cookies()
    item = int(page.locator('#review').get_attribute('data-item'))
    page.keyboard.press('?')
    page.get_by_role('link', name='Sign in again').click()
    page.get_by_label('API key').fill(site.tokens['bert'])
    page.get_by_role('button', name='Sign in').click()
    comes(page, "document.querySelector('#review')?.dataset.waiting === '0'")
    assert [r['label'] for r in site.rows(REVIEWS) if r['reviewer'] == 'bert' and r['item_id'] == item and not r['undone']] == ['unknown']

def test_the_photo_can_be_seen_close(visit):
    page = visit('bert', '/console/review')
    comes(page, "document.querySelector('#photo').naturalWidth > 0")
    page.keyboard.press('+')
    expect(page.locator('.frame')).to_have_class('frame close')
    page.keyboard.press('ArrowRight')
    expect(page.locator('.frame')).to_have_class('frame')

def test_why_the_nearest_photos_that_somebody_named(visit, site):
    page = visit('olga', '/console/try')
    page.set_input_files('#choose', files=[dict(name='a.jpg', mimeType='image/jpeg', buffer=photo(1, 240, 320))])
    named = page.locator('.near li')
    expect(named.first).to_be_visible(timeout=60_000)
    truths = {v['label'] for v in site.rows(VERDICTS)}
    assert set(page.locator('.near .name').all_text_contents()) <= truths and page.locator('.near img:not([alt])').count() == 0
    before = len(site.rows(REPORTS))
    page.get_by_role('button', name='That is right').click()
    page.get_by_text('Thank you').wait_for()
    assert site.rows(REPORTS)[before:][0]['right'] is True and not page.complaints

def test_a_lost_connection_and_a_restart_lose_nothing(visit, site):
    page = visit('olga', '/console/review')
    comes(page, "document.querySelector('#photo').naturalWidth > 0")
    page.context.set_offline(True)
    wanted = []
    for _ in range(3):
        wanted.append(int(page.locator('#review').get_attribute('data-item')))
        page.keyboard.press('?')
    page.get_by_text('not sent yet').wait_for(timeout=60_000)
    port = site.server.rest
    site.server.stop()
    site.start(port=port)
    page.context.set_offline(False)
    page.reload()
    comes(page, "document.querySelector('#review').dataset.waiting === '0'")
    mine = [r['item_id'] for r in site.rows(REVIEWS) if r['reviewer'] == 'olga' and not r['undone'] and r['label'] == 'unknown']
    assert set(wanted) <= set(mine)

def test_two_reviewers_at_once_get_different_photos_and_do_not_disturb_each_other(visit, site):
    pages = [visit(name, '/console/review?stream=audit') for name in ('anna', 'bert')]
    for p in pages: comes(p, "document.querySelector('#review').dataset.item !== ''")
    for _ in range(3):
        for p in pages: p.keyboard.press('2')
    for p in pages: comes(p, "document.querySelector('#review').dataset.waiting === '0'")
    states = {name: sum(r['reviewer'] == name and not r['undone'] for r in site.rows(REVIEWS)) for name in ('anna', 'bert')}
    assert min(states.values()) >= 3 and not sum((p.complaints for p in pages), [])

def test_a_hostile_note_is_text(visit, site):
    (request,) = site.ask(1, 500, locationID=HOSTILE)
    with httpx.Client(base_url=site.url, headers={'x-api-key': site.tokens['client']}) as c:
        wrong = next(s for s in SPECIES if s != site.rows(ANSWERS)[-1]['label'])
        assert c.post('/v1/feedback', json=dict(request_id=request, label=wrong, comment=HOSTILE)).status_code == 204
    page = visit('olga', '/console/review?stream=active')
    page.get_by_text('onerror').first.wait_for()
    while HOSTILE[:20] not in (page.locator('#note').text_content() or ''): page.keyboard.press('ArrowRight')
    assert page.title().startswith('Review') and page.locator('#note img, #note script, #facts img').count() == 0
    assert 'onerror' in page.locator('#facts').text_content() and not page.complaints

def test_watch_shows_the_traffic_and_its_numbers(visit, site):
    page = visit('vera', '/console/watch?range=hour')
    assert page.locator('svg.plot').count() >= 5
    kept = len(captured(site.engine))
    assert f'from {kept} kept requests' in page.locator('main').text_content()
    numbers = page.locator('section', has=page.get_by_role('heading', name='Requests a second'))
    numbers.locator('summary').click()
    rates = [float(t) for t in numbers.locator('td').all_text_contents() if t != '–']
    assert abs(sum(rates) * 75 - kept) < .02 * kept + 1     # an hour in 48 pieces of 75 s
    assert page.get_by_role('img', name='Latency').is_visible() and not page.complaints
    for name in ('day', 'week', 'month'):
        page.get_by_role('link', name=f'last {name}').click()
        page.locator(f'[aria-current=true]:has-text("{name}")').wait_for()

def test_watch_is_asked_for_a_time_and_a_camera_by_keyboard(visit, site):
    page = visit('vera', '/console/watch?range=hour')
    page.locator('summary', has_text='Another time').focus()
    page.keyboard.press('Enter')
    page.get_by_role('combobox', name='Camera or site').fill('cam-8')
    page.keyboard.press('Enter')
    page.wait_for_url('**site=cam-8*')
    expect(page.get_by_text('from 0 kept requests')).to_be_visible(timeout=60_000)
    expect(page.get_by_text('Nobody has looked yet')).to_be_visible()
    assert not page.complaints

def test_the_data_page_says_where_it_looked(visit):
    page = visit('vera', '/console/data')
    expect(page.get_by_role('heading', name='No finished data')).to_be_visible()

def test_a_page_is_used_by_keyboard_alone(visit):
    page = visit('olga', '/console/release')
    page.keyboard.press('Tab')
    assert page.evaluate("document.activeElement.className") == 'jump'
    page.keyboard.press('Enter')
    assert page.evaluate('document.activeElement.id') == 'main'
    page.keyboard.press('Tab')
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")

def test_a_release_from_start_to_rollback(visit, site):
    uri, name = os.environ['MLPROJECT_TRACKING_URI'], 'mlproject'
    rollout = lambda: Rollout(site.folder/'state').read()
    one, two, three, four = (register(f, name=name, tracking_uri=uri) for f in (site.model, *(pack_colours(site.folder/f'size{s}', size=s) for s in (16, 24, 40))))
    gated(two, one.digest, uri); gated(three, one.digest, uri, passes=False); gated(four, two.digest, uri, of='2')
    page = visit('olga', '/console/release')
    page.get_by_role('link', name='Start a release').click()
    page.get_by_role('heading', name='Version 3').wait_for(timeout=60_000)    # once the registry has been asked
    keep(page, 'start-desktop')
    start = page.get_by_role('button', name='Start with version')
    assert start.count() == 1                                                 # 1 answers, 3 did not pass, 4 was compared with 2
    page.get_by_text('did not pass the gate: overall').first.wait_for(); page.get_by_text('run `mlproject release gate 4`').wait_for()
    assert page.get_by_role('img', name='Candidate minus champion').first.is_visible() and page.get_by_role('region', name='Checks of version 2').locator('tbody tr').count() == 4
    gated(two, three.digest, uri, of='3')                                     # somebody else judged it against another, after the page was shown
    page.get_by_label('Reason').fill('looks good')
    start.click(timeout=120_000)                                               # the registry is asked anew, which loads MLflow
    page.get_by_role('alert').get_by_text('stale: it was compared with version 3').wait_for(timeout=60_000)
    keep(page, 'refused-desktop')
    assert not history(site.engine) and rollout()['weights'] == {'1': 1.} and page.get_by_role('navigation', name='Pages').count() == 1
    gated(two, one.digest, uri)
    page.get_by_role('link', name='Back to the page before').click()
    page.wait_for_url('**/release/start')
    def offered():
        page.locator('main section').first.wait_for(timeout=60_000)           # the page loads itself anew until then
        if not start.count(): page.goto(site.url + '/console/release/start')
        return start.count() == 1
    until(offered, 90)                                                        # an answer of the registry is kept for a while
    page.get_by_label('Reason').fill('looks good')
    start.click(timeout=120_000)                                               # the registry is asked anew, which loads MLflow
    page.get_by_text('Release of 2').wait_for(timeout=60_000)
    begun = history(site.engine)[-1]
    assert (begun.stage, begun.by, begun.reason, begun.evidence['champion']['digest']) == ('shadow', 'olga', 'looks good', one.digest)
    assert rollout()['shadows'] == ['2', '1'] and rollout()['weights'] == {'1': 1.}
    until(lambda: {m['version'] for m in httpx.get(site.url + '/v1/models', headers={'x-api-key': site.tokens['vera']}).json()['models']} == {'1', '2'}, 60)
    other = page.context.new_page()
    other.goto(site.url + '/console/try')
    other.set_input_files('#choose', files=[dict(name='a.jpg', mimeType='image/jpeg', buffer=photo(7, 240, 320))])
    expect(other.locator('#answer dt', has_text='Shadow 2')).to_be_visible(timeout=60_000)
    other.close()
    def decide(button: str, reason: str, share: str = ''):
        before = page.locator('tbody').last.locator('tr').count()
        page.get_by_label('Reason').fill(reason)
        if share: page.get_by_label('Share of the requests').fill(share)
        page.get_by_role('button', name=button, exact=True).click()
        comes(page, f"document.querySelectorAll('main section:last-of-type tbody tr').length > {before}")
    for i in range(12): site.ask(1, 700 + i, locationID=f'cam-{20 + i}')         # a burst each
    draw_audit(site.engine, 1.)
    for w in next_items(site.engine, 'anna', 'audit', 200): review(site.engine, SPECIES, w.id, 'anna', SPECIES[w.id % 3])
    decide('Move to this share', HOSTILE, '25')
    assert rollout()['weights'] == {'2': .25, '1': .75}
    until(lambda: {m['version'] for m in httpx.get(site.url + '/v1/models', headers={'x-api-key': site.tokens['vera']}).json()['models']} == {'1', '2'})
    page.reload()
    assert page.get_by_role('img', name='e-values as audited pairs arrived').is_visible() and page.get_by_role('img', name='Share of the candidate').is_visible()
    keep(page, 'release-desktop')
    page.set_viewport_size(PHONE)
    keep(page, 'release-phone'); assert fits(page)
    page.set_viewport_size(DESKTOP)
    assert page.title().startswith('Release') and page.locator('main img, main script').count() == 0
    stale = page.context.new_page()
    stale.goto(site.url + '/console/release')
    decide('Pause', 'lunch')
    stale.get_by_label('Reason').fill('too late')
    stale.get_by_role('button', name='Promote').click()
    stale.get_by_text('somebody was faster').wait_for()
    decide('Promote', 'it is better')
    assert rollout()['weights'] == {'2': 1.}
    def followed():    # asked seldom: asking costs as much as moving
        time.sleep(1)
        return {a: v.version for v in list_versions(name, uri) for a in v.aliases} == dict(champion=2)
    until(followed, 180)   # the registry follows
    decide('Roll back to 1', 'it is not')
    assert rollout()['weights'] == {'1': 1.} and [e.stage for e in history(site.engine)] == ['shadow', 'canary', 'paused', 'promoted', 'rolled_back']
    assert {e.by for e in history(site.engine)} == {'olga'} and not [c for c in page.complaints if '409' not in c]

def test_a_viewer_sees_releases_and_decides_nothing(visit):
    page = visit('vera', '/console/release')
    page.get_by_role('heading', name='Log').wait_for()
    assert page.locator('main form').count() == 0 and page.get_by_role('link', name='Review').count() == 0

AXE = files('axe_playwright_python') / 'axe.min.js' if find_spec('axe_playwright_python') else None
SERIOUS = ('serious', 'critical')
LOOKS = [(PHONE, 'phone', False), (PHONE, 'phone', True), (DESKTOP, 'desktop', False), (DESKTOP, 'desktop', True)]

def faults(page) -> list[str]:
    "What axe finds on a page that is serious."
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")['violations']
    return [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:120]}" for v in found if v['impact'] in SERIOUS]

def ready(page, path: str) -> None:
    "Wait for what comes after the page itself."
    if path == 'review': comes(page, "document.querySelector('#photo').naturalWidth > 0 || !document.querySelector('#empty').hidden")
    if path == 'watch': comes(page, "document.querySelector('#drift')?.getAttribute('aria-busy') !== 'true'")
    if path in ('data', 'release/start'): page.locator('main section, main p.card:not([role=status])').first.wait_for(timeout=120_000)   # the page loads itself anew until then
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true; for (const i of document.images) i.loading = 'eager'")
    comes(page, '[...document.images].every(i => i.complete)')

@pytest.mark.parametrize('path', ['try', 'review', 'watch', 'release', 'release/start', 'data', 'data?run=nothing'])
def test_each_page_fits_and_has_no_serious_fault_on_phone_and_desktop_in_light_and_dark(visit, site, path):
    page = visit('olga')
    page.goto(f'{site.url}/console/{path}')
    for size, name, dark in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme='dark' if dark else 'light')
        page.reload()
        ready(page, path)
        keep(page, f'{path.replace("/", "-").replace("data?run=nothing", "error")}-{name}-{"dark" if dark else "light"}')
        assert fits(page), f'{path} is wider than a {name}'
        if AXE: assert faults(page) == []
    sent = page.evaluate("performance.getEntries().filter(e => e.transferSize && !e.name.includes('/photo/')).reduce((n, e) => n + e.transferSize, 0)")
    assert sent < 150_000

def test_the_door_has_no_serious_fault(chromium, site):
    for size, name, dark in LOOKS:
        context = chromium.new_context(viewport=size, color_scheme='dark' if dark else 'light')
        page = context.new_page()
        page.goto(site.url + '/console/sign-in')
        keep(page, f'sign-in-{name}-{"dark" if dark else "light"}')
        assert fits(page) and (not AXE or faults(page) == [])
        context.close()
