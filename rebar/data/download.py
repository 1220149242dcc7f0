"""Data sets in the data folder: verified if present, downloaded through pooch if missing.

Downloads are verified in a temporary folder and then renamed.
"""

import functools
import os
import shlex
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from rebar.data import files
from rebar.data.files import BadFile, Found, UnreadableFile
from rebar.data.sources import DATA_SETS, DataSet, SourceFile, needed, task_of
from rebar.errors import RebarError, unknown

_CHUNK_BYTES = 2**16


def ensure(
    name: str,
    data_dir: str | os.PathLike,
    source: str | os.PathLike | None = None,
    urls: Mapping[str, str] | None = None,
    allow_download: bool = True,
    log: Callable[[str], None] = print,
    *,
    dynamic: bool = False,
    timeout: float = 10.0,
    retries: int = 1,
) -> list[Path]:
    """Make sure that files are intact in DATA_DIR/DATA SET; return their paths.

    Args:
      name: a data set (all of its files) or a task (the files that `load` reads for it).
      data_dir: the data folder; created if missing.
      source: take files only from here: a folder, or a file://, http:// or https:// base URL with
        DATA SET/FILE or FILE, with or without ".gz". Default: REBAR_DATA_SOURCE, if set.
      urls: data set -> a source (or the URL of the file itself) for that data set alone.
      allow_download: False: report what is missing instead of fetching it.
      log: called with a line of text on what is present, fetched or verified.
      dynamic: for a task, whether grayscale training images are needed.
      timeout: seconds to wait for a connection, and for the next bytes.
      retries: number of further attempts at a URL after a transfer that broke off.

    Raises:
      RebarError: an unknown name or an invalid source; a file that is missing or damaged and may
        not, or cannot, be fetched; a data folder that cannot be written.
    """
    for data_set in urls or {}:
        if data_set not in DATA_SETS:
            raise unknown("data set in urls", data_set, DATA_SETS)
    source = source if source is not None else os.environ.get("REBAR_DATA_SOURCE") or None
    data_dir = Path(os.path.expanduser(data_dir))
    wanted = needed(name, dynamic)
    if not wanted and (name in DATA_SETS or not task_of(name).is_custom):
        log(f"{name}: comes with scikit-learn, nothing to download")
    paths = []
    for data_set, role in wanted:
        file = data_set.files[role]
        found, unusable = files.find(file, data_set.folders(data_dir))
        if found is not None:
            log(f"{found.path}: present; {_verdict(data_set, found)}")
        elif not allow_download:
            raise missing_error(data_set, file, data_dir, unusable)
        else:
            chosen = (urls or {}).get(data_set.name, source)
            copy = functools.partial(_copy, timeout=timeout, retries=retries)
            found = _fetch(data_set, file, data_dir, unusable, chosen, copy, log)
        paths.append(found.path)
    return paths


def missing_error(
    data_set: DataSet,
    file: SourceFile,
    data_dir: str | os.PathLike,
    unusable: Mapping[Path, BadFile],
) -> RebarError:
    """The error that names a missing or damaged file, and the command that fetches it."""
    path = Path(data_dir) / data_set.name / file.names[0]
    problems = [f"{path} {reason}" for path, reason in unusable.items()] or [f"{path} is missing"]
    names = " or ".join((*file.names, *file.other_names))
    places = ", ".join(str(place) for place in data_set.folders(Path(data_dir)))
    return RebarError(
        f"{'; '.join(problems)}. To fetch it, type: python download_data.py "
        f"--datasets={data_set.name} --data_dir={shlex.quote(str(data_dir))}. Your own copy is "
        f"found under the name {names} in {places}"
    )


def _verdict(data_set: DataSet, found: Found) -> str:
    return found.check if found.published else f"{found.check}. NOTE: {data_set.notice}"


def _origins(data_set: DataSet, file: SourceFile, chosen) -> list[str]:
    """Return URLs, or paths of local files, best first; `chosen` by the user (None: mirrors)."""
    if chosen is None:
        return [f"{base.rstrip('/')}/{file.names[0]}" for base in data_set.mirrors]
    base = os.fspath(chosen).rstrip("/")
    url = urllib.parse.urlsplit(base)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        base = urllib.request.url2pathname(url.path)
    if url.scheme not in ("http", "https") or not url.netloc:
        base = os.path.expanduser(base)
        if not os.path.exists(base):
            raise RebarError(
                f"source {os.fspath(chosen)!r}: must be a folder that holds {data_set.name}/"
                f"{file.names[0]}, or a URL that starts with file:///, http:// or https://"
            )
    if base.rpartition("/")[2] in file.names:
        return [base]
    return [f"{b}/{name}" for b in (base, f"{base}/{data_set.name}") for name in file.names]


def _fetch(
    data_set: DataSet,
    file: SourceFile,
    data_dir: Path,
    unusable: Mapping[Path, BadFile],
    chosen: str | os.PathLike | None,
    copy: Callable[[str, Path], None],
    log: Callable[[str], None],
) -> Found:
    """Bring a file into the data folder from the first origin that has it intact."""
    for path, reason in unusable.items():
        if isinstance(reason, UnreadableFile):
            raise RebarError(f"{path} {reason}; make it readable, or move it away")
        log(f"{path} {reason}; fetching it again")
    folder = data_dir / data_set.name
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for origin in _origins(data_set, file, chosen):
            if "://" not in origin and not os.path.isfile(origin):
                failures.append(f"\n  {origin}: no such file")
                continue
            log(f"{data_set.name}/{file.name}: fetching from {origin}")
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
                try:
                    path = Path(scratch) / file.name
                    copy(origin, path)
                    found = files.examine(file, path)
                    if not found.published and chosen is None:
                        raise BadFile(f"is not the published file: {found.check}")
                except BadFile as error:
                    failures.append(f"\n  {origin}: {error}")
                    continue
                for bad in unusable:
                    os.replace(bad, f"{bad}.bad")
                # Named by its content: a mirror may serve gzip under a plain name, and the reverse.
                final = folder / (file.name + ".gz" * found.zipped)
                os.replace(path, final)
            log(f"{final}: fetched; {_verdict(data_set, found)}")
            return found._replace(path=final)
    except BrokenPipeError:  # nobody reads the log
        raise
    except OSError as error:
        raise RebarError(
            f"cannot write into the data folder {folder} ({error.strerror or error}); free disk "
            "space or fix the permissions, or give another folder with --data_dir=..."
        ) from None
    raise RebarError(
        f"could not fetch {data_set.name}/{file.name}; check the network, or name another folder "
        f"or URL with --source=FOLDER_OR_URL. Tried:{''.join(failures)}"
    )


def _copy(origin: str, path: Path, timeout: float, retries: int) -> None:
    """Copy a local file or a URL to a path. Raises BadFile if the origin does not deliver it."""
    if "://" not in origin:
        try:
            content = Path(origin).read_bytes()
        except OSError as error:
            raise BadFile(error.strerror or str(error)) from None
        path.write_bytes(content)
        return
    import pooch
    import requests

    bar = sys.stderr.isatty()
    download = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=timeout)
    for attempt in range(retries + 1):
        try:
            download(origin, str(path), None)
            return
        except requests.HTTPError as error:
            raise BadFile(f"HTTP {error.response.status_code}") from None
        except requests.ConnectionError:
            raise BadFile("no connection, or it stalled") from None
        except requests.RequestException as error:  # its text may hold what a server sent
            if attempt == retries:
                raise BadFile(f"transfer failed ({type(error).__name__})") from None
