"""A corpus of field documents with planted truth, as large as asked for. `python benchmarks/corpus.py FOLDER ROWS [SEED]`

Every row is a pure function of (seed, its number), so that a copy can be planted millions of rows from its original without keeping
anything in memory. A document is put together from phrases by number, in Arrow; phrases come from a grammar over tens of thousands of words
drawn with Zipf-like weights, so that two unrelated documents share little more than "in the".

    folder/records/part-00000.parquet   columns of `mlproject.data.records.SCHEMA`
    folder/truth/part-00000.parquet     the same rows in the same order, see `TRUTH`
    folder/corpus.json                  what was planted, written last
"""
import functools, html, json, sys, time, unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_words import (BOILERPLATE, FOREIGN, GRAMMAR, LOREM, SCRIPT, SIGNATURES, WORDS, luhn, mod97)

SHARES = dict(exact=.02, near=.03, low=.05, noise=.25, pii=.10, short=.06, odd_position=.05)  # of the rows
LOW = ('gibberish', 'repeated_lines', 'repeated_words', 'wrong_language', 'symbols', 'script', 'placeholder', 'no_spaces')
NOISE = ('html', 'markdown', 'bbcode', 'boilerplate', 'signature', 'controls', 'mojibake', 'tracking', 'bare_url', 'decomposed', 'blanks',
         'repeated_footer')
PII = ('PERSON', 'EMAIL', 'PHONE', 'IP', 'CARD', 'IBAN', 'SSN', 'ADDRESS', 'HANDLE')
DATES = ('%Y-%m-%dT%H:%M:%SZ', '%Y-%m-%dT%H:%M:%S+00:00', '%Y-%m-%d %H:%M:%S', '%d/%m/%Y %H:%M', '%Y:%m:%d %H:%M:%S', '%d.%m.%Y %H:%M',
         '%Y-%m-%dT%H:%MZ', '%d %b %Y %H:%M')
TRUTH = pa.schema([
    ('occurrenceID', pa.string()), ('kind', pa.string()),       # plain, short, exact (copy), near (copy), low
    ('source', pa.string()),                                    # occurrenceID of the original, for copies
    ('edited', pa.float32()),                                   # share of words that a near copy was edited in (.01 to .10)
    ('noise', pa.string()), ('low', pa.string()),               # one of NOISE, one of LOW, or null
    ('language', pa.string()), ('text', pa.string()),           # ISO 639-1; the note as it should be again, up to blanks, where noise was planted
    ('pii_type', pa.string()), ('pii_text', pa.string()),       # what was planted, or null
    ('pii_start', pa.int32()),                                  # in characters, for originals without noise
    ('instant', pa.timestamp('ms')), ('species', pa.string()),   # eventDate in UTC; the accepted name
    ('latitude', pa.float64()), ('longitude', pa.float64())])


