"Cleaning of notes: what goes, what stays, and that once is enough."
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproject.core import Problem
from mlproject.data.cleaning import CleaningConfig, clean_notes, clean_text
from mlproject.data.markup import RULES
from mlproject.data.records import account, records_table

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')

PIECES = ['<b>', '</b>', '<', '>', '&amp;', '&lt;', '&gt;', 'amp;', '&', ';', '#39', '<script>', '</script>', '<!--', '-->', '[b]', '[/b]', '[', ']', '(', ')', '](', '*', '**', '_', '__', '`', '#', '# ', '~~', '\n', '\n\n', '\r\n', '\t', ' ',
          '  ', '\u00a0', '\u200b', '\ufeff', '\u200d', '\u0308', 'u', 'Ã', '¼', 'Ã¼', 'Â', '€', 'â€œ', '\x9d', '\ufffd', '\x00', '\x1b[31m', '--', '-- ', '---', '> ', 'https://example.org/', '?utm_source=a', '&fbclid=b', '&id=3', 'www.', '.', 'Sent from my iPhone',
          'Share this on Facebook', 'Best regards,', 'Marta', 'A line that is long enough to count', 'the otter', 'é', '漢', '👩', '5', '!', '"', "'"]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=14).map(''.join)


def cleaned(*notes): return clean_notes(pa.array(notes, pa.string()))[0].to_pylist()


@settings(max_examples=150)
@given(st.lists(texts, min_size=1, max_size=8))
def test_cleaning_twice_is_cleaning_once(notes):
    once = cleaned(*notes)
    assert cleaned(*once) == once


@settings(max_examples=100)
@given(st.lists(st.one_of(st.none(), texts), min_size=1, max_size=6))
def test_a_note_is_cleaned_alike_whatever_its_neighbours(notes):
    assert cleaned(*notes) == [cleaned(n)[0] for n in notes]


@given(st.lists(st.one_of(st.none(), texts), max_size=6), st.booleans())
def test_every_record_is_accounted_for_and_no_photo_is_lost(notes, photo):
    records = records_table([dict(occurrenceID=f'r{i}', associatedMedia='a.jpg' if photo else None) for i in range(len(notes))])
    records = records.set_column(records.schema.get_field_index('occurrenceRemarks'), records.schema.field('occurrenceRemarks'), pa.array(notes, pa.string()))
    outcome = account(len(notes), clean_text(records), 'cleaning')
    assert outcome.records.schema == records.schema and (not photo or outcome.records.num_rows == len(notes))
    assert not any(n == '' for n in outcome.records['occurrenceRemarks'].to_pylist())


@pytest.mark.parametrize('note', [
    'Two otters at the old bridge, one with a fish.', 'Depth <2 m, width >5 m & rising', '3 * 4 eggs = 12; nest #7', 'file_name_with_underscores.jpg', 'See https://example.org/obs/7?id=3 for photos.', 'R&D plot; [i] and [ii]',
    'A dog stole our cookies near the hide.', 'The warden said: please print this page of the log and keep it.', 'SÃO TOMÉ', 'Zoë saw a lynx near Rüti, 12 °C', '1 adult\n1 adult\n2 cubs', '5\' 12" N', 'Regards from the summit, where a chough stole lunch.',
    'می\u200cخواهم', '👩\u200d🔬 ringing', 'Share of juveniles on the left bank: 40 %', 'Comments by the ranger: two cubs, one lame.', 'Lynx — “two cubs” … gone', "> 5 m away", "the ``Fellowship'' of the lynx and ``The Ring''"])
def test_what_the_observer_wrote_stays(note): assert cleaned(note) == [note]


@pytest.mark.parametrize('noisy, clean', [
    ('&amp;amp;lt;b&amp;amp;gt;Lynx', 'Lynx'), ('RÃƒÂ¼ti', 'Rüti'), ('a\n\n-- \nMarta\nTeam', 'a'), ('x\nMit freundlichen Grüßen\nPeter', 'x'), ('Envoyé de mon iPhone', ''), ('[url=http://a.org]nest[/url]', 'nest'),
    ('![fox](http://a.org/f.jpg) **two**', 'fox two'), ('go http://a.org/?utm_source=x&utm_medium=y#top', 'go http://a.org/#top'), ('<td>a</td><td>b</td>', 'a b'), ('\u202eevil\u202c', 'evil'), ('ﬁsh', 'ﬁsh'), ('u\u0308ber', 'über')])
def test_what_was_added_goes(noisy, clean): assert cleaned(noisy) == [clean]


def test_hostile_notes_end_in_reasonable_time_and_as_unicode():
    hostile = ['<' * 100_000, '&' + 'amp;' * 50_000 + 'lt;', '[b]' * 30_000 + '[/b]' * 30_000, '*' * 100_000, 'x' * 1_000_000, '\n' * 200_000, 'Ã¼' * 50_000, '<b' * 50_000 + '>' * 50_000, 'a\n' * 100_000, '(' * 50_000 + '](' * 50_000, '\ud83e'.encode('utf-8', 'backslashreplace').decode()]
    once = cleaned(*hostile)
    assert cleaned(*once) == once and all(unicodedata.is_normalized('NFC', n) for n in once)


def test_markup_nested_beyond_reason_empties_the_note():
    outcome = clean_notes(pa.array(['<' * 40 + 'b>' * 40]), CleaningConfig(passes=3))
    assert outcome[0].to_pylist() == [''] and outcome[1]['nested'].all()


def test_a_record_that_was_only_a_banner_leaves_with_its_text():
    records = records_table([dict(occurrenceID='a', occurrenceRemarks='Share this on Facebook'), dict(occurrenceID='b', occurrenceRemarks='Share this on Facebook', associatedMedia='b.jpg'), dict(occurrenceID='c', occurrenceRemarks='&nbsp;', type='Event')])
    outcome = clean_text(records)
    assert outcome.rules() == {'empty': 1} and 'Facebook' in outcome.rejects['record'][0].as_py() and outcome.records['occurrenceRemarks'].null_count == 2
    assert outcome.counts['emptied'] == 2 and outcome.counts['changed']['boilerplate'] == 2


def test_rules_can_be_left_out_and_are_counted():
    notes = records_table([dict(occurrenceRemarks='<b>Lynx</b>\u200b  cub')])
    assert clean_text(notes, CleaningConfig(without=('html',))).records['occurrenceRemarks'].to_pylist() == ['<b>Lynx</b> cub']
    assert clean_text(notes).counts['changed'] == dict(hidden=1, html=1, blanks=1)
    assert clean_text(notes, CleaningConfig(without=tuple(RULES))).records['occurrenceRemarks'].to_pylist() == ['<b>Lynx</b>\u200b  cub']


def test_no_rows_and_many_chunks():
    empty = records_table([])
    assert clean_text(empty).records.num_rows == 0
    chunks = pa.concat_tables([records_table([dict(occurrenceID=f'{k}{i}', occurrenceRemarks=f'<p>note {k} {i}</p>') for i in range(3)]) for k in range(3)])
    assert clean_text(chunks.slice(2, 5)).records['occurrenceRemarks'].to_pylist() == ['note 0 2', 'note 1 0', 'note 1 1', 'note 1 2', 'note 2 0']
    with pytest.raises(Problem, match='passes=1'): CleaningConfig(passes=1)
