"""What the bill of materials finds in an image's file system, and what it makes of the licences that packages state."""

import io
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sbom"))

import licences
from image_contents import Component, components_of
from sbom import NOT_STATED, document, page

STATUS = """Package: libfoo
Status: install ok installed
Architecture: amd64
Version: 1:1.2-3+b1

Package: foo-data
Status: install ok installed
Version: 1.2
Static-Built-Using: golang-x (= 0.1-2), rust-y (= 3.0-1)

Package: gone
Status: deinstall ok config-files
Version: 1
"""
COPYRIGHT = """Format: 1.0
Files: *
License: GPL-2+ or MIT

Files: debian/*
License: Expat
"""
POM = b"""<project xmlns="urn:pom"><licenses>
<license><name>The Apache Software License, Version 2.0</name></license></licenses></project>"""


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> io.BytesIO:
    """A file system as docker export gives it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    stream.seek(0)
    return stream


def jar_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def descriptor(group: str, artifact: str, version: str) -> dict[str, bytes]:
    text = f"#Generated\ngroupId={group}\nartifactId={artifact}\nversion={version}\n"
    return {f"META-INF/maven/{group}/{artifact}/pom.properties": text.encode()}


def go_program(lines: list[str]) -> bytes:
    """A program that Go has built: the header, Go's version, and the modules between marks of 16 bytes."""
    version, modules = b"go1.24.4", b"m" * 16 + "\n".join(lines).encode() + b"m" * 16
    header = b"\xff Go buildinf:" + bytes([8, 2]) + bytes(16)

    def with_length(value: bytes) -> bytes:
        length = bytearray()
        size = len(value)
        while size >= 128:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes([*length, size]) + value

    return b"\x7fELF" + bytes(600_000) + header + with_length(version) + with_length(modules)


def found(files: dict[str, bytes], links: dict[str, str] | None = None) -> dict[str, set[str]]:
    """The package URLs in such a file system, and the licences of each."""
    return {each.purl: set(each.licences) for each in components_of(tar_of(files, links))}


def test_debian_packages_and_what_is_compiled_into_them() -> None:
    files = {"var/lib/dpkg/status": STATUS.encode(), "usr/share/doc/libfoo/copyright": COPYRIGHT.encode()}
    assert found(files, {"usr/share/doc/foo-data": "libfoo"}) == {
        "pkg:deb/debian/libfoo@1%3A1.2-3%2Bb1": {"GPL-2.0-or-later", "MIT"},
        "pkg:deb/debian/foo-data@1.2": {"GPL-2.0-or-later", "MIT"},
        "pkg:deb/debian/golang-x@0.1-2?arch=source": set(),
        "pkg:deb/debian/rust-y@3.0-1?arch=source": set(),
    }


def test_python_distributions() -> None:
    metadata = "Metadata-Version: 2.4\nName: Some_Package\nVersion: 1.0\nLicense: Größe, MIT-like\n\nText: no header\n"
    files = {"opt/venv/lib/python3.13/site-packages/some_package-1.0.dist-info/METADATA": metadata.encode()}
    assert found(files) == {"pkg:pypi/some-package@1.0": {"Größe, MIT-like"}}


def test_jars_with_what_they_bundle() -> None:
    manifest = b"Manifest-Version: 1.0\r\nBundle-License: https://www.apache.org/\r\n licenses/LICENSE-2.0.txt\r\n\r\n"
    files = {
        "opt/libs/own-1.0.jar": jar_of(
            descriptor("org.own", "own", "1.0")
            | {"META-INF/maven/org.own/own/pom.xml": POM}
            | descriptor("org.other", "bundled", "2.1")
        ),
        "opt/libs/no-descriptor-3.4.jar": jar_of({"META-INF/MANIFEST.MF": manifest}),
        "opt/libs/com.google.guava_guava-33.4.jar": jar_of({"LICENSE": b"Apache License, Version 2.0"}),
        "opt/libs/io.grpc.grpc-core-1.7.jar": jar_of({}),
        "opt/libs/broken-1.jar": b"no archive",
    }
    assert found(files) == {
        "pkg:maven/org.own/own@1.0": {"Apache-2.0"},
        "pkg:maven/org.other/bundled@2.1": set(),
        "pkg:maven/unknown/no-descriptor@3.4": {"Apache-2.0"},
        "pkg:maven/com.google.guava/guava@33.4": {"Apache-2.0"},
        "pkg:maven/io.grpc/grpc-core@1.7": {"Apache-2.0"},
    }


def test_modules_of_a_go_program() -> None:
    lines = [
        "path\tgithub.com/minio/minio",
        "mod\tgithub.com/minio/minio\tv0.0.1\th1:x=",
        "dep\tgithub.com/a/b\tv1.2.3+incompatible\th1:y=",
        "dep\tgithub.com/old/fork\tv1.0.0",
        "=>\tgithub.com/new/fork\tv1.0.1\th1:z=",
    ]
    assert found({"usr/local/bin/minio": go_program(lines)}) == {
        "pkg:golang/github.com/minio/minio@v0.0.1": {"AGPL-3.0-only"},
        "pkg:golang/github.com/a/b@v1.2.3%2Bincompatible": set(),
        "pkg:golang/github.com/new/fork@v1.0.1": set(),
        "pkg:golang/stdlib@1.24.4": {"BSD-3-Clause"},
    }


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ("Apache License 2.0", "Apache-2.0"),
        ("The Apache Software License, Version 2.0", "Apache-2.0"),
        ("https://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("The MIT License (MIT)", "MIT"),
        ("MIT License\n\nPermission is hereby granted, free of charge, to any person", "MIT"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("Something of our own", "Something of our own"),
    ],
)
def test_what_packages_write_becomes_an_identifier_only_where_that_is_clear(said: str, licence: str) -> None:
    assert licences.normalised(said) == licence


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other", {"MIT OR Apache-2.0"}),
        ("License: BSD-3-Clause\nClassifier: License :: OSI Approved :: BSD License", {"BSD-3-Clause"}),
        ("License: a text\nClassifier: License :: OSI Approved :: MIT License", {"MIT"}),
        ("License: UNKNOWN", set()),
    ],
)
def test_which_of_pythons_fields_counts(headers: str, expected: set[str]) -> None:
    assert licences.of_python(Parser().parsestr(headers)) == expected


def test_the_document_and_the_page_have_every_component() -> None:
    components = [
        Component("deb", "bash", "5.2", "debian", licences=frozenset({"GPL-3.0-or-later"})),
        Component("pypi", "own", "1", licences=frozenset({"Something of our own"})),
        Component("golang", "github.com/a/b", "v1"),
        Component("pypi", "two", "2", licences=frozenset({"MIT OR Apache-2.0"})),
    ]
    written = document("an-image", "sha256:0", components, datetime(2026, 1, 1, tzinfo=UTC))
    assert [each["purl"] for each in written["components"]] == [each.purl for each in components]
    assert written["components"][0]["licenses"] == [{"license": {"id": "GPL-3.0-or-later"}}]
    assert written["components"][1]["licenses"] == [{"license": {"name": "Something of our own"}}]
    assert written["components"][3]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    text = page([written], "abc")
    assert "| an-image | 1 | 2 | 0 | 1 | 1 | 1 |" in text
    for line in (
        "**GPL-3.0-or-later** (1): bash",
        "**other names**: MIT OR Apache-2.0 (two); Something of our own (own)",
        f"**other names**: {NOT_STATED} (github.com/a/b)",
    ):
        assert line in text
    assert max(map(len, text.splitlines())) <= 120
