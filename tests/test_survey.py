"The built-in survey: same bytes everywhere, and a truth that is true."
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from mlproject.core import read_json
from mlproject.data.faults import Faults
from mlproject.data.genomes import genomes
from mlproject.data.survey import make_survey, survey_digest
from mlproject.looks import quality
from mlproject.photos import PhotoError, read_photo

NONE = Faults(**dict.fromkeys(Faults.__dataclass_fields__, 0.0))


@pytest.fixture(scope='module')
def survey(tmp_path_factory):
    return make_survey(tmp_path_factory.mktemp('survey') / 's', species=20, photos=12, seed=3)


@pytest.fixture(scope='module')
def tables(survey):
    return pd.read_csv(survey / 'occurrences.csv', keep_default_na=False, dtype=str), pd.read_parquet(survey / 'truth.parquet')


def in_another_process(code: str, **env) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-c', code], env=os.environ | env, stdout=subprocess.PIPE, text=True)


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    one, two = (make_survey(tmp_path / str(n), species=2, photos=105, workers=n) for n in (1, 2))
    assert survey_digest(one) == survey_digest(two)


def test_bytes_do_not_depend_on_the_interpreter_s_hash_seed(tmp_path):
    code = 'import sys; from mlproject.data.survey import *; print(survey_digest(make_survey(sys.argv[1], species=4, photos=5)))'
    here = survey_digest(make_survey(tmp_path / 'here', species=4, photos=5))
    there = in_another_process(code.replace('sys.argv[1]', repr(str(tmp_path / 'there'))), PYTHONHASHSEED='77')
    assert there.communicate()[0].strip() == here


def test_a_killed_run_starts_again_and_ends_with_the_same_bytes(tmp_path):
    whole = make_survey(tmp_path / 'whole', species=6, photos=25)
    child = in_another_process(f'from mlproject.data.survey import *; make_survey({str(tmp_path / "cut")!r}, species=6, photos=25)')
    end = time.time() + 60
    while not any((tmp_path / 'cut').rglob('*.jpg')) and time.time() < end: time.sleep(.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / 'cut' / 'survey.json').exists()
    assert survey_digest(make_survey(tmp_path / 'cut', species=6, photos=25)) == survey_digest(whole)


def test_a_finished_survey_is_not_drawn_again_unless_the_arguments_differ(tmp_path):
    folder = make_survey(tmp_path / 's', species=2, photos=3)
    before = (folder / 'survey.json').stat().st_mtime_ns
    make_survey(folder, species=2, photos=3)
    assert (folder / 'survey.json').stat().st_mtime_ns == before
    make_survey(folder, species=2, photos=2)
    assert read_json(folder / 'survey.json')['photos'] == 2
    assert len(list(folder.rglob('*.jpg'))) + len(list(folder.rglob('*.png'))) == read_json(folder / 'survey.json')['records']


def test_without_faults_everything_is_right(tmp_path):
    folder = make_survey(tmp_path / 's', species=3, photos=6, faults=NONE)
    records = pd.read_csv(folder / 'occurrences.csv')
    assert len(records) == 18 and len(pd.read_parquet(folder / 'truth.parquet')) == 0
    assert records.occurrenceRemarks.notna().all() and (folder / 'notes.jsonl').read_text() == ''
    assert all(read_photo(folder / p).std() > 3 for p in records.associatedMedia)


def test_labels_are_wrong_where_the_truth_says_so_and_nowhere_else(survey, tables):
    records, truth = tables
    true_of = {r.occurrenceID: r.scientificName for r in truth.itertuples()}
    wrong = {r.occurrenceID for r in records.itertuples() if true_of.get(r.occurrenceID, r.scientificName) != r.scientificName}
    planted = set(truth.occurrenceID[truth.fault == 'wrong_label'])
    copies = truth[truth.fault.isin(['exact_duplicate', 'near_duplicate']) & truth.duplicate_of.isin(planted)]
    assert wrong == planted | set(copies.occurrenceID)


def test_the_photo_reader_refuses_the_truncated_photos_and_only_those(survey, tables):
    records, truth = tables
    refused = set()
    for r in records.itertuples():
        try: read_photo(survey / r.associatedMedia)
        except PhotoError: refused.add(r.occurrenceID)
    assert refused == set(truth.occurrenceID[truth.fault == 'truncated'])


def test_black_and_blurred_photos_stand_apart_from_all_others(survey, tables):
    records, truth = tables
    fault = truth[truth.fault.isin(['black', 'blurred', 'truncated'])].set_index('occurrenceID').fault
    q = {r.occurrenceID: quality(read_photo(survey / r.associatedMedia))
         for r in records.itertuples() if fault.get(r.occurrenceID) != 'truncated'}
    of = lambda kind, key: [v[key] for i, v in q.items() if fault.get(i, '') == kind]
    assert max(of('black', 'brightness')) < min(of('', 'brightness'))
    assert max(of('blurred', 'sharpness')) < min(of('', 'sharpness'))


def test_mail_addresses_are_in_notes_only_where_planted(tables):
    records, truth = tables
    planted = set(truth.occurrenceID[truth.fault == 'note_pii'])
    copies = truth[truth.fault.isin(['exact_duplicate', 'near_duplicate']) & truth.duplicate_of.isin(planted)]
    found = set(records.occurrenceID[records.occurrenceRemarks.str.contains('@|\\+41')])
    assert found <= planted | set(copies.occurrenceID)


def test_events_are_one_camera_within_seconds(tables):
    records, truth = tables
    odd = set(truth.occurrenceID[truth.fault == 'odd_date'])
    plain = records[~records.occurrenceID.isin(odd)]
    for _, burst in plain.groupby('eventID'):
        at = pd.to_datetime(burst.eventDate)
        assert burst.locationID.nunique() == 1 and (at.max() - at.min()).total_seconds() <= 8


def test_file_names_and_ids_do_not_tell_the_species(tables):
    records, _ = tables
    for column in ('occurrenceID', 'associatedMedia', 'eventID'):
        text = ' '.join(records[column]).lower()
        assert not any(g.name.split()[0].lower() in text or g.vernacular.lower() in text for g in genomes())


def test_the_season_covers_days_nights_and_every_background(tables):
    _, truth = tables
    assert truth.night.any() and not truth.night.all()
    assert truth.background.nunique() >= 6
