"""Personal data in field notes: recall by type, false alarms on what biologists write, and speed beside Presidio's patterns.

    python benchmarks/pii.py [--peer /path/to/python/with/presidio-analyzer] [--n 500]

Needs Faker. Every instance is generated with its check digits, put into a note of the survey's kind, and counts as found when the
whole of it is covered by one span of its type. Negatives are notes without personal data; each span in them is a false alarm.
"""
import argparse, json, random, subprocess, time
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
from faker import Faker

from common import SHARED, publish
from mlproject.data import checkdigits as check
from mlproject.data.privacy import FAMILIES, candidates, find, replace_pii, scan
from mlproject.data.records import records_table
from mlproject.data.survey import Faults, write_down
from mlproject.metrics import wilson

PHONES = ('en_US en_GB en_CA en_AU en_IN en_NZ en_IE de_DE de_AT de_CH fr_FR fr_CH fr_CA it_IT es_ES es_MX pt_BR pt_PT nl_NL nl_BE sv_SE no_NO da_DK fi_FI '
          'pl_PL cs_CZ sk_SK hu_HU ro_RO bg_BG el_GR tr_TR ru_RU uk_UA he_IL ja_JP ko_KR zh_CN zh_TW id_ID th_TH vi_VN hr_HR sl_SI et_EE lt_LT lv_LV').split()
ADDRESSES = 'en_US en_GB en_CA en_AU de_DE de_AT de_CH fr_FR it_IT es_ES pt_BR nl_NL sv_SE no_NO da_DK pl_PL'.split()
IBANS = 'de_DE fr_FR en_GB es_ES it_IT nl_NL de_CH de_AT pl_PL pt_PT fi_FI no_NO'.split()
SAID = dict(PHONE='tel. {}|call me on {}|phone: {}|mobile {}|WhatsApp {}|Ask Leila Rossi ({}).|reach the ranger at {}|my number is, phone, {}',
            IP='uploaded from {}|camera server {} answered|host {}', CARD='paid with card {}|{} exp 12/27|Visa {}|{}', SSN='SSN {}|ssn: {}|{}', IBAN='refund to {}|IBAN {}|{}',
            EMAIL='photos to {}|{}|contact: {};|<{}>|mail {}, please', NATIONAL_ID='{}|id of the hunter: {}', ADDRESS='keys at {}|lives at {}|address: {}|{}',
            URL='see {}|profile {}', HANDLE='thanks to {}|photos by {}', HOME_POSITION='seen from my house ({})|our garden is at {}|{}, that is my house')
BARE = ('photos to anna@example.org or {}|{}|landowner wants a copy, {}').split('|')


def luhn_end(body): return next(body + str(c) for c in range(10) if check.luhn(body + str(c)))


def phone(rng, fakers): return rng.choice(fakers).phone_number()