# -- numbers: a hash of (seed, row, slot) instead of a stream, so that any row can be made alone
def mixed(x: np.ndarray) -> np.ndarray:
    "splitmix64 (Steele et al. 2014) of uint64: a bijection that looks random."
    x = (x + np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

STEP = np.uint64(0xD1342543DE82EF95)

def uniform(x: np.ndarray) -> np.ndarray: return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53

def keyed(seed: int, salt: str) -> np.uint64:
    return mixed(np.array([seed * 1_000_003 + int.from_bytes(salt.encode()[:6], 'little')], np.uint64))[0]

def draw(rows: np.ndarray, seed: int, salt: str, n: int = 0) -> np.ndarray:
    "Uniform numbers in [0, 1): (rows,) or (rows, n)."
    x = rows.astype(np.uint64)
    with np.errstate(over='ignore'):
        x = mixed(mixed(x) ^ keyed(seed, salt))
        if n: x = mixed(x[:, None] + np.arange(n, dtype=np.uint64) * STEP)
    return uniform(x)

def ids_of(rows: np.ndarray, seed: int) -> pa.Array:
    "Sixteen hexadecimal digits a row, all different."
    with np.errstate(over='ignore'): x = mixed(rows.astype(np.uint64) ^ (keyed(seed, 'id') << np.uint64(34)))
    b = x.astype('>u8').view(np.uint8).reshape(-1, 8)
    digits = np.frombuffer(b'0123456789abcdef', np.uint8)
    text = digits[np.stack([b >> 4, b & 15], -1).reshape(-1)]
    return pa.Array.from_buffers(pa.string(), len(rows), [None, pa.py_buffer(np.arange(len(rows) + 1, dtype=np.int32) * 16), pa.py_buffer(text)])


# -- the language: pools of phrases
def _zipf(n: int, rng, size, s: float = .75):
    "Indices below `n`, the first most likely."
    w = (np.arange(n) + 3.0) ** -s
    return np.searchsorted(np.cumsum(w) / w.sum(), rng.random(size))

class Lexicon:
    "Word lists by part of speech: short hand-written ones, long tails derived from them."
    def __init__(self, rng):
        w = {k: v.split() for k, v in WORDS.items()}
        syl = lambda a, b, c=('',): [x + y + z for x in a for y in b for z in c]
        places = syl(w['place1'], w['place2'], ('', 'en', 'ley'))
        compounds = syl(w['compound1'], w['compound2'])
        genera = [g.capitalize() for g in syl(w['genus1'], w['genus2'], w['genus3'])]
        epithets = syl(w['epithet1'], w['epithet2'])
        names = syl(w['name1'], w['name2'], w['name3'])
        surnames = [n.capitalize() for n in names]
        shuffled = lambda xs: [xs[i] for i in rng.permutation(len(xs))]
        self.lists = dict(
            noun=w['noun'] + shuffled(compounds), adj=w['adj'] + [f'{a}-{b}' for a in w['hue1'] for b in w['hue2']], verb=w['verb'], verbi=w['verbi'],
            adv=w['adv'], prep=[p.replace('_', ' ') for p in w['prep']], place=shuffled([p.capitalize() for p in places]), surname=shuffled(surnames),
            first=w['first'], genus=shuffled(genera), epithet=shuffled(epithets), animal=w['animal'] + shuffled([c + a for c in w['compound1'] for a in w['animal'][:60]]),
            unit=w['unit'], month=w['month'], det=w['det'], conj=w['conj'], plural=w['plural'], ing=w['ing'], number=[str(n) for n in range(2, 98)], day=[str(n) for n in range(1, 29)],
            big=[str(n) for n in range(101, 3999, 7)], decimal=[f'{a}.{b}' for a in range(1, 40) for b in range(10)],
            clock=[f'{h:02d}:{m:02d}' for h in range(4, 23) for m in range(60)], year=[str(y) for y in range(1758, 2024)],
            tag=[f'{a}{b}-{n}' for a in 'ABCDKRT' for b in 'XYZQ' for n in range(100, 999, 9)])

    def fill(self, patterns: list[str], n: int, rng) -> list[str]:
        "`n` strings from patterns like '{det} {adj} {noun}'."
        which = _zipf(len(patterns), rng, n, .3)
        slots = [[part.split('}') if i else ['', part] for i, part in enumerate(p.split('{'))] for p in patterns]
        drawn = {k: iter([xs[i] for i in _zipf(len(xs), rng, n * 3)]) for k, xs in self.lists.items()}
        def word(name):
            try: return next(drawn[name])
            except StopIteration:
                drawn[name] = iter([self.lists[name][i] for i in _zipf(len(self.lists[name]), rng, n)])
                return next(drawn[name])
        return [''.join((word(name) if name else '') + rest for name, rest in slots[k]) for k in which]

POOL = 24_000  # phrases of each kind

@functools.cache
def pools(seed: int) -> 'Pools': return Pools(seed)

class Pools:
    "All phrases in one Arrow array, each kind a range of it."
    def __init__(self, seed: int):
        rng = np.random.default_rng([seed, 20])
        self.lexicon = Lexicon(rng)
        self.ranges, made = {}, []
        def add(kind, strings):
            self.ranges[kind] = (len(made), len(strings))
            made.extend(strings)
        for kind, (share, patterns) in GRAMMAR['phrases'].items(): add(kind, [('' if kind in 'SAN' else ' ') + x.strip() for x in self.lexicon.fill(patterns, int(POOL * share), rng)])
        add('END', GRAMMAR['ends'])
        self.pii = {}
        for kind in PII:
            found = [planted(kind, rng, self.lexicon) for _ in range(4000)]
            self.pii[kind] = [len(made), np.array([f[2] for f in found], np.int32), pa.array([f[1] for f in found])]
            made.extend(f[0] for f in found)
        self.foreign = {}
        for code, grammar in FOREIGN.items():
            fills = {k: v if isinstance(v, list) else v.split('|') for k, v in grammar.items() if k != 'patterns'} | dict(
                place=self.lexicon.lists['place'][:3000], number=self.lexicon.lists['number'], clock=self.lexicon.lists['clock'])
            short = Lexicon.__new__(Lexicon); short.lists = fills
            self.foreign[code] = (len(made), 6000)
            made.extend(s[0].upper() + s[1:] + ' ' for s in short.fill(grammar['patterns'], 6000, rng))
        self.phrases = pa.array(made, pa.string())
        self.chars = pc.utf8_length(self.phrases).to_numpy().astype(np.int64)
        sentences = GRAMMAR['sentences']
        kinds = list(self.ranges)
        self.lengths = np.array([len(s.split()) for s in sentences])
        self.slots = np.full((len(sentences), self.lengths.max()), -1)
        for i, s in enumerate(sentences): self.slots[i, :self.lengths[i]] = [kinds.index(k) for k in s.split()]
        self.first = np.array([self.ranges[k][0] for k in kinds])
        self.size = np.array([self.ranges[k][1] for k in kinds])
        words = self.lexicon.lists
        self.words = pa.array(words['noun'][:6000] + words['adj'] + words['verb'] + words['place'][:2000] + words['adv'])
        self.gibberish = pa.array([''.join('bcdfghjklmnpqrstvwxyzaeiou'[k] for k in rng.integers(0, 26, rng.integers(3, 12))) + ' ' for _ in range(20_000)])
        self.symbols = pa.array([''.join('#*~|=+_/\\<>^%$@;:'[k] for k in rng.integers(0, 17, rng.integers(2, 9))) + ' ' for _ in range(5000)])

def planted(kind: str, rng, lexicon: Lexicon) -> tuple[str, str, int]:
    "A sentence with personal data: (sentence, the data, where it starts)."
    L = lexicon.lists
    pick = lambda xs: xs[int(rng.integers(len(xs)))]
    digits = lambda n: ''.join(map(str, rng.integers(0, 10, n)))
    first, last = pick(L['first']), pick(L['surname'][:4000])
    if kind == 'PERSON': value = f'{first} {last}'
    elif kind == 'EMAIL': value = pick([f'{first}.{last}', f'{first[0]}{last}{rng.integers(99)}', f'{last}_{first}']).lower() + '@' + pick(L['place'][:3000]).lower() + pick(['.org', '.com', '.ch', '.co.uk', '.net'])
    elif kind == 'PHONE': value = pick([f'+41 79 {digits(3)} {digits(2)} {digits(2)}', f'+44 20 {digits(4)} {digits(4)}', f'({rng.integers(201, 989)}) {rng.integers(200, 999)}-{digits(4)}', f'+49 30 {digits(7)}', f'0{rng.integers(20, 99)} {digits(3)} {digits(4)}'])
    elif kind == 'IP': value = '.'.join(str(n) for n in rng.integers(1, 254, 4)) if rng.random() < .8 else ':'.join(f'{n:x}' for n in rng.integers(4096, 65535, 8))
    elif kind == 'CARD':
        body = pick(['4', '51', '55', '37', '6011']); body += digits((14 if body == '37' else 15) - len(body)); value = luhn(body)
        if len(value) == 16 and rng.random() < .6: value = pick([' ', '-']).join(value[i:i + 4] for i in range(0, 16, 4))
    elif kind == 'IBAN':
        code, n = pick([('CH', 17), ('DE', 18), ('AT', 16), ('ES', 20), ('BE', 12), ('PT', 21)]); value = mod97(code, digits(n))
        if rng.random() < .6: value = ' '.join(value[i:i + 4] for i in range(0, len(value), 4))
    elif kind == 'SSN': value = f'{rng.choice([*range(1, 666), *range(667, 900)]):03d}-{rng.integers(1, 99):02d}-{rng.integers(1, 9999):04d}'
    elif kind == 'ADDRESS': value = f"{rng.integers(1, 320)} {pick(L['place'][:4000])} {pick(['Street', 'Road', 'Avenue', 'Lane', 'Drive'])}, {pick(L['place'][:4000])} {digits(5)}"
    else: value = '@' + pick([f'{first}_{last}', f'{last}{rng.integers(99)}', f'{first}.{last}']).lower()
    before, after = pick(GRAMMAR['pii'][kind])
    return before + value + after, value, len(before)


# -- documents
def compose(rows: np.ndarray, seed: int, short: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Phrase numbers of the documents, and where each document starts."
    p = pools(seed)
    sentences = np.where(short, 1, 9 + (draw(rows, seed, 'sent') * 9).astype(int))
    at = np.r_[0, np.cumsum(sentences)]
    doc = np.repeat(np.arange(len(rows)), sentences)
    within = np.arange(at[-1]) - at[doc]
    pattern = (draw(rows, seed, 'patt', 17)[doc, within] * len(p.lengths)).astype(int)
    lengths = p.lengths[pattern]
    start = np.r_[0, np.cumsum(lengths)]
    sentence = np.repeat(np.arange(len(pattern)), lengths)
    slot = np.arange(start[-1]) - start[sentence]
    kind = p.slots[pattern[sentence], slot]
    with np.errstate(over='ignore'):
        key = mixed(rows.astype(np.uint64)) ^ keyed(seed, 'phr')
        x = mixed(key[doc[sentence]] + (within[sentence] * 32 + slot).astype(np.uint64) * STEP)
    u = uniform(x)
    number = p.first[kind] + (u * p.size[kind]).astype(np.int64)
    return number, start[at]

def joined(strings: pa.Array, numbers: np.ndarray, starts: np.ndarray) -> pa.Array:
    "Concatenate strings by number, a list of them for each document."
    values = strings.take(pa.array(numbers))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), values), '')

