#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes a small git repository for the quickstart's `git` provider to show. Usage: make_demo_repository.sh FOLDER
set -eu

folder=$1
rm -rf "$folder"
mkdir -p "$folder"

if ! command -v git >/dev/null 2>&1; then
    echo "git is not installed: the quickstart's provider 'git' will not start (apt-get install git); the others will" >&2
    exit 0
fi

cd "$folder"
# Nothing of the user's own configuration: no hooks, no signing, no templates.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME="Ada Example" GIT_AUTHOR_EMAIL="ada@example.org"
export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME" GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"

git init --quiet --initial-branch main --template= .
printf '# Runway log\n\nWhat took off, what landed.\n' >README.md
git add README.md
GIT_AUTHOR_DATE="2026-01-05T09:00:00Z" GIT_COMMITTER_DATE="2026-01-05T09:00:00Z" git commit --quiet -m "Begin the runway log"
printf '09:12 LX-318 departed\n' >log.txt
git add log.txt
GIT_AUTHOR_DATE="2026-01-05T09:12:00Z" GIT_COMMITTER_DATE="2026-01-05T09:12:00Z" git commit --quiet -m "LX-318 departed"