def ids(rng, fakers):
    "A national number with its check digits, made by trying last characters; formats as printed on the card."
    r = lambda n: ''.join(str(rng.randrange(10)) for _ in range(n))
    date = lambda f: f.format(d=rng.randint(1, 28), m=rng.randint(1, 12), y=rng.randint(30, 99))
    while True:
        kind = rng.choice(('ch', 'nir', 'dni', 'nie', 'cpf', 'hetu', 'cf', 'se', 'rrn', 'nhs', 'cn', 'tax', 'orcid'))
        number, ok = dict(
            ch=lambda: (f'756.{r(4)}.{r(4)}.{r(2)}', check.ch_ahv), nir=lambda: (f'{rng.choice("12")} {r(2)} {rng.randint(1, 12):02d} {r(2)} {r(3)} {r(3)} {r(2)}', check.fr_nir),
            dni=lambda: (r(8) + rng.choice('TRWAGMYFPDXBNJZSQVHLCKE'), check.es_dni), nie=lambda: (f'{rng.choice("XYZ")}{r(7)}{rng.choice("TRWAGMYFPDXBNJZSQVHLCKE")}', check.es_dni),
            cpf=lambda: (f'{r(3)}.{r(3)}.{r(3)}-{r(2)}', check.br_cpf), hetu=lambda: (date('{d:02d}{m:02d}{y}') + f'-{r(3)}{rng.choice("0123456789ABCDEFHJKLMNPRSTUVWXY")}', check.fi_hetu),
            cf=lambda: (f'RSSMRA{r(2)}{rng.choice("ABCDEHLMPRST")}{rng.randint(1, 28):02d}A{r(3)}{chr(65 + rng.randrange(26))}', check.it_cf), se=lambda: (date('{y}{m:02d}{d:02d}') + f'-{r(4)}', check.se_personnummer),
            rrn=lambda: (date('{y}.{m:02d}.{d:02d}') + f'-{r(3)}.{r(2)}', check.be_rrn), nhs=lambda: (f'{r(3)} {r(3)} {r(4)}', check.uk_nhs),
            cn=lambda: (r(6) + date('19{y}{m:02d}{d:02d}') + r(3) + rng.choice('0123456789X'), check.cn_id), tax=lambda: (f'{r(2)} {r(3)} {r(3)} {r(3)}', check.de_tax),
            orcid=lambda: (f'0000-000{rng.randint(1, 3)}-{r(4)}-{r(4)}', lambda t: False))[kind]()
        if ok(number): return f'NHS number {number}' if kind == 'nhs' else number


def values(rng):
    "{type: function that makes an instance}."
    Faker.seed(rng.randrange(10**9))
    fakers = {l: Faker(l, use_weighting=False) for l in dict.fromkeys([*PHONES, *ADDRESSES, *IBANS])}
    some = lambda names: fakers[rng.choice(names)]
    us = fakers['en_US']
    def card():
        n = us.credit_card_number(rng.choice(('visa16', 'visa13', 'visa19', 'mastercard', 'amex', 'discover', 'diners', 'jcb16', None)))
        cut = {15: (4, 10), 14: (4, 10), 16: (4, 8, 12), 19: (4, 8, 12, 16)}.get(len(n), ())
        sep = rng.choice(('', ' ', '-'))
        return sep.join(n[a:b] for a, b in zip((0, *cut), (*cut, None))) if len(n) != 19 else n
    def iban():
        n = some(IBANS).iban()
        return ' '.join(n[i:i + 4] for i in range(0, len(n), 4)) if rng.random() < .5 else n
    def home():
        a, b = rng.uniform(-60, 60), rng.uniform(-170, 170)
        return rng.choice((f'{a:.5f}, {b:.5f}', f'{abs(a):.4f}°N, {abs(b):.4f}°E', f'{int(abs(a))}°{rng.randrange(60):02d}\'{rng.randrange(60):02d}"N {int(abs(b))}°{rng.randrange(60):02d}\'{rng.randrange(60):02d}"W'))
    def url():
        u = us.user_name()
        return rng.choice((f'https://www.inaturalist.org/people/{u}', f'instagram.com/{u}', f'https://www.facebook.com/{u}/posts/4711', f'https://{u}:{us.password(special_chars=False)}@{us.domain_name()}/traps',
                           f'http://www.{us.domain_name()}/~{u}/index.html', f'https://{us.domain_name()}/view?user={u}&page=2', f'github.com/{u}'))
    return dict(EMAIL=lambda: rng.choice((some(ADDRESSES).ascii_email, us.company_email, us.safe_email, lambda: f'{us.user_name()}+{us.word()}@{us.domain_name(2)}'))(),
                PHONE=lambda: some(PHONES).phone_number(), IP=lambda: us.ipv4() if rng.random() < .6 else us.ipv6(), CARD=card, SSN=lambda: us.ssn(), IBAN=iban,
                NATIONAL_ID=lambda: ids(rng, fakers), ADDRESS=lambda: ', '.join(some(ADDRESSES).address().split('\n')[:2]) if rng.random() < .5 else some(ADDRESSES).street_address(), URL=url,
                HANDLE=lambda: rng.choice(('@{}', 'Instagram: {}')).format(us.user_name()), HOME_POSITION=home)