def base_documents(rows: np.ndarray, seed: int, kinds: np.ndarray) -> tuple[pa.Array, dict]:
    "Text of plain and short rows with its personal data: (texts, pii columns)."
    p = pools(seed)
    numbers, starts = compose(rows, seed, kinds == 'short')
    types, texts, begin = np.full(len(rows), None, object), np.full(len(rows), None, object), np.full(len(rows), -1, np.int64)
    u = draw(rows, seed, 'pii', 4)
    has = np.flatnonzero(u[:, 0] < SHARES['pii'])
    if len(has):
        which = (u[has, 1] * len(PII)).astype(int)
        item = (u[has, 2] * 4000).astype(int)
        ends = np.flatnonzero((numbers >= p.ranges['END'][0]) & (numbers < p.ranges['END'][0] + p.ranges['END'][1]))
        low, high = np.searchsorted(ends, starts[has]), np.searchsorted(ends, starts[has + 1])
        at = ends[low + (u[has, 3] * (high - low)).astype(int)] + 1  # after some sentence
        before = np.r_[0, np.cumsum(p.chars[numbers])]
        new = np.array([p.pii[PII[w]][0] for w in which]) + item
        begin[has] = before[at] - before[starts[has]] + np.array([p.pii[PII[w]][1][i] for w, i in zip(which, item)])
        types[has] = [PII[w] for w in which]
        texts[has] = [p.pii[PII[w]][2][i].as_py() for w, i in zip(which.tolist(), item.tolist())]
        numbers = np.insert(numbers, at, new)
        starts = starts + np.r_[0, np.cumsum(np.bincount(has, minlength=len(rows)))]
    text = pc.utf8_rtrim_whitespace(joined(p.phrases, numbers, starts))
    return text, dict(pii_type=pa.array(types, pa.string()), pii_text=pa.array(texts, pa.string()), pii_start=pa.array(begin, pa.int32(), mask=begin < 0))

