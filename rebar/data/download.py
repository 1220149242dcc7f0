"""Making sure that a data set lies whole in the data folder, fetching what is missing.

A file counts as whole when the digests of its uncompressed content match those on record. What
is fetched goes to NAME.part, is verified there, and only then takes its name; an interrupted
transfer is continued from NAME.part. File names come from `sources`, never from the network.
"""

import contextlib
import errno
import importlib.util
import os
import shlex
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from rebar.data import files, transfer
from rebar.data.files import BadFile, Found, OtherContent, Unreadable
from rebar.data.sources import DATA_SETS, DataSet, SourceFile, needed
from rebar.data.transfer import Policy, TransferError
from rebar.errors import RebarError


def ensure(
    name: str,
    data_dir: str | os.PathLike,
    source: str | os.PathLike | None = None,
    urls: Mapping[str, str] | None = None,
    allow_download: bool = True,
    log: Callable[[str], None] = print,
    *,
    dynamic: bool = False,
    timeout: float = 30.0,
    retries: int = 3,
    backoff: float = 1.0,
    limit: float = 3600.0,
) -> list[Path]:
    """Make sure that a data set, or what a task needs, lies whole in DATA_DIR/DATA SET.

    Args:
      name: a data set (all of its files) or a task (the files that `load` reads for it).
      data_dir: the data folder; made where it is missing.
      source: take files only from here: a folder, or a file://, http:// or https:// base URL;
        looked for as DATA SET/FILE and as FILE, with and without ".gz".
      urls: data set -> base URL (or the URL of the file itself), in place of the built-in
        mirrors and of `source` for that data set.
      allow_download: False: report what is missing instead of fetching it.
      log: called with a line of text on what is there, fetched or verified.
      dynamic: for a task, whether grey training images are wanted.
      timeout: seconds to wait for a connection, and for the next kilobyte once connected.
      retries: how often to try a URL again after a failure that may pass.
      backoff: seconds before the first further try; doubled for each next one.
      limit: seconds for a file from one URL, all tries together.

    Returns:
      The files' paths, in the order of `sources.needed`.

    Raises:
      RebarError: an unknown name or a malformed source; a file that is missing or broken and may
        not, or cannot, be fetched (with the reason at every URL); a file that lies there and
        cannot be read, which is left alone; a data folder that cannot be written or is full.
    """
    unknown = sorted(set(urls or {}) - set(DATA_SETS))
    if unknown:
        raise RebarError(f"urls for unknown data sets {unknown}; known: {', '.join(DATA_SETS)}")
    policy = Policy(timeout, retries, backoff, limit)
    data_dir = Path(data_dir).expanduser()
    paths = []
    for data_set, wanted in needed(name, dynamic):
        if not data_set.files:
            _check_bundled(data_set, log)
            continue
        own_url = (urls or {}).get(data_set.name)
        chosen = source if own_url is None else own_url
        folder = data_dir / data_set.name
        present, unusable = _present(data_set, wanted, data_set.folders(data_dir), log)
        missing = [file for file in wanted if file.name not in present]
        if missing and not allow_download:
            raise missing_error(data_set, missing, data_dir, unusable)
        if missing:
            _refuse_unreadable(unusable)
            candidates = {
                f.name: _candidates(data_set, f, chosen, own_url is not None) for f in missing
            }
            by_choice = chosen is not None
            present |= _fetch_missing(data_set, missing, folder, candidates, by_choice, policy, log)
        paths += [present[file.name] for file in wanted]
    return paths


def command(data_set: str, data_dir: str | os.PathLike) -> str:
    """The command that fetches a data set, for use in messages."""
    return f"python download_data.py --datasets={data_set} --data_dir={shlex.quote(str(data_dir))}"


