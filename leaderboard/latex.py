"""Tables for LaTeX."""

from __future__ import annotations

import re

import pandas as pd

from unfooled.leaderboard.captions import caption, legend, notes
from unfooled.leaderboard.layout import blocks, is_number

_ESCAPES = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "−": "$-$", "×": r"$\times$", "<": "$<$", ">": "$>$"}
)
_NUMBER = re.compile(r"-?\d[\d.]*( [(\[][-–\d., ]+[)\]])?")


def as_latex(frame: pd.DataFrame) -> str:
    """A ``table`` environment for booktabs, with a label, and the legend as small print below the table."""
    found = blocks(frame)
    first = next(iter(found.values()))
    whole = pd.concat(found.values())
    aligned = "".join("r" if is_number(whole[c]) else "l" for c in whole)
    lines = [f"{escaped(line)}\\par" for line in [*notes(frame), *legend(frame)]]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption(frame))}}}",
            rf"\label{{{label(frame)}}}",
            rf"\begin{{tabular}}{{{aligned}}}",
            r"\toprule",
            _row(first.columns),
            *(line for title, words in found.items() for line in _block(title, words)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
            r"\medskip",
            *([r"\begin{minipage}{\linewidth}", r"\footnotesize", *lines, r"\end{minipage}"] if lines else []),
            r"\end{table}",
            "",
        ]
    )


def _block(title: str, words: pd.DataFrame) -> list[str]:
    heading = [rf"\multicolumn{{{words.shape[1]}}}{{l}}{{\emph{{{escaped(title)}}}}} \\"] if title else []
    return [r"\midrule", *heading, *(_row(row) for row in words.to_numpy().tolist())]


def _row(words: list[str] | pd.Index) -> str:
    return " & ".join(map(_cell, words)) + r" \\"


def _cell(word: str) -> str:
    if _NUMBER.fullmatch(word):
        word = word.replace("-", "−")
    # A row end and a rule look for a bracket or a star behind them, across the end of the line too.
    return ("{}" if word[:1] in ("[", "*") else "") + escaped(word)


def escaped(word: str) -> str:
    """The word as LaTeX prints it, whatever it holds."""
    return word.translate(_ESCAPES)


def label(frame: pd.DataFrame) -> str:
    """A name for ``\\ref``, another for each table of a run: ``tab:stability-absolute-input-by-metric``."""
    about = frame.attrs
    what = "ranks" if "choices" in about else "stability" if "rank" in frame or "by" in about else "table"
    what = "cost" if "forward" in frame and "rank" not in frame else what
    words = [what, *(str(about[k]) for k in ("polarity", "at") if k in about)]
    words += [f"by-{about['by']}"] if "by" in about else []
    return "tab:" + "-".join(re.sub(r"[^A-Za-z0-9-]", "", word) for word in words)