def edited(text: pa.Array, rows: np.ndarray, seed: int, share: np.ndarray) -> pa.Array:
    "Words replaced (60 %), dropped (20 %), added (20 %); `share` of them in all."
    p = pools(seed)
    parts = pc.split_pattern(text, ' ')
    starts = parts.offsets.to_numpy().astype(np.int64)
    values, doc = parts.values, np.repeat(np.arange(len(rows)), np.diff(starts))
    n = np.diff(starts)
    word = np.arange(len(doc)) - starts[doc]
    by_word = lambda salt: uniform(mixed(mixed(rows.astype(np.uint64) ^ keyed(seed, salt))[doc] + word.astype(np.uint64) * STEP))
    order = np.lexsort((by_word('order'), doc))
    rank = np.empty(len(doc), int); rank[order] = np.arange(len(doc)) - starts[doc]
    hit = rank < np.maximum(1, np.round(share * n))[doc]
    act = by_word('act')
    fresh = p.words.take(pa.array((by_word('fresh') * len(p.words)).astype(int)))
    both = pc.binary_join_element_wise(values, fresh, ' ')
    out = pc.if_else(pa.array(hit & (act < .6)), fresh, pc.if_else(pa.array(hit & (act >= .8)), both, values))
    keep = ~(hit & (act >= .6) & (act < .8))
    kept = np.r_[0, np.cumsum(np.bincount(doc[keep], minlength=len(rows)))]
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(kept.astype(np.int32)), out.filter(pa.array(keep))), ' ')

