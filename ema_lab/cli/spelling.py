"""Old spellings of options, which still work for one version and print a hint."""

from collections.abc import Mapping, Sequence

RENAMED: Mapping[
    str, Mapping[str, str]
] = {  # by command; a time limit of runs is --timeout, of a search --budget
    "sweep": {"--engine": "--chooser", "--timeout": "--budget"},
    "tune": {"--timeout": "--budget"},
}
EXPORT = ["sweep", "export"]


def modern(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments in today's spelling, and a hint for each old one."""
    words, hints = list(arguments), list[str]()
    for old, new in RENAMED.get(words[0] if words else "", {}).items():
        for number, word in enumerate(words):
            name, equals, value = word.partition("=")
            if name == old:
                words[number] = f"{new}{equals}{value}"
                hints.append(f"hint: {old} of `{words[0]}` is called {new} now")
    if words[:2] == EXPORT and any(word.partition("=")[0] == "--to" for word in words):
        words[1] = "push"
        hints.append("hint: `sweep export --to` is called `sweep push --to` now")
    if words[:2] == ["store", "export"] and words[2:] and not words[2].startswith("-"):
        words.insert(2, "--out")
        hints.append(f"hint: `store export {words[3]}` is called `store export --out {words[3]}` now")
    return words, list(dict.fromkeys(hints))
