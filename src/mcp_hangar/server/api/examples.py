# SPDX-License-Identifier: MIT
"""An answer of each route, as it looks. A test holds them against the schemas."""

from __future__ import annotations

from typing import Any, Final

_PROVIDER: Final[dict[str, Any]] = {
    "name": "time",
    "description": "",
    "mode": "subprocess",
    "state": "ready",
    "held": False,
    "era": "modern",
    "sessions": "per_caller",
    "unenforced": ["network", "filesystem", "resources", "operator_plane"],
    "tools": 2,
    "in_flight": 0,
    "restarts": 0,
    "retry_after": 0.0,
    "last_error": "",
    "refused_messages": 0,
    "calls": {
        "calls": 2,
        "ok": 2,
        "tool_errors": 0,
        "failed": 0,
        "denied": 0,
        "running": 0,
        "seconds": 0.019,
        "refused_messages": 0,
        "last_call_at": "2026-11-28T12:53:25.983Z",
        "last_error": "",
        "last_error_at": "",
    },
    "instances": [
        {
            "id": "time-1",
            "state": "ready",
            "caller": "operator",
            "era": "modern",
            "version": "2026-07-28",
            "wire": "stdio",
            "in_flight": 0,
            "up_seconds": 177.359,
            "idle_seconds": 0.321,
        }
    ],
}

_TOOL: Final[dict[str, Any]] = {
    "provider": "time",
    "name": "convert_time",
    "title": "",
    "description": "Convert time between timezones",
    "denied_by": "",
    "definition": {
        "name": "convert_time",
        "description": "Convert time between timezones",
        "inputSchema": {"type": "object"},
    },
}

_PROMPT: Final[dict[str, Any]] = {
    "provider": "git",
    "name": "summarise",
    "title": "",
    "description": "Summarise the newest commits",
    "definition": {"name": "summarise", "description": "Summarise the newest commits"},
}

_RESOURCE: Final[dict[str, Any]] = {
    "provider": "files",
    "uri": "file:///notes.txt",
    "template": False,
    "name": "notes",
    "title": "",
    "description": "",
    "mime_type": "text/plain",
    "definition": {"uri": "file:///notes.txt", "name": "notes", "mimeType": "text/plain"},
}

_CALL: Final[dict[str, Any]] = {
    "id": "a22234f2f5-2",
    "state": "completed",
    "outcome": "ok",
    "provider": "time",
    "method": "tools/call",
    "name": "get_current_time",
    "caller": "operator",
    "caller_type": "operator",
    "session": "operator",
    "client": "hangar/3.0.0",
    "era": "modern",
    "trace": "6c1626e826fabd9e7848c43b5fec67dd",
    "admitted_at": "2026-11-28T12:53:25.983Z",
    "ended_at": "2026-11-28T12:53:25.986Z",
    "seconds": 0.002,
    "result_bytes": 440,
    "arguments_hash": "7b7853b1a765b47f5d5266debd3810d1125fe8dc48ef1d7a5a11c3720a32f9f2",
    "seq": 13,
}

_SESSION: Final[dict[str, Any]] = {
    "id": "5f1c9a2b7d044e6f9c1b",
    "open": True,
    "version": "2025-11-25",
    "door": "",
    "in_flight": 0,
    "counts": {
        "id": "5f1c9a2b7d044e6f9c1b",
        "source": "explicit",
        "caller": "anonymous",
        "caller_type": "anonymous",
        "tenant": "",
        "client": "claude-code/2.1.0",
        "era": "legacy",
        "providers": ["time"],
        "calls": 2,
        "ok": 2,
        "tool_errors": 0,
        "failed": 0,
        "denied": 0,
        "first_call_at": "2026-11-28T12:50:28.959Z",
        "last_call_at": "2026-11-28T12:53:25.983Z",
    },
}

