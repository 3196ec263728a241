"""Escaping of text for LaTeX, with commands for the symbols that pdflatex can set."""

import re
import unicodedata

from ema_lab.tables.text import one_line

JOINER = "\u2060"  # zero width: separates characters that LaTeX would join, such as --
_TEXT = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "[": "{[}", "]": "{]}", "|": r"\textbar{}", "¶": r"\P{}", "–": "--",
    "—": "---", "…": r"\ldots{}", "‐": "-", "‑": "-", JOINER: "{}",
}  # fmt: skip
_SYMBOLS = {
    "±": "pm", "∓": "mp", "×": "times", "÷": "div", "·": "cdot", "⋅": "cdot", "∙": "bullet", "∘": "circ",
    "†": "dagger", "‡": "ddagger", "√": "surd", "✓": "checkmark", "≤": "leq", "≥": "geq", "≪": "ll",
    "≫": "gg", "≠": "neq", "≈": "approx", "≃": "simeq", "≅": "cong", "≡": "equiv", "∼": "sim",
    "∝": "propto", "∞": "infty", "∂": "partial", "∇": "nabla", "∑": "sum", "∏": "prod", "∫": "int",
    "∈": "in", "∉": "notin", "∅": "emptyset", "⊂": "subset", "⊆": "subseteq", "∪": "cup", "∩": "cap",
    "∀": "forall", "∃": "exists", "¬": "neg", "∧": "wedge", "∨": "vee", "⊕": "oplus", "⊗": "otimes",
    "⊙": "odot", "∥": "parallel", "ℓ": "ell", "⟨": "langle", "⟩": "rangle", "′": "prime", "←": "leftarrow",
    "→": "rightarrow", "↔": "leftrightarrow", "↑": "uparrow", "↓": "downarrow", "↕": "updownarrow",
    "⇐": "Leftarrow", "⇒": "Rightarrow", "⇔": "Leftrightarrow", "⇑": "Uparrow", "⇓": "Downarrow",
    "↦": "mapsto", "µ": "mu", "∆": "Delta", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "α": "alpha",
    "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ϵ": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ϑ": "vartheta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "ϱ": "varrho", "σ": "sigma", "ς": "varsigma", "τ": "tau",
    "υ": "upsilon", "φ": "varphi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
_MATHS = {
    **{sign: rf"\{name}" for sign, name in _SYMBOLS.items()},
    **{sign: rf"\mathrm{{{letter}}}" for sign, letter in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)},
    **{sign: f"^{{{plain}}}" for sign, plain in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)},
    **{sign: f"_{{{plain}}}" for sign, plain in zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True)},
    "−": "-",
    "ο": "o",
    "°": r"^{\circ}",
    "″": r"\prime\prime",
}
_LATEX = str.maketrans(_TEXT | {sign: f"${maths}$" for sign, maths in _MATHS.items()})
# Characters of Latin-1 and Latin Extended-A that pdflatex lacks in its default encoding; each was tried.
_LACKING = "«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲų"
_UNKNOWN = re.compile(rf"[^\n -~¡-žȘșȚț‒―‖‘’‚“”„•‰€™№]|[{_LACKING}]")
QUOTED = re.compile(r"""(?<!\w)(["'])([^"']+)\1(?!\w)""")  # not an apostrophe
MINUS = re.compile(r"(?<!\w)-(?=\d)")


def escaped(text: str) -> str:
    """Escape text for LaTeX, on one line: with quotation marks, and a minus, not a hyphen, before a digit."""
    plain = unicodedata.normalize("NFC", one_line(text)).replace("--", f"-{JOINER}-")
    plain = QUOTED.sub(r"``\2''", plain)
    return MINUS.sub("$-$", plain.replace("--", f"-{JOINER}-").translate(_LATEX))


def unknown_to_pdflatex(source: str) -> list[str]:
    """Return the characters of a LaTeX source that pdflatex cannot set, each once."""
    return list(dict.fromkeys(_UNKNOWN.findall(source)))
