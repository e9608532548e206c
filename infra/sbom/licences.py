"""What packages say of their licence, as SPDX identifiers where that is clear."""

import re
from email.message import Message
from xml.etree import ElementTree

# SPDX identifier -> what packages write for it, in lower case and without punctuation.
_SPDX = {
    "0BSD": ("0bsd",),
    "AGPL-3.0-only": ("agpl3", "agplv3", "agpl30", "gnu affero general public license v3"),
    "Apache-2.0": (
        *("apache2", "apache20", "apachelicense20", "apachelicenseversion20", "theapachelicenseversion20"),
        *("theapachesoftwarelicenseversion20", "apachesoftwarelicenseversion20", "apachesoftwarelicense"),
        *("apachelicense2", "apache2license", "apachelicensev20", "apachev2", "apachelicense", "apache"),
        *("apachesoftwarelicense20", "asl20", "theapachelicense20", "apachelicenseversion2", "asfv20", "al20"),
        "httpwwwapacheorglicenseslicense20txt",
        "httpswwwapacheorglicenseslicense20txt",
        "httpapacheorglicenseslicense20txt",
        "httpwwwapacheorglicenseslicense20",
        "httpsapacheorglicenseslicense20",
    ),
    "Artistic-1.0": ("artistic",),
    "BSD-2-Clause": ("bsd2clause", "bsd2clauselicense", "thebsd2clauselicense", "simplifiedbsd", "bsd2"),
    "BSD-3-Clause": (
        *("bsd3clause", "bsd3clauselicense", "thebsd3clauselicense", "bsd3", "newbsdlicense", "thenewbsdlicense"),
        *("newbsd", "revisedbsd", "modifiedbsd", "bsd3clausenewbsdlicense", "httpopensourceorglicensesbsd3clause"),
        "3clausebsdlicense",
    ),
    "BSL-1.0": ("boostsoftwarelicense10", "bsl10", "boost10"),
    "CC0-1.0": ("cc0", "cc010", "cc0universal", "publicdomainpercreativecommonscc0"),
    "CDDL-1.0": ("cddl10", "cddl"),
    "CDDL-1.1": ("cddl11",),
    "EPL-1.0": ("epl10", "eclipsepubliclicense10", "eclipsepubliclicensev10"),
    "EPL-2.0": ("epl20", "eclipsepubliclicensev20", "eclipsepubliclicense20", "eclipsepubliclicensev2"),
    "GPL-1.0-or-later": ("gpl1+", "gpl+"),
    "GPL-2.0-only": ("gpl2", "gpl20", "gplv2"),
    "GPL-2.0-or-later": ("gpl2+", "gpl20+"),
    "GPL-3.0-only": ("gpl3", "gpl30", "gplv3", "gnugeneralpubliclicensev3"),
    "GPL-3.0-or-later": ("gpl3+", "gpl30+"),
    "ISC": ("isc", "isclicense", "isclicenseiscl"),
    "LGPL-2.0-only": ("lgpl2", "lgpl20"),
    "LGPL-2.0-or-later": ("lgpl2+", "lgpl20+"),
    "LGPL-2.1-only": ("lgpl21", "lgplv21"),
    "LGPL-2.1-or-later": ("lgpl21+",),
    "LGPL-3.0-only": ("lgpl3", "lgpl30", "gnulesserpubliclicense", "gnulessergeneralpubliclicensev3"),
    "LGPL-3.0-or-later": ("lgpl3+", "lgpl30+"),
    "MIT": ("mit", "mitlicense", "themitlicense", "themitlicensemit", "expat", "mitexpat", "mitx11", "expatlicense"),
    "MPL-1.1": ("mpl11", "mozillapubliclicenseversion11"),
    "MPL-2.0": ("mpl20", "mozillapubliclicense20", "mozillapubliclicense20mpl20", "mozillapubliclicenseversion20"),
    "PSF-2.0": ("psf", "psf20", "pythonsoftwarefoundationlicense", "psfl", "psf2"),
    "Unlicense": ("unlicense", "theunlicense", "theunlicenseunlicense"),
    "Zlib": ("zlib", "zliblicense"),
    "curl": ("curl",),
    "PostgreSQL": ("postgresql",),
    "Python-2.0": ("python20",),
}
_BY_NAME = {re.sub(r"[^a-z0-9+]", "", name): spdx for spdx, names in _SPDX.items() for name in (*names, spdx.lower())}
# A licence's text instead of its name is recognised by its first lines.
_TEXTS = (
    ("Apache-2.0", r"apache license,?\s*version 2\.0"),
    ("MPL-2.0", r"mozilla public license,?\s*version 2\.0"),
    ("MIT", r"permission is hereby granted, free of charge"),
    ("ISC", r"permission to use, copy, modify, and/or distribute this software for any purpose"),
    ("BSD-3-Clause", r"redistribution and use in source and binary forms[\s\S]*neither the name"),
    ("BSD-2-Clause", r"redistribution and use in source and binary forms"),
    ("EPL-2.0", r"eclipse public license[\s-]*v(ersion)?\s*2\.0"),
)
_LONGEST_NAME = 80

