"""QR codes as SVG, by the package of the extra `mfa`."""

from authapi.late_imports import import_in_thread


async def qr_svg(text: str) -> str | None:
    """Returns a QR code of `text` as an SVG element; None without the extra `mfa`."""
    await import_in_thread("segno")
    try:
        import segno  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    # Level M corrects errors of 15 %, enough for a screen.
    code = segno.make(text, error="m", micro=False)
    svg: str = code.svg_inline(scale=4, dark="#000", light="#fff")
    return svg
