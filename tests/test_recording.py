"""A recording on disk: complete or not there, unchanged or refused, and without secrets."""

from __future__ import annotations

import hashlib
import json
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calico_lab.errors import RecordingError
from calico_lab.recording import FORMAT, Capture, Recording, Writer, redact, write_atomically
from calico_lab.scenario import Scenario

ABOUT: dict[str, Any] = {
    "tool": "calico_lab test",
    "provider": "lab",
    "facts": {},
    "nodes": [],
    "pods": [],
    "fabric": [],
}
DONE: dict[str, Any] = {
    "kind": "route",
    "line": "route",
    "probe": {},
    "started": "2026-01-01T00:00:00.000+00:00",
    "outcome": "done",
    "exit_code": 0,
    "duration_s": 0.01,
}


def write(folder: Path, **texts: str) -> Recording:
    """A recording with one capture a text, on node n."""
    with Writer(folder, Scenario.load("cross-vxlan"), **ABOUT) as writer:
        for command, text in texts.items():
            writer.add(node="n", command=command, stdout=text, stderr="", **DONE)
    return Recording(folder)


def interrupted(folder: Path) -> None:
    with Writer(folder, Scenario.load("cross-vxlan"), **ABOUT) as writer:
        writer.add(node="n", command="route", stdout="new\n", stderr="", **DONE)
        raise KeyboardInterrupt


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------- what is kept


def test_a_recording_stands_alone(tmp_path: Path) -> None:
    recording = write(tmp_path / "r", route="Kernel IP routing table\n")
    assert recording.scenario == Scenario.load("cross-vxlan")
    assert recording.captures == (
        Capture(
            node="n",
            command="route",
            stderr="",
            path="captures/n/route.txt",
            sha256=hashlib.sha256(b"Kernel IP routing table\n").hexdigest(),
            **DONE,
        ),
    )
    assert recording.text(recording.captures[0]) == "Kernel IP routing table\n"


def test_captures_stand_in_the_order_of_their_names_whatever_came_first(tmp_path: Path) -> None:
    assert [capture.command for capture in write(tmp_path / "r", b="", a="", c="").captures] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "scenario", [pytest.param({"expected.ping": None}, id="ping-not-tried"), pytest.param({}, id="as-it-is")]
)
def test_the_scenario_comes_back_as_it_was(tmp_path: Path, scenario: dict[str, Any]) -> None:
    written = Scenario.load("cross-vxlan", scenario)
    with Writer(tmp_path / "r", written, **ABOUT):
        pass
    assert Recording(tmp_path / "r").scenario == written


# ---------------------------------------------------------------------- complete or not there


def test_an_exception_leaves_the_older_recording_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path / "r", route="old\n")
    before = bytes_below(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "r")
    assert bytes_below(tmp_path) == before


def test_an_exception_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_a_new_recording_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    write(tmp_path / "r", route="old\n", uname="old\n")
    write(tmp_path / "r", route="new\n")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert sorted(bytes_below(tmp_path / "r")) == ["captures/n/route.txt", "manifest.json"]
    assert (tmp_path / "r/captures/n/route.txt").read_text() == "new\n"


