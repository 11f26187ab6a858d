"""An object that was made from other sources than this Python is refused, by what it says of its structures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepaliveD.model.errors import Unsupported
from keepaliveD.platforms.linux import selection
from keepaliveD.platforms.linux.bpf import armer, connect, conntrack, libbpf, reader, recall, records, twins, walk

SOURCES = Path(twins.__file__).parent
HEADERS = Path("/usr/include")

OBJECTS: Mapping[Path, twins.Twins] = {
    walk.OBJECT: walk.SHARED,
    reader.OBJECT: records.SHARED,
    armer.OBJECT: armer.SHARED,
    connect.OBJECT: connect.SHARED,
    recall.OBJECT: recall.SHARED,
    conntrack.OBJECT: conntrack.SHARED,
}


def compiled(directory: Path, source: str, header: str, old: str, new: str) -> Path:
    """The object of a source with a header in which something stands in the place of something else."""
    for file in (*SOURCES.glob("*.h"), SOURCES / f"{source}.c"):
        text = file.read_text()
        if file.name == header:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (directory / file.name).write_text(text)
    system = [option for path in HEADERS.glob("*-linux-gnu*") for option in ("-isystem", str(path))]
    command = ["clang", "-g", "-O2", "-target", "bpf", *system, "-c", f"{source}.c", "-o", f"{source}.o"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / f"{source}.o"


@pytest.mark.parametrize("file", OBJECTS, ids=lambda file: file.name)
def test_the_structures_of_each_object_are_those_that_python_knows(file: Path) -> None:
    libbpf.Object(file, OBJECTS[file]).close()


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"formats": ["u8", "u4"], "names": ["cookie", "inode"]}, "record"),
        ({"formats": ["u8", "V112"], "names": ["cgroup", "rest"]}, "record.cgroup"),
        ({"formats": ["u4", "V116"], "names": ["cookie", "rest"]}, "record.cookie"),
        ({"formats": ["u8"], "names": ["local_high"], "offsets": [24], "itemsize": 120}, "record.local_high"),
    ],
    ids=["size", "name", "size of a member", "place of a member"],
)
def test_what_differs_is_named_in_one_line(changed: Any, what: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        libbpf.Object(walk.OBJECT, {"record": np.dtype(changed)})
    assert str(refusal.value) == f"walk.bpf.o is from another version ({what} differs): run packaging/compile-bpf"


def test_a_structure_that_an_object_does_not_have_makes_it_one_of_another_version() -> None:
    with pytest.raises(Unsupported, match=re.escape("walk.bpf.o is from another version (slot differs)")):
        libbpf.Object(walk.OBJECT, {"slot": armer.SLOT})


@pytest.mark.parametrize("source", ["walk.bpf", "read.bpf"])
def test_an_object_whose_members_changed_places_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Everything has its size, so that every count would be taken for the other one, without a word."""
    swapped = compiled(
        tmp_path,
        source,
        "record.h",
        "__u32 segments_in;\n\t__u32 segments_out;",
        "__u32 segments_out;\n\t__u32 segments_in;",
    )
    monkeypatch.setattr(walk, "OBJECT", swapped)
    monkeypatch.setattr(reader, "OBJECT", swapped)
    with pytest.raises(Unsupported) as refusal:
        selection.select_engine(selection.BPF, Path("/"), ())
    assert str(refusal.value) == (
        f'watch.engine = "bpf": {source}.o is from another version (record.segments_in differs): '
        "run packaging/compile-bpf"
    )
    engine, reason = selection.select_engine(selection.AUTO, Path("/"), ())
    engine.close()
    assert (engine.name, reason) == ("netlink", str(refusal.value).removeprefix('watch.engine = "bpf": '))


def test_a_map_that_is_smaller_than_python_knows_it_makes_an_object_one_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would say EINVAL, and we that it needs a later Linux."""
    source = compiled(
        tmp_path,
        "arm.bpf",
        "arm.bpf.c",
        "MMAPABLE);\n\t__uint(max_entries, 131072",
        "MMAPABLE);\n\t__uint(max_entries, 1024",
    )
    monkeypatch.setattr(armer, "OBJECT", source)
    with pytest.raises(Unsupported, match=re.escape("arm.bpf.o is from another version (slots differs)")):
        armer.BpfArmer(Path("/")).load()


def test_what_is_no_object_is_said(tmp_path: Path) -> None:
    """A disk was full when it was copied: that is not the kernel's fault."""
    file = tmp_path / "walk.bpf.o"
    file.write_bytes(walk.OBJECT.read_bytes()[:1000])
    with pytest.raises(Unsupported) as refusal:
        libbpf.Object(file, walk.SHARED)
    assert re.fullmatch(r"walk\.bpf\.o cannot be read: .+; run packaging/compile-bpf", str(refusal.value))
