"""From a conversation to tokens: the tokenizer's template renders it once, as text; the assistant's
turns are found in that text by character; tokens are learned by the characters they stand for.

Lengths of rendered prefixes would not do: templates rewrite earlier turns, tokens span the border
of two turns, and what a template adds to open the answer need not be what stands there later.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix
from typing import Any

Messages = Sequence[dict[str, Any]]
Span = tuple[int, int]  # characters, the second excluded

# A character for private use, which no text and no template has; where it shows in place of a
# message's content is where that content stands.
MARK = "\ue000"
MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Turn:
    """An assistant's turn in the rendered text. From `header` to `start` it says who speaks; from
    `start` to `end` is what the model has to say, the end of the turn included."""

    header: int
    start: int
    end: int


def encode(
    messages: Messages, tokenizer: Any, *, tools: Any = None, place: str = ""
) -> tuple[list[int], list[bool], int]:
    """Returns the token ids of a conversation, for each whether it is learned (any of its
    characters is the assistant's), and the number of tokens before the last answer. Raises
    `ValueError` with `place` (file and line) and the template where the template leaves open which
    text is whose."""
    talk = _Conversation(messages, tokenizer, tools, place)
    turns = talk.turns()
    ids, spans = _tokens(tokenizer, talk.text, talk)
    learned = talk.marked(turns) if talk.is_marked else [(t.start, t.end) for t in turns]
    before = sum(not _reaches(span, turns[-1].start) for span in spans)
    return ids, [any(_overlap(span, one) for one in learned) for span in spans], before


def end_of_turn(messages: Messages, tokenizer: Any, *, tools: Any = None) -> str:
    """Returns what the template writes behind the last answer, which `encode` took; empty where the
    answer says more than its content, as with calls of tools."""
    talk = _Conversation(messages, tokenizer, tools, place="")
    content = talk.contents[-1]
    says_more = messages[-1].keys() - {"role", "content", "name"}
    return "" if content is None or says_more else talk.text[content[1] :]


@dataclass(frozen=True)
class _Conversation:
    messages: Messages
    tokenizer: Any
    tools: Any
    place: str

    @cached_property
    def template(self) -> str:
        if not self.tokenizer.chat_template:
            raise ValueError(
                "data.template: chat needs a tokenizer with a chat template, but this one has "
                "none. Use alpaca, or a tokenizer of a chat model."
            )
        try:
            found: str = self.tokenizer.get_chat_template(tools=self.tools)
        except ValueError as error:  # several templates, and none of them is for this
            names = sorted(self.tokenizer.chat_template)
            raise ValueError(
                f"{self.place}: of several chat templates one must be called default, "
                f"but got {names}. Name one so in the tokenizer's folder."
            ) from error
        return found

    @property
    def is_marked(self) -> bool:
        return MARKED.search(self.template) is not None

    @cached_property
    def text(self) -> str:
        try:
            return self._render(self.messages)
        except Exception as error:  # a template raises what it likes, and Jinja much more
            raise self.refusal(f"it cannot render the conversation ({error})") from error

    @cached_property
    def contents(self) -> list[Span | None]:
        """Where each message's content stands in the text; None where it does not show."""
        return [_shown(self.text, self._other(n)) for n in range(len(self.messages))]

    def turns(self) -> list[Turn]:
        """The assistant's turns that the template renders, in order, the last message's at the
        end."""
        asked = [n for n, message in enumerate(self.messages) if message["role"] == "assistant"]
        found = {n: turn for n in asked if (turn := self._turn(n)) is not None}
        if not found or len(self.messages) - 1 not in found:
            raise self.refusal("it must show the last answer, which does not appear in its text")
        self._check(found)
        return list(found.values())

    def marked(self, turns: list[Turn]) -> list[Span]:
        """Where the template's own marks say that text is the assistant's, checked."""
        _, (spans,) = _render_with_marks(self)
        for first, last in spans:
            if not any(turn.header <= first and last <= turn.end for turn in turns):
                raise self.refusal(
                    "its {% generation %} must mark what the assistant says, "
                    f"but it marks {self.text[first:last]!r:.60}"
                )
        if not any(_overlap(span, (turns[-1].start, turns[-1].end)) for span in spans):
            raise self.refusal("its {% generation %} must mark the last answer, but does not")
        return list(spans)

    def refusal(self, problem: str) -> ValueError:
        """Returns the error for a template that does not do here."""
        where = f"{self.place}: " if self.place else ""
        return ValueError(
            f"{where}data.template: chat with the template {self.template!r:.80} of "
            f"{self.tokenizer.name_or_path}: {problem}. Change the template or the record, "
            "or use alpaca."
        )

    def _turn(self, n: int) -> Turn | None:
        content = self.contents[n]
        if content is None:
            if self.messages[n].get("content"):
                return None  # a turn that the template leaves out
            return self._turn_without_content(n)
        begins = self._where_turn_begins(n, content[0])
        start = self._where_answer_starts(n, begins, content[0])
        return Turn(start if begins is None else begins, start, self._where_answer_ends(n, content))

    def _turn_without_content(self, n: int) -> Turn:
        """A turn that is known by the text before and after it, such as a tool's call."""
        parts = [self._start(n, opened=False), self._start(n, opened=True)]
        parts.append(self._start(n + 1, opened=False))
        if not all(part is not None and self.text.startswith(part) for part in parts):
            raise self.refusal(f"message {n + 1} has no content, and its turn cannot be told apart")
        header, start, end = (len(part or "") for part in parts)
        return Turn(header, min(start, end), end)

    def _opening(self, n: int) -> str:
        """What the template writes to open an answer to the first `n` messages; empty when nothing,
        as in templates that ignore `add_generation_prompt`."""
        count = max(n, 1)  # before the first message as before the second: no template renders none
        opened, before = self._start(count, opened=True), self._start(count, opened=False)
        if opened is None or before is None or not opened.startswith(before):
            return ""
        opening = opened[len(before) :]
        return opening if opening.strip() else ""

    def _where_turn_begins(self, n: int, content: int) -> int | None:
        """Where what belongs to the messages before ends; None where that cannot be told."""
        before = self._start(n, opened=False)
        if before is None:
            return None
        if self.text.startswith(before):
            return len(before) if len(before) <= content else None
        # earlier turns were rendered otherwise: what closes the last of them may be the same
        end, shown = self.contents[n - 1], _shown(before, self._other(n - 1, n))
        if end is None or shown is None or not self.text.startswith(before[shown[1] :], end[1]):
            return None
        return end[1] + len(before) - shown[1]

    def _where_answer_starts(self, n: int, begins: int | None, content: int) -> int:
        """The end of what the template writes to open an answer, as far as that stands before this
        one; the start of its content where the template writes nothing of that."""
        opening = self._opening(n)
        since = self._end_of_content_before(n) if begins is None else begins
        header = self.text[since:content]
        if not opening:
            return content if begins is None or header.strip() else begins
        found = header.find(opening)
        if found >= 0:
            return since + found + len(opening)
        # Thoughts before the content stand behind as much of the opening as there is of it.
        says_more = begins is not None and self.messages[n].keys() - {"role", "content", "name"}
        same = commonprefix([opening, header]) if says_more else ""
        return since + len(same) if same.strip() else content

    def _where_answer_ends(self, n: int, content: Span) -> int:
        """The end of what closes this turn, as far as that can be told from the next one."""
        last, alone = content[1], self._start(n + 1, opened=False)
        if alone is not None and not self._opens_always(n, content):
            if self.text.startswith(alone) and len(alone) >= last:
                return len(alone)
            shown = _shown(alone, self._other(n, n + 1))
            if shown is not None and self.text.startswith(alone[shown[1] :], last):
                return last + len(alone) - shown[1]
        # The last turn of a conversation is closed in another way: here a token that opens no turn.
        for mark in self._special_tokens:
            opens = mark in self._opening(n) or self.text.startswith(mark)
            if self.text.startswith(mark, last) and not opens:
                return last + len(mark)
        if alone is None:
            raise self.refusal(f"the end of message {n + 1} cannot be told from the next one")
        return last

    def _opens_always(self, n: int, content: Span) -> bool:
        """Whether the template opens another answer behind this one, though it was not asked to."""
        header = self.text[self._end_of_content_before(n) : content[0]]
        is_ignored = n > 0 and not self._opening(n) and bool(header.strip())
        return is_ignored and (self._start(n + 1, opened=False) or "").endswith(header)

    def _end_of_content_before(self, n: int) -> int:
        return max((c[1] for c in self.contents[:n] if c is not None), default=0)

    def _check(self, turns: dict[int, Turn]) -> None:
        """Refuses turns that hold what somebody else says."""
        for n, content in enumerate(self.contents):
            if n in turns or content is None or content[0] == content[1]:
                continue
            if any(_overlap(content, (turn.start, turn.end)) for turn in turns.values()):
                raise self.refusal(f"message {n + 1} cannot be told from the assistant's turns")

    @cached_property
    def _special_tokens(self) -> list[str]:
        """The longest first, since one may begin with another."""
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values()]
        return sorted((token for token in added if token.strip()), key=len, reverse=True)

    def _render(self, messages: Messages, *, opened: bool = False) -> str:
        text: str = self.tokenizer.apply_chat_template(
            [*messages], tools=self.tools, tokenize=False, add_generation_prompt=opened
        )
        return text

    def _start(self, count: int, *, opened: bool) -> str | None:
        """The first messages alone, with the assistant's turn begun when `opened`; None where the
        template renders no such conversation."""
        try:
            return self._render(self.messages[:count], opened=opened)
        except Exception:  # a template raises what it likes, and Jinja much more
            return None

    def _other(self, n: int, count: int | None = None) -> str | None:
        """The text, or that of the first `count` messages, with a mark as the content of message
        `n`."""
        changed = [*self.messages]
        changed[n] = {**changed[n], "content": MARK}
        try:
            return self._render(changed[:count])
        except Exception:  # a template raises what it likes, and Jinja much more
            return None


