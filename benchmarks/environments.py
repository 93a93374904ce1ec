# SPDX-License-Identifier: MIT
"""What peers run in: an environment each, under `.tools/bench/`, from `environments/*.txt`, made once.

The files there are like those in `constraints/`: exact versions with hashes, naming no index. `python -m
benchmarks.environments` makes them anew from their `.in` files (needs uv); without options it makes the environments.
nginx is unpacked from its Debian package beside them and installed nowhere.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import ROOT, TargetFailed

PLACE: Final = ROOT / ".tools/bench"
FILES: Final = ROOT / "benchmarks/environments"
OLDEST: Final = {"contextforge": (3, 12)}
"""Peers that do not run on every Python that Hangar runs on."""
NEWEST: Final = {"contextforge": (3, 13)}
INSTALL_PATIENCE: Final = 900

Version = tuple[int, int]


def binaries(name: str) -> Path:
    """The `bin` of a peer's environment; made if it is not there or its file has changed since."""
    requirements = FILES / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    place = PLACE / name
    stamp = place / ".ready"
    if not stamp.exists() or stamp.read_text() != digest:
        python = python_for(name)
        print(f"making the environment of {name} with {python}", file=sys.stderr, flush=True)
        _run([python, "-m", "venv", "--clear", str(place)])
        pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "-r", str(requirements)])
        stamp.write_text(digest)
    return place / "bin"


def _run(command: list[str], folder: Path = ROOT) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_PATIENCE, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetFailed(f"`{' '.join(command[:4])} …` failed: {error}") from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
        raise TargetFailed(f"`{' '.join(command[:4])} …` failed: {words[-1][:300]}")


def python_for(name: str) -> str:
    """Ours if it will do, else one that the machine has."""
    oldest, newest = OLDEST.get(name, (3, 11)), NEWEST.get(name, (3, 99))
    for candidate in _pythons(oldest, newest):
        version = _version(candidate)
        if version and oldest <= version <= newest:
            return candidate
    raise TargetFailed(f"it needs Python {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}, and this machine has none")


def _pythons(oldest: Version, newest: Version) -> Iterator[str]:
    yield sys.executable
    for minor in range(min(newest[1], 14), oldest[1] - 1, -1):
        yield from (str(path) for path in sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")))
        if found := shutil.which(f"python3.{minor}"):
            yield found


def _version(python: str) -> Version | None:
    tell = "import ensurepip, sys; print(*sys.version_info[:2])"
    try:
        said = subprocess.run([python, "-c", tell], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = said.split()
    return int(major), int(minor)


def nginx() -> Path:
    """The system's, or one unpacked here from its Debian package."""
    if found := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return Path(found)
    place = PLACE / "nginx"
    program = place / "usr/sbin/nginx"
    if not program.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise TargetFailed("nginx is not installed, and this is no Debian to unpack it from")
        print("unpacking nginx", file=sys.stderr, flush=True)
        place.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", "-qq", "nginx"], place)
        package = next(place.glob("nginx_*.deb"))
        _run(["dpkg", "-x", str(package), str(place)])
        _run([str(program), "-v"])
    return program


def installed(name: str, package: str) -> str:
    """The version of a package in a peer's environment; empty where there is none."""
    tell = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    python = PLACE / name / "bin/python"
    if not python.exists():
        return ""
    done = subprocess.run([python, "-c", tell, package], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def compile_all() -> None:
    """The requirement files anew, with the newest versions that the `.in` files allow."""
    for source in sorted(FILES.glob("*.in")):
        oldest = OLDEST.get(source.stem, (3, 11))
        flags = "--quiet --upgrade --universal --generate-hashes --no-header --no-annotate --no-emit-index-url"
        subprocess.run(
            [
                *("uv", "pip", "compile", *flags.split(), "--no-emit-find-links"),
                *("--python-version", f"{oldest[0]}.{oldest[1]}", source.name, "-o", f"{source.stem}.txt"),
            ],
            cwd=FILES,
            check=True,
        )


def make_all() -> Iterator[str]:
    """Makes what is missing, before anything is measured; why one cannot be made here."""
    for name in sorted(path.stem for path in FILES.glob("*.txt")):
        try:
            binaries(name)
        except TargetFailed as error:
            yield f"{name}: {error}"
    try:
        nginx()
    except TargetFailed as error:
        yield f"nginx: {error}"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.environments", description=__doc__.split("\n")[0])
    options.add_argument("--compile", action="store_true", help="make the requirement files anew (needs uv)")
    if options.parse_args().compile:
        compile_all()
        return
    for failure in make_all():
        print(failure, file=sys.stderr)


if __name__ == "__main__":
    main()