def survey_notes(seed=0): return [r['occurrenceRemarks'] for r in write_down(20, 60, seed, Faults(note_pii=0)).records if r['occurrenceRemarks']]


def positives(kind, n, rng, make, notes):
    "(note, where the instance begins and ends, with or without a word before it)."
    for i in range(n):
        form = rng.choice((BARE if kind == 'PHONE' and i % 3 == 0 else SAID[kind].split('|')))
        value, note = make[kind]().strip(), rng.choice(notes)
        said = form.format(value)
        whole = f'{note} {said[0].upper() + said[1:] if said[:1].islower() and not form.startswith("{") else said} {rng.choice(notes)}'
        start = whole.index(value, len(note))
        if kind == 'ADDRESS':  # street and number
            first, _, rest = value.partition(', ')
            value = (first if any(c.isdigit() for c in first) else f"{first}, {rest.split(', ')[0]}").strip()
        yield whole, start, start + len(value), 'word' if form not in BARE else 'no word'


AUTHORS = 'Linnaeus|Pallas|Kuhl|Schreber|Temminck|Gray|Cuvier|Müller|Lichtenstein|Gmelin|Milne-Edwards|Brehm|Bonaparte|Latham|Daudin|Laurenti|Scopoli|Fabricius|Illiger|É. Geoffroy|Hodgson|Swinhoe|Smith|Peters|Thomas'.split('|')
EPONYMS = ("Père David's deer|Hermann's tortoise|Daubenton's bat|Przewalski's horse|Thomson's gazelle|Grévy's zebra|Steller's jay|Swainson's hawk|Bewick's swan|Bonelli's eagle|Cetti's warbler|Leach's storm petrel|Montagu's harrier|"
           "Eleonora's falcon|Kuhl's pipistrelle|Risso's dolphin|Cooper's hawk|Wilson's snipe|Blanding's turtle|Natterer's bat").split('|')


