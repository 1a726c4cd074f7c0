"""A hub on this machine: the part of its HTTP interface that fetching a snapshot uses."""

import contextlib
import hashlib
import http.server
import json
import threading


def sha(*parts):
    return hashlib.sha1("/".join(parts).encode()).hexdigest()


def large(content):
    """What the hub adds for a file; beyond a size it lies elsewhere, known by its sha256."""
    if len(content) < 10_000:
        return {"size": len(content)}
    digest = hashlib.sha256(content).hexdigest()
    return {
        "size": len(content),
        "lfs": {"size": len(content), "sha256": digest, "pointerSize": 1},
    }


class Hub:
    """repositories[name][revision][file] is bytes; refuse[name] is (status, error code)."""

    def __init__(self, repositories, refuse=()):
        self.repositories, self.refuse = repositories, dict(refuse)
        self.served = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_GET(self):
                hub.respond(self)

            do_HEAD = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def respond(self, request):
        parts = request.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        name, (kind, revision, *rest) = "/".join(parts[:2]), parts[2:]
        if name in self.refuse:
            status, code = self.refuse[name]
            return request.answer(status, X_Error_Code=code, X_Error_Message=code)
        if name not in self.repositories:
            return request.answer(404, X_Error_Code="RepoNotFound")
        branches = self.repositories[name]
        named = {sha(name, branch): branch for branch in branches} | {b: b for b in branches}
        if revision not in named:
            return request.answer(404, X_Error_Code="RevisionNotFound")
        branch = named[revision]
        files, commit = branches[branch], sha(name, branch)
        if kind == "revision":
            blobs = "blobs=" in request.path
            siblings = [{"rfilename": f, **(large(c) if blobs else {})} for f, c in files.items()]
            info = {"id": name, "sha": commit, "siblings": siblings}
            return request.answer(200, json.dumps(info).encode())
        if kind == "tree":
            tree = [
                {"type": "file", "path": f, "size": len(c), "oid": sha(f, branch)}
                for f, c in files.items()
            ]
            return request.answer(200, json.dumps(tree).encode())
        content = files["/".join(rest)]
        if request.command == "GET":
            self.served.append((branch, "/".join(rest)))
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        return request.answer(200, content, ETag=tag, X_Repo_Commit=commit)


@contextlib.contextmanager
def running(repositories, refuse=()):
    hub = Hub(repositories, refuse)
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()
