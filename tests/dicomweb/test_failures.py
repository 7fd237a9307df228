"""Servers that are down, refuse, break off or send something else: one line each; credentials go nowhere else."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gnsm_monai import cli
from gnsm_monai.dicomweb.options import ServerOptions
from gnsm_monai.errors import InputError
from gnsm_monai.locks import LOCK

pytest.importorskip("dicomweb_client", reason="the extra 'dicom' is not installed: no dicomweb-client")
from gnsm_monai.dicomweb import session
from gnsm_monai.dicomweb.fetch import Fetched
from gnsm_monai.dicomweb.rank import ServerRanking
from gnsm_monai.dicomweb.server import Server
from gnsm_monai.dicomweb.session import ServerError, check_url

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[Any]]]:
    """URL of a server that gives this answer to every request, and the headers of what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers)))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/dicom+json", **headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting between attempts, and nothing from the machine's own settings."""
    monkeypatch.setattr(session, "RETRIES", session.RETRIES.new(backoff_factor=0))
    for name in (session.USER, session.PASSWORD, session.TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("")


def refusal(url: str) -> ServerError:
    with pytest.raises(ServerError) as caught:
        Server(url).segmentation_series()
    assert str(caught.value).startswith(f"{url}: ")
    return caught.value


@pytest.mark.parametrize(
    ("answer", "words", "ends", "passes"),
    [
        (says(401), "(401): set GNSM_DICOMWEB_USER and GNSM_DICOMWEB_PASSWORD, or GNSM_DICOMWEB_TOKEN", True, False),
        (says(403), "with these credentials (403): ask who runs it", True, False),
        (says(404), "(404): does the URL end at the root of its DICOMweb service", False, False),
        (says(400), "refused the request (400)", False, False),
        (says(500), "failed (500): its log says why", False, True),
        (says(503), "failed (503)", False, True),
        (says(200, b"<html>please log in</html>"), "the answer is no DICOM (no JSON): does the URL end", False, False),
        (says(200, b'{"error": 1}'), "which is no UID", False, False),
        (says(200, b'["a"]'), "the answer is no DICOM", False, False),
        (says(200, b'[{"0020', length=5000), "the connection broke off: the same command tries again", False, True),
    ],
    ids=["401", "403", "404", "400", "500", "503", "page", "object", "texts", "broken off"],
)
def test_an_answer_that_is_of_no_use_is_one_line_that_says_what_to_do(
    answer: Answer, words: str, ends: bool, passes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(answer) as (url, _):
        error = refusal(url)
    assert caplog.records == []  # of libraries, which would be further lines
    assert words in str(error)
    assert (error.ends_run, error.may_pass) == (ends, passes)


def test_a_server_that_is_down_cannot_be_reached() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web"
        error = refusal(url)
    assert "cannot be reached: is the server running" in str(error) and error.ends_run and error.may_pass


def test_a_server_that_hangs_up_broke_off() -> None:
    with serving(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)) as (url, asked):
        error = refusal(url)
    assert "the connection broke off" in str(error) and error.may_pass
    assert len(asked) == 1


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnsm_monai.dicomweb.server.TIMEOUT", (1.0, 0.2))
    done = threading.Event()
    with serving(lambda handler: done.wait(60) or None) as (url, _):
        try:
            assert "no answer within" in str(refusal(url))
        finally:
            done.set()


def test_a_redirect_carries_credentials_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session.TOKEN, "t0ken")
    with serving(says(200, b"[]")) as (elsewhere, asked_there):
        target = elsewhere.replace("http://", "http://user:word@")
        with serving(says(302, Location=target)) as (url, asked):
            error = refusal(url)
    assert asked_there == []
    assert asked[0][1]["Authorization"] == "Bearer t0ken"
    assert f"redirects to {elsewhere}, which is not followed" in str(error) and "word" not in str(error)


@pytest.mark.parametrize("source", ["user", "token", "netrc", "none", "token before netrc"])
def test_credentials_come_from_the_environment_or_netrc(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if source == "user":
        monkeypatch.setenv(session.USER, "anna")
        monkeypatch.setenv(session.PASSWORD, "w\u00f6rd")
    if "token" in source:
        monkeypatch.setenv(session.TOKEN, "t0ken")
    if "netrc" in source:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login anna password word\n")
    with serving(says(200, b"[]")) as (url, asked):
        assert Server(url).segmentation_series() == []
    expected = {
        "user": "Basic YW5uYTp3w7ZyZA==", "token": "Bearer t0ken", "netrc": "Basic YW5uYTp3b3Jk",
        "token before netrc": "Bearer t0ken",
    }.get(source)  # fmt: skip
    for (path, headers), modality in zip(asked, ("SEG", "RTSTRUCT"), strict=True):
        assert headers.get("Authorization") == expected
        assert headers["Host"] == url.split("/")[2]
        assert path.startswith("/dicom-web/series?") and f"Modality={modality}" in path


def test_credentials_that_cannot_be_used_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session.TOKEN, "two words")
    with pytest.raises(InputError, match=f"^{session.TOKEN} holds a character that no token has$"):
        Server("http://127.0.0.1:1/dicom-web")
    monkeypatch.delenv(session.TOKEN)
    monkeypatch.setenv(session.USER, "anna")
    with pytest.raises(InputError, match="belong together"):
        Server("http://127.0.0.1:1/dicom-web")


