"""Data sets in the data folder: verified if present, downloaded through pooch if missing.

A file is intact if the checksum of its uncompressed content is the one of the catalogue. Downloads
go to a temporary folder, are verified there and then renamed. File names come from `sources`, never
from the network.
"""

import functools
import importlib.util
import os
import shlex
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rebar.data import files
from rebar.data.files import BadFile, Found, UnreadableFile
from rebar.data.sources import DATA_SETS, DataSet, SourceFile, needed
from rebar.errors import RebarError

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
    """Make sure that a data set, or what a task needs, is intact in DATA_DIR/DATA SET.

    Args:
      name: a data set (all of its files) or a task (the files that `load` reads for it).
      data_dir: the data folder; created if missing.
      source: take files only from here: a folder, or a file://, http:// or https:// base URL;
        looked for as DATA SET/FILE and as FILE, with and without ".gz". Default: the environment
        variable REBAR_DATA_SOURCE, if set.
      urls: data set -> base URL (or the URL of the file itself), instead of the built-in mirrors
        and of `source` for that data set.
      allow_download: False: report what is missing instead of fetching it.
      log: called with a line of text on what is present, fetched or verified.
      dynamic: for a task, whether grayscale training images are needed.
      timeout: seconds to wait for a connection, and for the next bytes.
      retries: number of further attempts at a URL after a transfer that broke off.

    Returns:
      The files' paths, in the order of `sources.needed`.

    Raises:
      RebarError: an unknown name or an invalid source; a file that is missing or damaged and may
        not, or cannot, be fetched (with the reason at every URL); a data folder that cannot be
        written.
    """
    unknown = sorted(set(urls or {}) - set(DATA_SETS))
    if unknown:
        raise RebarError(f"urls for unknown data sets {unknown}; known: {', '.join(DATA_SETS)}")
    source = source if source is not None else os.environ.get("REBAR_DATA_SOURCE") or None
    data_dir = Path(data_dir).expanduser()
    paths = []
    for data_set, wanted in needed(name, dynamic):
        if not data_set.files:
            _check_bundled(data_set, log)
        for file in wanted:
            found, unusable = files.find(file, data_set.folders(data_dir))
            if found is not None:
                log(f"{found.path}: present; {_verdict(data_set, found)}")
            elif not allow_download:
                raise missing_error(data_set, file, data_dir, unusable)
            else:
                own_url = (urls or {}).get(data_set.name)
                chosen = source if own_url is None else own_url
                origins = _origins(data_set, file, chosen, own_url is not None)
                copy = functools.partial(_copy, timeout=timeout, retries=retries)
                found = _fetch(
                    data_set, file, data_dir, unusable, origins, chosen is not None, copy, log
                )
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


def _check_bundled(data_set: DataSet, log) -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise RebarError(
            f"data set {data_set.name!r} comes with scikit-learn, which is not installed; "
            "type: pip install scikit-learn"
        )
    log(f"{data_set.name}: comes with scikit-learn, nothing to download")


def _verdict(data_set: DataSet, found: Found) -> str:
    return found.check if found.published else f"{found.check}. NOTE: {data_set.notice}"


def _origins(data_set: DataSet, file: SourceFile, chosen, own: bool) -> Sequence[str | Path]:
    """Where to look for a file, best first: URLs, or paths of local files.

    `chosen` is what the user named (None: the mirrors); `own`: for this data set alone.
    """
    if chosen is None:
        return [_join(base, file.names[0]) for base in data_set.mirrors]
    text = os.fspath(chosen)
    parts = urllib.parse.urlsplit(text)
    if parts.scheme in ("http", "https") and parts.netloc:
        if parts.path.rpartition("/")[2] in file.names:
            return [text]
        bases = [_join(text, data_set.name), text]
        if own:
            bases.reverse()
        return [_join(base, name) for base in bases for name in file.names]
    if "://" not in text:
        folder = Path(text).expanduser()
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        folder = Path(urllib.request.url2pathname(parts.path))
    else:
        raise RebarError(
            f"cannot fetch from {text!r}; give a folder, or a URL that starts with file:///, "
            "http:// or https://"
        )
    if folder.is_file() and folder.name in file.names:
        return [folder]
    if not folder.is_dir():
        raise RebarError(
            f"source {text!r} is not a folder; give a folder that holds "
            f"{data_set.name}/{file.names[0]}, or a URL that starts with http:// or https://"
        )
    return [base / name for base in (folder / data_set.name, folder) for name in file.names]


def _join(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"


def _fetch(
    data_set: DataSet,
    file: SourceFile,
    data_dir: Path,
    unusable: Mapping[Path, BadFile],
    origins: Sequence[str | Path],
    by_choice: bool,
    copy: Callable[[str | Path, Path], None],
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
        for origin in origins:
            if isinstance(origin, Path) and not origin.is_file():
                failures.append(f"\n  {origin}: no such file")
                continue
            log(f"{data_set.name}/{file.name}: fetching from {origin}")
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
                try:
                    path = Path(scratch) / file.name
                    copy(origin, path)
                    found = files.examine(file, path)
                    if not (found.published or by_choice):
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
    except KeyboardInterrupt:
        log("interrupted: nothing incomplete was kept; run the same command again")
        raise
    raise RebarError(
        f"could not fetch {data_set.name}/{file.name}; check the network, or name another folder "
        f"or URL with --source=FOLDER_OR_URL, or with download_data.py --{data_set.url_flag}=URL. "
        f"Tried:{''.join(failures)}"
    )


def _copy(origin: str | Path, path: Path, timeout: float, retries: int) -> None:
    """Copy a local file or a URL to a path. Raises BadFile if the origin does not deliver it."""
    if isinstance(origin, Path):
        try:
            content = origin.read_bytes()
        except OSError as error:
            raise BadFile(error.strerror or str(error)) from None
        path.write_bytes(content)
        return
    import pooch
    import requests
    import tqdm

    def download(url, output, fetcher):
        try:
            # disable=None: no bar if stderr is not a terminal; pooch sets the total.
            with tqdm.tqdm(total=1, unit="B", unit_scale=True, leave=False, disable=None) as bar:
                pooch.HTTPDownloader(bar, chunk_size=_CHUNK_BYTES, timeout=timeout)(
                    url, output, fetcher
                )
        except requests.HTTPError as error:
            raise BadFile(f"HTTP {error.response.status_code}") from None
        except requests.ConnectionError as error:
            cause = error.args[0] if error.args else error
            raise BadFile(
                f"no connection ({type(getattr(cause, 'reason', cause)).__name__})"
            ) from None

    pooch.get_logger().setLevel("WARNING")
    fetcher = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: None},
        urls={path.name: origin},
        retry_if_failed=retries,  # after what `download` does not turn into a BadFile
    )
    try:
        fetcher.fetch(path.name, downloader=download)
    except requests.RequestException as error:  # its text may hold what a server sent
        raise BadFile(f"transfer failed ({type(error).__name__})") from None
