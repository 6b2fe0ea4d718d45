"""The shape of the source: sizes, names and what an `__init__` may do."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("eventflow", "instrumentation", "stages", "analysis")
FOLDERS = (*PACKAGES, "tests", "benchmarks")
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
FORBIDDEN_NAMES = {"utils", "common", "helpers", "base", "core", "manager"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*folders: str) -> list[Path]:
    """The modules under these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[Function]:
    """Every function of a module, inner ones and methods among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def lines(function: Function) -> int:
    """How many lines a function has, its signature and docstring among them."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def place(path: Path, node: Function) -> str:
    """Where to look."""
    return f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_there_are_modules_to_look_at() -> None:
    """The tests of this file read the source, not an empty folder."""
    assert all((ROOT / package / "__init__.py").exists() for package in PACKAGES)


def test_no_function_is_longer_than_a_screen() -> None:
    """A function has at most 70 lines."""
    found = [
        f"{place(path, function)} has {lines(function)} lines"
        for path in modules(*FOLDERS)
        for function in functions(path)
        if lines(function) > FUNCTION_LINES_MAX
    ]
    assert not found


def test_functions_are_short() -> None:
    """The median function of the packages has at most 9 lines, and 90 % of them have fewer than 30."""
    lengths = [lines(function) for path in modules(*PACKAGES) for function in functions(path)]
    assert statistics.median(lengths) <= 9
    assert statistics.quantiles(lengths, n=10)[-1] < 30


def test_no_module_is_too_long() -> None:
    """A module has at most 400 lines."""
    lengths = {path.relative_to(ROOT): len(path.read_bytes().splitlines()) for path in modules(*FOLDERS)}
    assert not {path: length for path, length in lengths.items() if length > MODULE_LINES_MAX}


def test_no_name_that_says_nothing() -> None:
    """No module or folder is called utils, common, helpers, base, core or manager, nor something_utils."""
    found = [
        path.relative_to(ROOT)
        for path in modules(*FOLDERS)
        for part in path.relative_to(ROOT).with_suffix("").parts
        if FORBIDDEN_NAMES & set(part.split("_"))
    ]
    assert not found


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_init_modules_only_re_export(path: Path) -> None:
    """An `__init__` holds a docstring, imports and `__all__`, and does nothing else; every module has a docstring.

    An import may wait until its name is asked for (PEP 562), for what takes long to load and few need.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
    if path.name == "__init__.py":
        assert not [ast.unparse(node) for node in tree.body[1:] if not _re_exports(node)]


def _re_exports(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() | ast.Tuple()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return all(isinstance(inner, ast.ImportFrom) for inner in node.body)
        case ast.FunctionDef(name="__getattr__", body=[ast.Expr(), *branches, ast.Raise()]):
            return all(map(_imports_late, branches))
    return False


def _imports_late(node: ast.stmt) -> bool:
    match node:
        case ast.If(body=[ast.ImportFrom(names=[ast.alias(name=imported)]), ast.Return(value=ast.Name(id=given))]):
            return imported == given
    return False


def test_every_test_states_its_rule() -> None:
    """The docstring of a test is the rule that it guards."""
    found = [
        place(path, function)
        for path in modules("tests")
        if path.name.startswith("test_")
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert not found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package: str) -> None:
    """Each package of the wheel says to type checkers that it has types (PEP 561)."""
    assert (ROOT / package / "py.typed").exists()
