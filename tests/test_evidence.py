"What the gate said, as a document beside a version of a real registry (SQLite): whole, strict, and worth nothing once it is stale."
import json
from types import SimpleNamespace

import pytest
from colours import pack_colours
from gated import gated, result
from hypothesis import given, strategies as st

from mlproject.console.releasing import e_values, judgement
from mlproject.core import Problem, finite
from mlproject.evaluation.sequential import CanaryPolicy, Pairs, judge
from mlproject.export.registry import find_version, register, set_tags
from mlproject.operations.evidence import DOCUMENT, MOST, compact, content_of, fitted, read, record, stale, table, tags

FOUR = SimpleNamespace(version=4, digest='a' * 32)

@pytest.fixture(scope='module')
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp('registry')
    uri = f'sqlite:///{folder}/mlflow.db'
    return uri, *(register(pack_colours(folder/f'size{s}', size=s), name='mlproject', tracking_uri=uri) for s in (16, 24))

def test_evidence_comes_back_from_the_registry_as_it_was_written(registry):
    uri, one, two = registry
    made = gated(two, one.digest, uri)
    found = find_version('models:/mlproject/2', uri)
    assert read(found.tags) == made and found.digest == content_of(found.path) == two.digest      # the content is what it was
    assert read(find_version('models:/mlproject/1', uri).tags)['passed'] is False
    assert (made['passed'], made['seed'], made['resamples'], made['champion'], made['data']['photos']) == (True, 3, 200, dict(version='1', digest=one.digest), 180)
    assert {c['name']: c['kind'] for c in made['checks']} == {'overall': 'not worse', 'Lynx lynx': 'not worse', 'camera=creek': 'shown', 'camera=<b>gate</b>': 'shown'}
    gated(two, one.digest, uri, passes=False)                                                        # a second look replaces the first
    assert read(find_version('models:/mlproject/2', uri).tags)['passed'] is False
    with pytest.raises(Problem, match='the evidence is about'): record(one, made, uri)
    with pytest.raises(Problem, match='stays'): set_tags(two, dict(digest='f' * 32), uri)

def test_a_long_document_fits_into_a_tag_and_keeps_what_failed(registry):
    uri, one, two = registry
    made = gated(two, one.digest, passes=False)
    made['checks'] += [dict(made['checks'][-1], name=f'camera={"ü" * 60}{i}') for i in range(1000)] + [dict(made['checks'][0], name='region=last', passed=False)]
    set_tags(two, tags(made), uri)
    found = read(find_version('models:/mlproject/2', uri).tags)
    assert len(compact(fitted(made))) <= MOST and found['left_out'] + len(found['checks']) == len(made['checks']) and found['left_out'] > 0
    assert [c['name'] for c in found['checks'] if not c['passed']] == [c['name'] for c in made['checks'] if not c['passed']]

def test_an_unknown_bound_is_null_and_the_document_is_strict_json():
    made = gated(FOUR, 'b' * 32) | dict(at=0.)
    made['checks'][0] |= finite(dict(low=float('-inf'), high=float('nan')))
    json.loads(compact(made), parse_constant=lambda c: pytest.fail(c))
    assert read(tags(made))['checks'][0]['low'] is None and '–' in table(made)[1]

@pytest.mark.parametrize('champion, doc, says', [('b' * 32, gated(FOUR, 'b' * 32), None), ('c' * 32, gated(FOUR, 'b' * 32), 'stale: it was compared with version 1'), (None, gated(FOUR, 'b' * 32), 'nothing answers now'),
    ('c' * 32, gated(FOUR, None), 'compared with no champion'), ('b' * 32, gated(FOUR, 'b' * 32, passes=False), 'did not pass the gate: overall'), ('b' * 32, read({}), 'has not been through the gate'),
    ('b' * 32, gated(SimpleNamespace(version=4, digest='e' * 32), 'b' * 32), 'about another content'), (None, gated(FOUR, None), None)])
def test_evidence_is_good_for_one_candidate_against_one_champion(champion, doc, says):
    found = stale(doc, '4', 'a' * 32, champion)
    assert found is None if says is None else says in found and ('did not pass' in says or found.endswith('run `mlproject release gate 4`'))

json_ = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(['digest', 'name', 'kind', 'passed', 'low', 'version', 'x']), x, max_size=4), max_leaves=8)

@given(st.dictionaries(st.sampled_from(['format', 'passed', 'reason', 'checks', 'candidate', 'champion', 'at', 'by', 'data', 'resamples', 'left_out']), json_), st.text(max_size=20))
def test_whatever_stands_in_a_tag_passes_nothing_and_can_be_shown(over, text):
    for tag in (text, json.dumps(over), json.dumps(gated(FOUR, None) | over | dict(passed=True, candidate=dict(digest=1)))): assert read({DOCUMENT: tag})['passed'] is False
    judgement(over), judgement(gated(FOUR, None) | over), judgement(read({DOCUMENT: json.dumps(gated(FOUR, None) | over)}))

def test_a_document_that_says_passed_over_a_failed_check_contradicts_itself():
    assert read({DOCUMENT: compact(gated(FOUR, None, passes=False) | dict(passed=True))})['reason'].endswith('contradicts itself')

def test_the_same_seed_gives_the_same_evidence_and_another_other_bounds():
    one, again, other = (result(seed=s).as_dict() for s in (1, 1, 2))
    assert one == again and one['checks'][0]['low'] != other['checks'][0]['low'] and one['checks'][0]['difference'] == other['checks'][0]['difference']

def test_the_plot_of_e_values_has_their_table_and_the_line_that_decides():
    p = e_values([(1e9 + 60 * i, judge(Pairs(4 * i, i, 2 * i))) for i in range(1, 20)], CanaryPolicy(alpha=.04))
    assert 'decides: 25' in p.svg and p.svg.count('<polyline') == 2 and len(p.rows) == 19 and p.rows[-1][1:4] == ('133', '76', '19') and p.rows[-1][-1] == 'promote' and p.rows[0][-1] == 'continue'
