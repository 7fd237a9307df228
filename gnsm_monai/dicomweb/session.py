"""The HTTP session with a DICOMweb server: who asks, what is never followed, and each failure as one line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError
from urllib3.util.retry import Retry

from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line_of

__all__ = ["TIMEOUT", "ServerError", "asking", "check_url", "open_session"]

USER, PASSWORD, TOKEN = "GNSM_DICOMWEB_USER", "GNSM_DICOMWEB_PASSWORD", "GNSM_DICOMWEB_TOKEN"

TIMEOUT = (10.0, 300.0)
"""Seconds to wait for a connection, and between two bytes of an answer."""

RETRIES = Retry(
    total=2,
    read=False,
    backoff_factor=0.5,
    status_forcelist=(429, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,  # which may name a day
)
"""Of what the server cannot have acted on: no connection, or too busy for a search. A POST is sent once."""

LOGGERS = ("dicomweb_client", "retrying", "urllib3")
"""They log headers, and tracebacks of what is said in one line."""

DENIED = (401, 403, 407)

TO_DO = {
    401: "asks for credentials, or refuses those that it gets (401): set {USER} and {PASSWORD}, or {TOKEN}, or add its "
    "host to ~/.netrc",
    403: "does not allow this with these credentials (403): ask who runs it for the right to search, fetch and store",
    404: "has nothing there (404): does the URL end at the root of its DICOMweb service, such as /dicom-web?",
    429: "is asked too often (429): try again later",
}


class ServerError(InputError):
    """A server did not do what it was asked for; the message names its URL and what to do.

    Args:
        message: one line, without credentials.
        status: of the HTTP answer; None where there was none, or none of use.
        reached: whether the server could be reached.
    """

    def __init__(self, message: str, status: int | None = None, reached: bool = True) -> None:
        super().__init__(message)
        self.status, self.reached = status, reached

    @property
    def ends_run(self) -> bool:
        """Whether every further request would fail alike."""
        return not self.reached or self.status in DENIED

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status == 429 or self.status >= 500


class _RedirectError(Exception):
    """Carries the place that an answer points to."""


class _Session(requests.Session):  # type: ignore[misc]
    def request(self, method: str, url: str, **options: Any) -> Any:
        """Follows no redirect, which could carry credentials and patients' data elsewhere."""
        # dicomweb-client names the host without its port.
        headers = {name: value for name, value in (options.pop("headers", None) or {}).items() if name != "Host"}
        response = super().request(method, url, **{**options, "headers": headers, "allow_redirects": False})
        if response.is_redirect:
            raise _RedirectError(response.headers["location"])
        return response


class _Token(requests.auth.AuthBase):  # type: ignore[misc]
    """Unlike a header of the session it is not replaced by what a netrc file says of the host."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def open_session(environment: Mapping[str, str] = os.environ) -> requests.Session:
    """A session with the credentials of the environment; where it has none, requests looks into netrc.

    Certificates are verified; ``REQUESTS_CA_BUNDLE`` names the file of a hospital's own authority.

    Raises:
        InputError: credentials that are incomplete, or cannot be sent.
    """
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    session = _Session()
    session.mount("http://", HTTPAdapter(max_retries=RETRIES))
    session.mount("https://", HTTPAdapter(max_retries=RETRIES))
    user, password, token = (environment.get(name, "") for name in (USER, PASSWORD, TOKEN))
    if bool(user) != bool(password):
        raise InputError(f"{USER} and {PASSWORD} belong together: set both, or none")
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InputError(f"{TOKEN} holds a character that no token has")
        session.auth = _Token(token)
    elif user:
        session.auth = (user.encode(), password.encode())
    return session


def check_url(url: str) -> str:
    """The URL of a server without a slash at its end.

    Raises:
        InputError: it is none, or holds credentials, which the message does not repeat.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError("--dicomweb: the URL of a DICOMweb server is needed") from None
    if parts.username is not None or parts.password is not None:
        shown = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"
        raise InputError(
            f"--dicomweb: leave credentials out of the URL ({shown}): set {USER} and {PASSWORD}, or use ~/.netrc"
        )
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        example = "https://HOST/dicom-web"
        raise InputError(f"--dicomweb: the URL of a DICOMweb server is needed, such as {example}, got '{url}'")
    return url.rstrip("/")


@contextmanager
def asking(url: str, what: str) -> Iterator[None]:
    """Turns every failure of a request into a :class:`ServerError`.

    Args:
        url: of the server.
        what: is asked for, as in "search for segmentations".

    Raises:
        ServerError: in place of the errors of dicomweb-client, requests, urllib3 and pydicom. Messages of requests are
            not passed on, as they may quote a header.
    """
    try:
        yield
    except InputError:
        raise
    except _RedirectError as error:
        place = urlsplit(str(error))
        elsewhere = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}" if place.netloc else place.path
        raise ServerError(
            f"{url}: redirects to {elsewhere}, which is not followed: name the server that answers itself", 300
        ) from None
    except requests.HTTPError as error:
        status = int(error.response.status_code)
        default = "failed ({status}): its log says why" if status >= 500 else "refused the request ({status})"
        text = TO_DO.get(status, default).format(status=status, USER=USER, PASSWORD=PASSWORD, TOKEN=TOKEN)
        raise ServerError(f"{url}: {what}: the server {text}", status) from None
    except requests.exceptions.SSLError:
        raise ServerError(
            f"{url}: its TLS certificate is not trusted: name the file of its authority by REQUESTS_CA_BUNDLE",
            reached=False,
        ) from None
    except requests.Timeout:
        text = f"no answer within {TIMEOUT[0]:g} s of connecting, or {TIMEOUT[1]:g} s of waiting: try again later"
        raise ServerError(f"{url}: {what}: {text}", reached=False) from None
    except requests.JSONDecodeError:
        raise ServerError(_no_dicom(url, what, "no JSON"), status=200) from None
    except requests.RequestException as error:
        if _is_unreachable(error):
            text = "cannot be reached: is the server running, and are host and port right?"
            raise ServerError(f"{url}: {text}", reached=False) from None
        text = "the connection broke off: the same command tries again"
        raise ServerError(f"{url}: {what}: {text}") from None
    except Exception as error:  # of many kinds, raised by what is no answer of DICOMweb
        raise ServerError(_no_dicom(url, what, one_line_of(error)), status=200) from None


def _no_dicom(url: str, what: str, reason: str) -> str:
    hint = "does the URL end at the root of its DICOMweb service, such as /dicom-web?"
    return f"{url}: {what}: the answer is no DICOM ({reason}): {hint}"


def _is_unreachable(error: requests.RequestException) -> bool:
    """Whether there was no connection at all, which is told from one that broke off."""
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
