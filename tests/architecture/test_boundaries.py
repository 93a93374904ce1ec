# SPDX-License-Identifier: MIT
"""The house keeps its shape: who may import whom, what each file says of itself, what the core needs to run."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcp_hangar
from scripts import check_spdx, check_words
from scripts.repository import ROOT, files

SOURCE = ROOT / "src"
ENTERPRISE = ROOT / "enterprise"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of pyproject.toml, judged on the packages under `folder`."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder / 'enterprise'}", "COLUMNS": "200"},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )


def own_imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names):
                found = [f"{module}.{alias.name}" for alias in names]
            case _:
                continue
        yield from (name for name in found if name.split(".")[0] in {"mcp_hangar", "mcp_hangar_enterprise"})


def test_every_import_contract_is_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("place", "statement", "contract"),
    [
        ("src/mcp_hangar/domain/intruder.py", "import mcp_hangar.application.event_codec", "Four rooms"),
        ("src/mcp_hangar/application/intruder.py", "import mcp_hangar.infrastructure.launchers", "Four rooms"),
        ("src/mcp_hangar/application/intruder.py", "import mcp_hangar.server.bootstrap", "Four rooms"),
        ("src/mcp_hangar/infrastructure/intruder.py", "import mcp_hangar.server.bootstrap", "Four rooms"),
        (
            "src/mcp_hangar/infrastructure/launchers/intruder.py",
            "import mcp_hangar.application.fleet",
            "Infrastructure",
        ),
        (
            "src/mcp_hangar/server/cli/intruder.py",
            "import mcp_hangar.infrastructure.launchers",
            "Only server/bootstrap",
        ),
        ("src/mcp_hangar/domain/mcp/intruder.py", "import asyncio", "The domain is pure"),
        ("src/mcp_hangar/domain/contracts/intruder.py", "from time import monotonic", "The domain is pure"),
        ("src/mcp_hangar/server/intruder.py", "import mcp_hangar_enterprise.extension", "Core never"),
        ("src/mcp_hangar/supervisor.py", "import mcp_hangar.domain.errors", "The supervisor"),
        ("enterprise/mcp_hangar_enterprise/intruder.py", "import mcp_hangar.domain.call", "The enterprise"),
    ],
)
def test_an_import_against_the_contracts_is_found(tmp_path: Path, place: str, statement: str, contract: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("src/mcp_hangar", "enterprise/mcp_hangar_enterprise"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / place).open("a") as intruder:
        intruder.write(f"\n{statement}\n")
    # What else is wrong with the tree is for the test above; here only the new import counts.
    result = lint_imports(tmp_path)
    broken = [line for line in result.stdout.splitlines() if " BROKEN" in line]
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(line.startswith(contract) for line in broken), result.stdout


def test_the_supervisor_imports_nothing_of_ours_even_inside_functions() -> None:
    assert list(own_imports(SOURCE / "mcp_hangar" / "supervisor.py")) == []


def test_no_file_of_the_core_names_the_enterprise_in_an_import() -> None:
    named = {
        str(path): found
        for path in sorted(SOURCE.rglob("*.py"))
        if (found := [name for name in own_imports(path) if name.startswith("mcp_hangar_enterprise")])
    }
    assert named == {}


def test_every_module_of_the_core_imports_where_the_enterprise_is_not_installed(tmp_path: Path) -> None:
    """`-I -S` and our own path: only the core's source and the libraries are there."""
    libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
    modules = [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((SOURCE / "mcp_hangar").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
sys.path[:0] = [{str(SOURCE)!r}, *{libraries!r}]
for name in {modules!r}:
    importlib.import_module(name)
try:
    import mcp_hangar_enterprise
except ModuleNotFoundError:
    print("all imported, without the enterprise")
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == "all imported, without the enterprise", result.stderr


def test_the_extension_gives_back_the_parts_it_was_given() -> None:
    extension = pytest.importorskip("mcp_hangar_enterprise.extension")
    parts = object()
    assert extension.extend(parts, None, None) is parts


def test_every_source_file_names_its_licence() -> None:
    assert check_spdx.wrong_files() == []


def test_a_source_file_with_the_wrong_licence_is_found() -> None:
    mit, busl = "# SPDX-License-Identifier: MIT\n", "# SPDX-License-Identifier: BUSL-1.1\n"
    assert check_spdx.judge(Path("src/mcp_hangar/x.py"), mit) is None
    assert check_spdx.judge(Path("scripts/x.sh"), "#!/bin/sh\n" + mit) is None
    assert check_spdx.judge(Path("enterprise/mcp_hangar_enterprise/x.py"), busl) is None
    assert check_spdx.judge(Path("src/mcp_hangar/x.py"), busl)
    assert check_spdx.judge(Path("enterprise/mcp_hangar_enterprise/x.py"), mit)
    assert check_spdx.judge(Path("src/mcp_hangar/x.py"), "")
    assert check_spdx.judge(Path("src/mcp_hangar/x.py"), '"""Says nothing."""\n' + mit)


def test_no_module_has_a_vague_name_and_no_file_names_a_place() -> None:
    assert check_words.wrong_words() == []


def test_a_vague_module_name_and_a_machines_path_are_found() -> None:
    assert check_words.vague_names([Path("src/mcp_hangar/domain/call_utils.py"), Path("src/common/call.py")])
    assert not check_words.vague_names([Path("src/mcp_hangar/domain/database.py"), Path("docs/util.md")])
    assert check_words.places(Path("x"), "see /" + "work/shared/DESIGN.md")
    assert not check_words.places(Path("x"), "see https://example.org/" + "work/shared")


def test_every_folder_of_the_packages_holds_something() -> None:
    """A package that only marks itself is a room without anyone in it. `client` is one room with one table."""
    packages = [path.parent for folder in (SOURCE, ENTERPRISE) for path in folder.rglob("__init__.py")]
    empty = [
        str(package.relative_to(ROOT))
        for package in packages
        if not any(path.name != "__init__.py" or "class " in path.read_text() for path in package.rglob("*.py"))
    ]
    assert empty == []


def test_the_two_distributions_have_one_version() -> None:
    enterprise = tomllib.loads((ENTERPRISE / "pyproject.toml").read_text())["project"]
    assert enterprise["version"] == mcp_hangar.__version__
    assert enterprise["dependencies"] == [f"mcp-hangar=={mcp_hangar.__version__}"]


def test_every_constraint_has_a_hash_and_none_names_an_address() -> None:
    constraints = files(".txt")
    pinned = [path for path in constraints if path.parts[0] == "constraints"]
    assert {path.name for path in pinned} == {"build.txt", "dev.txt", "runtime.txt", "servers.txt"}
    for path in pinned:
        lines = (ROOT / path).read_text().replace("\\\n", " ").splitlines()
        assert all("==" in line and "--hash=sha256:" in line for line in lines), path
        assert not any("://" in line or line.startswith("-") for line in lines), path
