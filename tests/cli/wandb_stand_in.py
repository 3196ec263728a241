"""A stand-in for W&B's server on loopback: what its real client 0.31 asks for in a sweep, no more.

It keeps every sweep's configuration, hands out the trials that a test prepares, one at a time, and keeps
the config, history and summary that a run uploads. It chooses nothing: that is the real server's part.
"""

import json
import re
import threading
import zlib
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "a" * 40  # the length that the client expects
ENTITY = "lab"


class WandbStandIn:
    """Serves from `with` to the end of the block, at `url`.

    Attributes:
        trials: Parameters that the agents are still to be given.
        sweeps: The configuration of each sweep, as the client sent it (YAML text), by sweep id.
        stop_after: Rows of history after which a run is stopped; None lets it finish.
        runs: What the runs uploaded by run id: `config`, `history`, `summary`, `exitcode`, `bucket`.
        asked: The name of every GraphQL operation, in order.
    """

    def __init__(self) -> None:
        self.trials: list[dict[str, Any]] = []
        self.sweeps: dict[str, str] = {}
        self.stop_after: int | None = None
        self.runs: dict[str, dict[str, Any]] = defaultdict(lambda: {"history": [], "summary": {}})
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self._busy: dict[str, str] = {}  # the run that each agent has been given
        self._lock = threading.Lock()
        stand_in = self

        class Handler(_Handler):
            owner = stand_in

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "WandbStandIn":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data that a GraphQL request asks for."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query.strip()[:40]
        with self._lock:
            self.asked.append(name)
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                self.unknown.append(name)
                return {}
            return dict(method(variables))

    def _viewer(self, _variables: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        person = {"id": "u1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": teams}
        return {"viewer": {**person, "name": ENTITY, "email": "", "admin": False}}

    _getviewer = _getdefaultentity = _viewer

    def _serverfeaturesquery(self, _variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _upsertsweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep_id = f"sweep{len(self.sweeps):03d}"
        self.sweeps[sweep_id] = variables["config"]
        sweep = {"name": sweep_id, "project": _project(variables.get("projectName"))}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _sweepwithruns(self, variables: dict[str, Any]) -> dict[str, Any]:
        config = self.sweeps[variables["sweep"]]
        return {"project": {"sweep": {"id": "s1", "config": config, "runs": {"edges": []}}}}

    def _createagent(self, _variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": f"agent{len(self.asked)}"}}}

    def _heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        agent, running = variables["id"], json.loads(variables["runState"] or "{}")
        command: dict[str, Any] | None = None
        if agent in self._busy and self._busy[agent] in running:
            run_id = self._busy[agent]
            if self.stop_after is not None and len(self.runs[run_id]["history"]) >= self.stop_after:
                command = {"type": "stop", "run_id": run_id}
        elif self.trials:
            parameters = self.trials.pop(0)
            run_id = f"trial{len(self.runs):03d}"
            self.runs[run_id]["parameters"] = parameters
            self._busy[agent] = run_id
            values = {key: {"value": value} for key, value in parameters.items()}
            command = {"type": "run", "run_id": run_id, "program": None, "args": values}
        else:  # a real server too tells an agent to exit once nothing runs: it would kill what does
            command = {"type": "exit"}
        commands = json.dumps([command] if command else [])
        return {"agentHeartbeat": {"agent": {"id": agent}, "commands": commands}}

    def _runresumestatus(self, _variables: dict[str, Any]) -> dict[str, Any]:
        return {"model": None}

    def _upsertbucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["name"]]
        run["bucket"] = {**run.get("bucket", {}), **{k: v for k, v in variables.items() if v is not None}}
        if variables.get("config"):
            run["config"] = {k: v["value"] for k, v in json.loads(variables["config"]).items()}
        bucket = {"id": "b1", "name": variables["name"], "displayName": variables["name"], "config": "{}"}
        project = _project(variables.get("project"))
        bucket |= {"sweepName": variables.get("sweep"), "project": project, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _createrunfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": n, "uploadUrl": f"{self.url}/upload/{n}"} for n in variables["files"]]
        return {"createRunFiles": {"runID": "b1", "uploadHeaders": [], "files": files}}

    def _markrunfilesuploaded(self, _variables: dict[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def streamed(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a part of a run's file stream; answer whether the run is to stop."""
        with self._lock:
            run, files = self.runs[run_id], body.get("files") or {}
            history = files.get("wandb-history.jsonl", {}).get("content", [])
            run["history"] += [json.loads(line) for line in history]
            for line in files.get("wandb-summary.json", {}).get("content", []):
                run["summary"] = json.loads(line)
            if body.get("complete"):
                run["exitcode"] = body.get("exitcode")
        return {"limits": {}, "stopped": False}


def _project(name: str | None) -> dict[str, Any]:
    return {"id": "p1", "name": name or "uncategorized", "entity": {"id": "e1", "name": ENTITY}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_where: object) -> None:
        """Say nothing of clients that end with their connection open."""


class _Handler(BaseHTTPRequestHandler):
    owner: WandbStandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            data = zlib.decompress(data, zlib.MAX_WBITS | 16)
        body = json.loads(data or b"{}")
        if self.path.endswith("/graphql"):
            self._reply({"data": self.owner.answer(body["query"], body.get("variables") or {})})
        elif found := re.search(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self._reply(self.owner.streamed(found.group(1), body))
        else:
            self._reply({})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def _reply(self, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words: object) -> None:
        pass