EXAMPLES: Final[dict[str, Any]] = {
    "status": {
        "software": "mcp-hangar 3.0.0",
        "pid": 4711,
        "started_at": "2026-11-28T12:50:25Z",
        "uptime_seconds": 180.553,
        "state": "ready",
        "config": "/home/you/hangar.yaml",
        "record": {
            "epoch": "1062ac0f4ae8",
            "newest": "1062ac0f4ae8:14",
            "oldest": "1062ac0f4ae8:1",
            "refusing": False,
            "detail": "",
        },
        "totals": {
            "calls": 2,
            "ok": 2,
            "tool_errors": 0,
            "failed": 0,
            "denied": 0,
            "running": 0,
            "seconds": 0.019,
            "refused_messages": 0,
            "last_call_at": "2026-11-28T12:53:25.983Z",
            "last_error": "",
            "last_error_at": "",
        },
        "providers": [_PROVIDER],
    },
    "effective_config": {
        "file": "/home/you/hangar.yaml",
        "digest": "db082cb22454be1269c00ae1a08524616e07737d1ebe73d3c3c9d35a2b207ace",
        "config": {
            "version": 1,
            "server": {"listen": "127.0.0.1:8000"},
            "providers": {
                "time": {"mode": "subprocess", "command": ["uvx", "mcp-server-time"], "env": {"TOKEN": "***"}}
            },
        },
    },
    "check_config": {
        "ok": False,
        "file": "/home/you/hangar.yaml",
        "digest": "",
        "changed": True,
        "problems": [
            {
                "file": "/home/you/hangar.yaml",
                "line": 4,
                "column": 3,
                "what": "unknown key 'comand' in providers.time.",
                "fix": "Did you mean 'command'?",
                "code": "config_unknown_key",
            }
        ],
    },
    "list_providers": {"providers": [_PROVIDER], "cursor": ""},
    "get_provider": _PROVIDER,
    "get_provider_logs": {"provider": "time", "lines": ["starting", "listening on stdio"]},
    "start_provider": _PROVIDER,
    "meet_provider": _PROVIDER,
    "stop_provider": _PROVIDER | {"held": True, "state": "cold", "instances": []},
    "list_tools": {"tools": [_TOOL], "unknown": [], "cursor": ""},
    "list_provider_tools": {"tools": [_TOOL], "unknown": [], "cursor": ""},
    "list_prompts": {"prompts": [_PROMPT], "unknown": ["time"], "cursor": ""},
    "list_provider_prompts": {"prompts": [_PROMPT], "unknown": [], "cursor": ""},
    "list_resources": {"resources": [_RESOURCE], "unknown": [], "cursor": ""},
    "list_provider_resources": {"resources": [_RESOURCE], "unknown": [], "cursor": ""},
    "list_calls": {"calls": [_CALL], "cursor": ""},
    "get_call": {
        "call": _CALL,
        "story": [
            "operator (hangar/3.0.0) asked time for tools/call get_current_time.",
            "It was admitted at 2026-11-28T12:53:25.983Z.",
            "It was answered after 0.003 s.",
        ],
        "events": [
            {
                "type": "call.admitted",
                "version": 1,
                "id": "01a22237-b55f-700d-95cd-a444395aecb2",
                "epoch": "1062ac0f4ae8",
                "seq": 13,
                "at": "2026-11-28T12:53:25.983Z",
                "severity": "info",
                "provider": "time",
                "method": "tools/call",
                "name": "get_current_time",
                "call_id": "a22234f2f5-2",
                "session_id": "operator",
                "caller": "operator",
                "trace_id": "6c1626e826fabd9e7848c43b5fec67dd",
                "caller_type": "operator",
                "client": "hangar/3.0.0",
                "era": "modern",
                "arguments_hash": "7b7853b1a765b47f5d5266debd3810d1125fe8dc48ef1d7a5a11c3720a32f9f2",
            },
            {
                "type": "call.completed",
                "version": 1,
                "id": "01a22237-b562-700e-942c-e3fa9ece987b",
                "epoch": "1062ac0f4ae8",
                "seq": 14,
                "at": "2026-11-28T12:53:25.986Z",
                "severity": "info",
                "provider": "time",
                "method": "tools/call",
                "name": "get_current_time",
                "call_id": "a22234f2f5-2",
                "session_id": "operator",
                "caller": "operator",
                "trace_id": "6c1626e826fabd9e7848c43b5fec67dd",
                "outcome": "ok",
                "seconds": 0.002,
                "result_bytes": 440,
            },
        ],
    },
    "make_call": {
        "call_id": "a22234f2f5-2",
        "result": {
            "content": [
                {
                    "text": "{\n"
                    '  "timezone": "Europe/Berlin",\n'
                    '  "datetime": "2026-11-28T13:53:20+01:00",\n'
                    '  "day_of_week": "Saturday",\n'
                    '  "is_dst": false\n'
                    "}",
                    "type": "text",
                }
            ],
            "isError": False,
            "resultType": "complete",
            "structuredContent": {
                "timezone": "Europe/Berlin",
                "datetime": "2026-11-28T13:53:20+01:00",
                "day_of_week": "Saturday",
                "is_dst": False,
            },
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "mcp-time", "version": "2026.10.19"}},
        },
    },
    "list_sessions": {"sessions": [_SESSION], "cursor": ""},
    "get_session": _SESSION,
    "list_events": {
        "events": [
            {
                "type": "call.admitted",
                "version": 1,
                "id": "01a22237-b55f-700d-95cd-a444395aecb2",
                "epoch": "1062ac0f4ae8",
                "seq": 13,
                "at": "2026-11-28T12:53:25.983Z",
                "severity": "info",
                "provider": "time",
                "method": "tools/call",
                "name": "get_current_time",
                "call_id": "a22234f2f5-2",
                "session_id": "operator",
                "caller": "operator",
                "trace_id": "6c1626e826fabd9e7848c43b5fec67dd",
                "caller_type": "operator",
                "client": "hangar/3.0.0",
                "era": "modern",
                "arguments_hash": "7b7853b1a765b47f5d5266debd3810d1125fe8dc48ef1d7a5a11c3720a32f9f2",
            },
            {
                "type": "call.completed",
                "version": 1,
                "id": "01a22237-b562-700e-942c-e3fa9ece987b",
                "epoch": "1062ac0f4ae8",
                "seq": 14,
                "at": "2026-11-28T12:53:25.986Z",
                "severity": "info",
                "provider": "time",
                "method": "tools/call",
                "name": "get_current_time",
                "call_id": "a22234f2f5-2",
                "session_id": "operator",
                "caller": "operator",
                "trace_id": "6c1626e826fabd9e7848c43b5fec67dd",
                "outcome": "ok",
                "seconds": 0.002,
                "result_bytes": 440,
            },
        ],
        "cursor": "1062ac0f4ae8:14",
        "gap": None,
    },
    "create_code": {"code": "n7Qx0vYkR1mA2sLw9uTzE4bC", "expires_in": 600.0},
    "log_in": {"token": "Jm2tV8wQ5xN0rKc7pZ3aYf6hLd9sGe1uBo4iMq_XvEk", "expires_in": 43200.0},
}
