"""One trace on standard output: whose it is, its waterfall, and what the time was spent on."""

import shlex
import sys
import textwrap
from collections.abc import Iterable, Sequence

from rich.text import Text

from eventflow.cli.output import drawing_console, is_unicode
from eventflow.cli.top_screen import rendered
from eventflow.cli.top_text import cut_middle, harmless
from eventflow.cli.trace_choice import name_spans
from eventflow.cli.trace_rows import Part, parts_of
from eventflow.cli.trace_spans import queued
from eventflow.cli.trace_words import ASCII_MARKS, UNICODE_MARKS, format_time
from eventflow.cli.waterfall import BAD, KEPT, Shown, legend, summary, waterfall
from eventflow.log.runs import RunFolder
from instrumentation.traces import FinishedSpan

_DIM = "bright_black"


class Printer:
    """Standard output, as wide as it is. `again` is the command that shows the run."""

    def __init__(self, folder: RunFolder, again: str) -> None:
        self.folder, self._again = folder, again
        self._console = drawing_console()
        self.marks = UNICODE_MARKS if is_unicode(self._console) else ASCII_MARKS
        self.width = self._console.width

    def shown(self, parts: Iterable[Part] = ()) -> Shown:
        """How waterfalls of these parts are to look."""
        links = [link for part in parts for row in part.rows for link in row.outside]
        return Shown(self.width, self.marks, name_spans(self.folder, links))

    def write(self, lines: Iterable[Text]) -> None:
        """Print lines, cut where the terminal ends."""
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in rendered(list(lines), self._console)))

    def offer(self, what: str, request: str) -> None:
        """Print the command that shows a request, in one piece, so that it can be copied."""
        line = Text(f"{what}: {self._again} --request {shlex.quote(request)}", style=_DIM)
        sys.stdout.write("".join(f"{each.rstrip()}\n" for each in rendered([line], self._console, whole=True)))

    def say(self, text: str, style: str = "") -> None:
        """Print something that is read to its end: it goes on in the next line where the terminal ends.

        A line does not end at a space that is `KEPT`.
        """
        lines = textwrap.wrap(text, self.width, break_on_hyphens=False, break_long_words=False)
        self.write(Text(harmless(line.replace(KEPT, " "), self.marks.glyphs), style=style) for line in lines)


def print_story(printer: Printer, stream: str, spans: Sequence[FinishedSpan], why: str = "") -> None:
    """The trace of one stream. `why`: what to say of it behind its name."""
    parts = parts_of(spans)
    _print_headline(printer, stream, parts, why)
    shown = printer.shown(parts)
    for number, part in enumerate(parts):
        printer.write([Text()])
        if len(parts) > 1:
            printer.write([_part_title(number, parts, printer)])
            if not part.seconds:
                continue
        printer.write(waterfall(part, shown))
        if part.root.step == "request" and (spent := summary(part, printer.marks)):
            printer.say(spent, "bold")
    if parts:
        printer.write([Text()])
        printer.say(legend(printer.marks), _DIM)


def _print_headline(printer: Printer, stream: str, parts: Sequence[Part], why: str) -> None:
    text = Text(harmless(stream, printer.marks.glyphs), style="bold").append(why, style="not bold")
    if not parts:
        text.append("  nothing of it has ended yet", style=_DIM)
    else:
        root = parts[-1].root
        state = "going on" if parts[-1].goes_on else root.state
        text.append(f"  {state}", style=f"not bold {BAD.get(state, 'green')}")
        attempts = sum(span.step == "attempt" for part in parts for span in part.spans)
        text.append(f"  {format_time(sum(part.seconds for part in parts), printer.marks)}", style="not bold")
        if attempts:
            text.append(f"  {attempts} attempt{'s' * (attempts > 1)}", style="not bold")
    printer.write([text])
    if (asked := queued(printer.folder, stream)) is not None:
        printer.write(
            [Text(cut_middle(harmless(asked.url, printer.marks.glyphs), printer.width, printer.marks.glyphs))]
        )
    if parts:
        printer.write([Text(f"trace {parts[0].root.trace_id}", style=_DIM)])


def _part_title(number: int, parts: Sequence[Part], printer: Printer) -> Text:
    part = parts[number]
    text = f"part {number + 1} of {len(parts)}"
    if number:
        pause = max(0, part.start_ns - parts[number - 1].end_ns) / 1e9
        text += f", resumed {format_time(pause, printer.marks)} later"
    state = "goes on" if part.goes_on else part.root.state
    return Text(f"{text}: {state}{'' if part.seconds else ' before it was taken up'}", style="bold")