def negative(rng, species):
    "A sentence that holds no personal data; (kind, text)."
    d, r = lambda n: ''.join(str(rng.randrange(10)) for _ in range(n)), rng.randint
    lat, lon, place = rng.uniform(-60, 60), rng.uniform(-170, 170), rng.choice(species)
    a, b, year = rng.choice(AUTHORS), rng.choice(AUTHORS), r(1758, 2015)
    date = rng.choice((f'{r(1, 28):02d}.{r(1, 12):02d}.{r(1990, 2025)}', f'{r(1990, 2025)}-{r(1, 12):02d}-{r(1, 28):02d}', f'{r(1, 12)}/{r(1, 28)}/{r(1990, 2025)}', f'{r(1990, 2025)}{r(1, 12):02d}{r(1, 28):02d}'))
    hour = f'{r(0, 23):02d}:{r(0, 59):02d}'
    kinds = dict(
        authority=(f'{place} ({a}, {year})', f'{place} {a}, {year}', f'{place} {a} & {b}, {year} confirmed', f'Det. as {place} ({a} in {b}, {year})'),
        eponym=(f'A {rng.choice(EPONYMS)} near the pond', f'Two {rng.choice(EPONYMS)}s', f'{rng.choice(EPONYMS)} calling'),
        tag=(f'Ring no. {d(7)}', f'Collar GPS-{d(4)}', f'PIT tag 985{d(12)}', f'chip {r(900, 999)} {d(3)} {d(3)} {d(3)} {d(3)}', f'ear tag {chr(r(65, 90))}{chr(r(65, 90))}{d(4)}', f'Band {d(4)}-{d(5)}', f'ring {chr(r(65, 90))}{chr(r(65, 90))}{d(6)}', f'VHF {r(148, 152)}.{d(3)} MHz', f'left {d(2)}{chr(r(65, 90))} right {d(3)}'),
        coordinates=(f'At {lat:.5f}, {lon:.5f}', f'{abs(lat):.4f}°N {abs(lon):.4f}°E', f'{int(abs(lat))}°{r(0, 59):02d}\'{r(0, 59):02d}"N, {int(abs(lon))}°{r(0, 59):02d}\'{r(0, 59):02d}"E', f'UTM 32T {r(200, 800)}{d(3)} {r(4, 5)}{d(6)}', f'Grid {chr(r(65, 90))}{chr(r(65, 90))} {d(5)} {d(5)}', f'CH1903 2 {r(480, 830)} {d(3)} / 1 {r(75, 299):03d} {d(3)}', f'{lat:+.6f}{lon:+.6f}', f'lat {lat:.6f} lon {lon:.6f}'),
        measure=(f'Wing {r(100, 200)} {r(100, 200)} {r(100, 200)} {r(100, 200)} mm', f'weight {r(1, 9)}.{d(3)} kg, tail {r(20, 90)} mm', f'{r(100, 999)} x {r(100, 999)} x {r(10, 99)} mm', f'counts {r(1, 30)} {r(1, 30)} {r(1, 30)} {r(1, 30)} {r(1, 30)}', f'{r(1, 9)},{d(3)},{d(3)} individuals', f'{r(100, 999)} {d(3)} {d(3)} cells', f'calls at {r(20, 90)}.{d(3)} kHz, {r(20, 90)}.{d(3)} kHz', f'depth {r(1, 90)}-{r(90, 200)} m', f'{r(10, 99)} {r(10, 99)} {r(10, 99)} {r(10, 99)} mm'),
        date=(f'{date} {hour}', f'From {date} to {date}', f'{hour}-{hour}, {hour}:{r(0, 59):02d}', f'{date}T{hour}:00Z', f'Set {date} {hour}, taken in {date} {hour}', f'{date}, {r(1, 30)} deer'),
        catalogue=(f'MVZ {d(6)}', f'GBIF {d(10)}', f'catalogue no. {d(3)}-{d(3)}-{d(4)}', f'NHMUK {d(4)}.{d(2)}.{d(2)}.{d(1)}', f'iNat {d(9)}', f'IMG_{d(4)}.JPG', f'IMG-{date}-{d(4)}', f'doi 10.{d(4)}/zenodo.{d(7)}', f'https://www.gbif.org/occurrence/{d(10)}', f'https://www.inaturalist.org/observations/{d(9)}', f'CAM{d(2)}-{d(6)}', f'sample {d(4)}-{d(4)}', f'ISBN 978-{d(1)}-{d(4)}-{d(4)}-{d(1)}', f'firmware {r(1, 9)}.{r(0, 9)}.{r(0, 20)}.{r(0, 9)}', f'BOLD:AA{chr(r(65, 90))}{d(4)}', f'GenBank {chr(r(65, 90))}{chr(r(65, 90))}{d(6)}', f'plot {d(2)}/{d(3)}'),
        words=(f'Heard @{rng.choice(("dawn", "dusk", "noon", "camp", "site 3"))}', f'{r(2, 9)} deer crossed the road', f'{r(1, 40)} birds near Mill Road', f'Den {r(10, 90)} m from the track, home range {lat:.3f}, {lon:.3f}', f'ratio {r(1, 9)}:{r(1, 9)}:{r(1, 9)}', f'along Forest Road, km {r(1, 90)}', f'{r(1, 9)} Grey Herons, {r(1, 9)} Common Frogs', f'transect {r(1, 9)}, section {r(1, 9)}.{r(1, 9)}.{r(1, 9)}.{r(1, 9)}'))
    kind = rng.choice(list(kinds))
    return kind, rng.choice(kinds[kind])


