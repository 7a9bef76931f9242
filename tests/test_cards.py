"A card tells what the run knows, survives hostile text, and a version without a complete one is not published."
import copy, json, re

import numpy as np
import pytest
import yaml
from carded import toy_card, toy_files
from colours import SPECIES, network, photo
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem, read_json, verify_folder
from mlproject.export.cardpages import card_files, page, yaml_lines
from mlproject.export.cards import NEEDED, SLICED, f1_interval, missing, require_card, statements, wants_history, with_history
from mlproject.export.extended import ExtendedModel, Preprocess, pack
from mlproject.operations.release import RELEASE, Release, history
from mlproject.places import find_angles, withhold_positions
from mlproject.serving.state import open_engine, prepare
from mlproject.serving.worker import Rollout

def model(folder, files=None, lineage=None):
    return pack(folder, network(32), SPECIES, Preprocess(32, 36, (.5,) * 3, (.25,) * 3), golden=photo(0), name='colours', files=files, lineage=lineage)

def front_matter(text: str) -> dict: return yaml.safe_load(text.split('---\n', 2)[1])

# --- what is missing ---------------------------------------------------------------------------------------------------

def drop(card, path):
    *way, last = path.split('.')
    for name in way: card = card[name]
    del card[last]

@pytest.mark.parametrize('what, path', NEEDED.items())
def test_each_part_that_is_taken_away_is_named(what, path):
    card = copy.deepcopy(toy_card(SPECIES))
    assert missing(card, SPECIES) == []
    drop(card, path)
    assert missing(card, SPECIES) == [what]

@pytest.mark.parametrize('by', SLICED)
def test_a_column_nobody_sliced_by_is_missing(by):
    card = copy.deepcopy(toy_card(SPECIES))
    card['slices']['rows'] = [r for r in card['slices']['rows'] if r['by'] != by]
    assert missing(card, SPECIES) == [f'slices by {by}']

def test_a_species_needs_f1_with_an_interval_unless_it_has_no_test_photos():
    card = copy.deepcopy(toy_card(SPECIES))
    del card['species'][1]['f1_low']
    assert missing(card, SPECIES) == [f'F1 of {SPECIES[1]}']
    card['species'][1] |= dict(n=0, f1=None)
    assert missing(card, SPECIES) == []

anything = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(['species', 'slices', 'rows', 'scores', 'data', 'statements', 'text', 'scientificName', 'by', 'n']), x, max_size=4), max_leaves=12)

@given(anything)
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_card_it_is_judged_and_never_an_exception(x): assert missing(x, SPECIES)

# --- publishing --------------------------------------------------------------------------------------------------------

def test_a_release_needs_a_complete_card(tmp_path):
    engine, rollout = open_engine(f'sqlite:///{tmp_path}/s.db'), Rollout(tmp_path)
    prepare(engine, RELEASE)
    release = Release(engine, 'colours', rollout)
    card = toy_card(SPECIES)
    lame = card | dict(statements=card['statements'] | dict(prohibited=dict(text=' ', default=False)))
    for name, files, words in (('bare', None, 'has no model card'), ('lame', card_files(lame), 'its card lacks prohibited use'), ('other', toy_files(SPECIES, dict(train='x')), 'of another model')):
        with pytest.raises(Problem, match=words) as e: release.start('1', model(tmp_path/name, files), dict(passed=True))
        assert '\n' not in str(e.value)
    assert not history(engine) and not rollout.read()['models']
    assert release.start('1', model(tmp_path/'good', toy_files(SPECIES)), dict(passed=True)).stage == 'promoted'
    engine.dispose()

def test_a_card_that_was_edited_by_hand_is_noticed(tmp_path):
    folder = model(tmp_path/'m', toy_files(SPECIES))
    (folder/'card.json').write_text((folder/'card.json').read_text().replace('Not stated.', 'MIT'))
    with pytest.raises(Problem, match='not the file that was written'): require_card(folder)

