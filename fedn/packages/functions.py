"""Whether the functions that a `fedn.yaml` names are in the package, by its text alone: nothing is run.

For its author, before it is uploaded. Clients import the module, and find out for sure.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Iterator

from fedn.domain.errors import InvalidInput
from fedn.packages.manifest import MANIFEST, Manifest

MAX_SOURCE_BYTES = 2**20
"""A longer module is believed."""
Read = Callable[[str], bytes | None]
"""The first `MAX_SOURCE_BYTES` + 1 bytes of a package's file by its path; None if there is no such file."""
_DYNAMIC = frozenset({"globals", "vars", "locals", "exec", "setattr"})
"""What may give a module names that its text does not show."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def check_functions(manifest: Manifest, read: Read) -> None:
    """Raises InvalidInput for a Python entry point whose module can't be read, or has no such name."""
    for name, point in manifest.entry_points.items():
        if point.kind != "python":
            continue
        module, _, function = point.target.partition(":")
        path, text = _source(module.replace(".", "/"), read)
        if text is None or len(text) > MAX_SOURCE_BYTES:
            continue
        names = _names(name, path, text)
        if names is not None and function not in names:
            close = difflib.get_close_matches(function, names, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"write it, or name what {path} has"
            raise InvalidInput(f"{MANIFEST}: entry_points.{name}", f"{path} has no {function}", remedy)


def _source(stem: str, read: Read) -> tuple[str, bytes | None]:
    """Path and text of a module; Python takes the folder where there are both."""
    for path in (f"{stem}/__init__.py", f"{stem}.py"):
        if (text := read(path)) is not None:
            return path, text
    return f"{stem}.py", None


def _names(entry_point: str, path: str, text: bytes) -> set[str] | None:
    """What a module defines at its top; None where that is not to be seen in its text."""
    try:
        with warnings.catch_warnings():  # of the package's code, which are none of ours
            warnings.simplefilter("ignore")
            tree = ast.parse(text, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = f" (line {error.lineno}: {error.msg})" if isinstance(error, SyntaxError) else ""
        field, problem = f"{MANIFEST}: entry_points.{entry_point}", f"{path} is not valid Python{at}"
        raise InvalidInput(
            field, problem, "mend it; this Python may be older than the one it is for"
        ) from None
    names: set[str] = set()
    for node in _at_the_top(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case (
                ast.Name(id=name, ctx=ast.Store())
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                names.add(name)
            case ast.Name(id=name) if name in _DYNAMIC:
                return None
            case ast.alias(name="*"):
                return None
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
    return None if "__getattr__" in names else names


def _at_the_top(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported, without what is inside functions and classes."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _at_the_top(child)
