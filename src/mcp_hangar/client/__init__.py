# SPDX-License-Identifier: MIT
"""A small client of Hangar's REST and its live stream: finds the running Hangar, reads the admin token, asks, and
raises what went wrong.

It stands apart: it knows the wire, and nothing else of Hangar.

    with HangarClient.find() as hangar:
        print(hangar.status()["state"])
        print(hangar.call("time", "get_current_time", {"timezone": "Europe/Berlin"})["result"])
        for event in hangar.stream(families=["call"]):
            print(event["at"], event["type"])
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import httpx

from mcp_hangar.client import shapes
from mcp_hangar.client.stream import Stream, connect

DEFAULT_STATE_DIR: Final = "~/.local/state/hangar"
Json = dict[str, Any]
_JSON: Final = {"Content-Type": "application/json"}


class HangarError(Exception):
    """What went wrong, in words for a person. `code` is stable, as in the reference of errors."""

    code = "no_answer"


class NotRunning(HangarError):
    """No running Hangar was found, or it cannot be reached."""

    code = "not_running"


class NoToken(HangarError):
    """The admin token is not known here."""

    code = "no_admin_token"


class Ambiguous(HangarError):
    """Several Hangars run; one has to be named."""

    code = "several_running"

    def __init__(self, addresses: list[Address]) -> None:
        self.addresses = addresses
        found = "; ".join(f"--pid {address.pid} ({address.url or address.socket})" for address in addresses)
        super().__init__(f"Several Hangars are running. Name one with --pid, --url or HANGAR_URL: {found}.")


class Refused(HangarError):
    """Hangar answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.code = str(problem.get("code", ""))
        self.call_id = str(problem.get("callId", ""))
        parts = [str(problem.get(part, "")) for part in ("title", "why", "fix")]
        super().__init__(" ".join(part for part in parts if part) or f"Hangar answered with HTTP status {status}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a running Hangar's operator plane is: a URL, or the path of a Unix socket."""

    pid: int = 0
    url: str = ""
    socket: str = ""
    token_file: str = ""
    config: str = ""


def running(state_dir: Path) -> list[Address]:
    """The Hangars that run with this `state.dir`, by process number."""
    found: list[Address] = []
    with contextlib.suppress(OSError):
        for path in (state_dir / "run").iterdir():
            address = _read_address(path)
            if address is not None:
                found.append(address)
    return sorted(found, key=lambda address: address.pid)


def _read_address(path: Path) -> Address | None:
    try:
        value = json.loads((path / "address").read_bytes())
        pid = int(path.name)
        address = Address(
            pid=pid,
            url=str(value.get("url", "")),
            socket=str(value.get("socket", "")),
            token_file=str(value.get("token_file", "")),
            config=str(value.get("config", "")),
        )
    except (OSError, ValueError, AttributeError):
        return None
    return address if (address.url or address.socket) and _alive(pid, value.get("started")) else None


def _alive(pid: int, started: object) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with contextlib.suppress(OSError, ValueError, IndexError):
        # A process number may have been given to another since; the kernel's start time tells.
        now = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return started is None or now == started
    return True


class HangarClient:
    """One Hangar. Answers are plain values, as the REST description has them."""

    def __init__(self, address: Address, token: str, *, timeout: float = 330.0) -> None:
        self.address = address
        transport = httpx.HTTPTransport(uds=address.socket) if address.socket else httpx.HTTPTransport()
        base = "http://localhost" if address.socket else _reachable(address.url.rstrip("/").removesuffix("/mcp"))
        self._base, self._token = base, token
        # No proxy and no netrc of the environment: the token is for Hangar alone.
        self._http = httpx.Client(
            base_url=f"{base}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            transport=transport,
            timeout=httpx.Timeout(timeout, connect=5.0),
            follow_redirects=False,
            trust_env=False,
        )

    @classmethod
    def find(
        cls,
        *,
        url: str = "",
        pid: int = 0,
        state_dir: str | Path = "",
        token: str = "",
        environment: Mapping[str, str] | None = None,
        timeout: float = 330.0,
    ) -> HangarClient:
        """The Hangar at `url` (or HANGAR_URL), the one with `pid`, or the only one that runs.

        The token is `token`, HANGAR_ADMIN_TOKEN, or read from the folder of state; a file's token is sent to this
        machine only.
        """
        env = os.environ if environment is None else environment
        state = Path(state_dir or env.get("HANGAR_STATE_DIR") or DEFAULT_STATE_DIR).expanduser()
        url = url or ("" if pid else env.get("HANGAR_URL", ""))
        address = Address(url=url) if url else _only(running(state), pid, state)
        token = token or env.get("HANGAR_ADMIN_TOKEN", "") or _token(address, state)
        return cls(address, token, timeout=timeout)

    def __enter__(self) -> HangarClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- reads --------------------------------------------------------------------------------------------------------

    def status(self) -> shapes.Status:
        return cast("shapes.Status", self._get("/status"))

    def config(self) -> shapes.Config:
        """What is in effect, secrets masked."""
        return cast("shapes.Config", self._get("/config"))

    def check_config(self) -> shapes.ConfigCheck:
        """What is wrong with the configured file, as it is now."""
        return cast("shapes.ConfigCheck", self._get("/config/check"))

    def providers(self, *, mode: str = "", state: str = "") -> list[shapes.Provider]:
        return cast("list[shapes.Provider]", self._all("/providers", "providers", mode=mode, state=state)["providers"])

    def provider(self, name: str) -> shapes.Provider:
        return cast("shapes.Provider", self._get(f"/providers/{quote(name, safe='')}"))

    def logs(self, name: str, limit: int = 200) -> list[str]:
        return cast("list[str]", self._get(f"/providers/{quote(name, safe='')}/logs", limit=limit)["lines"])

    def tools(self, provider: str = "", query: str = "") -> shapes.Tools:
        """All of them, however many pages there are; so with prompts and resources."""
        return cast("shapes.Tools", self._all("/tools", "tools", provider=provider, query=query))

    def prompts(self, provider: str = "", query: str = "") -> shapes.Prompts:
        return cast("shapes.Prompts", self._all("/prompts", "prompts", provider=provider, query=query))

    def resources(self, provider: str = "", query: str = "", kind: str = "") -> shapes.Resources:
        """`kind`: `resource`, `template`, or both."""
        found = self._all("/resources", "resources", provider=provider, query=query, kind=kind)
        return cast("shapes.Resources", found)

    def sessions(self, *, caller: str = "", state: str = "") -> list[shapes.Session]:
        """`state`: `open`, `ended`, or both."""
        return cast("list[shapes.Session]", self._all("/sessions", "sessions", caller=caller, state=state)["sessions"])

    def session(self, id: str) -> shapes.Session:
        return cast("shapes.Session", self._get(f"/sessions/{quote(id, safe='')}"))

    def calls(self, *, limit: int = 100, cursor: str = "", **filters: str) -> shapes.Calls:
        """A page, newest first. Filters: provider, method, name, state, outcome, caller, tenant, session, trace, since,
        until."""
        return cast("shapes.Calls", self._get("/calls", limit=limit, cursor=cursor, **filters))

    def all_calls(self, **filters: str) -> Iterator[shapes.Call]:
        """Every call that is known and matches, newest first."""
        cursor = ""
        while True:
            page = self.calls(limit=1000, cursor=cursor, **filters)
            yield from page["calls"]
            cursor = page["cursor"]
            if not cursor:
                return

    def call_detail(self, id: str) -> shapes.CallDetail:
        """What became of a call, and why."""
        return cast("shapes.CallDetail", self._get(f"/calls/{quote(id, safe='')}"))

    def events(self, after: str = "", limit: int = 100, **filters: str) -> shapes.Events:
        """A page, oldest first. Filters: family (with commas between), provider, severity, call, session."""
        return cast("shapes.Events", self._get("/events", cursor=after, limit=limit, **filters))

    def all_events(self, after: str = "", **filters: str) -> Iterator[shapes.Event]:
        """Every event that is kept and matches; without a cursor the newest thousand."""
        while True:
            page = self.events(after, limit=1000, **filters)
            yield from page["events"]
            if not page["events"] or page["cursor"] == after:
                return
            after = page["cursor"]

    def stream(
        self,
        *,
        families: Sequence[str] = (),
        providers: Sequence[str] = (),
        severity: str = "",
        after: str = "",
        patience: float = 60.0,
    ) -> Stream:
        """Events as they happen, from now on or after a cursor. A broken connection is tried again for `patience`
        seconds and goes on where it stopped."""
        return Stream(
            lambda: connect(self._base, self.address.socket),
            self._token,
            families=families,
            providers=providers,
            severity=severity,
            after=after,
            patience=patience,
            refused=lambda problem: Refused(int(problem["status"]), problem),
            unreachable=lambda why: NotRunning(f"Hangar cannot be reached at {self._where}: {why}."),
        )

    def openapi(self) -> Json:
        """The description of REST."""
        return self._get("/openapi.json")

    # -- commands -----------------------------------------------------------------------------------------------------

    def start(self, name: str) -> shapes.Provider:
        return cast("shapes.Provider", self._ask("POST", f"/providers/{quote(name, safe='')}/start"))

    def meet(self, name: str) -> shapes.Provider:
        """Has a provider that was never asked what it offers started and asked."""
        return cast("shapes.Provider", self._ask("POST", f"/providers/{quote(name, safe='')}/meet"))

    def stop(self, name: str) -> shapes.Provider:
        return cast("shapes.Provider", self._ask("POST", f"/providers/{quote(name, safe='')}/stop"))

    def call(self, provider: str, tool: str, arguments: Mapping[str, Any] | None = None) -> shapes.CallAnswer:
        """Calls a tool: `call_id`, and `result` as MCP has it (`content`, `structuredContent`, `isError`)."""
        return self.call_raw(provider, tool, json.dumps(dict(arguments or {})))

    def call_raw(self, provider: str, tool: str, arguments: str) -> shapes.CallAnswer:
        """The same with arguments that are JSON already: numbers keep their spelling."""
        body = f'{{"provider":{json.dumps(provider)},"tool":{json.dumps(tool)},"arguments":{arguments}}}'
        return cast("shapes.CallAnswer", self._ask("POST", "/calls", content=body.encode(), headers=_JSON))

    def new_code(self) -> shapes.Code:
        """A one-time code, for a link that opens in a browser."""
        return cast("shapes.Code", self._ask("POST", "/codes"))

    def log_in(self, code: str) -> shapes.Login:
        """A session token for a one-time code."""
        return cast("shapes.Login", self._ask("POST", "/login", content=json.dumps({"code": code}), headers=_JSON))

    # -- the wire -----------------------------------------------------------------------------------------------------

    def _get(self, path: str, **parameters: str | int) -> Json:
        return self._ask("GET", path, params={name: value for name, value in parameters.items() if value != ""})

    def _all(self, path: str, member: str, **parameters: str) -> Json:
        """All pages as one."""
        whole = page = self._get(path, limit=1000, **parameters)
        while page["cursor"]:
            page = self._get(path, limit=1000, cursor=page["cursor"], **parameters)
            whole[member] += page[member]
        whole["cursor"] = ""
        return whole

    @property
    def _where(self) -> str:
        return self.address.socket or self.address.url

    def _ask(self, method: str, path: str, **more: Any) -> Json:
        where = self._where
        if self.address.socket and not Path(self.address.socket).is_socket():
            raise NotRunning(f"Hangar cannot be reached at {where}: there is no such socket.")
        try:
            response = self._http.request(method, path, **more)
        except httpx.TimeoutException:
            raise HangarError(f"Hangar at {where} did not answer in time.") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise NotRunning(f"Hangar cannot be reached at {where}: {str(error) or type(error).__name__}.") from None
        try:
            value = response.json()
        except ValueError:
            value = None
        if response.status_code == 200 and isinstance(value, dict):
            return value
        if isinstance(value, dict) and "code" in value:
            raise Refused(response.status_code, value)
        raise HangarError(f"What answers at {where} is not Hangar (HTTP status {response.status_code}).")


def _only(found: list[Address], pid: int, state: Path) -> Address:
    if pid:
        found = [address for address in found if address.pid == pid]
    if not found:
        which = f"with process number {pid} " if pid else ""
        raise NotRunning(f"No running Hangar {which}was found in {state / 'run'}.")
    if len(found) > 1:
        raise Ambiguous(found)
    return found[0]


def _token(address: Address, state: Path) -> str:
    """The admin token of a Hangar on this machine; another machine's is never guessed."""
    if address.url and not _is_loopback(address.url) and not address.pid:
        raise NoToken(f"Set HANGAR_ADMIN_TOKEN to the admin token of the Hangar at {address.url}.")
    path = Path(address.token_file) if address.token_file else state / "admin.token"
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise NoToken(
            f"The admin token in {path} cannot be read ({error.strerror}). Run as the user that Hangar runs as, or set "
            "HANGAR_ADMIN_TOKEN."
        ) from None
    if not token.isascii() or not token.isprintable() or not token:
        raise NoToken(f"{path} holds no token.")
    return token


def _reachable(url: str) -> str:
    """A listener on all addresses is reached over loopback."""
    for everywhere, loopback in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
        url = url.replace(everywhere, loopback)
    return url


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