def missing_error(
    data_set: DataSet,
    missing: list[SourceFile],
    data_dir: str | os.PathLike,
    unusable: Mapping[Path, BadFile],
) -> RebarError:
    """The error that says which files are missing or broken, and the command that fetches them."""
    folder = Path(data_dir) / data_set.name
    problems = [f"{path} {reason}" for path, reason in unusable.items()]
    broken = {path.name for path in unusable}
    absent = [f for f in missing if not broken & set(f.names)]
    problems += [f"{folder / file.names[0]} is missing" for file in absent]
    names = " or ".join(dict.fromkeys(n for f in missing for n in (*f.names, *f.other_names)))
    places = ", ".join(str(place) for place in data_set.folders(Path(data_dir)))
    return RebarError(
        f"{'; '.join(problems)}. To fetch it, type: {command(data_set.name, data_dir)}. A copy of "
        f"your own is found under the name {names} in {places}"
    )


def _check_bundled(data_set: DataSet, log) -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise RebarError(
            f"data set {data_set.name!r} comes with scikit-learn, which is not installed; "
            "type: pip install scikit-learn"
        )
    log(f"{data_set.name}: comes with scikit-learn, nothing to download")


def _present(data_set: DataSet, wanted, folders, log) -> tuple[dict[str, Path], dict]:
    """Usable files in the folders (name -> path), and unusable ones (path -> reason)."""
    present, unusable = {}, {}
    for file in wanted:
        found, bad = files.find(file, folders)
        if found:
            present[file.name] = found.path
            log(f"{found.path}: present; {_verdict(data_set, found)}")
        else:
            unusable |= bad
    return present, unusable


def _verdict(data_set: DataSet, found: Found) -> str:
    return found.check if found.published else f"{found.check}. NOTE: {data_set.notice}"


def _candidates(data_set: DataSet, file: SourceFile, chosen, own: bool) -> list[str | Path]:
    """Where to look for a file, best first: URLs, or paths of local files.

    `chosen` is what the user named (None: the mirrors); `own`: for this data set alone.
    """
    if chosen is None:
        return [_join(base, file.names[0]) for base in data_set.mirrors]
    text = os.fspath(chosen)
    parts = urllib.parse.urlsplit(text)
    if "://" not in text:
        base = Path(text).expanduser()
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        base = Path(urllib.request.url2pathname(parts.path))
    elif parts.scheme in ("http", "https") and parts.netloc:
        if parts.path.rpartition("/")[2] in file.names:
            return [text]
        folders = [_join(text, data_set.name), text]
        if own:
            folders.reverse()
        return [_join(folder, name) for folder in folders for name in file.names]
    else:
        raise RebarError(
            f"cannot fetch from {text!r}; give a folder, or a URL that starts with file:///, "
            "http:// or https://"
        )
    if base.is_file() and base.name in file.names:
        return [base]
    if not base.is_dir():
        raise RebarError(
            f"source {text!r} is not a folder; give a folder that holds "
            f"{data_set.name}/{file.names[0]}, or a URL that starts with http:// or https://"
        )
    return [folder / name for folder in (base / data_set.name, base) for name in file.names]


def _join(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"


def _fetch_missing(
    data_set: DataSet, missing, folder: Path, candidates, by_choice: bool, policy: Policy, log
) -> dict[str, Path]:
    """Fetch files into the folder, one process at a time; file name -> path."""
    paths = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, log) as alone:
            for file in missing:
                # Another process may have fetched it while this one waited for the lock.
                found, unusable = files.find(file, [folder])
                if found is None:
                    _refuse_unreadable(unusable)
                    for path, reason in unusable.items():
                        log(f"{path} {reason}; fetching it anew")
                    part = folder / f"{file.name}{'' if alone else f'.{os.getpid()}'}.part"
                    origins = candidates[file.name]
                    try:
                        found = _fetch(
                            data_set, file, part, unusable, origins, by_choice, policy, log
                        )
                    finally:
                        if not alone:  # no one would go on from it
                            part.unlink(missing_ok=True)
                paths[file.name] = found.path
    except OSError as error:
        raise _local_error(folder, error) from None
    return paths