@pytest.mark.slow   # imports MLflow
def test_the_alias_champion_needs_a_complete_card(tmp_path):
    from mlproject.export.registry import find_version, register, set_alias
    uri = f'sqlite:///{tmp_path}/mlflow.db'
    bare, good = model(tmp_path/'bare'), model(tmp_path/'good', toy_files(SPECIES, dict(train='1')), dict(train='1'))
    with pytest.raises(Problem, match='no model card'): register(bare, name='c', tracking_uri=uri, aliases=('champion',))
    register(bare, name='c', tracking_uri=uri)
    with pytest.raises(Problem, match='no model card'): set_alias('c', 'champion', 1, uri)
    register(good, name='c', tracking_uri=uri, aliases=('champion',))
    assert find_version('models:/c@champion', uri).version == 2

# --- the page ----------------------------------------------------------------------------------------------------------

hostile = st.text(max_size=40) | st.sampled_from(['---', '| a |', '<script>alert(1)</script>', '# x', "'", '"', '\n- x: 1', 'no', '1e3', '\x00', '\u2028', '&amp;', '[x](javascript:y)'])

@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | hostile, lambda x: st.lists(x, min_size=1, max_size=3) | st.dictionaries(hostile, x, min_size=1, max_size=3), max_leaves=8).filter(lambda x: isinstance(x, dict)))
@settings(max_examples=150, deadline=None)
def test_the_header_is_read_as_it_was_meant(x):
    assert yaml.safe_load('\n'.join(yaml_lines(x))) == x

@given(hostile, hostile, hostile)
@settings(max_examples=30, deadline=None)
def test_text_from_outside_is_no_markup(source, species, camera):
    card = copy.deepcopy(toy_card(SPECIES))
    clean = page(card)
    card['data']['sources'], card['species'][0]['scientificName'], card['slices']['rows'][0]['value'] = {source: 3}, species, camera
    text = page(card)
    assert front_matter(text)['license'] == 'other'
    body, was = text.split('---\n', 2)[2], clean.split('---\n', 2)[2]
    assert '<' not in body and body.count('\n') == was.count('\n')
    assert len(re.findall(r'(?<!\\)\|', body)) == len(re.findall(r'(?<!\\)\|', was)) and re.findall('^#+ .*', body, re.M) == re.findall('^#+ .*', was, re.M)

def test_small_groups_are_shown_and_a_default_says_that_it_is_one():
    text = page(toy_card(SPECIES) | dict(statements=statements(dict(contact='me@example.org', licence='Apache-2.0'))))
    assert 'me@example.org' in text and text.count('*(default:') == 2 and front_matter(text)['license'] == 'apache-2.0'
    card = toy_card(SPECIES)
    assert all(any(f'| {r["photos"]:,} |' in line for line in page(card).splitlines()) for r in card['slices']['rows'])

def test_history_tells_what_happened_and_not_who_did_it():
    card = with_history(toy_card(SPECIES), drift=[dict(at=1.7e9, what='class mix')], release=[dict(at=1.7e9, candidate='4', stage='canary', weight=.05, reason='next step', by='anna')])
    text = page(card)
    assert '2023-11-14: class mix' in text and 'canary, 5% of the traffic: next step' in text and 'anna' not in text + json.dumps(card)

def test_a_moment_is_told_to_the_second_and_an_unread_history_is_not_called_calm():
    at = 1_795_576_007.9
    card = with_history(toy_card(SPECIES), drift=[dict(at=at, what='class mix')], history=dict(looks=3, level='watch', until=at))
    assert card['drift'][0]['at'] == card['history']['until'] == int(at)
    assert '3 looks at the traffic until 2026-11-25; the alarm is *watch*' in page(card)
    for card, words in ((toy_card(SPECIES), 'Not known: no serving database'), (with_history(toy_card(SPECIES), history=dict(unread=True)), 'Not known: the serving database could not'),
                        (with_history(toy_card(SPECIES), history=dict(looks=0)), 'Nobody has looked yet'), (with_history(toy_card(SPECIES), history=dict(looks=2)), 'No alert in these looks')):
        assert words in page(card) and not missing(card, SPECIES)
    old = {k: v for k, v in toy_card(SPECIES).items() if k != 'history'}   # of a model exported before there was such a field
    assert 'Not known' in page(old) and not missing(old, SPECIES)

