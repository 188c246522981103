"""The Hub's library: imported when it is used, and its failures told in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmcore.errors import MmcoreError, RequestError
from mmcore.plugins.metadata import one_line

CONFIG, WEIGHTS_FILE, CARD, PICTURE = "config.json", "model.safetensors", "README.md", "samples.png"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_SHOWN = 300
"""Characters of what the library says."""


def hub(what: str) -> Any:
    """The library.

    Args:
        what: is done, for messages.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise RequestError(f"{what}: huggingface_hub is not installed; pip install 'mmcore-diffusion[hub]'") from error
    return huggingface_hub


def is_name(text: str) -> bool:
    """Whether a text can be the name of a repository, ``user/model``."""
    return bool(_NAME.fullmatch(text)) and ".." not in text and "--" not in text


@contextmanager
def told(what: str, name: str, revision: str | None) -> Iterator[None]:
    """Says in one line what the Hub refuses, or that it is out of reach.

    Args:
        what: is done.
        name: of the repository.
        revision: of it.

    Raises:
        RequestError: there is no such repository or revision, or no right to it, or the Hub is switched off and the cache lacks it.
        MmcoreError: the Hub cannot be reached, or fails.
    """
    from huggingface_hub import constants, errors

    at = f"{name} at {revision}" if revision else name
    try:
        yield
    except MmcoreError:
        raise
    except errors.GatedRepoError as error:
        raise RequestError(
            f"{what}: {name} is gated: ask for access at {constants.ENDPOINT}/{name}, then hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RequestError(f"{what}: {name} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise RequestError(
            f"{what}: there is no {name} at {constants.ENDPOINT}, or it is private; look at the name, or hf auth login"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        if status in (401, 403):
            raise RequestError(
                f"{what}: the Hub allows it not for {name} (status {status}); hf auth login, with a token that may"
            ) from error
        raise MmcoreError(f"{what}: the Hub failed for {at} (status {status}): {_short(error)}") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.DryRunError) as error:
        if constants.is_offline_mode():
            raise RequestError(
                f"{what}: the Hub is switched off (HF_HUB_OFFLINE){_lacks(what, at)}; unset it"
            ) from error
        raise MmcoreError(_unreachable(what, at, error)) from error
    except OSError as error:
        raise MmcoreError(f"{what}: {at}: {_short(error)}") from error
    except errors.HFValidationError as error:
        raise RequestError(f"{what}: {_short(error)}") from error
    except (RuntimeError, ValueError) as error:
        cause = f" ({type(error.__cause__).__name__}: {_short(error.__cause__)})" if error.__cause__ else ""
        raise MmcoreError(f"{what}: {at}: {_short(error)}{cause}") from error
    except Exception as error:
        # The library's HTTP client has errors of its own, whose package has changed from version to version.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests"):
            raise MmcoreError(_unreachable(what, at, error)) from error
        raise


def _unreachable(what: str, at: str, error: BaseException) -> str:
    from huggingface_hub import constants

    cause = error.__cause__ or error
    return (
        f"{what}: the Hub cannot be reached at {constants.ENDPOINT}{_lacks(what, at)} "
        f"({type(cause).__name__}: {_short(cause)}); try again"
    )


def _lacks(what: str, at: str) -> str:
    return f", and {at} is not in the cache" if what == "from_pretrained" else ""


def _short(error: BaseException) -> str:
    return one_line(str(error))[:_SHOWN]
