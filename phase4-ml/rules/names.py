"""The names that rules know, as the table of docs/rules.md: python3 -m rules.names."""

from rules.catalogue import CATALOGUE

GROUPS = {
    "payment": "The payment itself",
    "score": "The model's score",
    "user": "The cardholder's past",
    "merchant": "The merchant's past",
    "novelty": "What is new about the payment for its cardholder",
    "device": "The device's past",
}


def names_table() -> str:
    """A Markdown table of all names, group by group."""
    lines = ["| name | type | may be NULL | meaning |", "|---|---|---|---|"]
    for group, title in GROUPS.items():
        lines.append(f"| **{title}** | | | |")
        lines += [
            f"| `{name.name}` | {name.type} | {'yes' if name.nullable else 'no'} | {name.meaning} |"
            for name in CATALOGUE.values()
            if name.group == group
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(names_table())
