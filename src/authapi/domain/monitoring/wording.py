"""Words for numbers, in findings and in the output of commands."""


def pluralize(number: int, singular: str, plural: str | None = None) -> str:
    """Returns `number` with its noun, such as `1 key` or `1,200 keys`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