def test_a_url_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(InputError) as caught:
        check_url("https://anna:word@pacs.example:8443/dicom-web")
    assert "(https://pacs.example:8443/dicom-web)" in str(caught.value)
    assert "anna" not in str(caught.value) and "word" not in str(caught.value).replace(session.PASSWORD, "")
    for url in ("pacs/dicom-web", "ftp://pacs/", "https://", "https://pacs/?a=b", "https://pacs:no/"):
        with pytest.raises(InputError, match="the URL of a DICOMweb server is needed"):
            check_url(url)
    assert check_url("https://pacs/dicom-web/") == "https://pacs/dicom-web"


SERIES = {
    "0020000D": {"vr": "UI", "Value": ["1.2"]}, "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
    "00080060": {"vr": "CS", "Value": ["SEG"]},
}  # fmt: skip


def test_a_server_without_pages_and_filters_is_asked_no_more_than_twice_for_each_kind() -> None:
    with serving(says(200, json.dumps([SERIES]).encode())) as (url, asked):
        (series,) = Server(url).segmentation_series()
    assert (series.study, series.series, series.count) == ("1.2", "1.2.3", None)
    assert len(asked) == 4


def test_a_second_run_into_one_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock = FileLock(tmp_path / "out" / LOCK, timeout=0)
    refused = pytest.raises(InputError, match="another run is writing here")
    with serving(says(200, b"[]")) as (url, _), lock, refused:
        Fetched(tmp_path / "out").look(Server(url))
    with serving(says(401)) as (url, _), pytest.raises(ServerError):
        Fetched(tmp_path / "other").look(Server(url))
    assert not (tmp_path / "other").exists()


def test_a_server_cannot_name_a_file_outside_of_the_folder(tmp_path: Path) -> None:
    evil = {**SERIES, "00080018": {"vr": "UI", "Value": ["../../1.2"]}}
    content = json.dumps([evil]).encode()
    with serving(says(200, content)) as (url, _), pytest.raises(ServerError, match="which is no UID"):
        Fetched(tmp_path / "out").look(Server(url))
    assert list(tmp_path.rglob("*.dcm")) == []


def test_what_is_no_dicom_costs_its_own_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = json.dumps([{**SERIES, "00080018": {"vr": "UI", "Value": ["1.2.3.4"]}}]).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        page = says(200, b"<html>", **{"Content-Type": "text/html"})
        (page if handler.path.endswith("/instances/1.2.3.4") else says(200, listed))(handler)

    with serving(answer) as (url, _):
        fetched = Fetched(tmp_path / "out")
        server = Server(url)
        assert fetched.look(server) == fetched.look(server) == []
    (record,) = caplog.records  # said once
    assert f"{url}: fetch instance 1.2.3.4: the answer is no DICOM" in record.getMessage()
    assert list(fetched.failed) == ["1.2.3.4"]


def test_options_of_a_server_need_one_and_a_watch_an_end(tmp_path: Path) -> None:
    for options, words in (
        ({"store": True}, "--store needs --dicomweb URL"),
        ({"dicomweb": "u", "watch": True}, "--watch: say when it ends"),
        ({"dicomweb": "u", "watch_count": 3}, "need --watch"),
        ({"dicomweb": "u", "references_dir": tmp_path}, "--references is for folders of masks"),
    ):
        with pytest.raises(InputError, match=words):
            ServerOptions.take(dict(options))
    options = {"dicomweb": "u", "study": ["1"], "alpha": 0.1}
    assert ServerOptions.take(options) == ServerOptions("u", study=("1",))
    assert options == {"alpha": 0.1}


BUSY, DENIED = ServerError("busy", 503), ServerError("who are you?", 401)


@pytest.mark.parametrize(
    ("looks", "error"),
    [
        ([BUSY, 0, BUSY, 1, 2], None),
        ([0, DENIED], DENIED),
        ([BUSY] * 9 + [0] + [BUSY] * 10, BUSY),
    ],
    ids=["busy", "denied", "down for long"],
)
def test_a_watch_survives_what_may_pass(
    looks: list[Any], error: ServerError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(looks)

    def look(_: Any) -> int:
        outcome = next(left)
        if isinstance(outcome, ServerError):
            raise outcome
        return int(outcome)

    monkeypatch.setattr(ServerRanking, "_look", look)
    work = object.__new__(ServerRanking)
    work.options = ServerOptions("http://h", watch=True, watch_count=3, watch_every=1e-3)
    if error is None:
        work._watch(0)
    else:
        with pytest.raises(ServerError) as caught:
            work._watch(0)
        assert caught.value is error
    assert list(left) == []


def test_without_its_libraries_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gnsm_monai.dicomweb.rank", None)
    with pytest.raises(SystemExit):
        cli.main(["rank", "--dicomweb", "http://h/", "--model", str(tmp_path), "--output", str(tmp_path / "o")])
    expected = "error: DICOMweb needs highdicom and dicomweb-client: pip install 'gnsm_monai[dicom]'\n"
    assert capsys.readouterr().err == expected
    assert os.listdir(tmp_path) == ["netrc"]
