"""Strips what a reasoning model thinks in its answer: a draft in there is not the answer.

Templates mark thoughts with tags of many names (`<think>`, `[THINK]`, `<seed:think>`), or write channels
(OpenAI's harmony format). A template may have opened a tag before the answer began, and an answer that is
cut off never closes it.
"""

from __future__ import annotations

import re

_NAME = r"(?P<name>think|thinking|thoughts?|reasoning|scratchpad|reflection)"
_TAG = re.compile(
    rf"<(?P<end>/)?(?:[a-z]{{1,12}}:)?{_NAME}(?:\s[^<>]{{0,80}})?>"
    r"|\[(?P<end_of_brackets>/)?(?P<brackets>THINK)\]"
    r"|◁(?P<end_of_triangles>/)?(?P<triangles>think)▷"
    r"|<\|(?P<stop>begin|end|start)_of_(?P<marks>thought|thinking)\|>"
    r"|<unused(?P<gemma>94|95)>",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w{1,20})")
_MESSAGE_ENDS = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_CHANNELS = re.compile(r"\s*analysis(?=\S)(?!\s*[:\]}])", re.IGNORECASE)
_BARE_FINAL = "assistantfinal"


def without_thoughts(text: str) -> str:
    """Return the answer without the thoughts around it; empty if it holds nothing else."""
    if "<|channel|>" in text:
        return _final_channel(text)
    if _BARE_CHANNELS.match(text) and _BARE_FINAL in text:
        # Harmony, with its special tokens stripped by a server that does not know them.
        text = text[text.rindex(_BARE_FINAL) + len(_BARE_FINAL) :]
    answer: list[str] = []
    inside: str | None = None
    end = 0
    for tag in _TAG.finditer(text):
        name, closes = _read(tag)
        if inside is None:
            answer.append(text[end : tag.start()])
            if closes:
                answer.clear()
            else:
                inside = name
        elif closes and name == inside:
            inside = None
        end = tag.end()
    if inside is None:
        answer.append(text[end:])
    return "".join(answer)


def _read(tag: re.Match[str]) -> tuple[str, bool]:
    """Return the kind of a tag, and whether it ends a thought."""
    if tag["gemma"]:
        return "gemma", tag["gemma"] == "95"
    if tag["marks"]:
        return "marks", tag["stop"].lower() == "end"
    if tag["brackets"]:
        return "brackets", tag["end_of_brackets"] is not None
    if tag["triangles"]:
        return "triangles", tag["end_of_triangles"] is not None
    # `<thinking>` is closed by `</think>` in some templates.
    return tag["name"].lower()[:5], tag["end"] is not None


def _final_channel(text: str) -> str:
    """Return the last message to the user or, where there is none, the last call of a tool."""
    channels = list(_CHANNEL.finditer(text))
    for wanted in ("final", "commentary"):
        for channel in reversed(channels):
            begin = text.find("<|message|>", channel.end())
            if channel[1].lower() != wanted or begin < 0:
                continue
            begin += len("<|message|>")
            end = _MESSAGE_ENDS.search(text, begin)
            return text[begin : end.start() if end else len(text)]
    return ""
