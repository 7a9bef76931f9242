"The data report and the data card: what they say is so, and nothing personal is in them."
import html, re

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from mlproject.core import Problem
from mlproject.data.datacard import ALWAYS, card, card_facts, write_card
from mlproject.data.findings import funnel, masked, page_table, read_build, rejects, word_diff

words = st.lists(st.text(st.characters(categories=('L', 'N', 'P', 'S')), min_size=1, max_size=6), max_size=12).map(' '.join)

@given(words, words)
def test_of_two_texts_shown_as_one_both_can_be_told(a, b):
    shown = word_diff(a, b)
    side = lambda gone, tag: html.unescape(' '.join(re.sub(rf'<{gone}>.*?</{gone}>', '', re.sub(f'</?{tag}>', '', shown)).split()))
    assert side('ins', 'del') == ' '.join(a.split()) and side('del', 'ins') == ' '.join(b.split())

def test_content_cannot_become_part_of_the_page():
    assert '<script>' not in page_table([{'<script>': '<script>alert(1)</script>'}]) + word_diff('<script> a', '<script> b')

def test_of_a_raw_note_nothing_personal_is_shown():
    note = "Fox. Leila Rossi, l.rossi@example.org, +41 79 555 12 12, 46°42'58\"N, 10°48'09\"E"
    shown, *rest = masked([dict(recordedBy='Leila Rossi', occurrenceRemarks=note), dict(occurrenceRemarks=None), {}])
    assert 'Fox' in shown and not re.search('Rossi|example|555|46°', shown) and rest == ['', '']

@pytest.fixture(scope='module')
def build(built): return read_build(built[0])

def test_the_funnel_loses_nobody(build):
    steps = funnel(build)
    assert (steps['rows'] == steps['kept'] + steps['rejected'] + steps['merged']).all()
    assert steps['rows'].iloc[1:].tolist() == steps['kept'].iloc[:-1].tolist()
    assert all(sum(s.rules.values()) == s.rejected for s in steps.itertuples())

def test_every_rule_that_rejected_is_shown_with_what_it_rejected(build):
    found = rejects(build)
    assert sum(r.count for r in found) == funnel(build)['rejected'].sum()
    assert all(r.photos or r.texts for r in found)

def test_the_pages_name_no_observer_and_no_address(built):
    observers = set(pd.read_csv(built[0]/'survey'/'occurrences.csv').recordedBy)
    for name in ('data.html', 'data.ipynb', 'datacard.md'):
        page = (built[0]/'reports'/name).read_text()
        assert len(page) > 1000 and not [o for o in observers if o in page]
        assert not re.search(r'[\w.]+@example\.org|\+41 79', page)

def test_the_card_tells_what_was_counted(built, build):
    text, facts = (built[0]/'reports'/'datacard.md').read_text(), card_facts(build)
    assert text == card(facts, built[0].name)
    assert facts['learned'] == build.splits.records.num_rows == sum(facts['splits'].values())
    for told in (f"{facts['records']:,} records", 'CC0-1.0', '2024-', f"{facts['steps'][4]['kept']:,}", *ALWAYS, *facts['limits']): assert told in text

def test_the_card_says_so_when_something_is_not_known(build):
    text = card(card_facts(build) | dict(period=None, area=None, tokens=None, licences={}, privacy=dict(ran=False, replaced={}, generalised=0, withheld=0)))
    assert 'Period: not known' in text and 'Area: not known' in text and 'Licences: none' in text and 'were not looked for' in text

def test_a_card_of_an_unfinished_run_is_one_line(tmp_path):
    with pytest.raises(Problem, match='not complete'): write_card(tmp_path, tmp_path/'card.md')
    assert not (tmp_path/'card.md').exists()
