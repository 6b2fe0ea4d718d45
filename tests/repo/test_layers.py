"""Imports go downward only: DESIGN's layers, as contracts of import-linter and two rules that it cannot say."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, wherever in the module it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(prefixes: tuple[str, ...], *folders: str) -> list[str]:
    """Each import, under these folders, of a name that starts with one of the prefixes."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(path)
        if f"{name}.".startswith(tuple(f"{prefix}." for prefix in prefixes))
    ]


def test_the_contracts_hold() -> None:
    """Every contract of import-linter in pyproject.toml holds."""
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_only_instrumentation_knows_the_telemetry_sdk() -> None:
    """Spans are projected from the log: no other package imports the OpenTelemetry SDK or an exporter."""
    sdk = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
    assert not importers(sdk, "eventflow", "stages", "analysis")


def test_products_do_not_import_their_tests() -> None:
    """Faults enter through wrappers: nothing that is shipped imports tests, benchmarks or a test library."""
    testing = ("tests", "benchmarks", "pytest", "hypothesis", "unittest", "trio.testing")
    assert not importers(testing, "eventflow", "instrumentation", "stages", "analysis")


def test_a_run_of_the_director_loads_only_what_it_needs() -> None:
    """Its start is part of every small run: what takes long to load is loaded by who needs it."""
    check = (
        "import sys, eventflow.cli.main, stages.registry; stages.registry.find_stage('director').load();"
        "print(*sorted({'httpx', 'duckdb', 'asyncio', 'rich.progress', 'prompt_toolkit', 'altair'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == ""
