# SPDX-License-Identifier: MIT
"""A stranger reads the description of REST and holds a running Hangar to it: valid and invalid requests, every
operation, in sequences too, with the token and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import RealServers
from tests.house import house, subprocess_provider
from tests.processes import plain_environment

LIMIT = 200
TOKEN = "an-admin-token-of-tests"


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path, real_servers: RealServers) -> None:
    server = {"admin_token": TOKEN}
    with house(tmp_path, {"time": subprocess_provider([real_servers.time])}, server=server) as hangar:
        base = f"http://127.0.0.1:{hangar.port}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        body = {"provider": "time", "tool": "get_current_time", "arguments": {"timezone": "UTC"}}
        assert httpx.post(f"{base}/api/v1/calls", json=body, headers=headers, timeout=60).status_code == 200
        description = httpx.get(f"{base}/api/v1/openapi.json", headers=headers, timeout=60).json()
        operations = sum(map(len, description["paths"].values()))
        asked = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{base}/api/v1/openapi.json", "--url", base),
                *("--header", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--continue-on-failure"),
                # The same requests each time: what it finds today it finds tomorrow.
                *("--generation-deterministic", "--max-examples", "15", "--request-timeout", "60"),
            ],
            cwd=tmp_path,
            env=plain_environment(COLUMNS="100", NO_COLOR="1"),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert asked.returncode == 0, asked.stdout[-6000:] + asked.stderr
        assert f"Tested: {operations}" in asked.stdout
        assert "request_failed" not in hangar.running.said(), "an answer was a defect"