# Of packages whose files in the image don't say it, from their repositories: by the beginning of the package URL. Most
# jars name the licence only in a parent descriptor, which they don't have.
KNOWN = {
    "pkg:golang/github.com/minio/minio@": "AGPL-3.0-only",
    "pkg:golang/stdlib@": "BSD-3-Clause",
    **{
        f"pkg:maven/{group}": "Apache-2.0"
        for group in (
            *(
                "com.amazonaws/",
                "com.fasterxml.",
                "com.google.cloud",
                "com.google.guava/",
                "com.squareup.",
                "io.airlift/",
            ),
            *(
                "io.apicurio/",
                "io.delta/",
                "io.fabric8/",
                "io.grpc/",
                "io.netty/",
                "io.opencensus/",
                "io.opentelemetry",
            ),
            *("io.projectreactor", "io.quarkus", "io.smallrye", "io.strimzi/", "io.swagger", "io.trino/"),
            *(
                "org.apache.",
                "org.jboss.resteasy",
                "org.jetbrains.kotlin/",
                "org.json4s/",
                "org.scala-lang",
                "org.wildfly.",
            ),
            "software.amazon.awssdk/",
        )
    },
    "pkg:maven/com.azure/": "MIT",
    "pkg:maven/io.vertx/": "EPL-2.0 OR Apache-2.0",
    "pkg:maven/org.eclipse.jetty": "EPL-2.0 OR Apache-2.0",
    "pkg:maven/org.jline/": "BSD-3-Clause",
    "pkg:maven/org.typelevel/": "MIT",
}


def is_spdx(licence: str) -> bool:
    """Whether this is an SPDX identifier of the table above."""
    return licence in _SPDX


def normalised(said: str) -> str:
    """The SPDX identifier of what a package says, or what it says, shortened to a line."""
    key = re.sub(r"[^a-z0-9+]", "", said.lower())
    if key in _BY_NAME:
        return _BY_NAME[key]
    if len(said) > _LONGEST_NAME or "\n" in said:
        return of_text(said) or " ".join(said.split())[:_LONGEST_NAME]
    return said.strip()


def of_text(text: str) -> str | None:
    """The licence that a text is or refers to, where it is one of the common ones."""
    return next((spdx for spdx, pattern in _TEXTS if re.search(pattern, text.lower())), None)


def of_python(metadata: Message) -> set[str]:
    """What a Python distribution's METADATA says: the expression, else the classifiers, else the free text."""
    if expression := metadata["License-Expression"]:
        return {expression}
    classified = {
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    }
    # "BSD License" says less than the field does.
    vague = {"BSD License", "Other/Proprietary License"}
    said = metadata["License"]
    if said and (not classified or classified <= vague) and said != "UNKNOWN":
        return {normalised(said)}
    return {normalised(each) for each in classified}


def of_debian(copyright_file: str) -> set[str]:
    """What a copyright file of Debian says: the short names of its machine-readable form, else what it refers to."""
    short = re.findall(r"^License:[ \t]*(\S.*)$", copyright_file, re.MULTILINE)
    if "Format:" in copyright_file[:2000] and short:
        parts = {part.strip(" ,()") for line in short for part in re.split(r"\s+(?:and/or|and|or)\s+|,\s+", line)}
        return {normalised(part) for part in parts if part}
    referred = set(re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])", copyright_file))
    if referred:
        return {normalised(each) for each in referred}
    text = of_text(copyright_file)
    return {text} if text else set()


def of_pom(pom: bytes) -> set[str]:
    """The names of the licences in a pom.xml itself; its parent's are not there."""
    try:
        tree = ElementTree.fromstring(pom)
    except ElementTree.ParseError:
        return set()
    names = (node.text for node in tree.iterfind("./{*}licenses/{*}license/{*}name"))
    return {normalised(name) for name in names if name and name.strip()}
