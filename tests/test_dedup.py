"Partitions of records into duplicates, near-duplicates and bursts."
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproject.core import digest
from mlproject.data.dedup import aligned_agreement, canonical, edge_agreement, exact_duplicates, group_names, merge_groups, moment, near_groups, near_pairs
from mlproject.looks import hamming, orientation_hashes, small_grey, tiny
from mlproject.photos import read_photo

PHOTOS = Path(os.environ.get('MLPROJECT_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data') / 'photos'
settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
labels = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def same(partition): return np.equal.outer(np.asarray(partition), np.asarray(partition))


@given(st.data())
def test_merged_groups_are_the_finest_that_keep_both(data):
    a = data.draw(labels)
    b = data.draw(st.lists(st.integers(0, 5), min_size=len(a), max_size=len(a)))
    together = same(a) | same(b)
    for _ in a: together = together @ together
    assert (same(merge_groups(np.array(a), np.array(b))) == together).all()


@given(labels, st.randoms(use_true_random=False))
def test_names_of_groups_do_not_depend_on_the_order_of_rows(partition, random):
    ids = [f'r{i}' for i in range(len(partition))]
    order = list(range(len(ids)))
    random.shuffle(order)
    names = dict(zip(ids, group_names(np.array(partition), ids)))
    shuffled = dict(zip([ids[i] for i in order], group_names(np.array([partition[i] for i in order]), [ids[i] for i in order])))
    assert names == shuffled and (same(list(names.values())) == same(partition)).all()


@given(labels, st.randoms(use_true_random=False))
def test_one_record_stands_for_each_group_whatever_the_order(partition, random):
    ids, rank = [f'r{i}' for i in range(len(partition))], [i % 3 for i in range(len(partition))]
    order = list(range(len(ids)))
    random.shuffle(order)
    keep = canonical(np.array(partition), ids, rank)
    again = canonical(np.array([partition[i] for i in order]), [ids[i] for i in order], [rank[i] for i in order])
    assert {ids[i] for i in np.flatnonzero(keep)} == {ids[order[i]] for i in np.flatnonzero(again)}
    assert Counter(np.array(partition)[keep].tolist()) == Counter(set(partition))


@given(st.text('0123456789:-T/ .Z+', max_size=25))
def test_any_text_is_a_moment_or_none(text): assert moment(text) is None or isinstance(moment(text), float)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_bands_find_exactly_the_pairs_that_comparing_all_finds(seed, threshold):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (60, 8), dtype=np.uint64)
    for i in range(0, 40, 2):  # planted: up to 14 bits away from one of the eight of the one before
        bits = rng.choice(64, rng.integers(0, 15), replace=False)
        hashes[i, 0] = hashes[i + 1, rng.integers(8)] ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0))
    i, j, k = np.nonzero(hamming(hashes[:, :1, None], hashes[None]) <= threshold)
    expected = {t for t in zip(i.tolist(), j.tolist(), k.tolist()) if t[0] != t[1]}
    assert {tuple(p) for p in near_pairs(hashes, threshold).tolist()} == expected


def test_ten_thousand_copies_of_one_photo_do_not_become_a_hundred_million_pairs():
    hashes = np.tile(np.random.default_rng(0).integers(0, 2**64, (1, 8), dtype=np.uint64), (10_000, 1))
    assert len(set(near_groups(hashes))) == 1


def test_no_photos_and_one_photo_have_groups_too():
    assert len(near_groups(np.zeros((0, 8), np.uint64))) == 0
    assert len(near_groups(np.zeros((1, 8), np.uint64), tinies=np.zeros((1, 16, 16), np.uint8))) == 1
    assert len(exact_duplicates([])) == 0


