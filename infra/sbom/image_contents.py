"""The packages in the file system of an image: of Debian, Python, Maven and Go, with what they say of their licence.

Reads the tar stream of `docker export` once, from beginning to end; nothing of the image runs.
"""

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import Parser
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import quote

import licences

_GO_MAGIC = b"\xff Go buildinf:"
_MINIMUM_GO_BYTES = 500_000


@dataclass(frozen=True, order=True, slots=True)
class Component:
    """A package at a version; `kind` is deb, pypi, maven or golang, `namespace` Debian or Maven's group."""

    kind: str
    name: str
    version: str
    namespace: str = ""
    # Of Debian: source package that is compiled into another one.
    is_source: bool = False
    licences: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def purl(self) -> str:
        """The package URL, see https://github.com/package-url/purl-spec."""
        name = re.sub(r"[-_.]+", "-", self.name).lower() if self.kind == "pypi" else self.name
        parts = [f"pkg:{self.kind}", *filter(None, [self.namespace]), quote(name, safe="/.~-_")]
        return "/".join(parts) + "@" + quote(self.version, safe=".~-_") + ("?arch=source" if self.is_source else "")


@dataclass(slots=True)
class Contents:
    """What was found so far."""

    components: dict[Component, Component] = field(default_factory=dict)
    status: str = ""
    copyrights: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def add(self, component: Component) -> None:
        """Keep it; of two that are equal, the one that says its licence."""
        known = self.components.get(component)
        if known is None or not known.licences:
            self.components[component] = component


def components_of(stream: IO[bytes]) -> list[Component]:
    """Every package in the file system that the tar stream has, in order."""
    contents = Contents()
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            look_at(member, tar, contents)
    for component in debian(contents):
        contents.add(component)
    return sorted(with_known_licence(each) for each in contents.components.values())


def look_at(member: tarfile.TarInfo, tar: tarfile.TarFile, contents: Contents) -> None:
    """Take from one file what it says of packages."""
    path = PurePosixPath(member.name)
    if member.issym() and str(path.parent) == "usr/share/doc":
        contents.links[path.name] = PurePosixPath(member.linkname).name
    if not member.isfile():
        return
    if str(path) == "var/lib/dpkg/status":
        contents.status = read(tar, member).decode()
    elif path.name == "copyright" and str(path.parent.parent) == "usr/share/doc":
        contents.copyrights[path.parent.name] = read(tar, member).decode(errors="replace")
    elif path.name == "METADATA" and path.parent.suffix == ".dist-info":
        contents.add(python(Parser().parsestr(read(tar, member).decode(errors="replace"), headersonly=True)))
    elif path.suffix == ".jar":
        for component in jar(path.stem, read(tar, member)):
            contents.add(component)
    elif member.mode & 0o111 and member.size > _MINIMUM_GO_BYTES and not path.suffix:
        for component in go_modules(read(tar, member)):
            contents.add(component)


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a regular file."""
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def debian(contents: Contents) -> Iterator[Component]:
    """The installed packages of dpkg's status; the licences are in a copyright file, maybe that of another package."""
    for paragraph in contents.status.split("\n\n"):
        fields = Parser().parsestr(paragraph, headersonly=True)
        if "installed" not in (fields["Status"] or "").split():
            continue
        name = fields["Package"]
        text = contents.copyrights.get(contents.links.get(name, name), "")
        said = frozenset(licences.of_debian(text))
        yield Component("deb", name, fields["Version"], "debian", licences=said)
        # Libraries of Go and Rust are compiled into the program; their copyright files are not in the image.
        for built_in in (fields["Static-Built-Using"], fields["Built-Using"]):
            for source, version in re.findall(r"(\S+) \(= ([^)]+)\)", built_in or ""):
                yield Component("deb", source, version, "debian", is_source=True)


def python(metadata: Message) -> Component:
    """A Python distribution."""
    return Component("pypi", metadata["Name"], metadata["Version"], licences=frozenset(licences.of_python(metadata)))


