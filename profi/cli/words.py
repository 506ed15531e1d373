"""The command line's words, before Hydra reads them: mistakes, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from profi.catalogue import catalogue
from profi.settings import EVALUATIONS, READINGS, Config
from profi.settings.fields import settings_in
from profi.settings.highres import CHOICES
from profi.settings.paths import conf_folder
from profi.types import UserError, check_text

#: Hydra's own flags. Those of the second kind take the next word as their value.
FLAGS = frozenset(
    ["--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"]
)
WITH_VALUE = frozenset(
    ["--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p"]
)
#: Those with a value that may be left out.
WITH_CHOICE = frozenset(
    ["--cfg", "-c", "--info", "-i", "--experimental-rerun", "--shell-completion", "-sc"]
)
#: Groups of which a command takes one, and what several of them are.
ONE_OF = {
    "ablation": "ablations=[{}]",
    "model": "a sweep, -m model={}",
    "reading": "a sweep, -m reading={}",
    "evaluation": "a sweep, -m evaluation={}",
    "highres": "a sweep, -m highres={}",
    "data": "a sweep, -m data={}",
    "metric": "a sweep, -m metric={}",
    "experiment": "one command per experiment",
    "figure": "profi figure all, or a sweep, -m figure={}",
}


def check_words(words: Sequence[str]) -> None:
    """UserError for a word that Hydra does not take, or a list of which it would take the last."""
    for word in words:
        check_text("an argument", word)
    skip = False
    for i, word in enumerate(words):
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = _check_flag(word, words[i + 1 :])
        elif word == "=" or (not word.startswith("~") and "=" not in word):
            _refuse_bare(word, words[i + 1 :])
        else:
            key, _, value = word.partition("=")
            group = key.lstrip("+")
            if group in ONE_OF and value.startswith("["):
                several = ONE_OF[group].format(value.strip("[]"))
                raise UserError(f"{word}: only the last would run; several are {several}")


def _check_flag(word: str, rest: Sequence[str]) -> bool:
    """Whether the next word is the flag's value; UserError for a flag that Hydra does not have."""
    name, equals, value = word.partition("=")
    if name in FLAGS | WITH_VALUE | WITH_CHOICE:
        given = bool(rest) and "=" not in rest[0]
        return not equals and (name in WITH_VALUE or (name in WITH_CHOICE and given))
    key = name.lstrip("-").replace("-", "_")
    if not equals:
        value = rest[0] if rest and not rest[0].startswith("-") else "..."
    found = closest(key, [*_keys(), *_groups()])
    raise UserError(f"{word}: settings have no dashes; write {found or key}={value}")


def _refuse_bare(word: str, rest: Sequence[str]) -> None:
    if rest and rest[0] == "=":
        value = rest[1] if len(rest) > 1 else "..."
        raise UserError(f"{word} =: write {word}={value} without spaces")
    for group, options in _groups().items():
        if word in options:
            raise UserError(f"{word}: write {group}={word}")
    raise UserError(f"{word}: write name=value; --help lists the settings{meant(word)}")


def meant(key: str) -> str:
    """ "; did you mean ...?" for a wrong key, or empty."""
    found = closest(key, [*_keys(), *_groups()])
    return f"; did you mean {found}?" if found and found != key else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known key that is most like a word; one that ends in it, if only one does."""
    known = list(dict.fromkeys(known))
    ends = [key for key in known if key.rpartition(".")[2] == word]
    if word in known or len(ends) == 1:
        return word if word in known else ends[0]
    whole = difflib.get_close_matches(word, known, 1, 0.75)
    if whole:
        return whole[0]
    last = {key.rpartition(".")[2]: key for key in known}
    near = difflib.get_close_matches(word.rpartition(".")[2], list(last), 1, 0.75)
    return last[near[0]] if near else None


def quoting(message: str) -> str:
    """How to write a value whose characters Hydra reads as its own, if that was the mistake."""
    signs = ("Lexer", "token recognition", "no viable alternative", "mismatched input",
             "extraneous input")  # fmt: skip
    if not any(sign in message for sign in signs):
        return ""
    return "; quote a value with signs, twice for the shell: 'sampling.positive_prompt=\"a~b\"'"


def suggestion(message: str) -> str:
    """For an unknown key or choice in an error of Hydra: what was probably meant."""
    key = re.search(r"(?:override|Key) '([\w.@/]+)'", message)
    if key and ("not in" in message or "No match" in message):
        return meant(key[1])
    choice = re.search(r"Could not find '([\w]+)/([\w]+)'", message)
    if choice:
        near = difflib.get_close_matches(choice[2], _groups().get(choice[1], ()), 1, 0.6)
        return f"; did you mean {choice[1]}={near[0]}?" if near else ""
    return ""


def _keys() -> list[str]:
    return [key for key, _, _ in settings_in(Config)]


def _groups() -> dict[str, list[str]]:
    """The groups of the command line and their choices."""
    folder = conf_folder()
    found = {
        path.name: sorted(file.stem for file in path.glob("*.yaml"))
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name != "hydra"
    }
    methods = catalogue.methods
    return {
        **found,
        "reading": list(READINGS),
        "evaluation": list(EVALUATIONS),
        "highres": list(CHOICES),
        "ablation": [*methods.names(), *methods.aliases],
        "figure": list(catalogue.figures.names()),
    }


def plugins_in(arguments: Sequence[str]) -> list[str]:
    """The modules of `plugins=[...]` on the command line."""
    found = []
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        if key == "plugins":
            found += [name.strip() for name in value.strip("[]").split(",") if name.strip()]
    return found


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments in a form that Hydra takes.

    The names of figures are numbers, which Hydra takes for a choice only as quoted text. With an
    experiment a figure uses its data and models, not those of conf/figure. The schema does not have
    the settings of plugins.
    """
    with_experiment = any(text.lstrip("+").startswith("experiment=") for text in arguments)
    key = "figure.name" if with_experiment else "figure"
    found = []
    for text in arguments:
        name, equals, value = text.partition("=")
        if name == "figure" and equals and not value.startswith("["):
            quoted = ",".join(f'"{one}"' for one in value.split(","))
            found.append(f"{key}={quoted}")
        else:
            found.append(f"++{text}" if text.startswith("own.") else text)
    return found
