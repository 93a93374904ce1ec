#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the npm packages that tests use into FOLDER, once per package-lock.json. Usage: install.sh FOLDER
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$1

if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not installed: tests that need node will be skipped (apt-get install npm)"
    case ",${HANGAR_TEST_REQUIRE:-}," in
        *,node,*) echo "HANGAR_TEST_REQUIRE names node, so that is a failure" >&2; exit 1 ;;
    esac
    exit 0
fi

mkdir -p "$folder"
if [ -f "$folder/.ready" ] && cmp -s "$here/package-lock.json" "$folder/package-lock.json"; then
    exit 0
fi
echo "installing the npm packages of tests/node into $folder"
rm -f "$folder/.ready"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$folder/"
# --no-audit: an advisory about a test fixture is CI's own step, not a reason for tests to fail.
(cd "$folder" && npm ci --no-audit --no-fund --loglevel=error)
touch "$folder/.ready"