def recall(n, seed=0):
    rng = random.Random(seed)
    make, notes, rows = values(rng), survey_notes(), []
    missed = {}
    for kind in ('EMAIL', 'IP', 'CARD', 'SSN', 'IBAN', 'PHONE', 'NATIONAL_ID', 'ADDRESS', 'URL', 'HANDLE', 'HOME_POSITION'):
        made = list(positives(kind, n, rng, make, notes))
        texts = pa.array([m[0] for m in made])
        asked = candidates(texts)
        covered = []
        for i, (text, start, end, word) in enumerate(made):
            value = text[start:end]
            lead = len(value) - len(value.removeprefix('NHS number ').removeprefix('Instagram: '))
            covered.append(any(s.start <= start + lead and s.end >= end for s in find(text, asked.get(i, ()))))
            if not covered[-1]: missed.setdefault(kind, []).append(text[max(0, start - 25):end + 12])
        after = replace_pii(records_table([dict(occurrenceRemarks=t) for t in texts.to_pylist()]), key=b'a benchmark needs no secret').records
        words = Counter((w, c) for (*_, w), c in zip(made, covered))
        note = '' if kind != 'PHONE' else '; '.join(f'{w} {wilson(words[w, True], words[w, True] + words[w, False]):.1%}' for w in ('word', 'no word'))
        rows.append(dict(type=kind, instances=n, found=sum(covered), recall=f'{wilson(sum(covered), n):.1%}', bar={'PHONE': '95 %'}.get(kind, '99 %' if kind in ('EMAIL', 'IP', 'CARD', 'SSN', 'IBAN') else ''), left=sum(scan(after).values()), note=note))
    return rows, missed


def false_alarms(n, seed=1):
    rng = random.Random(seed)
    species = sorted({r['scientificName'] for r in write_down(60, 1, 0, Faults()).records})
    notes = survey_notes(1)
    made = [negative(rng, species) for _ in range(n)]
    texts = [f'{rng.choice(notes)} {text}. {rng.choice(notes)}' for _, text in made]
    asked = candidates(pa.array(texts))
    total, wrong, shown = Counter(k for k, _ in made), Counter(), {}
    for i, names in asked.items():
        if spans := find(texts[i], names):
            wrong[made[i][0]] += 1
            shown.setdefault(made[i][0], []).append((made[i][1], [(s.type, texts[i][s.start:s.end]) for s in spans]))
    rows = [dict(kind=k, notes=total[k], alarms=wrong[k], share=f'{wilson(wrong[k], total[k]):.2%}') for k in sorted(total)]
    return [*rows, dict(kind='all', notes=n, alarms=sum(wrong.values()), share=f'{wilson(sum(wrong.values()), n):.2%}')], shown



PRESIDIO = """
import json, sys, time
from presidio_analyzer.predefined_recognizers import (CreditCardRecognizer, EmailRecognizer, IbanRecognizer, IpRecognizer, PhoneRecognizer, UrlRecognizer, UsSsnRecognizer)
texts = json.load(sys.stdin)
found = [r() for r in (CreditCardRecognizer, EmailRecognizer, IbanRecognizer, IpRecognizer, PhoneRecognizer, UrlRecognizer, UsSsnRecognizer)]
def look(t): return [(x.entity_type, x.start, x.end) for r in found for x in r.analyze(t, r.supported_entities, None)]
[look(t) for t in texts[:50]]
start = time.process_time()
out = [look(t) for t in texts]
print(json.dumps([time.process_time() - start, out]))
"""
OURS_OF = dict(CREDIT_CARD='CARD', EMAIL_ADDRESS='EMAIL', IBAN_CODE='IBAN', IP_ADDRESS='IP', PHONE_NUMBER='PHONE', US_SSN='SSN', URL='URL')


def cpu(f):
    start = time.process_time()
    out = f()
    return time.process_time() - start, out


