"""requirements-serve.lock: what the image installs. The `serve` extra and all that it needs, in the versions of the environment that
the tests ran in; nothing is asked of a package index, and the same environment gives the same file.
    make lock-serve   (python deploy/lock.py)"""
import re, sys, tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT/'requirements-serve.lock'
LINUX = dict(sys_platform='linux', platform_system='Linux', os_name='posix')  # what the image runs on, wherever this runs

def normal(name: str) -> str: return re.sub(r'[-_.]+', '-', name).lower()

def applies(r: Requirement, extras: set[str]) -> bool:
    "Whether a dependency counts when these extras of its package are wanted."
    return r.marker is None or any(r.marker.evaluate(LINUX | dict(extra=e)) for e in extras | {''})

def closure(wanted: list[str]) -> dict[str, str]:  # requirements -> {package: version}
    "Installed packages that the requirements lead to; ends with a message when one is missing or does not fit."
    todo, seen, found = [Requirement(r) for r in wanted], set(), {}
    while todo:
        r = todo.pop()
        name, extras = normal(r.name), frozenset(r.extras)
        if name == 'mlproject' or not applies(r, set()) and not r.extras or (name, extras, str(r.specifier)) in seen: continue
        seen.add((name, extras, str(r.specifier)))
        try: found[name] = version(name)
        except PackageNotFoundError: sys.exit(f'{name} is needed and not installed here: make install')
        if not r.specifier.contains(found[name], prereleases=True): sys.exit(f'{r} is needed, and {found[name]} is installed')
        for need in map(Requirement, requires(name) or ()):
            if applies(need, set(extras)):
                need.marker = None
                todo.append(need)
    return found

def serve_requirements(pyproject: Path = ROOT/'pyproject.toml') -> list[str]:
    project = tomllib.loads(pyproject.read_text())['project']
    return project['dependencies'] + project['optional-dependencies']['serve']

def text(found: dict[str, str]) -> str: return ''.join(f'{n}=={v}\n' for n, v in sorted(found.items()))

if __name__ == '__main__':
    made = closure(serve_requirements(*map(Path, sys.argv[1:])))
    LOCK.write_text(text(made))
    print(f'{LOCK.name}: {len(made)} packages')
