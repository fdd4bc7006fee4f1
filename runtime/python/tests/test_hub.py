"""The hub, by a stub on this machine that keeps repositories in memory."""

import base64
import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import BUNDLE, IMAGE, run_python

from seeward import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub."""

    repositories: dict[str, dict[str, bytes]] = {}
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/(?:revision|tree)/([^/]+)", path):
            files = self.repositories.get(found[1])
            if files is None:
                return self.answer(404, {"error": "no repository"}, X_Error_Code="RepoNotFound")
            if "/tree/" in path:
                return self.answer(200, [{"type": "file", "path": name, "size": len(files[name]), "oid": COMMIT} for name in files])
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": found[1], "sha": COMMIT, "siblings": siblings, "private": False})
        if found := re.fullmatch(r"/(.+?/.+?)/resolve/[^/]+/(.+)", path):
            files = self.repositories.get(found[1])
            if files is None:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if found[2] not in files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            content = files[found[2]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=etag, X_Repo_Commit=COMMIT)
        return self.answer(404, {"error": f"no route {path}"})

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.repositories.setdefault(name, {})
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{name}"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/preupload/main", self.path.split("?")[0]):
            files = json.loads(body)["files"]
            return self.answer(200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/commit/main", self.path.split("?")[0]):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.repositories[found[1]][value["path"]] = base64.b64decode(value["content"])
            address = f"http://{self.headers['Host']}/{found[1]}/commit/{COMMIT}"
            return self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": address})
        return self.answer(404, {"error": f"no route {self.path}"})


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    Hub.repositories = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    server.shutdown()


PUSH = """
import sys
from seeward import hub
print(hub.push(sys.argv[1], "me/mine", report=sys.argv[2], licence="apache-2.0"))
"""
LOAD = """
import sys
import seeward
model = seeward.RewardModel.from_pretrained("me/mine", threads=1)
print(model.score("q", ["a"], sys.argv[1])[0])
"""


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.json"
    measured = {"pairs": 3000, "accuracy": 0.985, "interval": [0.98, 0.9891]}
    sets = {"iid": {**measured, "shortcut": {"sfd": 0.14}}, "ood": {**measured, "accuracy": None, "interval": None}}
    path.write_text(json.dumps({"sets": sets}))
    return path


def test_a_bundle_is_pushed_and_loaded(endpoint, model, report):
    pushed = run_python(PUSH, BUNDLE, report)
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.endswith(f"/me/mine/commit/{COMMIT}\n")
    files = Hub.repositories["me/mine"]
    assert set(files) == {path.name for path in BUNDLE.iterdir()} | {"README.md"}
    assert all(files[path.name] == path.read_bytes() for path in BUNDLE.iterdir())
    # Files that are not the bundle's stay where they are.
    files["training_state.bin"] = b"large"
    loaded = run_python(LOAD, IMAGE)
    assert loaded.returncode == 0, loaded.stderr
    assert float(loaded.stdout) == model.score("q", ["a"], IMAGE)[0]
    assert not list((os.path.exists(os.environ["HF_HOME"]) and hub.Path(os.environ["HF_HOME"]).rglob("training_state.bin")) or [])
    offline = run_python(LOAD, IMAGE, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert offline.stdout == loaded.stdout, offline.stderr


def test_a_changed_file_is_refused(endpoint):
    Hub.repositories["me/mine"] = {path.name: path.read_bytes() for path in BUNDLE.iterdir()}
    data = bytearray(Hub.repositories["me/mine"]["reward.onnx.data"])
    data[7] ^= 1
    Hub.repositories["me/mine"]["reward.onnx.data"] = bytes(data)
    loaded = run_python(LOAD, IMAGE)
    assert "BundleError" in loaded.stderr and "reward.onnx.data" in loaded.stderr, loaded.stderr


def test_a_repository_without_a_bundle_says_so(endpoint):
    Hub.repositories["me/mine"] = {"config.json": b"{}"}
    loaded = run_python(LOAD, IMAGE)
    assert "BundleError: me/mine: expected a bundle, got a repository without reward_model.json" in loaded.stderr
    Hub.repositories.clear()
    assert "RepositoryNotFoundError" in run_python(LOAD, IMAGE).stderr


def test_a_folder_is_no_repository(tmp_path):
    assert hub.download(BUNDLE) == BUNDLE
    with pytest.raises(hub.BundleError, match="expected a bundle, got a folder without reward_model.json"):
        hub.push(tmp_path, "me/mine")


def test_the_card_has_the_bundle_and_its_evaluation(report):
    card = hub.card(BUNDLE, "me/mine", report=report, licence="apache-2.0")
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert head.splitlines() == ["library_name: seeward", "tags: [reward-model, onnx, multimodal]", "license: apache-2.0"]
    assert 'from_pretrained("me/mine")' in body
    assert "| precision | fp32 |" in body and "| maximum length | 4096 tokens |" in body
    assert "| iid | 3000 | 98.5 | 98.0 to 98.9 | 14.0 |" in body
    assert "| ood | 3000 | – | – | – |" in body
    plain = hub.card(BUNDLE, "me/mine")
    assert "license" not in plain and "No evaluation was given" in plain and "| set |" not in plain
    report.write_text("{")
    with pytest.raises(ValueError, match="report: "):
        hub.card(BUNDLE, "me/mine", report=report)
