"""Models on the Hub: against a local server that speaks the parts of its protocol that are used."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch

import mmcore
from mmcore import JointModel, MmcoreError, Registry, RequestError
from mmcore.hub.card import without_places
from mmcore.metrics.figure import Figure
from tests.training.runs import small

pytest.importorskip("huggingface_hub", reason="huggingface_hub is an extra; datasets brings it along")

# The Hub's library uploads large files by an argument that its own HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "ada/joint"


class Repository:
    """Files by commit; a commit's name is a digest of what it holds."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.commit(files)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        whole = {**self.commits.get(self.refs.get(ref, ""), {}), **files}
        digest = hashlib.sha1(f"{len(self.commits)} {sorted(whole)}".encode()).hexdigest()
        self.commits[digest], self.refs[ref] = whole, digest
        return digest


class Server:
    """Some of the Hub: repositories, what was asked of it, and whether it fails."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.lengths: dict[str, int] = {}
        self.large: dict[str, bytes] = {}
        self.fails = 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def got(self) -> list[str]:
        """The files that were downloaded."""
        return [line.rpartition("/")[2] for line in self.asked if line.startswith("GET ") and "/resolve/" in line]


class Handler(BaseHTTPRequestHandler):
    hub: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None: ...

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        told = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str) -> None:
        self.answer(404, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def found(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self.missing("RepoNotFound")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self.missing("RevisionNotFound")
            return None
        return repository, commit

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.fails:
            return self.answer(self.hub.fails, {"error": "out of order"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if there := self.found(match[1], match[2] or "main"):
                repository, commit = there
                siblings = [{"rfilename": name} for name in repository.commits[commit]]
                self.answer(200, {"id": match[1], "sha": commit, "siblings": siblings, "private": False, "tags": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if there := self.found(match[1], match[2]):
                repository, commit = there
                tree = [
                    {
                        "type": "file",
                        "path": name,
                        "oid": hashlib.sha1(data).hexdigest(),
                        "size": self.hub.lengths.get(name, len(data)),
                    }
                    for name, data in repository.commits[commit].items()
                ]
                self.answer(200, tree)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if there := self.found(match[1], match[2]):
                repository, commit = there
                data = repository.commits[commit].get(match[3])
                if data is None:
                    return self.missing("EntryNotFound")
                length = str(self.hub.lengths.get(match[3], len(data)))
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self.answer(200, data, X_Repo_Commit=commit, ETag=etag, X_Linked_Size=length)
        else:
            self.answer(404, {"error": f"no {path}"})
        return None

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.large[self.path.rpartition("/")[2]] = data
        self.answer(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"POST {path}")
        if self.hub.fails:
            return self.answer(self.hub.fails, {"error": "out of order"})
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self.answer(401, {"error": "Invalid credentials"})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            there = name in self.hub.repositories
            self.hub.repositories.setdefault(name, Repository({".gitattributes": b""}))
            return self.answer(409 if there else 200, {"url": f"{self.hub.url}/{name}"})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", path):
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(("safetensors", "png")) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    data = self.hub.large[value["oid"]]
                    assert (hashlib.sha256(data).hexdigest(), len(data)) == (value["oid"], value["size"])
                    files[value["path"]] = data
            commit = self.hub.repositories[match[1]].commit(files)
            url = f"{self.hub.url}/{match[1]}/commit/{commit}"
            return self.answer(200, {"commitUrl": url, "commitOid": commit})
        return self.answer(404, {"error": f"no {path}"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server()
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    # Large files by Git's protocol for them, not by the one of the Hub's own storage.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    yield server
    server.close()


def files_of(model: JointModel, folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in mmcore.save(model, folder).iterdir()}


def same(one: JointModel, other: JointModel) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Fetched.


def test_a_published_model_is_the_same_when_it_is_fetched(registry: Registry, hub: Server, tmp_path: Path) -> None:
    model = small(registry, seed=3)
    commit = model.push_to_hub(NAME, licence="apache-2.0", token="hf_right")
    assert set(hub.repositories[NAME].commits[commit]) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
    }
    again = JointModel.from_pretrained(NAME, registry=registry)
    assert same(model, again)
    assert not again.training
    assert torch.equal(
        mmcore.sample(again, 3, seed=5, steps=3)["words"], mmcore.sample(model, 3, seed=5, steps=3)["words"]
    )
    assert set(hub.got()) == {"config.json", "model.safetensors"}


def test_a_folder_is_opened_as_load_does_and_has_no_revisions(registry: Registry, tmp_path: Path) -> None:
    model = small(registry, seed=3)
    mmcore.save(model, tmp_path / "mine")
    assert same(model, JointModel.from_pretrained(tmp_path / "mine", registry=registry))
    with pytest.raises(RequestError, match="is a folder, which has no revisions"):
        JointModel.from_pretrained(tmp_path / "mine", revision="main", registry=registry)


def test_a_revision_is_pinned_by_commit_tag_or_branch(registry: Registry, hub: Server, tmp_path: Path) -> None:
    one, two = small(registry, seed=1), small(registry, seed=2)
    repository = hub.repositories[NAME] = Repository(files_of(one, tmp_path / "one"))
    first = repository.refs["main"]
    repository.refs["v1"] = first
    assert same(one, JointModel.from_pretrained(NAME, registry=registry))
    repository.commit(files_of(two, tmp_path / "two"))
    assert same(two, JointModel.from_pretrained(NAME, registry=registry))
    assert same(one, JointModel.from_pretrained(NAME, revision=first, registry=registry))
    assert same(one, JointModel.from_pretrained(NAME, revision="v1", registry=registry))
    with pytest.raises(RequestError, match="from_pretrained: ada/joint has no revision 'v2'"):
        JointModel.from_pretrained(NAME, revision="v2", registry=registry)


def test_of_other_files_none_is_fetched(registry: Registry, hub: Server, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    import pickle

    files = files_of(small(registry), tmp_path / "one")
    others = {
        "pytorch_model.bin": pickle.dumps(Bomb()),
        "modeling.py": f"open({str(tmp_path / 'executed')!r}, 'w')".encode(),
        "sub/config.json": b"{}",
        "sub/model.safetensors": b"",
        "config.json.pkl": pickle.dumps(Bomb()),
        "tokenizer.json": b"{}",
    }
    hub.repositories[NAME] = Repository(files | others)
    JointModel.from_pretrained(NAME, registry=registry)
    assert sorted(hub.got()) == ["config.json", "model.safetensors"]
    assert not (tmp_path / "executed").exists()
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink()]
    assert sorted(kept) == ["config.json", "model.safetensors"]


def test_a_repository_of_pickles_alone_is_told_and_nothing_of_it_fetched(hub: Server) -> None:
    hub.repositories[NAME] = Repository({"pytorch_model.bin": b"\x80\x04", "config.json": b"{}", "\x1b[2Jx.py": b""})
    with pytest.raises(RequestError) as refused:
        JointModel.from_pretrained(NAME)
    message = str(refused.value)
    assert "ada/joint has no model.safetensors, expected a model of mmcore" in message
    assert "pytorch_model.bin" in message
    assert message.isprintable()
    assert hub.got() == []


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_pickle_or_a_link_under_a_models_name_is_refused(
    registry: Registry, hub: Server, tmp_path: Path, file: str
) -> None:
    whole = files_of(small(registry), tmp_path / "one")
    (tmp_path / "secret.json").write_text("{}")
    # A link of git is a file that holds its target, and is fetched as that.
    for content in (b"PK\x03\x04 a pickle", b"\x80\x04\x95", str(tmp_path / "secret.json").encode(), b"../../secret"):
        hub.repositories[NAME] = Repository(whole | {file: content})
        with pytest.raises(RequestError, match=rf"load: .*{file}"):
            JointModel.from_pretrained(NAME, registry=registry)


def test_a_link_in_the_cache_that_leads_out_of_it_is_refused(registry: Registry, hub: Server, tmp_path: Path) -> None:
    files = files_of(small(registry), tmp_path / "one")
    hub.repositories[NAME] = Repository(files)
    JointModel.from_pretrained(NAME, registry=registry)
    (link,) = (tmp_path / "cache").rglob("snapshots/*/config.json")
    link.unlink()
    link.symlink_to(tmp_path / "one" / "config.json")
    with pytest.raises(RequestError, match="a link that leads out of the folder"):
        JointModel.from_pretrained(NAME, registry=registry)


def test_what_is_too_long_is_refused_before_it_is_fetched(
    registry: Registry, hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(small(registry), tmp_path / "one")
    hub.repositories[NAME] = Repository(files)
    monkeypatch.setenv("MMCORE_MOST_WEIGHTS", "1000")
    with pytest.raises(RequestError, match=r"model.safetensors of ada/joint has .*MMCORE_MOST_WEIGHTS raises it"):
        JointModel.from_pretrained(NAME, registry=registry)
    monkeypatch.delenv("MMCORE_MOST_WEIGHTS")
    monkeypatch.setenv("MMCORE_MOST_RECORD", "100")
    with pytest.raises(RequestError, match=r"config.json of ada/joint has .*MMCORE_MOST_RECORD raises it"):
        JointModel.from_pretrained(NAME, registry=registry)
    assert hub.got() == []


def test_a_plugin_that_is_not_here_is_told_with_the_line_that_installs_it(
    registry: Registry, hub: Server, tmp_path: Path
) -> None:
    files = files_of(small(registry), tmp_path / "one")
    config = json.loads(files["config.json"])
    config["distributions"]["mmcore-sound"] = "0.3.1"
    hub.repositories[NAME] = Repository(files | {"config.json": json.dumps(config).encode()})
    with pytest.raises(RequestError) as refused:
        JointModel.from_pretrained(NAME, registry=registry)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("not installed here: pip install mmcore-sound==0.3.1")


# Out of reach.


def test_what_was_fetched_is_there_when_the_hub_is_not(
    registry: Registry, hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(registry, seed=4)
    hub.repositories[NAME] = Repository(files_of(model, tmp_path / "one"))
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(RequestError) as refused:
            JointModel.from_pretrained(NAME, registry=registry)
        assert str(refused.value) == (
            "from_pretrained: the Hub is switched off (HF_HUB_OFFLINE), and ada/joint is not in the cache; unset it"
        )
    assert hub.asked == []
    JointModel.from_pretrained(NAME, registry=registry)
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        asked = len(hub.asked)
        assert same(model, JointModel.from_pretrained(NAME, registry=registry))
        assert len(hub.asked) == asked
    hub.close()
    assert same(model, JointModel.from_pretrained(NAME, registry=registry))


def test_a_hub_that_cannot_be_reached_is_one_line(hub: Server) -> None:
    hub.close()
    with pytest.raises(MmcoreError) as failed:
        JointModel.from_pretrained(NAME)
    assert re.fullmatch(
        r"from_pretrained: the Hub cannot be reached at http://127\.0\.0\.1:\d+, and ada/joint is not in the cache "
        r"\(.*\); try again",
        str(failed.value),
    )
    with pytest.raises(
        MmcoreError, match=r"push_to_hub: the Hub cannot be reached at http://127\.0\.0\.1:\d+ \(.*\); try again"
    ):
        small(mmcore.discover()).push_to_hub(NAME, licence="mit", token="hf_right")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ada/none", "there is no ada/none at http://127.*, or it is private; look at the name, or hf auth login"),
        ("joint", "'joint' is no folder that is there, and no name on the Hub; expected such as 'user/model'"),
        ("../up/joint", "is no folder that is there"),
        ("https://huggingface.co/ada/joint", "is no folder that is there"),
        ("ada/..", "is no folder that is there"),
        ("", "is no folder that is there"),
    ],
)
def test_a_name_that_is_none_is_told(
    hub: Server, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message):
        JointModel.from_pretrained(name)


def test_by_the_environment_alone(registry: Registry, hub: Server, tmp_path: Path) -> None:
    """As it is used: the endpoint and the cache of the environment, in a process of its own."""
    hub.repositories[NAME] = Repository(files_of(small(registry), tmp_path / "one"))
    program = f"import mmcore; print(type(mmcore.JointModel.from_pretrained({NAME!r})).__name__)"
    place = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "there"), "HF_HOME": str(tmp_path / "home")}

    # Other tests switch the Hub off for whatever they start.
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**own, **place}, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.returncode) == ("JointModel\n", 0), done.stderr
    assert sorted(hub.got()) == ["config.json", "model.safetensors"]


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RequestError, match=r"is not installed; pip install 'mmcore-diffusion\[hub\]'"):
        JointModel.from_pretrained(NAME)


# Published.


def trained(registry: Registry, folder: Path) -> JointModel:
    """A run's folder, with samples and calibration, as commands leave it."""
    model = small(registry, seed=6)
    model.configuration = {
        "out": "/home/ada/secret/runs/one",
        "data": {"source": "npz", "options": {"path": "/home/ada/secret/rows.npz"}, "columns": {"label": "y|z"}},
    }
    mmcore.save(model, folder / "model")
    (folder / "samples").mkdir()
    from PIL import Image

    Image.new("RGB", (4, 4), "red").save(folder / "samples" / "samples.png")
    digest = hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
    figure = {"value": 0.973, "n": 364, "low": 0.955, "high": 0.987}
    kept = {"label->words words.coverage": figure, "label->words words.coverage[0]": figure}
    told = {"what": "the calibration of a run of mmcore", "format": 1, "model": digest, "rows": "the run's test data"}
    (folder / "calibration.json").write_text(
        json.dumps({**told, "draws": 39, "figures": kept, "diagrams": [], "notes": []})
    )
    return mmcore.load(folder / "model", registry=registry)


