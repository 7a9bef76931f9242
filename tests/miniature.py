"""A project of four small notebooks, a report and a pipeline, to try the mechanics of builds on (not a test by itself)."""
import json
from pathlib import Path

TAGGED = '#tagged\n'  # first line of a cell that gets the tag `parameters`

NOTEBOOKS = {
    '10_clean': ('# Cleaning\n> Take out what is empty', '#| default_exp clean', '#| export\ndef clean(rows): return [r for r in rows if r > 0]',
                 'clean([1, 0])'),
    '20_scale': ('# Scaling', '#| default_exp models.scale', '#| export\ndef scale(x, by): return x * by'),
    '30_fit': ('# Fitting', '#| default_exp models.fit', '#| export\nimport os, time\nfrom pathlib import Path',
               '#| export\nfrom sprout.models.scale import scale',
               '''#| export
def pause(where):  # lets a test kill a build at a known place
    if os.environ.get('SPROUT_PAUSE') != where: return
    Path(os.environ['SPROUT_FLAG']).write_text(where)
    time.sleep(60)

def fit(rows, lr, epochs): return scale(sum(rows), lr) * epochs'''),
    '90_tasks': ('# Tasks', '#| default_exp tasks', '#| export\nimport json\nfrom pathlib import Path',
                 '#| export\nfrom mlproject.core import Problem, write_folder\nfrom sprout.clean import clean\nfrom sprout.models.fit import fit, pause',
                 '''#| export
def _read(folder): return json.loads((Path(str(folder)).parent/'rows.json').read_text())

def collect(product, rows: int, code):
    if rows > 50: raise Problem(f'there are only 50 rows, not {rows}')
    with write_folder(Path(str(product)).parent, kind='rows') as out: (out/'rows.json').write_text(json.dumps(list(range(rows))))

def curate(product, upstream, code):
    with write_folder(Path(str(product)).parent, kind='rows') as out: (out/'rows.json').write_text(json.dumps(clean(_read(upstream['collect']))))

def train(product, upstream, lr: float, epochs: int, code):
    "Fit."
    with write_folder(Path(str(product)).parent, kind='network', meta={'lr': lr}) as out:
        (out/'half.txt').write_text('half of it')
        pause('middle')
        (out/'rows.json').write_text(json.dumps([fit(_read(upstream['curate']), lr, epochs)]))
    pause('end')'''),
    'reports/summary': ('# Summary', TAGGED + "title = 'sprouts'\nupstream = None\nproduct = None\ncode = None",
                        'from mlproject.code import check_parameters\ncheck_parameters()',
                        'import json\nfrom pathlib import Path\nfrom sprout.clean import clean',
                        "path = Path(upstream['train']).parent/'rows.json' if upstream else None\ntitle, json.loads(path.read_text()) if path else clean([0, 1])"),
}

ENV = "name: main\nrows: 5\nlr: 0.5\nepochs: 2\ntitle: sprouts\nexecutor: serial\n"

def _task(source, name, product, upstream=(), **params):
    params['code'] = {'dotted_path': 'mlproject.code::digest', 'of': source}
    return dict(source=source, name=name, product=product, params=params) | ({'upstream': list(upstream)} if upstream else {})

PIPELINE = dict(
    meta=dict(extract_upstream=False, extract_product=False, jupyter_hot_reload=False),
    executor=dict(dotted_path='mlproject.builds.guard', kind='{{executor}}', limits=dict(epochs=[1, 100])),
    tasks=[
        _task('sprout.tasks.collect', 'collect', 'build/{{name}}/raw/manifest.json', rows='{{rows}}'),
        _task('sprout.tasks.curate', 'curate', 'build/{{name}}/curated/manifest.json', ['collect']),
        _task('sprout.tasks.train', 'train', 'build/{{name}}/network/manifest.json', ['curate'], lr='{{lr}}', epochs='{{epochs}}'),
        _task('nbs/reports/summary.ipynb', 'summary', dict(nb='build/{{name}}/reports/summary.ipynb', html='build/{{name}}/reports/summary.html'),
              ['train'], title='{{title}}') | dict(nb_product_key=['nb', 'html'], static_analysis='strict',
              nbconvert_export_kwargs=dict(exclude_input=True, mathjax_url='', require_js_url=''))])

def write_notebook(path: Path, title: str, *cells: str) -> None:
    out = [dict(cell_type='markdown', id='title', metadata={}, source=title)]
    for i, source in enumerate(cells):
        tags = {'tags': ['parameters']} if source.startswith(TAGGED) else {}
        out.append(dict(cell_type='code', id=f'cell{i}', metadata=tags, outputs=[], execution_count=None, source=source.removeprefix(TAGGED)))
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = dict(display_name='python3', language='python', name='python3')
    path.write_text(json.dumps(dict(cells=out, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)))

def make_project(root: Path) -> Path:
    "Write the project, its package as nbdev exports it."
    import yaml
    root.mkdir(parents=True, exist_ok=True)
    (root/'pyproject.toml').write_text('[project]\nname = "sprout"\nversion = "0.1"\n[tool.nbdev]\nlib_path = "sprout"\nnbs_path = "nbs"\nallowed_cell_metadata_keys = ["tags"]\n')
    for package in ('sprout', 'sprout/models'):
        (root/package).mkdir()
        (root/package/'__init__.py').write_text('')
    for name, cells in NOTEBOOKS.items(): write_notebook(root/f'nbs/{name}.ipynb', *cells)
    (root/'env.yaml').write_text(ENV)
    (root/'pipeline.yaml').write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    export(root)
    return root

def export(root: Path) -> None:
    "What `nbdev-export` does, without starting a process."
    from fastcore.foundation import working_directory
    from nbdev.export import nb_export
    with working_directory(root):
        for path in sorted((root/'nbs').glob('[0-9]*.ipynb')): nb_export(path, lib_path=root/'sprout')

def edit(root: Path, name: str, old: str, new: str, exported: bool = True) -> None:
    "Change the text of a cell of a notebook."
    path = root/f'nbs/{name}.ipynb'
    nb = json.loads(path.read_text())
    cells = [c for c in nb['cells'] if old in c['source']]
    assert len(cells) == 1, (name, old, len(cells))
    cells[0]['source'] = cells[0]['source'].replace(old, new)
    path.write_text(json.dumps(nb))
    if exported: export(root)
