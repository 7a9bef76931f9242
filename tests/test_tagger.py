"Persons are found, species are left alone, and nothing but the text decides."
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED
from mlproject.core import Problem
from mlproject.data.fieldnotes import fill, notes, stock
from mlproject.data.names import names
from mlproject.data.tagger import ForeignTagger, PersonTagger, Weights, load_tagger, read, save_tagger, scores, vectors
from mlproject.data.tagtraining import compare, false_alarms, labels, nobody, on_notes
from mlproject.data.wordmarks import fold, split, word_keys

settings.register_profile('patient', deadline=None, derandomize=True, max_examples=60)
settings.load_profile('patient')
tagger = PersonTagger.load()
anything = st.text(st.characters(codec=None), max_size=60)  # half characters, too
namely = st.lists(st.sampled_from(['Anna', 'Kovács', 'deer', 'by', '.', ', ', ' ', '\n', "'s", 'J.', 'van', 'de', 'Vulpes vulpes', 'SMITH', '1758', '(', ')', '-', 'Thanks', '🦊']), max_size=14).map(''.join)


def found(text, *args): return [text[a:b] for a, b, *_ in tagger.spans([text], *args)[0]]


@given(st.lists(anything | namely, max_size=6))
def test_spans_lie_in_their_text_in_order_and_apart(texts):
    out = tagger.spans(texts, .2)
    assert len(out) == len(texts)
    for text, spans in zip(texts, out):
        assert all(0 <= a < b <= len(text) and kind == 'PERSON' and .2 <= score <= 1 for a, b, kind, score in spans)
        assert all(x[1] <= y[0] for x, y in zip(spans, spans[1:]))


@given(st.lists(anything | namely, max_size=8), st.randoms(use_true_random=False))
def test_a_text_is_read_alone(texts, rng):
    alone = [tagger.spans([t])[0] for t in texts]
    order = list(range(len(texts)))
    rng.shuffle(order)
    assert [alone[i] for i in order] == tagger.spans([texts[i] for i in order])


@given(st.lists(anything | namely, max_size=5))
def test_words_are_what_a_pattern_finds(texts):
    w = split(texts)
    at = [(int(k), int(a - w.offsets[k]), int(b - w.offsets[k])) for k, a, b, edge in zip(w.text, w.start, w.end, w.edge) if not edge]
    assert w.edge.sum() == len(texts) + 1
    assert all(texts[k][a:b] and not re.search(r'[\s.,;()]', texts[k][a:b]) for k, a, b in at)
    ascii_only = [(k, m.start(), m.end()) for k, t in enumerate(texts) if t.isascii() for m in re.finditer(r'\w+', t)]
    assert [x for x in at if texts[x[0]].isascii()] == ascii_only


@given(st.text(st.characters(categories=('Lu', 'Ll'), max_codepoint=0x24ff), min_size=1, max_size=12), st.text(max_size=5))
def test_a_word_has_one_number_in_any_case_and_place(word, before):
    (key,), again = word_keys([word]), word_keys([f'{before}\n.{word.upper() if len(word.upper()) == len(word) and fold(word.upper()) == fold(word) else word}'])
    assert again[-1] == key


def test_weights_are_whole_numbers_and_sums_stay_exact():
    m = tagger.weights
    for name in ('letters', 'whole', 'lists', 'hidden', 'out'):
        value = getattr(m, name)
        assert (value == np.rint(value)).all() and np.abs(value).max() <= 127
    assert np.abs(m.hidden).sum(0).max() * 127 < 2**24 and np.abs(m.out).sum(0).max() * 127 < 2**24
    r = read([n.text for n in notes(50, seed=3)], m.member)
    v = vectors(r, m)
    assert (v == np.rint(v)).all() and np.abs(v).max() <= 127


def test_scores_do_not_depend_on_the_size_of_a_batch():
    texts = [n.text for n in notes(200, seed=4)]
    whole = scores(read(texts, tagger.weights.member), tagger.weights)
    parts = [scores(read(texts[i:i + 7], tagger.weights.member), tagger.weights) for i in range(0, 200, 7)]
    assert (whole == np.concatenate(parts)).all()


@pytest.mark.parametrize('text, persons', [
    ('Observed by Anna Kowalska and J. Brown.', ['Anna Kowalska', 'J. Brown']), ('Photo: Peter Müller', ['Peter Müller']), ('Seen with John and Mary at the lake.', ['John', 'Mary']),
    ("Sarah's dog found the carcass.", ['Sarah']), ('Lopez, M. & García, P.', ['Lopez, M.', 'García, P.']), ('We met Mrs Thompson, who owns the farm.', ['Thompson']),
    ('Hello Mark, could you check site 3?', ['Mark']), ('Cheers, Dave', ['Dave']), ('ranger Joseph Mwangi reported two elephants', ['Joseph Mwangi']),
    ('Vulpes vulpes (Linnaeus, 1758), seen by Maria Rossi', ['Maria Rossi']), ('Beobachtet von Jürgen Schmidt.', ['Jürgen Schmidt'])])
def test_persons_are_found(text, persons): assert found(text) == persons


@pytest.mark.parametrize('text', [
    'Panthera leo (Linnaeus, 1758)', 'Parus major Linnaeus, 1758', 'Myotis daubentonii (Kuhl, 1817)', 'Bison bison L.', 'Canis lupus Linnaeus', "Père David's deer", "Thomson's gazelle",
    "Grévy's zebras near the river", "Steller's Sea Eagle", 'Red Fox, Roe Deer, Great Tit', 'Lake Victoria', 'Monday in April', 'CAM_Anna_03', 'A12 checked', 'N 47.5 E 11.2', 'Rana temporaria and Bufo bufo',
    'Equus quagga burchellii (Gray, 1824)', 'anna.smith@example.org', 'The Camera was broken', 'Natural History Museum'])