@given(st.integers(0, 2**32))
def test_a_tiny_photo_agrees_with_itself_in_any_light(seed):
    photo = cv2.resize(np.random.default_rng(seed).integers(40, 200, (6, 6), dtype=np.uint8), (16, 16), interpolation=cv2.INTER_CUBIC)
    assert edge_agreement(photo, photo * .5 + 10) == pytest.approx(1, abs=1e-3) and aligned_agreement(photo, photo) > .999
    assert edge_agreement(photo, np.full((16, 16), 7, np.uint8)) == 0 == edge_agreement(photo[None], np.zeros((1, 16, 16), np.uint8))[0]


def test_without_tinies_groups_are_those_of_the_hashes():
    hashes = np.random.default_rng(0).integers(0, 2**64, (5, 8), dtype=np.uint64)
    hashes[3, 0] = hashes[1, 4] ^ np.uint64(7)
    assert sorted(Counter(near_groups(hashes, 4).tolist()).values()) == [1, 1, 1, 2]


CHANGES = dict(half=lambda x: cv2.resize(x, None, fx=.5, fy=.5, interpolation=cv2.INTER_AREA), jpeg=lambda x: cv2.imdecode(cv2.imencode('.jpg', x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
               dark=lambda x: (x * .7).astype(np.uint8), mirrored=lambda x: x[:, ::-1].copy(), turned=lambda x: np.rot90(x).copy(), left=lambda x: x[:, round(.05 * x.shape[1]):],
               all_sides=lambda x: x[(m := round(.05 * x.shape[0])):-m, (n := round(.05 * x.shape[1])):-n])


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the real photos are not here')
def test_changed_copies_of_real_photos_are_found_and_strangers_stay_apart():
    paths = sorted((PHOTOS / 'caltech101_animals').rglob('*.jpg'))[::60]
    photos = [read_photo(p) for p in paths]
    greys = [small_grey(change(p)) for change in (lambda x: x, *CHANGES.values()) for p in photos]
    groups = near_groups(np.stack([orientation_hashes(g) for g in greys]), tinies=np.stack([tiny(g) for g in greys])).reshape(-1, len(paths))
    found = {name: float((g == groups[0]).mean()) for name, g in zip(CHANGES, groups[1:])}
    assert min(found.values()) >= .95, found
    assert len(set(groups[0].tolist())) == len(paths)


def _album(name):
    paths = sorted(p for p in (PHOTOS / name).rglob('*') if p.suffix.lower() in ('.jpg', '.png'))
    greys = [small_grey(read_photo(p)) for p in paths]
    return paths, np.stack([orientation_hashes(g) for g in greys]), np.stack([tiny(g) for g in greys])


def _mixed(groups, names):
    of: dict = {}
    for g, name in zip(groups.tolist(), names): of.setdefault(g, set()).add(name)
    return sum(len(v) > 1 for v in of.values())


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the real photos are not here')
def test_monkeys10_has_67_groups_of_exact_duplicates_and_no_wrong_merge():
    paths, hashes, tinies = _album('monkeys10')
    exact = exact_duplicates([digest(p.read_bytes()) for p in paths])
    assert sum(n > 1 for n in Counter(exact.tolist()).values()) == 67
    near = near_groups(hashes, tinies=tinies)
    assert (same(near) >= same(exact)).all() and 150 < sum(n > 1 for n in Counter(near.tolist()).values()) < 190
    assert _mixed(near, [p.parent.name for p in paths]) == 0 and max(Counter(near.tolist()).values()) <= 4


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the real photos are not here')
def test_the_mirrored_leopards_of_caltech101_are_found_and_species_stay_apart():
    paths, hashes, tinies = _album('caltech101_animals')
    near = dict(zip([f'{p.parent.name}/{p.stem}' for p in paths], near_groups(hashes, tinies=tinies).tolist()))
    assert all(near[f'Leopards/image_{i:04d}'] == near[f'Leopards/image_{i + 100:04d}'] for i in range(1, 101))
    assert _mixed(np.array(list(near.values())), [n.split('/')[0] for n in near]) == 0
