"""Draws images/cron-ways.svg: the three ways to have jobs done, and what each needs to be up.

Run it again after a change: `python docs/cron_ways.py`. Its colours read well on white and black.
"""

from pathlib import Path

OUT = Path(__file__).parent / "images" / "cron-ways.svg"
LINE, YOURS, POSTGRES = "#748290", "#2c6fa6", "#5d6b79"
FONT = "font-family='system-ui, sans-serif'"
LABEL = "aria-label='Worker processes; pg_cron by SQL; pg_cron, pg_net and an endpoint'"
HEAD = "viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto'"
BOX_WIDTH, BOX_HEIGHT = 150, 44


def text(x: float, y: float, words: str, *, size: int = 13, weight: int = 400) -> str:
    """Words in the colour of the lines."""
    style = f"{FONT} font-size='{size}' font-weight='{weight}'"
    return f"<text x='{x}' y='{y}' {style} fill='{LINE}'>{words}</text>"


def box(x: float, y: float, name: str, note: str, colour: str) -> str:
    """Something that is up, or called."""
    style = f"{FONT} fill='#ffffff' text-anchor='middle'"
    middle = x + BOX_WIDTH / 2
    return (
        f"<rect x='{x}' y='{y}' width='{BOX_WIDTH}' height='{BOX_HEIGHT}' rx='6' fill='{colour}'/>"
        f"<text x='{middle}' y='{y + 19}' {style} font-size='14' font-weight='600'>{name}</text>"
        f"<text x='{middle}' y='{y + 35}' {style} font-size='11'>{note}</text>"
    )


def arrow(path: str) -> str:
    """A line along an SVG path, with a head at its end."""
    style = f"fill='none' stroke='{LINE}' stroke-width='1.6' marker-end='url(#head)'"
    return f"<path d='{path}' {style}/>"


def drawing() -> str:
    """Give the whole picture."""
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 920 330' role='img' {LABEL}>",
        f"<defs><marker id='head' {HEAD}><path d='M0 0 8 4 0 8z' fill='{LINE}'/></marker></defs>",
        text(10, 30, "a. Workers", size=15, weight=600),
        text(10, 50, "a process of yours stays up"),
        box(230, 16, "table job", "Postgres", POSTGRES),
        box(520, 16, "worker", "claims, runs, acks", YOURS),
        arrow("M516 30 H384"),
        arrow("M384 48 H516"),
        text(404, 22, "claim, ack"),
        text(404, 66, "rings: at once"),
        text(10, 130, "b. pg_cron, SQL only", size=15, weight=600),
        text(10, 150, "jobs are enqueued on time"),
        box(230, 116, "pg_cron", "1 s to 1 day", POSTGRES),
        box(520, 116, "maintain()", "fires schedules", POSTGRES),
        box(750, 116, "worker", "some time, somewhere", YOURS),
        arrow("M384 138 H516"),
        arrow("M674 138 H746"),
        text(430, 130, "SQL"),
        text(10, 230, "c. pg_cron and pg_net", size=15, weight=600),
        text(10, 250, "nothing of yours stays up"),
        box(230, 216, "pg_cron", "1 s to 1 day", POSTGRES),
        box(520, 216, "poke()", "is a job ready?", POSTGRES),
        box(750, 216, "endpoint", "claims N, answers", YOURS),
        arrow("M384 238 H516"),
        arrow("M674 238 H746"),
        text(430, 230, "SQL"),
        text(685, 206, "pg_net: HTTP"),
        text(685, 280, "only if so"),
        text(520, 280, "the secret: Vault"),
        text(520, 297, "or a table"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(drawing(), "utf-8")