def test_species_places_and_tags_are_left_alone(text): assert found(text) == []


def test_unseen_names_and_sentences_reach_the_bar():
    known, unseen = on_notes(tagger, notes(800, 'sentences', seed=31)), on_notes(tagger, notes(800, 'words', seed=31))
    assert min(k / n for k, n in (known['precision'], known['recall'])) > .88
    assert unseen['precision'][0] / unseen['precision'][1] > .88 and unseen['recall'][0] / unseen['recall'][1] > .75


def test_lines_without_persons_raise_few_alarms():
    k, n = false_alarms(tagger, nobody(2000, seed=32, slots=('auth', 'epo', 'tag', 'sp', 'sci')))
    assert k / n < .01


def test_names_to_test_with_are_not_in_the_lists():
    for part in ('words', 'locales'): assert not names(part).known() & (names().known() | names('invented').known())


def test_notes_are_the_same_again_and_say_where_names_are():
    some = notes(100, seed=8)
    assert some == notes(100, seed=8) != notes(100, seed=9)
    for n in some:
        assert list(n.spans) == sorted(n.spans) and all(n.text[a:b].strip() == n.text[a:b] != '' for a, b in n.spans)
    assert not any(n.spans for n in notes(100, crowd=0))


def test_every_sentence_can_be_filled():
    from mlproject.data.fieldnotes import NOBODY, TEMPLATES, UNSEEN, UNSEEN_NOBODY, _sentences
    from mlproject.data.names import person
    s, rng = stock(), random.Random(1)
    cast = [person(rng, s.pool)]
    for some in (TEMPLATES, NOBODY, UNSEEN, UNSEEN_NOBODY):
        for language, text in some.items():
            for t in _sentences(text):
                note = fill(rng, t, s, cast, language)
                assert '{' not in note.text and len(note.spans) == len(re.findall('{[PFLBI]}', t))
                assert not (some in (NOBODY, UNSEEN_NOBODY) and note.spans)


def test_sentences_of_tests_are_not_sentences_of_training():
    from mlproject.data.fieldnotes import NOBODY, TEMPLATES, UNSEEN, UNSEEN_NOBODY, _sentences
    sentences = lambda *sets: {t for some in sets for text in some.values() for t in _sentences(text)}
    assert not sentences(TEMPLATES, NOBODY) & sentences(UNSEEN, UNSEEN_NOBODY)


def test_labels_are_those_of_the_spans():
    some = notes(60, seed=6)
    r = read([n.text for n in some], tagger.weights.member)
    truth = labels(r, some)
    for i, k in zip(r.at, truth):
        n, a = some[r.words.text[i]], r.words.start[i] - r.words.offsets[r.words.text[i]]
        inside = [s for s in n.spans if s[0] <= a < s[1]]
        assert k == (0 if not inside else 1 if inside[0][0] == a else 2)


def test_a_saved_tagger_is_the_same_and_a_damaged_one_is_refused(tmp_path):
    save_tagger(tagger, tmp_path/'t.safetensors')
    again = load_tagger(tmp_path/'t.safetensors')
    assert all((getattr(again.weights, k) == getattr(tagger.weights, k)).all() for k in Weights.__dataclass_fields__) and again.threshold == tagger.threshold
    raw = bytearray((tmp_path/'t.safetensors').read_bytes())
    raw[-1] ^= 1
    (tmp_path/'t.safetensors').write_bytes(raw)
    with pytest.raises(Problem, match='damaged or exchanged'): load_tagger(tmp_path/'t.safetensors')
    (tmp_path/'t.safetensors').write_bytes(raw[:1000])
    with pytest.raises(Problem, match='cannot read the tagger'): load_tagger(tmp_path/'t.safetensors')
    with pytest.raises(Problem, match='does not exist'): load_tagger(tmp_path/'none.safetensors')


def test_another_finder_gets_the_rules_too():
    text = "Panthera leo (Linnaeus, 1758) and Thomson's gazelle, seen by Nowak"
    big = ForeignTagger(lambda t: [(m.start(), m.end(), .7) for m in re.finditer('Linnaeus|Thomson|Nowak', t)])
    assert [text[a:b] for a, b, *_ in big.spans([text])[0]] == ['Nowak']


def test_a_megabyte_on_one_line_and_nothing_at_all():
    long = 'Seen by Anna Kowalska. ' * 45_000
    spans = tagger.spans([None, long, ''])
    assert [len(s) for s in spans] == [0, 45_000, 0] and long[slice(*spans[1][-1][:2])] == 'Anna Kowalska'


def test_the_tagger_can_be_used_without_torch_and_faker():
    import subprocess, sys
    code = "import sys; sys.modules['torch'] = sys.modules['faker'] = None\nfrom mlproject.data.tagger import PersonTagger\nprint(PersonTagger.load().spans(['Seen by Anna Kowalska.']))"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert "(8, 21, 'PERSON'" in out.stdout, out.stderr


@pytest.mark.skipif(not (SHARED/'pii').exists(), reason='shared/data is absent')
def test_sentences_of_presidio_research_reach_the_bar():
    import json
    some = json.loads((SHARED/'pii/presidio_research/generated_small.json').read_text(encoding='utf-8'))
    truth = [[(s['start_position'], s['end_position']) for s in d['spans'] if s['entity_type'] == 'PERSON'] for d in some]
    c = compare(truth, tagger.spans([d['full_text'] for d in some]))
    assert c['precision'][0] / c['precision'][1] >= .8 and c['recall'][0] / c['recall'][1] >= .8  # 55 names: the bar less what chance can take