def _shown(text: str, other: str | None) -> Span | None:
    """Where `text` differs from `other`, which is the same with a mark in one place."""
    if other is None or MARK not in other:
        return None
    first = len(commonprefix([text, other]))
    most = min(len(text), len(other)) - first
    same = len(commonprefix([text[::-1][:most], other[::-1][:most]]))
    return first, len(text) - same


def _render_with_marks(talk: _Conversation) -> Any:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{k: v for k, v in m.items() if v is not None} for m in talk.messages]
    return render_jinja_template(
        conversations=[messages],
        tools=talk.tools,
        chat_template=talk.template,
        return_assistant_tokens_mask=True,
        **talk.tokenizer.special_tokens_map,
    )


def _overlap(span: Span, other: Span) -> bool:
    """Whether two spans share a character; a span without any counts as the character behind it."""
    return span[0] < other[1] and _reaches(span, other[0])


def _reaches(span: Span, place: int) -> bool:
    return max(span[1], span[0] + 1) > place


def _tokens(tokenizer: Any, text: str, talk: _Conversation) -> tuple[list[int], list[Span]]:
    """The text's token ids, and the characters that each stands for."""
    if not tokenizer.is_fast:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        return ids, _spans_by_decoding(tokenizer, ids, talk)
    both = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(both["input_ids"]), list(_untrimmed(both["offset_mapping"]))


def _untrimmed(offsets: Iterable[Span]) -> Iterable[Span]:
    """Some tokenizers trim spaces from offsets, so that a token of spaces has no character left: it
    gets those since the token before it."""
    end = 0
    for first, last in offsets:
        yield (min(end, first), last) if first == last else (first, last)
        end = max(end, last)


def _spans_by_decoding(tokenizer: Any, ids: list[int], talk: _Conversation) -> list[Span]:
    """Spans for a tokenizer without offsets: by how much of the text more tokens decode to."""
    spans, end, text = [], 0, talk.text
    for count in range(1, len(ids) + 1):
        decoded = tokenizer.decode(ids[:count], clean_up_tokenization_spaces=False)
        reached = max(end, len(commonprefix([decoded, text])))
        spans.append((end, reached))
        end = reached
    if end < len(text):
        raise talk.refusal(
            "the tokenizer must say which characters a token stands for, but it is a slow one, "
            "whose tokens do not decode to the text. Use its fast form (with a tokenizer.json)"
        )
    return spans
