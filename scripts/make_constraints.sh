#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes constraints/*.txt anew: exact versions and hashes, for every Python from 3.11 on, naming no index.
set -eu
cd "$(dirname "$0")/.."

compile() {
    uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

compile pyproject.toml -o constraints/runtime.txt
compile constraints/build.in -o constraints/build.txt
compile --extra dev -c constraints/runtime.txt -c constraints/build.txt pyproject.toml -o constraints/dev.txt
compile constraints/servers.in -o constraints/servers.txt
