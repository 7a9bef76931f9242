"""Digests of reached code, and notebooks compared with what nbdev exports from them."""
import time
from pathlib import Path

import pytest

from mlproject import code

@pytest.fixture
def package(tmp_path, monkeypatch):
    "Write modules of a package, purge nothing: they are never imported."
    def write(**modules):
        for name, text in modules.items():
            path = tmp_path/'moss'/(name.replace('__in__', '__init__').replace('_S_', '/') + '.py')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for d in [tmp_path/'moss', *[p for p in (tmp_path/'moss').rglob('*') if p.is_dir() and p.name != '__pycache__']]: (d/'__init__.py').touch()
        return tmp_path/'moss'
    monkeypatch.syspath_prepend(tmp_path)
    return write

@pytest.mark.parametrize('tasks, want', [
    ('from .a import f\ndef t(): return f()', {'moss.a'}),
    ('from . import a, b\ndef t(): return a.f()', {'moss.a'}),
    ('import moss.a as x\nimport moss.b\ndef t(): return x.f()', {'moss.a'}),
    ('def t():\n    from moss.sub.c import g\n    return g()', {'moss.a', 'moss.sub', 'moss.sub.c'}),
    ('from .b import *\ndef t(): return 1', {'moss.b'}),
    ('from .a import f\nfrom .b import f as h\ndef used(): return h()\ndef t(): return used()', {'moss.b'}),
    ('from .a import f\nX = f(1)\ndef t(x=X): return x', {'moss.a'}),
    ('from .a import f\n@f\ndef t(): return 1', {'moss.a'}),
    ('try: from .a import f\nexcept ImportError: from .b import f\ndef t(): return f()', {'moss.a', 'moss.b'}),
    ('from .a import f\nclass K:\n    def m(self): return f()\ndef t(): return K().m()', {'moss.a'}),
    ('def t(): return __import__("importlib").import_module("moss.b")', {'moss.b'}),
    ('from .a import f\ndef other(): return f()\ndef t(): return 1', set())])
def test_reach_follows_every_way_to_import(package, tasks, want):
    package(a='def f(x=0): return x', b='def f(x=0): return x', sub_S_c='from ..a import f\ndef g(): return f()', tasks=tasks)
    assert set(code.reach('moss.tasks.t')) - {'moss'} == want

def test_edit_within_the_same_second_and_size_is_noticed(package):
    root = package(a='def f(): return 1', tasks='from .a import f\ndef t(): return f()')
    seen = {code.digest('moss.tasks.t')}
    for i in range(2, 9):
        (root/'a.py').write_text(f'def f(): return {i}')
        seen.add(code.digest('moss.tasks.t'))
    assert len(seen) == 8

def test_damaged_cache_on_disk_is_not_trusted(package):
    root = package(a='def f(): return 1', tasks='from .a import f\ndef t(): return f()')
    want = code.digest('moss.tasks.t')
    kept = list((root/'__pycache__').glob('*.reach.json'))
    assert kept
    for text in ('{"text": 1', '[]', '{}'):
        for path in kept: path.write_text(text)
        code._read.cache_clear()
        assert code.digest('moss.tasks.t') == want

def test_digests_are_fast_once_read(package):
    package(a='def f(): return 1', tasks='from .a import f\ndef t(): return f()')
    names = ['mlproject.core', 'mlproject.code', 'moss.a']
    for n in names: code.read_module(n)
    start = time.process_time()
    for _ in range(10): code.spread(['mlproject.code', 'mlproject.core'], 'mlproject')
    assert time.process_time() - start < 20    # .1 here: modules are read once

def test_package_is_compared_as_nbdev_exports_it(tmp_path):
    "Odd cells: directives with blanks between, long imports, two targets, docstrings with marks."
    nbdev = pytest.importorskip('nbdev.export')
    from fastcore.foundation import working_directory
    from miniature import write_notebook
    root = tmp_path/'fern_project'
    (root/'fern/sub').mkdir(parents=True)
    for d in ('fern', 'fern/sub'): (root/d/'__init__.py').touch()
    (root/'pyproject.toml').write_text('[project]\nname = "fern"\nversion = "0"\n[tool.nbdev]\n')
    write_notebook(root/'nbs/01_leaf.ipynb', '# Leaf\n> A leaf', '#| default_exp sub.leaf', '#| export\n\n#| hide\nfrom fern.core import (a,\n    b)\nfrom fern import core',
                   '#| exporti\nimport os\n\n\nfrom fern.sub.stem import x  # near\n', '#|export\ndef f():\n    from fern.core import a\n    return "# %% not a mark"\n\n', '#| export\n', 'f()',
                   '#| exports\nclass K:\n    "doc"')
    write_notebook(root/'nbs/02_empty.ipynb', '# Empty', '1')
    with working_directory(root): nbdev.nb_export(root/'nbs/01_leaf.ipynb', lib_path=root/'fern')
    assert code.stale(root) == []
    module = root/'fern/sub/leaf.py'
    module.write_text(module.read_text().replace('return "#', 'return "'))
    assert len(code.stale(root)) == 1 and 'leaf' in code.stale(root)[0]

def test_real_package_is_in_step():
    root = Path(__file__).parents[1]
    if not (root/'nbs').is_dir(): pytest.skip('not in a checkout')
    assert code.stale(root) == []
