"""A page that is one file: its style is in it, it has no script, and its policy lets it load nothing.

The style is allowed by its hash, so that even a text that got in unescaped could not bring one. No element carries a
`style` attribute; plots are drawn in classes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

__all__ = ["Html", "escape", "figure", "page", "table"]

Html = str
"""Text that is escaped already."""

STYLE = """
:root{--ink:#1c2430;--dim:#5b6675;--paper:#fff;--card:#f6f8fa;--line:#dfe4ea;--good:#18794e;--bad:#c62f2f;--warn:#9a6700;
--c0:#2563b8;--c1:#c2571a;--c2:#18794e;--c3:#7a4bb5;--o1:#e0a125;--o2:#c9b458;--o3:#7a4bb5;--o4:#8b96a5;--o5:#b14fa0}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--dim:#9aa5b4;--paper:#12161c;--card:#1a2028;--line:#313a46;
--good:#4cc38a;--bad:#ff7b72;--warn:#e3b341;--c0:#6cb0ff;--c1:#f0925a;--c2:#4cc38a;--c3:#b892f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1000px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:25px;margin:0 0 2px}h2{font-size:21px;margin:44px 0 4px;padding-top:14px;border-top:2px solid var(--line)}
h3{font-size:16px;margin:28px 0 6px}
p{margin:4px 0 8px;max-width:76ch}.dim{color:var(--dim)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.good{color:var(--good)}
nav a,a{color:var(--c0)}nav{margin:10px 0}nav a{margin-right:14px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(205px,1fr));gap:12px;margin:14px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:25px;line-height:1.25}.card span{display:block;color:var(--dim);font-size:13px}
.news{border-left:4px solid var(--bad);background:var(--card);padding:8px 14px;margin:8px 0;border-radius:0 6px 6px 0}
.news.mild{border-color:var(--warn)}.news.fine{border-color:var(--good)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:20px}
figure{margin:8px 0 14px}figcaption{font-size:13.5px;color:var(--dim);max-width:76ch}
svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;margin:8px 0;font-size:14px}
th{text-align:left;font-weight:600;color:var(--dim)}
th,td{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
.scroll{overflow-x:auto}
.grid{stroke:var(--line)}.guide{stroke:var(--dim);stroke-dasharray:2 4}.mark{stroke:var(--bad);stroke-dasharray:5 4}
.tick{font-size:11px;fill:var(--dim)}.axis{font-size:12px;fill:var(--dim)}.note{font-size:11px;fill:var(--bad)}
.name{font-size:13px;fill:var(--ink)}.value{font-size:12.5px;fill:var(--dim)}
.line{fill:none;stroke-width:2}.dashed{fill:none;stroke-width:1.6;stroke-dasharray:5 4}.whisker{stroke-width:2}
.band{opacity:.16;stroke:none}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.dot{stroke:none}.dot.s0,.band.s0{fill:var(--c0)}.dot.s1,.band.s1{fill:var(--c1)}
.dot.s2,.band.s2{fill:var(--c2)}.dot.s3,.band.s3{fill:var(--c3)}
.o0{fill:var(--c0)}.o1{fill:var(--o1)}.o2{fill:var(--o2)}.o3{fill:var(--o3)}.o4{fill:var(--o4)}.o5{fill:var(--o5)}
.o6{fill:var(--bad)}
.key{display:inline-block;margin-right:16px;font-size:13px;color:var(--dim)}
.key svg{display:inline-block;width:11px;margin-right:5px}
@media print{body{font-size:12px}h2{break-before:page}figure,.card,table{break-inside:avoid}}
"""


def page(title: str, body: Iterable[Html]) -> Html:
    """A whole document."""
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def figure(drawing: Html, caption: str) -> Html:
    """A plot with the sentence that says what is to be seen; "" without a plot."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>" if drawing else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Html:
    """A table of texts; columns of `numbers` are set to the right. "" without rows."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if at in numbers else ''}>{escape(text)}</{tag}>"
            for at, text in enumerate(row)
        )

    lines = [f"<tr>{cells('td', row)}</tr>" for row in rows]
    if not lines:
        return ""
    return f'<div class="scroll"><table><tr>{cells("th", head)}</tr>{"".join(lines)}</table></div>'