def speed(peer, n=20_000, peer_n=1500, rounds=3, seed=2):
    "Notes a CPU-second: short sentences beside Presidio's patterns, interleaved; and one-kilobyte records through the whole step."
    rng = random.Random(seed)
    make, notes = values(rng), survey_notes(2)
    species = sorted({r['scientificName'] for r in write_down(60, 1, 0, Faults()).records})
    short = []
    for i in range(n):
        text = rng.choice(notes)
        if i % 10 < 3: text = f"{text} {rng.choice(SAID[k].split('|')).format(make[k]())}." if (k := rng.choice(('EMAIL', 'PHONE', 'IP', 'CARD', 'SSN', 'IBAN'))) else ''
        elif i % 10 < 6: text = f'{text} {negative(rng, species)[1]}.'
        short.append(text)
    def whole(text, share):
        while len(text) < 1000: text += ' ' + rng.choice(notes) + (f' {negative(rng, species)[1]}.' if rng.random() < share else '')
        return text
    plain = records_table([dict(occurrenceRemarks=whole('' if i % 10 else f'call me on {make["PHONE"]()}, {make["EMAIL"]()}.', 0), recordedBy=f'Anna Nr{i % 50}') for i in range(n // 2)])
    dense = records_table([dict(occurrenceRemarks=whole('' if i % 10 else f'call me on {make["PHONE"]()}, {make["EMAIL"]()}.', .15), recordedBy=f'Anna Nr{i % 50}') for i in range(n // 2)])
    array = pa.array(short)
    look = lambda: {i: find(short[i], names) for i, names in candidates(array).items()}
    look()
    ours, theirs, kb, nums, peers = [], [], [], [], []
    for _ in range(rounds):
        ours.append(n / cpu(look)[0])
        kb.append(cpu(lambda: replace_pii(plain, key=b'a benchmark needs no secret'))[0] / plain.num_rows * 1e6)
        nums.append(cpu(lambda: replace_pii(dense, key=b'a benchmark needs no secret'))[0] / dense.num_rows * 1e6)
        if peer:
            took, peers = json.loads(subprocess.run([peer, '-W', 'ignore', '-c', PRESIDIO], input=json.dumps(short[:peer_n]), capture_output=True, text=True, check=True).stdout.splitlines()[-1])
            theirs.append(peer_n / took)
    best = lambda xs: sorted(xs)[len(xs) // 2]
    rows = [dict(what=f'find, {sum(map(len, short)) / n:.0f}-character notes, 30 % with personal data, 30 % with other numbers', ours=f'{best(ours):,.0f} notes/CPU-s', presidio=f'{best(theirs):,.0f} notes/CPU-s' if peer else '', ratio=f'{best(ours) / best(theirs):.0f}x' if peer else '')]
    rows += [dict(what=f'replace_pii, 1 KB records, 10 % with personal data{more}', ours=f'{best(x):.0f} CPU-us/record', presidio='', ratio='') for x, more in ((kb, ''), (nums, ', 1.2 numbers of other kinds in each'))]
    return rows, engines(pa.array(plain['occurrenceRemarks'].to_pylist()))


def engines(texts):
    "The same questions asked by RE2 (pyarrow) and by Rust's regex (Daft), CPU-us a kilobyte."
    import daft
    frame, rows, n = daft.from_arrow(pa.table({'t': texts})).collect(), [], len(texts)
    for name in ('email', 'ip', 'home_position', 'address', 'account', 'number'):
        question = FAMILIES[name][0]
        re2, hit = cpu(lambda: pc.match_substring_regex(texts, question))
        rust, again = cpu(lambda: frame.select(daft.col('t').regexp(question).alias('m')).to_arrow()['m'].combine_chunks())
        rows.append(dict(question=name, RE2=f'{re2 / n * 1e6:.1f}', Rust=f'{rust / n * 1e6:.1f}', hits=f'{pc.mean(pc.cast(hit, pa.int8())).as_py():.1%}', same='yes' if hit.equals(again) else 'no'))
    return rows


def peer_recall(peer, n=200, seed=0):
    "Presidio's patterns on the same instances, any score."
    rng = random.Random(seed)
    make, notes, rows = values(rng), survey_notes(), []
    for kind in ('EMAIL', 'IP', 'CARD', 'SSN', 'IBAN', 'PHONE'):
        made = list(positives(kind, n, rng, make, notes))
        out = json.loads(subprocess.run([peer, '-W', 'ignore', '-c', PRESIDIO], input=json.dumps([m[0] for m in made]), capture_output=True, text=True, check=True).stdout.splitlines()[-1])[1]
        count = lambda covers: sum(covers)
        theirs = [any(OURS_OF.get(t) == kind and a <= s and b >= e for t, a, b in found) for found, (_, s, e, _) in zip(out, made)]
        ours = [any(f.type == kind and f.start <= s and f.end >= e for f in find(text)) for text, s, e, _ in made]
        rows.append(dict(type=kind, instances=n, ours=f'{wilson(sum(ours), n):.1%}', presidio=f'{wilson(sum(theirs), n):.1%}'))
    return rows


def shared():
    "Real and generated texts that are not ours: found among the marked ones, and what else was marked."
    place = SHARED / 'pii'
    if not place.exists(): return []
    rows, sentences = [], json.loads((place / 'presidio_research/generated_small.json').read_text())
    kinds = dict(EMAIL_ADDRESS='EMAIL', IP_ADDRESS='IP', CREDIT_CARD='CARD', US_SSN='SSN', PHONE_NUMBER='PHONE')
    for theirs, kind in kinds.items():
        spans = [(r['full_text'], s) for r in sentences for s in r['spans'] if s['entity_type'] == theirs]
        k = sum(any(f.start <= s['start_position'] and f.end >= s['end_position'] for f in find(text)) for text, s in spans)
        rows.append(dict(data='presidio_research', type=kind, marked=len(spans), found=f'{k}: {wilson(k, len(spans)):.0%}', other=''))
    wrong = [(f.type, r['full_text'][f.start:f.end]) for r in sentences for f in find(r['full_text']) if not any(f.start < s['end_position'] and s['start_position'] < f.end for s in r['spans'])]
    rows.append(dict(data='presidio_research', type='spans on nothing marked', marked=len(sentences), found='', other=f'{len(wrong)}'))
    tweets, words = [], []
    for line in (place / 'wnut17/emerging.dev.conll').read_text().splitlines() + ['']:
        if line.strip(): words.append(line.split('\t')[0])
        elif words: tweets.append(' '.join(words)); words = []
    found = Counter(f.type for t in tweets for f in find(t))
    return [*rows, dict(data='wnut17 (dev)', type='texts, none marked for these types', marked=len(tweets), found='', other=', '.join(f'{n} {k}' for k, n in sorted(found.items())))]


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--peer', help='Python of an environment with presidio-analyzer')
    p.add_argument('--n', type=int, default=500, help='instances of each type')
    p.add_argument('--negatives', type=int, default=8000, help='notes without personal data')
    p.add_argument('--seed', type=int, default=2718, help='of notes and instances; 0 and 1 were looked at while the patterns were written')
    p.add_argument('--misses', type=int, default=0, help='show so many of each type')
    a = p.parse_args()
    rows, missed = recall(a.n, a.seed)
    publish('pii_recall', 'Personal data in field notes: recall', rows, 'Whole instance inside one span; Wilson intervals of 95 %; "left": what a re-scan of the output finds. PHONE: formats of 43 locales, a third without a word such as "call" before it; '
            'ADDRESS: street and number, 16 locales.')
    for k, m in missed.items():
        if a.misses: print(k, len(m), *m[:a.misses], sep='\n   ')
    rows, shown = false_alarms(a.negatives, a.seed + 1)
    publish('pii_false_alarms', 'Notes without personal data: false alarms', rows, 'A note counts if anything at all is found in it.')
    for k, m in shown.items():
        if a.misses: print(k, len(m), *m[:a.misses], sep='\n   ')
    rows, questions = speed(a.peer)
    publish('pii_speed', 'Personal data: speed', rows, 'One core; medians of three rounds, interleaved with the peer: seven pattern recognisers of presidio-analyzer, no NLP engine.')
    publish('pii_engines', 'Asking all texts: RE2 and Rust', questions, 'CPU-us a kilobyte. Where "same" is no, the two differ in Unicode classes; RE2 is the one used.')
    if a.peer: publish('pii_peer', "Recall beside Presidio's patterns", peer_recall(a.peer, seed=a.seed))
    if rows := shared(): publish('pii_shared', 'Texts of others', rows)