def _local_error(folder: Path, error: OSError) -> RebarError:
    """What this machine lacks for a download, and what helps."""
    reason = error.strerror or error
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return RebarError(f"cannot fetch into {folder} ({reason}); raise the limit: ulimit -n 1024")
    return RebarError(
        f"cannot write into the data folder {folder} ({reason}); make room or give the rights to "
        "write there, or give another folder with --data_dir=..."
    )


def _refuse_unreadable(unusable: Mapping[Path, BadFile]) -> None:
    """A file that cannot be opened may be sound: nothing takes its place."""
    for path, reason in unusable.items():
        if isinstance(reason, Unreadable):
            raise RebarError(
                f"{path} {reason}; it is left as it is: give the rights to read it, or move it "
                "away to have it fetched"
            )


@contextlib.contextmanager
def _locked(folder: Path, log):
    """Keep other processes from fetching into the same folder.

    Yields whether they are kept out: False where there are no locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    alone = True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{folder}: another process is fetching into this folder; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            alone = False
            log(f"{folder}: this file system has no locks; let one process at a time fetch into it")
        yield alone
    finally:
        os.close(descriptor)


def _fetch(
    data_set: DataSet,
    file: SourceFile,
    part: Path,
    unusable: Mapping[Path, BadFile],
    candidates: list[str | Path],
    by_choice: bool,
    policy: Policy,
    log,
) -> Found:
    """Fetch one file, by way of `part`, from the first candidate that has it whole."""
    failures = []
    for origin in candidates:
        if isinstance(origin, Path) and not origin.is_file():
            failures.append(f"{origin}: no such file")
            continue
        log(f"{data_set.name}/{file.name}: fetching from {origin}")
        try:
            found = _fetch_verified(file, origin, part, by_choice, policy, log)
        except (TransferError, BadFile) as error:
            failures.append(f"{origin}: {error}")
            log(f"  {error}")
            continue
        # Named by what it is: a mirror may serve gzip under a plain name, and the reverse.
        final = part.parent / (file.name + (".gz" if files.is_gzip(part) else ""))
        _clear_away(unusable, log)
        os.replace(part, final)
        found = found._replace(path=final)
        log(f"{final}: fetched; {_verdict(data_set, found)}")
        return found
    hint = (
        f"--source=FOLDER_OR_URL, or download_data.py --{data_set.url_flag}=URL, names another "
        "place to take it from"
    )
    reasons = "".join(f"\n  {failure}" for failure in failures)
    raise RebarError(f"could not fetch {data_set.name}/{file.name}; {hint}. Tried:{reasons}")


def _clear_away(unusable: Mapping[Path, BadFile], log) -> None:
    """Remove broken files; a sound file of other content may be dear to someone and is kept."""
    for path, reason in unusable.items():
        if isinstance(reason, OtherContent):
            kept = path.with_name(path.name + ".other")
            os.replace(path, kept)
            log(f"{path}: kept as {kept}")
        else:
            path.unlink(missing_ok=True)


def _fetch_verified(
    file: SourceFile, origin: str | Path, part: Path, by_choice: bool, policy: Policy, log
) -> Found:
    """Bring one file to `part` and verify it; what fails verification is removed."""
    for afresh in (False, True):
        resumed = False
        if isinstance(origin, Path):
            transfer.copy_local(origin, part, file.max_bytes)
        else:
            resumed = transfer.fetch(origin, part, file.max_bytes, policy, log)
        try:
            content = files.read_content(part, file.max_bytes)
            check, published = files.verify(file, content)
            if not published and not by_choice:
                raise BadFile(f"is not the published file: {check}")
            return Found(part, content, check, published)
        except Unreadable as error:
            raise error.error from None
        except BadFile as error:
            part.unlink(missing_ok=True)
            if afresh or not resumed:
                raise BadFile(f"what came {error}") from None
            log(f"  what came {error}; it was put together from several tries: fetching it afresh")
    raise AssertionError("the second round returns or raises")