def jar(stem: str, content: bytes) -> Iterator[Component]:
    """What its Maven descriptors name (several where it bundles other libraries), else what its manifest says."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        return
    with archive:
        names = archive.namelist()
        manifest = manifest_of(archive) if "META-INF/MANIFEST.MF" in names else Message()
        own = {licences.normalised(each) for each in (manifest["Bundle-License"] or "").split(",") if each.strip()}
        own = own or of_licence_file(archive, names)
        found = False
        for name in names:
            if name.startswith("META-INF/maven/") and name.endswith("/pom.properties"):
                facts = properties(archive.read(name).decode(errors="replace"))
                pom = name.removesuffix("pom.properties") + "pom.xml"
                said = licences.of_pom(archive.read(pom)) if pom in names else set()
                bundled = facts.get("artifactId", "") not in stem
                if {"groupId", "artifactId", "version"} <= facts.keys():
                    found = True
                    every = frozenset(said or (set() if bundled else own))
                    yield Component("maven", facts["artifactId"], facts["version"], facts["groupId"], licences=every)
        if not found:
            yield unnamed_jar(stem, manifest, frozenset(own))


def unnamed_jar(stem: str, manifest: Message, said: frozenset[str]) -> Component:
    """A jar without Maven's descriptors: its file name is artifact and version."""
    match = re.fullmatch(r"(.+?)[-_](\d.*)", stem)
    name, version = match.groups() if match else (stem, manifest["Implementation-Version"] or "unknown")
    # Trino names files group_artifact-version, Quarkus group.artifact-version.
    group, _, artifact = name.rpartition("_" if "_" in name else ".")
    if not re.fullmatch(r"(com|io|net|org)\.[\w.-]+", group):
        group, artifact = manifest["Implementation-Vendor-Id"] or "unknown", name
    return Component("maven", artifact, version, group, licences=said)


def manifest_of(archive: zipfile.ZipFile) -> Message:
    """The main section of a jar's manifest, whose long lines are folded."""
    text = archive.read("META-INF/MANIFEST.MF").decode(errors="replace").replace("\r\n", "\n").replace("\n ", "")
    return Parser().parsestr(text.split("\n\n")[0], headersonly=True)


def of_licence_file(archive: zipfile.ZipFile, names: list[str]) -> set[str]:
    """The licence whose text a jar has."""
    for name in names:
        if re.fullmatch(r"(META-INF/)?LICEN[CS]E(\.txt|\.md)?", name):
            text = licences.of_text(archive.read(name).decode(errors="replace")[:20_000])
            return {text} if text else set()
    return set()


def properties(text: str) -> dict[str, str]:
    """A file of Java properties."""
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines if value.strip()}


def go_modules(program: bytes) -> Iterator[Component]:
    """The modules that a Go program was built from, itself first (see the package debug/buildinfo)."""
    at = program.find(_GO_MAGIC)
    # The format since Go 1.18: 32 bytes of header, then two strings, each after its length.
    if at < 0 or not program[at + 15] & 2:
        return
    version, rest = go_string(program, at + 32)
    yield Component("golang", "stdlib", version.decode(errors="replace").partition(" ")[0].removeprefix("go"))
    modules, _ = go_string(program, rest)
    lines = [line.split("\t") for line in modules[16:-16].decode(errors="replace").splitlines()]
    for line, following in zip(lines, [*lines[1:], [""]], strict=True):
        # A module that is replaced is followed by the one that replaces it.
        if line[0] in ("mod", "dep", "=>") and following[0] != "=>":
            yield Component("golang", line[1], line[2])


def go_string(program: bytes, at: int) -> tuple[bytes, int]:
    """A string after its length as a varint; and where it ends."""
    length = shift = 0
    while True:
        byte = program[at]
        length |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return program[at : at + length], at + length


def with_known_licence(component: Component) -> Component:
    """The component, with the licence that we know if it says none itself."""
    if component.licences:
        return component
    known = frozenset(said for beginning, said in licences.KNOWN.items() if component.purl.startswith(beginning))
    return replace(component, licences=known)
