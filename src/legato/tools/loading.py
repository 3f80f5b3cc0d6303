"""Python files and modules of a user's, imported for the tools in them.

Whatever is wrong with one is a ``ConfigError`` that says where, in the user's own file, and what to do.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from legato.core.errors import ConfigError
from legato.tools.places import Place, shown


def load_module(source: str) -> ModuleType:
    """The module of ``path/file.py`` or ``dotted.module``. Its folder (or the current one) can be imported from."""
    path = Path(source)
    folder = path.is_dir() and not (path / "__init__.py").is_file()
    if source.endswith(".py") or "/" in source or "\\" in source or folder:
        return _load_file(path)
    return _load_dotted(source)


def _load_file(path: Path) -> ModuleType:
    _check_file(path)
    path = path.resolve()
    # One name for each path: `a/tools.py` and `b/tools.py` are two modules, and neither is anybody's `tools`.
    name = f"legato_tools_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    _importable(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pydantic look their module up there
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(error, str(path), shown(str(path))) from error
    return module


def _check_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted(one.name for one in path.glob("*.py"))
        which = f"name its files, such as {path / inside[0]}" if inside else "it has no Python files"
        raise ConfigError(f"{path}: it is a folder; {which}")
    if not path.exists():
        near = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*.py")], 1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{path}: there is no such file (looked in {path.parent.resolve()}){hint}")
    if path.suffix != ".py":
        raise ConfigError(f"{path}: it is not a Python file; its name must end in .py")


def _load_dotted(name: str) -> ModuleType:
    _importable(Path.cwd())
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{name!r} is neither a Python file nor a dotted module; write path/tools.py or package.tools"
        )
    file: str | None = None
    try:
        spec = importlib.util.find_spec(name)  # imports the packages around it
        file = spec.origin if spec is not None else None
        return importlib.import_module(name)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"; there is {name}.py here, name it so" if Path(f"{name}.py").is_file() else ""
            raise ConfigError(f"there is no module {name!r} (looked in {Path.cwd()} and sys.path){hint}") from error
        raise _failed(error, file, name) from error
    except (Exception, SystemExit) as error:
        raise _failed(error, file, name) from error


def _importable(folder: Path) -> None:
    # At the end: a `random.py` beside the tools must not stand in for Python's.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _failed(error: BaseException, file: str | None, title: str) -> ConfigError:
    """Why importing failed: the last line of the user's own file that ran, where it is known."""
    if isinstance(error, SyntaxError):
        where = Place(error.filename or title, error.lineno or 0)
        return ConfigError(f"{where}: it is not valid Python: {error.msg}")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
    at = str(Place(frames[-1].filename, frames[-1].lineno or 0)) if frames else title
    if isinstance(error, SystemExit):
        return ConfigError(f'{at}: importing it ends the program; put that under if __name__ == "__main__":')
    return ConfigError(f"{at}: importing it raised {type(error).__name__}: {error}")
