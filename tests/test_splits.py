"""Splits: nothing straddles, nothing moves that need not, every species is everywhere it can be."""
from collections import defaultdict

import pyarrow as pa
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mlproject.data.splits import Group, assign_splits, repair

SCHEMA = pa.schema([(n, pa.string()) for n in ('occurrenceID', 'scientificName', 'group', 'givenSplit')])
RANK = {'train': 0, 'validation': 1, 'test': 2}
fast = hypothesis_settings(max_examples=60, deadline=None)


def rows_of(prefix: str, mixed: bool, given_splits: bool, least: int = 1):
    "Photos of up to 5 species; groups of one species unless `mixed`."
    row = st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 7)),
                    st.sampled_from([None, 'train', 'validation', 'test'] if given_splits else [None]))
    def build(found):
        return [dict(occurrenceID=f'{prefix}{i:03d}', scientificName=f'{prefix}{s}', givenSplit=split,
                     group=None if g is None else f'{prefix}{g}' if mixed else f'{prefix}{s}/{g}') for i, (s, g, split) in enumerate(found)]
    return st.lists(row, min_size=least, max_size=60).map(build)


def table(rows): return pa.Table.from_pylist(rows, schema=SCHEMA)
def where(outcome): return dict(zip(outcome.records['occurrenceID'].to_pylist(), outcome.records['split'].to_pylist()))
def group_key(r): return r['group'] or r['occurrenceID']


@fast
@given(rows_of('a', True, True).filter(lambda rows: any(r['givenSplit'] in (None, 'train') for r in rows)), st.booleans(), st.integers(0, 3))
def test_a_group_never_straddles_and_nothing_is_lost(rows, honour, seed):
    outcome = assign_splits(table(rows), honour_given=honour, seed=seed)
    split, seen = where(outcome), defaultdict(set)
    for r in rows:
        if r['occurrenceID'] in split: seen[group_key(r)].add(split[r['occurrenceID']])
    assert all(len(s) == 1 for s in seen.values())
    assert sorted([*split, *outcome.rejects['occurrenceID'].to_pylist()]) == sorted(r['occurrenceID'] for r in rows)


@fast
@given(rows_of('a', True, False), rows_of('b', True, False))
def test_unrelated_rows_never_move_old_ones(old, new):
    before, after = where(assign_splits(table(old))), where(assign_splits(table(new + old)))
    assert {k: after.get(k) for k in before} == before


@fast
@given(rows_of('a', True, True, 20).filter(lambda rows: any(r['givenSplit'] in (None, 'train') for r in rows)), st.booleans())
def test_the_order_of_rows_is_irrelevant(rows, honour):
    first, second = (assign_splits(table(r), honour_given=honour) for r in (rows, rows[::-1]))
    assert where(first) == where(second)
    assert set(first.rejects['occurrenceID'].to_pylist()) == set(second.rejects['occurrenceID'].to_pylist())


@fast
@given(rows_of('a', False, False), st.integers(0, 3))
def test_a_species_has_every_split_that_its_groups_allow(rows, seed):
    split, groups, has = where(assign_splits(table(rows), seed=seed)), defaultdict(set), defaultdict(set)
    for r in rows:
        groups[r['scientificName']].add(group_key(r))
        has[r['scientificName']].add(split[r['occurrenceID']])
    for s, g in groups.items(): assert has[s] == set(['train', 'test', 'validation'][:len(g)])


def test_a_group_of_two_species_is_not_moved_for_one_of_them():
    shared = Group('s', [0], {'lynx', 'otter'}, .14, 'test')
    own = [Group('l', [1], {'lynx'}, .01, 'test'), Group('o', [2], {'otter'}, .9, 'train'), Group('p', [3], {'otter'}, .2, 'validation')]
    assert repair([shared, *own], dict(validation=.15, test=.15)) == 1
    assert (shared.split, own[0].split) == ('test', 'train')


@fast
@given(rows_of('a', True, False), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=20), st.data())
def test_with_the_earlier_assignment_no_held_out_photo_ever_goes_back(rows, added, data):
    first = assign_splits(table(rows))
    links = {f'a{a}': f'a{b}' for a, b in data.draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=3))}
    later = [dict(r, group=links.get(r['group'], r['group'])) for r in rows]
    later += [dict(occurrenceID=f'0{i}', scientificName=f'a{s}', group=f'a{g}', givenSplit=None) for i, (s, g) in enumerate(added)]
    before, after = where(first), where(assign_splits(table(later), previous=first.records))
    assert all(RANK[after[k]] >= RANK[before[k]] for k in before if before[k] != 'train' and k in after)


@fast
@given(rows_of('a', True, True))
def test_the_given_test_stays_and_nothing_like_it_is_trained_on(rows):
    rows = [dict(r, scientificName='a') for r in rows] + [
        dict(occurrenceID=f'x{i}', scientificName='a', group=None, givenSplit=s) for i, s in enumerate(('train', 'test', 'validation'))]
    split = where(assign_splits(table(rows)))
    held = {group_key(r) for r in rows if r['givenSplit'] == 'test'}
    assert {k for k, s in split.items() if s == 'test'} == {r['occurrenceID'] for r in rows if r['givenSplit'] == 'test'}
    assert not any(split.get(r['occurrenceID']) in ('train', 'validation') for r in rows if group_key(r) in held)


def test_the_seed_makes_another_split_and_the_same_seed_the_same():
    rows = [dict(occurrenceID=f'{i}', scientificName='a', group=None, givenSplit=None) for i in range(300)]
    made = [where(assign_splits(table(rows), seed=s)) for s in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_small_species_can_be_left_out():
    rows = [dict(occurrenceID=f'{s}{i}', scientificName=s, group=None, givenSplit=None) for s, n in (('rare', 1), ('common', 9)) for i in range(n)]
    outcome = assign_splits(table(rows), min_groups_per_species=2)
    assert outcome.rejects['rule'].to_pylist() == ['too_few_groups'] and outcome.records.num_rows == 9
    assert where(assign_splits(table(rows)))['rare0'] == 'train'


def test_a_species_only_in_the_given_test_leaves_with_a_reason():
    rows = [dict(occurrenceID=f'{i}', scientificName=s, group=None, givenSplit=g)
            for i, (s, g) in enumerate([('lynx', 'train'), ('lynx', 'test'), ('otter', 'test')])]
    outcome = assign_splits(table(rows))
    assert outcome.rejects['rule'].to_pylist() == ['no_train_photo'] and outcome.counts['test']['species'] == 1


def test_only_a_train_folder_is_split_as_if_nothing_were_given():
    rows = [dict(occurrenceID=f'{i}', scientificName='lynx', group=None, givenSplit='train') for i in range(40)]
    assert set(where(assign_splits(table(rows))).values()) == {'train', 'validation', 'test'}
