"""Questions with one answer each, out of one document: what `quick/retrieval` searches.

    pairs_of(source_code, "json/decoder.py")    docstring → its function, without the docstring
    pairs_of(prose, "poe/raven.txt")            title → the text below it; opening → its paragraph

Python is recognised by parsing. In any other text a short line alone between blank lines is a
title; a text without titles gives the first sentences of its paragraphs instead.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import NamedTuple

QUESTION_CHARACTERS = 200
ANSWER_CHARACTERS = 600
_QUESTION_WORDS_AT_LEAST = 3
_ANSWER_AT_LEAST = 80
_TITLE_CHARACTERS = 90

Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Pair(NamedTuple):
    """A question and its answer; `kind` is docstring, title or opening."""

    question: str
    answer: str
    kind: str
    document: str


def pairs_of(text: str, document: str) -> list[Pair]:
    """All pairs of one document.

    Args:
        text: its text, or a beginning of it.
        document: its id.
    """
    tree = _parsed(text)
    if tree is not None:
        return list(_of_functions(tree, re.split(r"\r\n|\r|\n", text), document))
    if document.endswith(".py"):
        return []
    return _of_titles(text, document) or _of_openings(text, document)


def without_docstring(function: Function, lines: list[str]) -> str | None:
    """The text of a function without its docstring; None where they share a line.

    Args:
        function: with a docstring.
        lines: of the whole source.
    """
    docstring, rest = function.body[0], function.body[1:]
    before = lines[docstring.lineno - 1][: docstring.col_offset]
    if before.strip() or not rest or rest[0].lineno <= (docstring.end_lineno or 0):
        return None
    kept = lines[function.lineno - 1 : docstring.lineno - 1]
    kept += lines[docstring.end_lineno : function.end_lineno]
    return textwrap.dedent("\n".join(kept))


def _parsed(text: str) -> ast.Module | None:
    """The syntax tree of Python source; None for anything else, prose of one word included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    telling = (ast.Import, ast.ImportFrom, ast.Assign, ast.ClassDef, *_FUNCTIONS)
    return tree if any(isinstance(node, telling) for node in tree.body) else None


def _of_functions(tree: ast.Module, lines: list[str], document: str) -> list[Pair]:
    found = []
    for function in _functions(tree):
        question = _first_paragraph(ast.get_docstring(function) or "")
        answer = without_docstring(function, lines) if question else None
        if answer is not None and len(answer) >= _ANSWER_AT_LEAST:
            found.append(Pair(question, answer[:ANSWER_CHARACTERS], "docstring", document))
    return found


def _functions(node: ast.Module | ast.ClassDef) -> Iterator[Function]:
    """Functions and methods; none inside another one, which would be part of two answers."""
    for child in node.body:
        if isinstance(child, _FUNCTIONS):
            yield child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child)


def _of_titles(text: str, document: str) -> list[Pair]:
    """Short lines that stand alone, each with the blocks up to the next one."""
    found: list[Pair] = []
    title, below = "", list[str]()
    for block in [*_blocks(text), ""]:
        if block and not _is_title(block):
            below.append(block)
            continue
        answer = "\n\n".join(below).strip()
        if title and len(answer) >= _ANSWER_AT_LEAST:
            found.append(Pair(title, answer[:ANSWER_CHARACTERS], "title", document))
        title, below = _first_paragraph(block), []
    return found


def _of_openings(text: str, document: str) -> list[Pair]:
    """First sentences, each with what follows in its paragraph."""
    found = []
    for block in _blocks(text):
        opening, answer = (*re.split(r"(?<=[.!?])\s+", block, maxsplit=1), "")[:2]
        question = _first_paragraph(opening)
        if question and len(opening) <= QUESTION_CHARACTERS and len(answer) >= _ANSWER_AT_LEAST:
            found.append(Pair(question, answer[:ANSWER_CHARACTERS], "opening", document))
    return found


def _blocks(text: str) -> list[str]:
    """What blank lines separate."""
    return [block.strip("\n") for block in re.split(r"\n[^\S\n]*\n", text) if block.strip()]


def _is_title(block: str) -> bool:
    line = block.strip()
    return (
        len(line) <= _TITLE_CHARACTERS
        and "\n" not in line
        and (line[-1].isalnum() or line[-1] == ")")
        and any(letter.isalpha() for letter in line)
    )


def _first_paragraph(text: str) -> str:
    """In one line, cut; empty when it has too few words to ask anything."""
    line = _one_line(_blocks(text)[0]) if text.strip() else ""
    return line[:QUESTION_CHARACTERS] if len(line.split()) >= _QUESTION_WORDS_AT_LEAST else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
