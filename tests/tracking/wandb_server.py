"""As much of a W&B server as its client needs to send runs with tables; for lack of an account."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ServedRun:
    """Data of a run that the server has received."""

    bucket: dict[str, Any]
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False


class Server(ThreadingHTTPServer):
    """Keeps runs by id. `refuses`: it refuses the key; `stuck`: it takes no more history."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, ServedRun] = {}
        self.refuses = False
        self.stuck = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone."""

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer the queries that the client makes, by the name of what is asked for."""
        given = variables.get("input", variables)
        if "upsertBucket(" in query:
            run = self.runs.setdefault(given["name"], ServedRun({}))
            run.bucket |= {key: value for key, value in given.items() if value is not None}
            project = {"id": "P", "name": given["project"], "entity": {"id": "E", "name": "lab"}}
            bucket = {"id": given["name"], "name": given["name"], "config": "{}", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}
        if "createRunFiles(" in query:
            files = [{"name": name, "uploadUrl": self._upload(given["run"], name)} for name in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        if "createArtifactFiles(" in query:
            files = [self._artifact_file(item["name"]) for item in given["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in files]}}}
        if "createArtifactManifest(" in query:
            file = {"name": "manifest", "uploadUrl": self._upload("artifact", "m"), "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file}}}
        if "createArtifact(" in query:
            sequence = {"id": "S", "latestArtifact": None}
            return {
                "createArtifact": {"artifact": {"id": "A", "state": "PENDING", "artifactSequence": sequence}}
            }
        if "commitArtifact(" in query:
            return {"commitArtifact": {"artifact": {"id": "A", "digest": "d"}}}
        if "viewer" in query:
            viewer = {"id": "V", "entity": "lab", "username": "u", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": viewer}
        return {"serverInfo": {"features": []}, "project": {"artifact": None}}

    def _upload(self, run_id: str, name: str) -> str:
        return f"{self.url}/upload/{run_id}/{name}"

    def _artifact_file(self, name: str) -> dict[str, Any]:
        url = self._upload("artifact", name)
        return {"name": name, "uploadUrl": url, "uploadHeaders": [], "artifact": {"id": "A"}}

    def stream(self, run_id: str, told: dict[str, Any]) -> None:
        """Take what the client streams: history by line number, so that what is sent again replaces it."""
        run = self.runs[run_id]
        for name, chunk in told.get("files", {}).items():
            if name == "wandb-history.jsonl":
                lines = map(json.loads, chunk["content"])
                run.history |= dict(enumerate(lines, start=chunk["offset"]))
        run.complete |= told.get("complete", False)

    def upload(self, path: str, body: bytes) -> None:
        """Take a file of a run, or of an artifact."""
        _, _, run_id, name = path.split("/", 3)
        if run_id in self.runs:
            self.runs[run_id].files[name] = body


class Handler(BaseHTTPRequestHandler):
    """Takes JSON or a file, gives JSON."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_PUT(self) -> None:
        self.server.upload(self.path, self._body())
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/file_stream") and self.server.stuck:
            self._answer({}, 503)
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body))
            self._answer({})
        elif self.server.refuses:
            self._answer({"errors": [{"message": "user is not logged in"}]}, 401)
        else:
            asked = json.loads(body)
            self._answer({"data": self.server.graphql(asked["query"], asked.get("variables") or {})})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def serving() -> Iterator[Server]:
    """Serve on loopback for a block."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