def low_documents(rows: np.ndarray, seed: int, which: np.ndarray) -> tuple[list, list]:
    "Texts that are not worth keeping, and their languages."
    p = pools(seed)
    out, language = [], []
    codes = list(FOREIGN)
    u = draw(rows, seed, 'low', 4)
    plain = base_documents(rows, seed, np.full(len(rows), 'plain'))[0].to_pylist()
    for k, (kind, x, text) in enumerate(zip(which, u, plain)):
        rng = np.random.default_rng([seed, int(rows[k])])
        some = lambda pool, n: ''.join(pool.take(pa.array(rng.integers(0, len(pool), n))).to_pylist()).strip()
        code = 'en'
        if kind == 'gibberish': text, code = some(p.gibberish, 60 + int(x[0] * 120)), None
        elif kind == 'repeated_lines': text = '\n'.join([s.strip() + '.' for s in text.split('. ')[:2]] * (5 + int(x[0] * 8)))
        elif kind == 'repeated_words': text = ' '.join(text.split()[:3 + int(x[0] * 5)] * (12 + int(x[1] * 20)))
        elif kind == 'wrong_language':
            code = codes[int(x[0] * len(codes))]
            first, n = p.foreign[code]
            text = ''.join(p.phrases.take(pa.array(first + rng.integers(0, n, 8 + int(x[1] * 8)))).to_pylist()).strip()
        elif kind == 'symbols': text, code = ' '.join(f'{a} {b}' for a, b in zip(some(p.symbols, 90).split(), text.split()[:90] if x[0] < .5 else some(p.symbols, 90).split())), None
        elif kind == 'script': text, code = '\n'.join(s.replace('%', str(rng.integers(1000))) for s in (SCRIPT if x[0] < .6 else LOREM) for _ in range(1 + int(x[1] * 3))), None
        elif kind == 'placeholder': text, code = ('test', 'n/a', 'none', '-', '???', 'asdf', 'xxx', 'no comment', '.', '123')[int(x[0] * 10)], None
        else: text, code = text.replace(' ', '').replace('\n', ''), None
        out.append(text); language.append(code)
    return out, language

_WESTERN = {b: bytes([b]).decode('cp1252') for b in range(128, 160) if b not in (0x81, 0x8d, 0x8f, 0x90, 0x9d)}