def test_the_card_says_what_is_known(registry: Registry, hub: Server, tmp_path: Path) -> None:
    model = trained(registry, tmp_path / "run")
    measured = {"label->words words.cosine": Figure(0.5, 40, 0.25, 0.75)}
    commit = model.push_to_hub(NAME, licence="cc-by-nc-4.0", run=tmp_path / "run", figures=measured, token="hf_right")
    files = hub.repositories[NAME].commits[commit]
    card = files["README.md"].decode()
    head = card.split("---\n")[1].splitlines()
    assert head[:2] == ["library_name: mmcore", "pipeline_tag: any-to-any"]
    assert "license: cc-by-nc-4.0" in head
    assert "| label->words words.coverage | 0.973 | 0.955 … 0.987 | 364 |" in card.replace("\\>", ">")
    assert "| label->words words.cosine | 0.5 | 0.25 … 0.75 | 40 |" in card.replace("\\>", ">")
    assert "words.coverage\\[0\\]" not in card
    assert "the run's test data" in card
    assert '| columns | {"label": "y\\|z"} |' in card
    assert "![samples](samples.png)" in card
    assert files["samples.png"] == (tmp_path / "run" / "samples" / "samples.png").read_bytes()
    versions = json.loads(files["config.json"])["distributions"]
    line = " ".join(f"{name}=={version}" for name, version in versions.items())
    assert f"```sh\npip install {line}\n```" in card
    assert "mmcore-label" in line
    assert f'mmcore.JointModel.from_pretrained("{NAME}")' in card
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    pushed = json.loads(files["config.json"])
    assert saved.pop("configuration") != pushed.pop("configuration")
    assert saved == pushed
    for text in (card, files["config.json"].decode()):
        assert "secret" not in text
    assert "rows.npz" in card
    assert same(model, JointModel.from_pretrained(NAME, revision=commit, registry=registry))