KILLED = """
import sys
from pathlib import Path
from calico_lab.recording import Writer
from calico_lab.scenario import Scenario

with Writer(Path(sys.argv[1]), Scenario.load("cross-vxlan")) as writer:
    writer.add(node="n", command="route", stdout="new", stderr="", kind="route", line="route", outcome="done",
               exit_code=0, started="", duration_s=0.0)
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_leaves_the_older_recording_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path / "r", route="old\n")
    before = bytes_below(tmp_path / "r")
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "r")],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert bytes_below(tmp_path / "r") == before


def test_a_file_is_replaced_or_left(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    assert bytes_below(tmp_path) == {"summary.json": b"old"}
    write_atomically(path, b"new")
    assert bytes_below(tmp_path) == {"summary.json": b"new"}


@pytest.mark.parametrize("mode", [0o644, 0o600], ids=oct)
def test_a_file_is_for_whom_it_is_meant(tmp_path: Path, mode: int) -> None:
    write_atomically(tmp_path / "file", b"", mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


# ---------------------------------------------------------------------- unchanged or refused


def test_a_folder_without_a_manifest_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as error:
        Recording(tmp_path)
    assert str(error.value) == f"{tmp_path}: no recording here; seen: no manifest.json; name a recording's folder"


def test_a_manifest_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1')
    with pytest.raises(RecordingError) as error:
        Recording(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/manifest.json: not a manifest; "
        "seen: Expecting ',' delimiter: line 1 column 13 (char 12); record again"
    )


@pytest.mark.parametrize(
    ("manifest", "seen"),
    [
        pytest.param({"format": FORMAT + 1}, f"; seen: {FORMAT + 1}", id="another-format"),
        pytest.param({}, "; seen: none", id="no-format"),
        pytest.param([1], "; seen: none", id="not-a-mapping"),
    ],
)
def test_a_manifest_of_another_format_is_refused(tmp_path: Path, manifest: Any, seen: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RecordingError) as error:
        Recording(tmp_path)
    assert str(error.value) == f"{tmp_path}/manifest.json: another format{seen}; this version reads format {FORMAT}"


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    recording = write(tmp_path / "r", route="Kernel\n")
    path = tmp_path / "r/captures/n/route.txt"
    path.write_text("kernel\n")
    with pytest.raises(RecordingError) as error:
        recording.text(recording.captures[0])
    assert str(error.value) == (
        f"{path}: a captured file was changed after it was recorded; seen: another sha256; restore it or record again"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    recording = write(tmp_path / "r", route="Kernel\n")
    path = tmp_path / "r/captures/n/route.txt"
    path.unlink()
    with pytest.raises(RecordingError) as error:
        recording.text(recording.captures[0])
    assert str(error.value) == f"{path}: a captured file is missing; record again"


def test_a_scenario_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "r")
    path = tmp_path / "r/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["scenario"]["cni"]["plugin"] = "flannel"
    path.write_text(json.dumps(manifest))
    with pytest.raises(RecordingError) as error:
        _ = Recording(tmp_path / "r").scenario
    assert str(error.value) == (
        f"{path}: scenario: cni.plugin: Input should be 'calico' or 'canal'; seen: flannel; "
        "use the version that recorded it, or record again"
    )


# ---------------------------------------------------------------------- secrets

PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\nAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param(
            f"before\n{PEM}\nafter\n",
            "before\n-----BEGIN OPENSSH PRIVATE KEY-----[redacted]-----END OPENSSH PRIVATE KEY-----\nafter\n",
            id="pem",
        ),
        pytest.param("token: eyJhbGciOi.abc\nname: x\n", "token: [redacted]\nname: x\n", id="token"),
        pytest.param(
            "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTg==\n    name: admin\n",
            "users:\n- user:\n    client-key-data: [redacted]\n    name: admin\n",
            id="kubeconfig",
        ),
        pytest.param("password: a b c\n", "password: [redacted]\n", id="password"),
        pytest.param(
            "> Authorization: Bearer abc\n> Host: x\n", "> Authorization: [redacted]\n> Host: x\n", id="header"
        ),
        pytest.param('{"token": "eyJhbGciOi.abc", "a": 1}', '{"token": "[redacted]", "a": 1}', id="json"),
        pytest.param("2: eth0: mtu 9001\n", "2: eth0: mtu 9001\n", id="nothing-secret"),
    ],
)
def test_secrets_are_blacked_out_and_the_lines_around_them_stay(text: str, kept: str) -> None:
    assert redact(text) == kept


def test_no_secret_reaches_the_disk(tmp_path: Path) -> None:
    with Writer(tmp_path / "r", Scenario.load("cross-vxlan"), **ABOUT) as writer:
        writer.add(node="n", command="route", stdout=PEM, stderr="token: s3cret", **DONE)
    written = b"".join(bytes_below(tmp_path).values())
    assert b"b3BlbnNzaC1rZXktdjEA" not in written
    assert b"s3cret" not in written
    recording = Recording(tmp_path / "r")
    assert recording.text(recording.captures[0]) == redact(PEM)
