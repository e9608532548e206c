"""The bill of materials of an image as CycloneDX JSON, and the page of all images' licences; `make sbom` runs it.

docker export CONTAINER | sbom.py image NAME ID >NAME.cdx.json
sbom.py page COMMIT *.cdx.json >licences.md
"""

import argparse
import json
import re
import sys
import textwrap
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import licences
from image_contents import Component, components_of

KINDS = {"deb": "Debian", "pypi": "Python", "maven": "Maven", "golang": "Go"}
# As many packages make a licence without an SPDX identifier worth a paragraph.
FEW = 5
NOT_STATED = "not stated in the image"
# Licences that ask something of those who give the program, or access to it, to others.
_COPYLEFT = re.compile(r"\b(AGPL|GPL|LGPL|MPL|EPL|CDDL)\b")

PREFACE = """\
What is in the images, and under which licences. `make sbom` writes this page, and for each image a bill of materials
in CycloneDX 1.6 JSON into `reports/sbom/`. This is of commit COMMIT.

The sources are in the images: the list of installed Debian packages and their copyright files, the metadata of Python
distributions, the Maven descriptors and manifests in jars (also of libraries that a jar bundles), and the modules
that Go programs were built from. A licence that has no SPDX identifier is written as the package writes it. A package
that names several licences is in the list of each; Debian's copyright files name those of every file of the source.
Go programs don't contain their modules' licences.

Not listed: the JavaScript in the wheels of Airflow, MLflow and Superset, and the images of Kafka UI and Grafana,
which others build.

MinIO is under the AGPL, and it is built unchanged: if you change it and others use it over a network, you must offer
them the changed source.
"""


def licences_of(names: Iterable[str]) -> list[dict[str, Any]]:
    """Licences in CycloneDX: an expression alone; else SPDX identifiers where they are some, and names."""
    found = sorted(names)
    if len(found) == 1 and re.search(r" (OR|AND|WITH) ", found[0]):
        return [{"expression": found[0]}]
    return [{"license": {"id": name} if licences.is_spdx(name) else {"name": name}} for name in found]


def component(each: Component) -> dict[str, Any]:
    """A component in CycloneDX."""
    found: dict[str, Any] = {"type": "library", "bom-ref": each.purl, "name": each.name, "version": each.version}
    if each.namespace:
        found["group"] = each.namespace
    if each.licences:
        found["licenses"] = licences_of(each.licences)
    return found | {"purl": each.purl}


def document(name: str, image_id: str, components: Iterable[Component], now: datetime) -> dict[str, Any]:
    """The bill of materials of an image, see https://cyclonedx.org/docs/1.6/json/."""
    image = {"type": "container", "bom-ref": "image", "name": name, "version": image_id}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"timestamp": now.isoformat(timespec="seconds"), "component": image},
        "components": [component(each) for each in components],
    }


def names_of(entry: Mapping[str, Any]) -> list[str]:
    """The licences of a component of a document."""
    found = []
    for each in entry.get("licenses", []):
        found.append(each.get("expression") or each["license"].get("id") or each["license"]["name"])
    return found or [NOT_STATED]


def kind_of(entry: Mapping[str, Any]) -> str:
    """deb, pypi, maven or golang."""
    return str(entry["purl"]).removeprefix("pkg:").partition("/")[0]


def by_licence(documents: Iterable[Mapping[str, Any]], kind: str) -> dict[str, set[str]]:
    """The names of the packages of a kind in all images, by licence; one with several is in each."""
    found: dict[str, set[str]] = defaultdict(set)
    for entries in documents:
        for entry in entries["components"]:
            if kind_of(entry) == kind:
                for licence in names_of(entry):
                    found[licence].add(entry["name"])
    return found


def wrapped(text: str) -> str:
    """A paragraph in lines that fit; names are not divided."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def paragraphs(packages_by_licence: Mapping[str, Collection[str]]) -> list[str]:
    """One for each licence, the most frequent first; rare names that are no SPDX identifiers share the last."""
    found, rare = [], []
    for licence, packages in sorted(packages_by_licence.items(), key=lambda each: (-len(each[1]), each[0])):
        names = ", ".join(sorted(packages, key=str.lower))
        if len(packages) < FEW and not licences.is_spdx(licence):
            rare.append(f"{licence} ({names})")
        else:
            found.append(f"**{licence}** ({len(packages)}): {names}")
    return found + (["**other names**: " + "; ".join(rare)] if rare else [])


def page(documents: Sequence[Mapping[str, Any]], commit: str) -> str:
    """The page of licences: components by image, then packages by kind and licence."""
    lines = [
        "# Licences",
        "",
        *PREFACE.replace("COMMIT", commit).splitlines(),
        "",
        "## Images",
        "",
        "| image | " + " | ".join(KINDS.values()) + " | without a stated licence | copyleft |",
        "|---|" + "---|" * (len(KINDS) + 2),
    ]
    for entries in sorted(documents, key=lambda each: each["metadata"]["component"]["name"]):
        kinds = Counter(kind_of(entry) for entry in entries["components"])
        named = [" ".join(names_of(entry)) for entry in entries["components"]]
        without = sum(NOT_STATED in names for names in named)
        copyleft = sum(bool(_COPYLEFT.search(names)) for names in named)
        name = entries["metadata"]["component"]["name"]
        lines.append(
            "| " + " | ".join([name, *(str(kinds[kind]) for kind in KINDS), str(without), str(copyleft)]) + " |"
        )
    for kind, title in KINDS.items():
        lines += ["", f"## {title}", ""]
        lines += ["\n\n".join(wrapped(text) for text in paragraphs(by_licence(documents, kind)))]
    return "\n".join(lines) + "\n"


def main() -> None:
    """One image from standard input, or the page from the documents of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    image = commands.add_parser("image", help="CycloneDX of the file system on standard input")
    image.add_argument("name")
    image.add_argument("id")
    pages = commands.add_parser("page", help="the licences in these documents, as Markdown")
    pages.add_argument("commit")
    pages.add_argument("documents", nargs="+", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "image":
        found = document(arguments.name, arguments.id, components_of(sys.stdin.buffer), datetime.now(UTC))
        json.dump(found, sys.stdout, indent=1)
    else:
        sys.stdout.write(page([json.loads(path.read_text()) for path in arguments.documents], arguments.commit))


if __name__ == "__main__":
    main()