def test_a_card_of_a_model_alone_says_that_nothing_was_measured(registry: Registry, hub: Server) -> None:
    commit = small(registry).push_to_hub(NAME, licence="mit", token="hf_right")
    card = hub.repositories[NAME].commits[commit]["README.md"].decode()
    assert "None were measured." in card
    assert "Nothing was recorded of the data" in card
    assert "samples.png" not in card


@pytest.mark.parametrize("licence", [None, "", "Apache 2.0\nlicense: x", 3])
def test_no_licence_is_assumed(registry: Registry, hub: Server, licence: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"licence is .*; none is assumed"):
        small(registry).push_to_hub(NAME, licence=licence, token="hf_right")
    assert hub.asked == []
    mmcore.save(small(registry), tmp_path / "mine")
    assert "license" not in (tmp_path / "mine" / "README.md").read_text()


def test_figures_of_other_weights_do_not_go_with_a_model(registry: Registry, hub: Server, tmp_path: Path) -> None:
    trained(registry, tmp_path / "run")
    with pytest.raises(RequestError, match="are others than the model's in hand"):
        small(registry, seed=7).push_to_hub(NAME, licence="mit", run=tmp_path / "run", token="hf_right")
    # A calibration that was measured before the training went on is left out.
    model = small(registry, seed=7)
    mmcore.save(model, tmp_path / "run" / "model")
    commit = model.push_to_hub(NAME, licence="mit", run=tmp_path / "run", token="hf_right")
    assert "None were measured." in hub.repositories[NAME].commits[commit]["README.md"].decode()


def test_who_may_not_write_is_told(registry: Registry, hub: Server) -> None:
    with pytest.raises(RequestError, match=r"push_to_hub: .* hf auth login"):
        small(registry).push_to_hub(NAME, licence="mit", token="hf_wrong")
    with pytest.raises(RequestError, match="'joint' is no name on the Hub"):
        small(registry).push_to_hub("joint", licence="mit", token="hf_right")
    hub.fails = 418
    with pytest.raises(MmcoreError, match=r"the Hub failed for ada/joint \(status 418\)"):
        small(registry).push_to_hub(NAME, licence="mit", token="hf_right")


def test_paths_are_left_out_and_nothing_else() -> None:
    told = {
        "a": "/home/ada/x.npz",
        "b": ["~/y", "./z/", "C:\\w\\v.csv", "file:///u/t"],
        "c": "image->label",
        "d": 0.5,
        "columns": {"a": "/a"},
        "e": "/",
    }
    assert without_places(told) == {
        "a": "x.npz",
        "b": ["y", "z", "v.csv", "t"],
        "c": "image->label",
        "d": 0.5,
        "columns": {"a": "/a"},
        "e": "/",
    }
