"""Runs one target of tests/fuzz_targets.py under atheris (libFuzzer), beginning with the kept corpus.

Usage: python fuzz/run.py TARGET SECONDS. An input that breaks a promise is written to tests/data/crashes/TARGET/ and
the exit code is not 0; the corpus grown so far is in build/fuzz/TARGET.
"""

import hashlib
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parent.parent
TOKENS = (
    "webrce_web_shell webrce_network webrce_credential webrce_interactive rule time tags output_fields hostname priority "
    "source container.id proc.pid proc.ppid proc.name proc.cmdline proc.tty proc.sid proc.pid.ts fd.rip fd.rport fd.name "
    "POST Content-Length Transfer-Encoding chunked Expect 100-continue HTTP/1.1 \\x0d\\x0a \\x0d\\x0a\\x0d\\x0a <NA> null "
    "groups cases when anchor lineage window incident tests alerts expect severity critical and or not ( ) {pid} "
    "password= --token mysql\\x20-p Bearer\\x20 -----BEGIN eyJ :// @ \\xe2\\x80\\xae \\x1b[ \\xff 1970-01-01T00:00:00Z"
).split()

sys.path.insert(0, str(ROOT / "tests"))
with atheris.instrument_imports(include=["sidecar"]):
    import fuzz_targets
    import hostile_corpus


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
    words = corpus.with_suffix(".dict")
    words.write_text("".join(f'"{word}"\n' for word in TOKENS))
    target = fuzz_targets.TARGETS[name]
    arguments = ["fuzz", f"-max_total_time={seconds}", "-max_len=16384", "-timeout=20", "-rss_limit_mb=2048"]
    arguments += [f"-dict={words}", f"-artifact_prefix={crashes}/", "-print_final_stats=1", str(corpus)]
    atheris.Setup(arguments, lambda data: fuzz_targets.timed(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
