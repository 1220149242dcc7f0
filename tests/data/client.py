"""A process that fetches one file of a catalogue of its own, under adverse conditions.

Prints a line a fetch, "whole" or "error: ..."; the exit status is 0 if it has the file in the end.
"""

import dataclasses
import gzip
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

from rebar.data import ensure, files, sources
from rebar.errors import RebarError

NAME = "train-images-idx3-ubyte"
IMAGES = 200
"""Makes 157 kB, which gzip does not shorten."""


def content():
    """What the file must hold."""
    pixels = np.random.default_rng(7).integers(0, 256, IMAGES * 784, dtype=np.uint8)
    return struct.pack(">4I", 0x0803, IMAGES, 28, 28) + bytes(pixels)


def patch_catalogue(base_url):
    """`mnist` becomes one file of `IMAGES` images."""
    data_set = sources.DATA_SETS["mnist"]
    file = data_set.files["train_images"]
    digests = tuple((name, files.digest(name, content())) for name, _ in file.digests)
    one = dataclasses.replace(file, shape=(IMAGES, 28, 28), digests=digests)
    sources.DATA_SETS["mnist"] = dataclasses.replace(
        data_set, files={"train_images": one}, mirrors=(base_url,)
    )


def say(line):
    """Print a line in one piece, as several processes share the output."""
    os.write(1, f"{line}\n".encode())


def fetch(data_dir):
    """Whether it worked; tells so."""
    try:
        ensure("mnist", data_dir, log=lambda line: None, timeout=5, retries=0)
    except RebarError as error:
        say(f"error: {error}".replace("\n", " "))
        return False
    say("whole")
    return True


def copies(data_dir, count):
    """Fetch in several processes at once; whether all had it whole."""
    children = [forked(data_dir) for _ in range(count)]
    return all([os.waitpid(child, 0)[1] == 0 for child in children])


def kills(data_dir, count):
    """Start and kill a process again and again; prints what it left each time."""
    moments = random.Random(0)
    folder = Path(data_dir) / "mnist"
    for _ in range(count):
        child = forked(data_dir)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        say(" ".join(["left:", *names]))
        whole = folder / f"{NAME}.gz"
        if whole.exists():
            assert gzip.decompress(whole.read_bytes()) == content()
            whole.unlink()
    return fetch(data_dir)


def forked(data_dir):
    """The id of a process that fetches."""
    child = os.fork()
    if child == 0:
        os._exit(0 if fetch(data_dir) else 1)
    return child


def few_descriptors(data_dir, count):
    """Fetch with no descriptor to spare, then with one more each time."""
    import resource

    import tqdm  # noqa: F401  (imports need descriptors, too)

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    for spare in range(count):
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe + spare, hard))
        whole = fetch(data_dir)
    return whole


def small_files(data_dir, size):
    """Fetch where files can have `size` bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return fetch(data_dir)


def main():
    """What to do and with which number: see the functions of these names."""
    url, data_dir, what, number, *locks = sys.argv[1:]
    patch_catalogue(url)
    if locks == ["no_locks"]:
        import fcntl

        def refuse(*args):
            raise OSError("no locks here")

        fcntl.flock = refuse
    do = {f.__name__: f for f in (copies, kills, few_descriptors, small_files)}[what]
    return 0 if do(data_dir, int(number)) else 1


if __name__ == "__main__":
    sys.exit(main())