def with_noise(text: str, kind: str, rng) -> tuple[str, str]:
    "What the web, a phone or an old program does to a note: (noisy note, what a good cleaner makes of it)."
    pick = lambda xs: xs[int(rng.integers(len(xs)))]
    cut = text.find('. ', len(text) // 3) + 1 or len(text)
    a, b = text[:cut], text[cut:].lstrip(' ')
    if kind == 'html':
        body = html.escape(a).replace('. ', '.&nbsp;', 1) + f'<br/>\n<b class="x{rng.integers(99)}">' + html.escape(b) + '</b>'
        return pick(['<p>%s</p>', '<div id="note"><!-- note -->%s</div>', '<script>track(1)</script><p style="color:red">%s</p>']) % body, text
    if kind == 'markdown':
        word = b[:b.find(' ')] if ' ' in b else b
        linked = b.replace(word, f'[{word}](https://example.org/{rng.integers(9999)})', 1) if word else b
        return f'## Field note\n\n**{a}**\n\n{linked}\n\n---\n', f'Field note {text}'
    if kind == 'bbcode': return f'[b]{a}[/b] [url=https://example.org/t{rng.integers(9999)}]{b}[/url]', text
    if kind == 'boilerplate': return pick(['{b}\n\n{t}', '{t}\n\n{b}']).format(t=text, b=pick(BOILERPLATE)), text
    if kind == 'signature': return f'{text}\n\n{pick(SIGNATURES)}', text
    if kind == 'controls': return ''.join(c + ('\u200b' if i % 37 == 5 and c == ' ' else '\x07' if i % 91 == 7 else '\ufeff' if i % 211 == 50 else '') for i, c in enumerate(text)), text
    if kind == 'mojibake':
        text = text.replace(' the ', ' the “old” ', 1)
        return text.encode().decode('latin-1').translate(_WESTERN), text
    if kind == 'tracking':
        see, more = f'See https://example.org/obs/{rng.integers(99999)}', f'?utm_source=mail&utm_campaign=c{rng.integers(99)}&fbclid=IwAR{rng.integers(10**9)}'
        return f'{a} {see}{more} for photos. {b}', f'{a} {see} for photos. {b}'
    if kind == 'bare_url': return f'{a}\nhttps://www.example.org/a/{rng.integers(99999)}?id={rng.integers(999)}\n{b}', text
    if kind == 'decomposed': return unicodedata.normalize('NFD', text), text
    if kind == 'blanks': return '  ' + a.replace(' ', '  ', 9) + ' \t\r\n\r\n\n\n ' + b.replace(' ', '\u00a0', 4) + ' \n ', text
    line = f'Survey form {rng.integers(99)} page of the regional recording scheme'
    return f'{line}\n{a}\n{line}\n{b}\n{line}', f'{line} {text}'


# -- rows
def kinds_of(rows: np.ndarray, seed: int) -> np.ndarray:
    u = draw(rows, seed, 'kind')
    edges = np.cumsum([SHARES['exact'], SHARES['near'], SHARES['low'], SHARES['short']])
    return np.array(['exact', 'near', 'low', 'short', 'plain'])[np.searchsorted(edges, u, 'right')]

def sources_of(rows: np.ndarray, seed: int) -> np.ndarray:
    "For copies the row copied, any earlier plain one; -1 where eight draws found none."
    u = draw(rows, seed, 'src', 8)
    source = np.full(len(rows), -1)
    for k in range(8):
        try_ = (u[:, k] * rows).astype(np.int64)
        good = (source < 0) & (rows > 0)
        good[good] = kinds_of(try_[good], seed) == 'plain'
        source[good] = try_[good]
    return source

def noise_of(rows: np.ndarray, seed: int) -> np.ndarray:
    u = draw(rows, seed, 'noise', 2)
    return np.where(u[:, 0] < SHARES['noise'], (u[:, 1] * len(NOISE)).astype(int), -1)

def dress(text: pa.Array, rows: np.ndarray, seed: int, which: np.ndarray) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    "Plant noise: (texts, rows with noise, what they should be again)."
    has = np.flatnonzero(which >= 0)
    if not len(has): return text, has, []
    made, should = [], []
    for i, t in zip(has, text.take(pa.array(has)).to_pylist()):
        rng = np.random.Generator(np.random.PCG64(int(rows[i]) * 7919 + seed))
        noisy, clean = with_noise(t, NOISE[which[i]], rng)
        made.append(noisy); should.append(clean)
    mask = np.zeros(len(text), bool); mask[has] = True
    return pc.replace_with_mask(text, pa.array(mask), pa.array(made, pa.string())), has, should

def shard(first: int, n: int, seed: int) -> tuple[pa.Table, pa.Table]:
    "Records and truth of rows first to first + n."
    rows = np.arange(first, first + n)
    kinds = kinds_of(rows, seed)
    source = np.where((kinds == 'exact') | (kinds == 'near'), sources_of(rows, seed), -1)
    kinds[((kinds == 'exact') | (kinds == 'near')) & (source < 0)] = 'plain'
    origin = np.where(source >= 0, source, rows)                    # the row whose words these are
    text, pii = base_documents(origin, seed, np.where(kinds == 'short', 'short', 'plain'))
    noise = noise_of(np.where(kinds == 'near', rows, origin), seed)
    noise[(kinds == 'low') | (kinds == 'short')] = -1
    share = .01 + .09 * draw(rows, seed, 'share')
    near, low = np.flatnonzero(kinds == 'near'), np.flatnonzero(kinds == 'low')
    mask = lambda at: pa.array(np.isin(np.arange(n), at))
    if len(near): text = pc.replace_with_mask(text, mask(near), edited(text.take(pa.array(near)), rows[near], seed, share[near]))
    language, lows = np.full(n, 'en', object), np.full(n, None, object)
    if len(low):
        lows[low] = [LOW[i] for i in (draw(rows[low], seed, 'lowk') * len(LOW)).astype(int)]
        made, language[low] = low_documents(rows[low], seed, lows[low])
        text = pc.replace_with_mask(text, mask(low), pa.array(made, pa.string()))
    blank = pa.array(kinds == 'low')
    pii = {k: pc.if_else(blank, pa.scalar(None, v.type), v) for k, v in pii.items()}
    edits = pa.array((kinds == 'near') | (noise >= 0))  # positions moved; in a near copy the words themselves may be edited
    pii['pii_start'] = pc.if_else(edits, pa.scalar(None, pa.int32()), pii['pii_start'])
    where, columns = surroundings(np.where(kinds == 'exact', origin, rows), seed)
    odd = np.flatnonzero(where['odd'] & (kinds != 'low'))
    if len(odd): text = pc.replace_with_mask(text, mask(odd), pc.binary_join_element_wise(text.take(pa.array(odd)), where['dms'].take(pa.array(odd)), ' '))
    text, has, should = dress(text, np.where(kinds == 'near', rows, origin), seed, noise)
    kept = np.full(n, None, object)
    kept[has] = should
    records = dict(occurrenceID=ids_of(rows, seed), type=pa.array(['Text'] * n), occurrenceRemarks=text, **columns)
    truth = pa.table(dict(
        occurrenceID=records['occurrenceID'], kind=pa.array(kinds), source=pc.if_else(pa.array(source >= 0), ids_of(np.maximum(source, 0), seed), pa.scalar(None, pa.string())),
        edited=pa.array(share.astype(np.float32), mask=kinds != 'near'), noise=pa.array([NOISE[k] if k >= 0 else None for k in noise], pa.string()),
        low=pa.array(lows, pa.string()), language=pa.array(language, pa.string()), text=pa.array(kept, pa.string()), **pii, **where['truth']), schema=TRUTH)
    return with_schema(records, n), truth

def with_schema(records: dict, n: int) -> pa.Table:
    from mlproject.data.records import SCHEMA
    return pa.table([records.get(f.name, pa.nulls(n, f.type)) for f in SCHEMA], schema=SCHEMA)

@functools.cache
def stations(seed: int):
    "Where the observers go: 3,000 places."
    k = np.arange(3000)
    u = draw(k, seed, 'place', 2)
    return np.round(u[:, 0] * 100 - 35, 5), np.round(u[:, 1] * 340 - 170, 5), pa.array([f'{a}-{i:04d}' for i, a in enumerate(pools(seed).lexicon.lists['place'][:3000])])

def surroundings(rows: np.ndarray, seed: int) -> tuple[dict, dict]:
    "When, where, who, what."
    n, u = len(rows), draw(rows, seed, 'meta', 8)
    second = (np.int64(1_104_537_600) + (u[:, 0] * 600_000_000).astype(np.int64)) // 60 * 60   # whole minutes: some formats hold no seconds
    form = np.where(u[:, 1] < .6, 0, ((u[:, 1] - .6) / .4 * len(DATES)).astype(int))
    stamp = pa.array(second, pa.timestamp('s'))
    date = pa.array([None] * n, pa.string())
    for k in np.unique(form):
        at = pa.array(form == k)
        date = pc.replace_with_mask(date, at, pc.strftime(stamp.filter(at), DATES[k]))
    lat, lon, names = stations(seed)
    place = (u[:, 2]**2 * 3000).astype(int)
    odd = u[:, 3] < SHARES['odd_position']
    species = GRAMMAR['species']
    accepted = np.array([s[0] for s in species], object)
    which = (u[:, 4]**1.5 * len(species)).astype(int)
    written = accepted[which]
    change = np.flatnonzero(u[:, 5] < .08)
    for i in change.tolist():
        others = species[which[i]][1:]
        written[i] = others[int(u[i, 6] * len(others))] if others and u[i, 5] < .04 else misspelt(accepted[which[i]], u[i, 6])
    people = pools(seed).lexicon
    person = (u[:, 7]**2 * 900).astype(int)
    observers = pa.array([f"{people.lists['first'][i % len(people.lists['first'])]} {people.lists['surname'][i]}" for i in range(900)])
    y, x = lat[place], lon[place]
    columns = dict(eventDate=date, scientificName=pa.array(written, pa.string()), decimalLatitude=pa.array(y, mask=odd), decimalLongitude=pa.array(x, mask=odd),
                   locationID=names.take(pa.array(place)), recordedBy=observers.take(pa.array(person)))
    dms = np.full(n, None, object)
    for i in np.flatnonzero(odd).tolist(): dms[i] = f'Position {degrees(y[i], "NS")}, {degrees(x[i], "EW")}.'
    truth = dict(instant=stamp.cast(pa.timestamp('ms')), species=pa.array(accepted[which], pa.string()), latitude=pa.array(y), longitude=pa.array(x))
    return dict(odd=odd, dms=pa.array(dms, pa.string()), truth=truth), columns

def degrees(x: float, sides: str) -> str:
    s = round(abs(x) * 3600)
    return f'{s // 3600}°{s // 60 % 60:02d}\'{s % 60:02d}"{sides[int(x < 0)]}'

def misspelt(name: str, u: float) -> str:
    k = 1 + int(u * (len(name) - 2))
    return name[:k] + (name[k + 1:] if u * 1000 % 1 < .5 else name[k] + name[k:])


def write_corpus(
    folder: str | Path,              # made when absent; existing shards of the same name are overwritten
    rows: int,                       # documents
    seed: int = 0,
    rows_per_shard: int = 65_536,
    shards: range | None = None,     # only these, for making a corpus in several processes; default: all
) -> Path:                           # the folder with the records
    "Write the corpus; the same arguments give the same bytes."
    folder = Path(folder)
    planted_counts: dict = {}
    for sub in ('records', 'truth'): (folder / sub).mkdir(parents=True, exist_ok=True)
    for k in shards or range(-(-rows // rows_per_shard)):
        records, truth = shard(k * rows_per_shard, min(rows_per_shard, rows - k * rows_per_shard), seed)
        for name, table in (('records', records), ('truth', truth)):
            path = folder / name / f'part-{k:05d}.parquet'
            pq.write_table(table, path, compression='zstd', compression_level=1, use_dictionary=False, write_statistics=False)
        for column in ('kind', 'noise', 'low', 'pii_type', 'language'):
            for v in truth[column].value_counts().to_pylist():
                key = f'{column} {v["values"]}'
                planted_counts[key] = planted_counts.get(key, 0) + v['counts']
    (folder / 'corpus.json').write_text(json.dumps(dict(rows=rows, seed=seed, rows_per_shard=rows_per_shard, planted=planted_counts), indent=1, sort_keys=True))
    return folder / 'records'


if __name__ == '__main__':
    where, count, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    start = time.process_time()
    write_corpus(where, count, number)
    used = time.process_time() - start
    print(f'{count} documents, {count / used:,.0f} per CPU-second')
