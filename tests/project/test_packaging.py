"""What is published: a wheel with the rules in it, generated code that is current, layers that hold."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = ("falco/outputs.proto", "correlator/v1/incidents.proto")


@pytest.mark.slow
def test_the_wheel_carries_the_rules_and_the_recording(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("falco_correlator-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {
        "falco_rules/correlation/web_application_rce.yaml",
        "falco_rules/correlation-rule.schema.json",
        "falco_rules/recordings/demo.jsonl",
        "sidecar/admin/pages/incident.html",
        "sidecar/admin/pages/page.css",
        "sidecar/admin/pages/copy.js",
        "sidecar/py.typed",
        "sidecar/_proto/falco/outputs_pb2.py",
    } <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_generated_protobuf_code_is_current(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    includes = Path(protoc.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{includes}",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
        *PROTOS,
    ]
    assert protoc.main(arguments) == 0

    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 4
    for path in made:
        assert path.read_text() == (ROOT / "sidecar" / "_proto" / path.relative_to(tmp_path)).read_text(), (
            "run: make proto"
        )


def test_the_field_numbers_are_falcos() -> None:
    from sidecar._proto.falco import outputs_pb2

    numbers = {field.name: field.number for field in outputs_pb2.response.DESCRIPTOR.fields}

    assert numbers == {
        "time": 1,
        "priority": 2,
        "source_deprecated": 3,
        "rule": 4,
        "output": 5,
        "output_fields": 6,
        "hostname": 7,
        "tags": 8,
        "source": 9,
    }
