"""Runs one target of tests/support/fuzz_targets.py under atheris (libFuzzer), beginning with the kept corpus.

Usage: python fuzz/run.py TARGET SECONDS. An input that breaks a promise is written to tests/data/crashes/TARGET/ and
the exit code is not 0; the corpus grown so far is in build/fuzz/TARGET.
"""

import hashlib
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parent.parent

sys.path.insert(0, str(ROOT / "tests"))
with atheris.instrument_imports(include=["sidecar"]):
    from support import fuzz_targets, hostile_corpus


def main(name: str, seconds: str) -> None:
    """Fuzz one target for so many seconds."""
    corpus, crashes = ROOT / "build" / "fuzz" / name, hostile_corpus.CRASHES / name
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    kinds = ["json", "http"] if name == "http" else [name]
    for kind in kinds:
        for _, data in [*hostile_corpus.CORPUS[kind](), *hostile_corpus.crashes(kind)]:
            if len(data) <= 65_536:
                (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    target = fuzz_targets.TARGETS[name]
    arguments = ["fuzz", f"-max_total_time={seconds}", "-max_len=16384", "-timeout=20", "-rss_limit_mb=2048"]
    arguments += [
        f"-dict={ROOT / 'fuzz' / 'words.dict'}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, lambda data: fuzz_targets.timed(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