def test_the_history_switch_is_no_statement():
    assert wants_history(dict(history=True)) and not wants_history(dict(history=False)) and not wants_history({}) and 'history' not in statements(dict(history=True))
    with pytest.raises(Problem, match='history'): wants_history(dict(history='sqlite:///x'))

def test_an_export_outlives_a_database_that_is_away(tmp_path, monkeypatch):
    from mlproject.tasks import told
    for url in ('', f'sqlite:///{tmp_path}/none.db'):
        monkeypatch.setenv('MLPROJECT_SERVING_DATABASE', url)
        card = told(toy_card(SPECIES))
        assert card['history'] == dict(unread=True) and not missing(card, SPECIES)
    assert not list(tmp_path.iterdir())

def test_statements_are_checked():
    for bad, words in ((dict(contakt='x'), "no statement 'contakt'"), ('x', 'allowed: intended'), ([1], 'allowed: intended')):
        with pytest.raises(Problem, match=words): statements(bad)
    assert statements(dict(contact='  '))['contact']['default']

# --- figures -----------------------------------------------------------------------------------------------------------

@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_f1_and_its_interval(tp, fp, fn):
    e = f1_interval(tp, tp + fp + fn, tp + fp + fn)
    if tp + fp + fn == 0: assert np.isnan(e.value) and (e.low, e.high) == (0, 1)
    else: assert np.isclose(e.value, 2 * tp / (2 * tp + fp + fn)) and 0 <= e.low <= e.value <= e.high <= 1 and e.low < e.high

@given(st.floats(-89.9, 89.9), st.floats(-179.9, 179.9), st.sampled_from(['{:.5f}, {:.5f}', 'cam at lat {:.4f} lon {:.4f}', 'N{:.6f} E{:.6f}']))
def test_no_angle_that_was_withheld_can_be_read_again(lat, lon, how):
    text = how.format(lat, lon)
    for a in find_angles(withhold_positions(text)): assert abs(a.degrees - round(a.degrees, 1)) < 1e-9

# --- from a run --------------------------------------------------------------------------------------------------------

def test_a_run_leaves_a_complete_card_in_its_model(built):
    folder, _ = built
    card, about = require_card(folder/'extended'), ExtendedModel.load(folder/'extended').about
    verify_folder(folder/'extended')
    scores = read_json(folder/'evaluation/evaluation.json')
    assert np.isclose(card['scores']['macro_f1']['value'], scores['macro_f1']['value'], atol=1e-5) and card['lineage'] == about['lineage'] == card['data']['digests']
    assert [r['scientificName'] for r in card['species']] == about['labels'] and sum(r['n'] for r in card['species']) == scores['photos']
    for by in SLICED: assert sum(r['photos'] for r in card['slices']['rows'] if r['by'] == by) == scores['photos']
    assert card['data']['licences'] == {'CC0-1.0': card['data']['photos']}
    told = front_matter((folder/'extended/card.md').read_text())
    assert told['pipeline_tag'] == 'image-classification' and told['model-index'][0]['results'][0]['metrics'][0]['type'] == 'accuracy'
    from mlproject.export.registry import list_versions
    from mlproject.operations.tracing import lineage_of
    version = list_versions('mlproject', f'sqlite:///{folder.parent}/mlflow.db')[-1]
    told = lineage_of(version)
    assert require_card(version.path) == card and told['data'] == card['lineage'] and told['run']['MLflow run'] and told['commit']
