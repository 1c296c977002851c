"""Names that people read and the files they become: which characters they may hold, and which two look alike."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 60
SYMBOLS = " ._-+()=,:×"
"""what a name may hold beside letters and digits: nothing that markup, a shell or a path reads as more than itself"""

ALLOWED = re.compile(f"[A-Za-z0-9À-ÖØ-öø-žΑ-ΡΣ-Ωα-ω{re.escape(SYMBOLS)}]+")
"""Latin with its accents, and Greek: few enough scripts that the letters which pass for one another can be listed."""

PASSES_FOR = str.maketrans(
    dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True))
    | dict(zip("αβγεηικνορσςτυχω", "abyenikvopoctuxw", strict=True))
    | dict(zip("øłđðħŧŋıĸþ×ØŁĐÐĦŦŊÞ", "olddhtnlkpxOLDDHTNP", strict=True))
    | {"æ": "ae", "œ": "oe", "ß": "b", "Æ": "AE", "Œ": "OE"}
)


def skeleton(name: str) -> str:
    """What an eye in a hurry keeps of a name: two names with one skeleton look alike.

    Accents, case, spaces and punctuation go; letters and digits that pass for one another become one of them (after
    Unicode Technical Standard 39). A plus stays, and so does a point between two digits.
    """
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).translate(PASSES_FOR))
    plain = "".join(c for c in bare if not unicodedata.combining(c)).casefold()
    one = plain.translate(str.maketrans("01|i", "olll")).replace("rn", "m").replace("vv", "w")
    numbers = re.sub(r"(?<=[\dol])[.,](?=[\dol])", "·", one)
    return re.sub(r"[^\w+·]|_", "", numbers)


def slug(name: str) -> str:
    """The name as a file is called: ``Grad-CAM++`` → ``grad-cam-plus-plus``; empty where nothing is left of it."""
    spelled = re.sub(r"(?<!\d)\+|\+(?!\d)", " plus ", name)
    bare = unicodedata.normalize("NFKD", "".join(_latin(c) for c in spelled))
    return "-".join(re.findall(r"[a-z0-9]+", bare.encode("ascii", "ignore").decode().lower()))


def _latin(letter: str) -> str:
    """A Greek letter by its name, so that β-smoothing becomes beta-smoothing; every other one as it is."""
    named = unicodedata.name(letter, "")
    return f" {named.split(' ')[3]} " if re.match(r"GREEK (SMALL|CAPITAL) LETTER ", named) else letter


def fault(name: str) -> str:
    """Why this may not be a name; empty where it may."""
    if not 1 <= len(name) <= LONGEST:
        return f"has {len(name)} characters; 1 to {LONGEST} are right"
    if unicodedata.normalize("NFKC", name) != name or not ALLOWED.fullmatch(name):
        odd = next((c for c in name if not ALLOWED.fullmatch(c)), "a compatibility form")
        return f"holds {printable(odd)}; Latin and Greek letters, digits and {SYMBOLS.strip()} are right"
    if name != " ".join(name.split()):
        return "has spaces at an end or in a row; single ones between words are right"
    if not name[0].isalnum() or not slug(name):
        return "begins with a sign; a letter or a digit is right"  # '=' and '-' begin formulas in spreadsheets
    return ""


def printable(text: str, most: int = 80) -> str:
    """Foreign text for a terminal or a report: ASCII on one line, everything else escaped, cut where it is long."""
    plain = text[:most].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain) + ("…" if len(text) > most else "")
