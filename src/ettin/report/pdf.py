"""SVG as PDF for papers, the same bytes each time.

The renderer lists what a page uses, and its fonts, in an order that changes from call to call. The
lists are sorted here, which moves nothing else in the file; the drawing is repeated until its fonts
come in the order of their names.
"""

import re

_LIST = re.compile(rb"(?:^ {6}/\w+ \d+ 0 R\n){2,}", re.MULTILINE)
_FONT = re.compile(rb"/BaseFont /(\S+)")
_DRAWINGS_AT_MOST = 100


def pdf(svg: str) -> bytes:
    """One page of the size of the drawing, its text embedded as text.

    Args:
        svg: without anything that would have to be loaded.
    """
    import vl_convert

    for _ in range(_DRAWINGS_AT_MOST):
        content = _LIST.sub(_sorted, bytes(vl_convert.svg_to_pdf(svg)))
        fonts = _FONT.findall(content)
        if fonts == sorted(fonts):
            break
    return content


def _sorted(found: re.Match[bytes]) -> bytes:
    return b"".join(sorted(found[0].splitlines(keepends=True)))
