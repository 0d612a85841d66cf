"""Draws images/job-life.svg: the states of a job and what leads from one to the next.

Run it again after a change: `python docs/job_life.py`. Its colours read well on white and on black.
"""

from pathlib import Path

OUT = Path(__file__).parent / "images" / "job-life.svg"
SIZE = "940 440"
LINE = "#748290"
FONT = "font-family='system-ui, sans-serif'"
BOX_WIDTH, BOX_HEIGHT = 130, 48
LABEL = "aria-label='Scheduled, ready, claimed; then succeeded, skipped, cancelled or dead'"
HEAD = "viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto'"
ENDS = ((193, 90), (200, 168), (210, 246), (217, 324))
UNFINISHED, FINISHED, DEAD = "#2c6fa6", "#5d6b79", "#a34a3f"


def text(x: float, y: float, words: str, *, size: int = 14, anchor: str = "start") -> str:
    """Words in the colour of the lines."""
    style = f"{FONT} font-size='{size}' text-anchor='{anchor}'"
    return f"<text x='{x}' y='{y}' {style} fill='{LINE}'>{words}</text>"


def box(x: float, y: float, name: str, note: str, colour: str) -> str:
    """A state, with a word on what it means or how it is reached."""
    style = f"{FONT} fill='#ffffff' text-anchor='middle'"
    middle = x + BOX_WIDTH / 2
    return (
        f"<rect x='{x}' y='{y}' width='{BOX_WIDTH}' height='{BOX_HEIGHT}' rx='6' fill='{colour}'/>"
        f"<text x='{middle}' y='{y + 21}' {style} font-size='15' font-weight='600'>{name}</text>"
        f"<text x='{middle}' y='{y + 38}' {style} font-size='12'>{note}</text>"
    )


def group(x: float, width: float, name: str) -> str:
    """A table."""
    return (
        f"<rect x='{x}' y='36' width='{width}' height='344' rx='10' fill='none' stroke='{LINE}' "
        f"stroke-dasharray='5 5'/>" + text(x + 12, 26, name)
    )


def arrow(path: str) -> str:
    """A line along an SVG path, with a head at its end."""
    style = f"fill='none' stroke='{LINE}' stroke-width='1.6' marker-end='url(#head)'"
    return f"<path d='{path}' {style}/>"


def drawing() -> str:
    """Give the whole picture."""
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {SIZE}' role='img' {LABEL}>",
        f"<defs><marker id='head' {HEAD}><path d='M0 0 8 4 0 8z' fill='{LINE}'/></marker></defs>",
        group(150, 510, "table job: unfinished"),
        group(720, 200, "table archive: finished"),
        box(190, 82, "scheduled", "waits for run_at", UNFINISHED),
        box(190, 280, "ready", "has a position", UNFINISHED),
        box(500, 181, "claimed", "has a lease", UNFINISHED),
        box(755, 66, "succeeded", "ack", FINISHED),
        box(755, 144, "skipped", "skip", FINISHED),
        box(755, 222, "cancelled", "cancel", FINISHED),
        box(755, 300, "dead", "attempts used up", DEAD),
        arrow("M20 304 H186"),
        text(22, 294, "enqueue"),
        arrow("M20 106 H186"),
        text(22, 78, "enqueue"),
        text(22, 96, "for later"),
        arrow("M255 130 V276"),
        text(264, 208, "promote: it is due"),
        arrow("M320 312 Q565 322 565 233"),
        text(392, 338, "claim: attempt + 1, new token"),
        arrow("M500 216 L324 288"),
        text(424, 266, "release"),
        arrow("M565 181 Q565 100 324 106"),
        text(370, 66, "fail, lease over: backoff"),
        text(370, 84, "snooze: a delay"),
        *(arrow(f"M630 {start} L751 {end}") for start, end in ENDS),
        arrow("M820 380 V418 H255 V332"),
        text(540, 410, "retry, redrive", anchor="middle"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(drawing(), "utf-8")
