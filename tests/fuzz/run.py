"""Coverage-guided fuzzing of everything that reads text or files.

    pip install atheris
    python -m tests.fuzz.run --seconds=60
    python -m tests.fuzz.run --seconds=600 hparams log
    python -m tests.fuzz.run --keep --seconds=60

Each target (default: all, see tests/fuzz/targets.py) runs for so many seconds in a process of its
own, from the inputs in tests/fuzz/corpus/TARGET. An input that breaks a target is written to
tests/fuzz/corpus/TARGET and told; the ordinary tests then fail until it is mended. `--keep`
adds twenty of the inputs that reached new code to the corpus.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
_MOST_BYTES = 4096
_SECONDS_PER_INPUT = 5
_KEPT_BYTES = 1024
_KEPT_INPUTS = 20
_WORDS = """
model= task= n_layer= track=[ follow= {SBNARM,SBNDisARM} SBNTrackGradVariances ; , [ ] { }
Step\\x20 Valid\\x20 Test\\x20 :\\x20[ np.float64( inf nan 1e999 -s0-0123456789 run:\\x20 seed:\\x20
Variance\\x20 evaluations\\x20of\\x20f ms +-\\x20 {'model':\\x20 'legacy2017':\\x20 \\x0a \\x00
{\\x22step\\x22: {\\x22hparams\\x22:{\\x22model\\x22: \\x22log_variance\\x22: \\x22epoch\\x22:
\\x22estimator_variance\\x22: \\x22schedule\\x22: \\x22estimators\\x22: \\x22label\\x22:
\\x22runs\\x22: \\x22earlier_runs\\x22: \\x22settings\\x22: \\x22folder\\x22: NaN Infinity
MATLAB\\x205.0\\x20MAT-file \\x1f\\x8b\\x08 \\x00\\x00\\x08\\x02
"""


def words() -> list[bytes]:
    """Words of the formats, of which inputs are put together."""
    return [word.encode().decode("unicode_escape").encode("latin-1") for word in _WORDS.split()]


def fuzz(name: str, folders: list[str], options: list[str]) -> None:
    """Run one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["rebar"]):
        from tests.fuzz import targets

    warnings.simplefilter("error")
    atheris.Setup(["fuzz", *options, *folders], targets.TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int, keep: bool) -> bool:
    """Fuzz a target in a process of its own, and say how it went; whether nothing broke."""
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        new, crashes, dictionary = (Path(scratch, n) for n in ("new", "crashes", "words"))
        for folder in (new, crashes):
            folder.mkdir()
        dictionary.write_text("".join(f'"{word}"\n' for word in _WORDS.split()))
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={_MOST_BYTES}",
            f"-timeout={_SECONDS_PER_INPUT}",
            f"-artifact_prefix={crashes}/",
            f"-dict={dictionary}",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        begin = time.monotonic()
        done = _start([name, str(new), str(kept)], options)
        count = _statistic(done.stderr, "stat::number_of_executed_units")
        took = time.monotonic() - begin
        found = [path for path in crashes.iterdir() if not path.name.startswith("slow-unit")]
        print(f"{name}: {count} inputs in {took:.0f} s, {len(found)} broke it", flush=True)
        for path in found:
            target = kept / path.name
            shutil.copy(path, target)
            print(f"  {target}: {path.read_bytes()[:200]!r}")
        if found or done.returncode:
            print(done.stdout or done.stderr)
        if keep:
            _keep(new, kept)
        return done.returncode == 0 and not found


def _start(arguments, options):
    command = [sys.executable, "-m", "tests.fuzz.run", "--child", *arguments, "--", *options]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace")


def _statistic(text, name):
    found = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
    return int(found[-1]) if found else 0


def _keep(new, kept):
    """Add to `kept` some of the short inputs that reached code which none had reached."""
    by_size = sorted(new.iterdir(), key=lambda path: path.stat().st_size)
    short = [path for path in by_size if path.stat().st_size <= _KEPT_BYTES]
    chosen = short[:: -(-len(short) // _KEPT_INPUTS) or 1]
    for path in chosen:
        shutil.copy(path, kept / path.name[:16])
    print(f"  kept {len(chosen)} of {len(by_size)} inputs", flush=True)


def main() -> int:
    """Exit status 0 if no input broke anything."""
    if sys.argv[1:2] == ["--child"]:
        cut = sys.argv.index("--")
        name, *folders = sys.argv[2:cut]
        fuzz(name, folders, sys.argv[cut + 1 :])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    from tests.fuzz.targets import TARGETS

    unknown = set(asked.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no targets {sorted(unknown)}; choose from {', '.join(TARGETS)}")
    results = [run(name, asked.seconds, asked.keep) for name in asked.targets or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
